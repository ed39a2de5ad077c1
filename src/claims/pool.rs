//! How much values scatter over seeds, told by all cells of a claim's tables together.
//!
//! Owns [`Pool`]. Input: every row that the source gives, also those that the claim's `where` leaves out. Invariant: cells that
//! hold the same runs are one place, where every metric has one cell; a cell with a missing run is none. Only cells whose seeds draw the
//! same (a cell of the whole pool has no scorer that could be drawn) have seeds as common blocks. Must not know: what is compared.

use std::collections::BTreeMap;

use super::source::{CellRow, Measure, SeedRun, Summary};
use crate::run::SeedParts;

/// Values by seed.
type BySeed = BTreeMap<u64, f64>;

/// Values of complete cells: what their seeds draw and place, then metric, then seed.
#[derive(Debug, Default)]
pub(super) struct Pool {
    places: BTreeMap<(SeedParts, String), BTreeMap<String, BySeed>>,
    /// Of cells that somebody states of runs, by metric: squares within cells, and their degrees of freedom.
    stated: BTreeMap<String, (f64, f64)>,
}

/// Variances and covariances of metrics at one place and one seed, and their degrees of freedom.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Residuals {
    /// By metric and metric, in the order asked for.
    pub covariance: Vec<Vec<f64>>,
    pub degrees: f64,
}

/// What the runs of a cell are called together.
pub(super) fn place(runs: &[SeedRun]) -> String {
    runs.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>().join(" ")
}

impl Pool {
    pub fn new(rows: &[CellRow]) -> Self {
        let mut pool = Self::default();
        for row in rows {
            if let Ok(Measure::Summary(Summary { stddev: Some(stddev), n, .. })) = &row.measure
                && *n > 1
            {
                let of_metric = pool.stated.entry(row.labels.get("metric").cloned().unwrap_or_default()).or_default();
                let free = f64::from(*n - 1);
                *of_metric = (of_metric.0 + free * stddev * stddev, of_metric.1 + free);
            }
            let (Ok(Measure::Seeds(runs)), Some(metric)) = (&row.measure, row.labels.get("metric")) else { continue };
            let drawn = runs.first().map_or_else(SeedParts::none, |run| run.drawn);
            let metrics = pool.places.entry((drawn, place(runs))).or_default();
            metrics.insert(metric.clone(), runs.iter().map(|run| (run.seed, run.value)).collect());
        }
        pool
    }

    /// A metric's variance within cells that somebody states of runs, over all of them, and its degrees of freedom.
    pub fn stated(&self, metric: &str) -> Option<(f64, f64)> {
        self.stated.get(metric).map(|(squares, degrees)| (squares / degrees, *degrees))
    }

    /// Whether any cell holds runs.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.stated.is_empty()
    }

    /// What is left of the metrics' variances and covariances once the cells' means and the seeds' means are taken out, over the
    /// places whose seeds draw these parts and that have all of these seeds in all of these metrics: r = y - mean of its cell - mean of its seed + mean of all, with
    /// (places - 1)(seeds - 1) degrees of freedom. `None` where fewer than two places have them.
    #[expect(clippy::cast_precision_loss, reason = "numbers of cells and seeds")]
    pub fn blocked(&self, drawn: SeedParts, metrics: &[&str], seeds: &[u64]) -> Option<Residuals> {
        let values_of = |cells: &BTreeMap<String, BySeed>| -> Option<Vec<Vec<f64>>> {
            metrics.iter().map(|metric| seeds.iter().map(|seed| cells.get(*metric)?.get(seed).copied()).collect()).collect()
        };
        let of_drawn = self.places.iter().filter(|((parts, _), _)| *parts == drawn).map(|(_, cells)| cells);
        let places: Vec<Vec<Vec<f64>>> = of_drawn.filter_map(values_of).collect();
        let degrees = (places.len().saturating_sub(1) * seeds.len().saturating_sub(1)) as f64;
        if degrees == 0.0 {
            return None;
        }
        let residuals: Vec<Vec<f64>> = (0..metrics.len())
            .map(|metric_idx| residuals(&places.iter().map(|metrics| metrics[metric_idx].as_slice()).collect::<Vec<_>>()))
            .collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / degrees;
        let covariance = residuals.iter().map(|a| residuals.iter().map(|b| product(a, b)).collect()).collect();
        Some(Residuals { covariance, degrees })
    }

    /// A metric's variance within its cells, over all of them. `None` where no cell has two seeds.
    #[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
    pub fn within(&self, metric: &str) -> Option<f64> {
        let cells = || self.places.values().filter_map(|metrics| metrics.get(metric));
        let degrees: usize = cells().map(|cell| cell.len().saturating_sub(1)).sum();
        let squares = |cell: &BySeed| {
            let centre = mean(cell.values().copied());
            cell.values().map(|value| (value - centre).powi(2)).sum::<f64>()
        };
        (degrees > 0).then(|| cells().map(squares).sum::<f64>() / degrees as f64)
    }
}

/// Residuals of values by cell and seed about the means of cells and of seeds.
fn residuals(cells: &[&[f64]]) -> Vec<f64> {
    let of_cell: Vec<f64> = cells.iter().map(|cell| mean(cell.iter().copied())).collect();
    let num_seeds = cells.first().map_or(0, |cell| cell.len());
    let of_seed: Vec<f64> = (0..num_seeds).map(|seed_idx| mean(cells.iter().map(|cell| cell[seed_idx]))).collect();
    let of_all = mean(of_cell.iter().copied());
    let of = |(cell, of_cell): (&&[f64], &f64)| {
        cell.iter().zip(&of_seed).map(|(value, of_seed)| value - of_cell - of_seed + of_all).collect::<Vec<_>>()
    };
    cells.iter().zip(&of_cell).flat_map(of).collect()
}

#[expect(clippy::cast_precision_loss, reason = "numbers of cells and seeds")]
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::super::contrast::Spread;
    use super::super::items::Part;
    use super::*;
    use crate::run::SeedPart;

    fn row(metric: &str, runs: &str, values: &[f64]) -> CellRow {
        let labels = BTreeMap::from([("metric".to_owned(), metric.to_owned())]);
        let run = |(seed, value): (u64, &f64)| SeedRun {
            seed,
            value: *value,
            run_id: format!("{runs}{seed}"),
            drawn: SeedParts::none(),
            items: None,
        };
        CellRow { labels, measure: Ok(Measure::Seeds((0..).zip(values).map(run).collect())) }
    }

    #[test]
    fn seeds_are_blocks_and_cells_of_the_same_runs_count_once() {
        // Cells (1 2 3) and (2 4 3): means 2 and 3, of seeds 1.5, 3, 3, of all 2.5; residuals 0, -0.5, 0.5 and 0, 0.5, -0.5.
        let rows = [
            row("a", "x", &[1.0, 2.0, 3.0]),
            row("a", "y", &[2.0, 4.0, 3.0]),
            row("b", "x", &[7.0, 9.0, 0.0]),
            row("a", "x", &[1.0, 2.0, 3.0]),
        ];
        let pool = Pool::new(&rows);
        assert_eq!(
            pool.blocked(SeedParts::none(), &["a"], &[0, 1, 2]),
            Some(Residuals { covariance: vec![vec![0.5]], degrees: 2.0 })
        );
        // Within: (2 + 2) over 2 + 2.
        assert_eq!(pool.within("a"), Some(1.0));
        assert_eq!(
            (pool.blocked(SeedParts::none(), &["b"], &[0, 1, 2]), pool.blocked(SeedParts::none(), &["a"], &[0, 1, 9])),
            (None, None)
        );
    }

    #[test]
    fn metrics_of_the_same_runs_have_a_covariance() {
        // Residuals of `a` as above; `b` has (1 3 2) and (2 2 2), means 2 and 2, of seeds 1.5, 2.5, 2.
        let rows = [
            row("a", "x", &[1.0, 2.0, 3.0]),
            row("a", "y", &[2.0, 4.0, 3.0]),
            row("b", "x", &[1.0, 3.0, 2.0]),
            row("b", "y", &[2.0, 2.0, 2.0]),
        ];
        let found = Pool::new(&rows).blocked(SeedParts::none(), &["a", "b"], &[0, 1, 2]).map(|found| found.covariance);
        // b: -0.5, 0.5, 0 and 0.5, -0.5, 0: variance 1 / 2; products with a: 0, -0.25, 0 and 0, -0.25, 0: -0.5 / 2.
        assert_eq!(found, Some(vec![vec![0.5, -0.25], vec![-0.25, 0.5]]));
    }

    #[test]
    fn cells_whose_seeds_draw_other_parts_are_blocks_of_their_own() {
        let filtered: SeedParts = [SeedPart::Init, SeedPart::Scorer].into_iter().collect();
        let drawing = |runs: &str, values: &[f64]| {
            let mut row = row("a", runs, values);
            if let Ok(Measure::Seeds(runs)) = &mut row.measure {
                runs.iter_mut().for_each(|run| run.drawn = filtered);
            }
            row
        };
        // A scorer lifts both filtered cells alike, and not the whole pool.
        let rows = [drawing("x", &[1.0, 6.0, 3.0]), drawing("y", &[11.0, 16.0, 13.0]), row("a", "whole", &[5.0, 5.5, 4.0])];
        let pool = Pool::new(&rows);
        assert!(
            pool.blocked(filtered, &["a"], &[0, 1, 2]).is_some_and(|found| found.covariance[0][0] < 1e-20 && found.degrees == 2.0)
        );
        assert_eq!(pool.blocked(SeedParts::none(), &["a"], &[0, 1, 2]), None);
        let runs = |idx: usize| match &rows[idx].measure {
            Ok(Measure::Seeds(runs)) => runs.as_slice(),
            _ => &[],
        };
        let part = |idx, weight| Part { weight, metric: "a", runs: runs(idx) };
        // Against the whole pool: differences -4, 0.5 and -1, variance 5.25, with 2 degrees of freedom.
        let spread = Spread::of(&[part(0, 1.0), part(2, -1.0)], &pool).map(|spread| (spread.seeds, spread.degrees));
        assert_eq!(spread, Ok((5.25 / 3.0, 2.0)));
    }

    #[test]
    fn a_seed_that_lifts_every_cell_alike_adds_nothing() {
        let rows = [row("a", "x", &[1.0, 6.0, 3.0]), row("a", "y", &[11.0, 16.0, 13.0]), row("a", "z", &[5.0, 10.0, 7.0])];
        let pool = Pool::new(&rows);
        assert!(
            pool.blocked(SeedParts::none(), &["a"], &[0, 1, 2])
                .is_some_and(|found| found.covariance[0][0] < 1e-20 && found.degrees == 4.0)
        );
    }
}
