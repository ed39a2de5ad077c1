//! What other seeds and other items would have made of the cells of a fit.
//!
//! Owns [`Spread`]: for every draw and cell, how far the cell's mean would have moved,
//!
//!     z_c (s / sqrt(n_c)) sqrt(nu / chi2) + sum over sets of sqrt(I_c / B_c) sum_i e_i (x_ci - x_c) / m
//!
//! s is pooled over the cells one way, nu = sum of (n_c - 1); z_c is normal, chi2 one draw of nu degrees of freedom for all cells;
//! x_ci is the mean over seeds of item i, B_c the variance over items of x_ci over m, I_c what is left of it once seeds are taken out
//! ([`super::super::items`]), and e_i a normal number that all cells share. A stated error of a reading stands for s / sqrt(n).
//! Invariant: draws come from outside, by number and stream, so that the same cells give the same bytes; where nothing is known of the
//! spread there is none, with the reason.

use std::collections::BTreeMap;

use super::super::contrast::SEEDS_NEEDED;
use super::super::items;
use super::super::source::{Measure, SeedRun};
use crate::run::SetOutcomes;

/// Draws of which intervals are made.
pub const DRAWS: usize = 1000;

/// Standard normal numbers of a draw, by its number and a stream of it: 0 for seeds, from 1 on for sets of items.
pub type Normals<'a> = &'a (dyn Fn(u64, u32) -> Box<dyn FnMut() -> f64> + Sync);

/// How cells would have moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// By draw, then by cell.
    pub shifts: Vec<Vec<f64>>,
    /// Whether the items' part is in it.
    pub knows_items: bool,
    /// Standard deviation of a run about its cell, pooled; `None` of readings.
    pub run_sd: Option<f64>,
}

/// One set's part of a cell: what e_i is multiplied with.
type Weights = Vec<f64>;

impl Spread {
    /// That of cells; else why there is none.
    #[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
    pub fn of(cells: &[&Measure], normals: Normals<'_>) -> Result<Self, String> {
        let runs = |cell: &&'_ &Measure| matches!(cell, Measure::Seeds(_));
        let num_of_runs = cells.iter().filter(runs).count();
        let (run_sd, degrees) = match num_of_runs {
            0 => (None, 0),
            _ => pooled(cells)?,
        };
        let errors: Vec<f64> = cells
            .iter()
            .map(|cell| match cell {
                Measure::Reading { .. } | Measure::Summary(_) => cell.stated_error(),
                Measure::Seeds(runs) => run_sd.unwrap_or(0.0) / (runs.len() as f64).sqrt(),
            })
            .collect();
        if errors.iter().all(|error| *error == 0.0) {
            return Err("no errors are stated".to_owned());
        }
        let weights: Option<Vec<BTreeMap<&str, Weights>>> = cells.iter().map(|cell| of_items(cell)).collect();
        let (knows_items, weights) = (weights.is_some() && num_of_runs > 0, weights.unwrap_or_default());
        let mut sets: Vec<(&str, usize)> = weights.iter().flatten().map(|(set, weights)| (*set, weights.len())).collect();
        sets.sort_unstable();
        sets.dedup();
        let shifts = (0..DRAWS as u64).map(|draw| {
            let mut normal = normals(draw, 0);
            let squares: f64 = (0..degrees).map(|_| normal().powi(2)).sum();
            let wider = if degrees > 0 { (degrees as f64 / squares).sqrt() } else { 1.0 };
            let mut shifts: Vec<f64> = errors.iter().map(|error| normal() * error * wider).collect();
            for (stream, (set, count)) in (1..).zip(&sets) {
                let mut normal = normals(draw, stream);
                let common: Vec<f64> = (0..*count).map(|_| normal()).collect();
                for (shift, weights) in shifts.iter_mut().zip(&weights) {
                    let weights = weights.get(set).map_or(&[][..], Vec::as_slice);
                    *shift += weights.iter().zip(&common).map(|(weight, e)| weight * e).sum::<f64>();
                }
            }
            shifts
        });
        Ok(Self { shifts: shifts.collect(), knows_items, run_sd })
    }
}

/// The standard deviation of runs within their cells and its degrees of freedom.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
fn pooled(cells: &[&Measure]) -> Result<(Option<f64>, usize), String> {
    let (mut squares, mut degrees, mut largest) = (0.0, 0, 0.0_f64);
    for cell in cells {
        let Measure::Seeds(runs) = cell else { continue };
        if runs.len() < SEEDS_NEEDED {
            let seeds = if runs.len() == 1 { "1 seed".to_owned() } else { format!("{} seeds", runs.len()) };
            return Err(format!("{seeds} in a cell, at least {SEEDS_NEEDED} are needed"));
        }
        let mean = cell.mean();
        squares += runs.iter().map(|run| (run.value - mean).powi(2)).sum::<f64>();
        degrees += runs.len() - 1;
        largest = largest.max(mean.abs());
    }
    let sd = (squares / degrees as f64).sqrt();
    if sd <= 1e-9 * largest {
        return Err("no spread between seeds, which is no estimate of one".to_owned());
    }
    Ok((Some(sd), degrees))
}

/// The parts of a cell's sets, by set; `None` where the outcomes of a run are not known.
fn of_items(cell: &Measure) -> Option<BTreeMap<&str, Weights>> {
    let Measure::Seeds(runs) = cell else { return Some(BTreeMap::new()) };
    let sets = runs.first()?.items.as_ref()?;
    sets.iter().enumerate().map(|(set_idx, set)| Some((set.set.as_str(), of_set(runs, set_idx, set, sets.len())?))).collect()
}

/// sqrt(I / B) (x_i - x) / m of one set of a cell.
#[expect(clippy::cast_precision_loss, reason = "numbers of seeds and items")]
fn of_set(runs: &[SeedRun], set_idx: usize, set: &SetOutcomes, num_sets: usize) -> Option<Weights> {
    let by_seed: Vec<Vec<f64>> = runs
        .iter()
        .map(|run| {
            let found =
                run.items.as_ref()?.get(set_idx).filter(|found| found.set == set.set && found.hits.len() == set.hits.len())?;
            let value = found.scale() / num_sets as f64;
            Some(found.hits.iter().map(|hits| value * f64::from(*hits)).collect())
        })
        .collect::<Option<_>>()?;
    let m = set.hits.len() as f64;
    let of_item: Vec<f64> =
        (0..set.hits.len()).map(|item| by_seed.iter().map(|items| items[item]).sum::<f64>() / runs.len() as f64).collect();
    let mean = of_item.iter().sum::<f64>() / m;
    let between = of_item.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (m - 1.0).max(1.0) / m;
    let scale = if between > 0.0 { (items::variance(&by_seed) / between).sqrt() / m } else { 0.0 };
    Some(of_item.iter().map(|value| scale * (value - mean)).collect())
}

/// Where this share of values lies below, between the two nearest ones in proportion; values ascending, one at least.
pub fn percentile(ascending: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a number of draws")]
    let place = share * (ascending.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among the draws")]
    let below = place.floor() as usize;
    let above = (below + 1).min(ascending.len() - 1);
    ascending[below] + (place - place.floor()) * (ascending[above] - ascending[below])
}

/// The interval that holds 95 % of values.
#[must_use]
pub fn interval(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [percentile(&values, 0.025), percentile(&values, 0.975)]
}
