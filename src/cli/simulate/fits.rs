//! How often the intervals of fits hold what they should.
//!
//! Cells lie on a curve, with three seeds and more. Of each draw the cell at the largest size is held out. Asked is how often the interval
//! of the curve there holds the true error, that of the held-out cell its measured mean, and those of the parameters the true ones.
//! Once runs scatter about their cells and that is all ("cells"), and once items are drawn as well and their outcomes known ("items").

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::super::args::BenchClaims;
use super::world::{METRIC, TrueCell, World};
use super::{CHUNK, percent};
use crate::claims::fits::{Found, ScalingSpec, fit, interval};
use crate::data::{Philox, Stream};
use crate::jobs::fit_normals;
use crate::run::{Outcomes, SeedParts};
use crate::tables::{Cell, OneOrMany, Table, amount};

/// Sizes of cells; the last is held out.
const SIZES: [&str; 8] = ["1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k"];
/// e_inf, a where amounts are counted in thousands, b.
const TRUTH: [f64; 3] = [28.0, 42.0, 0.45];
/// Standard deviation of runs where no items are drawn, and what a seed adds to all cells, points.
const SCATTER: (f64, f64) = (0.9, 0.4);

/// The true error at a size.
fn error(size: &str) -> f64 {
    let [floor, scale, power] = TRUTH;
    floor + scale * libm::pow(amount(size).unwrap_or(f64::NAN) / 1000.0, -power)
}

/// What is asked of a fit.
const ASKED: [&str; 5] = ["true error where the largest cell is held out", "mean of the held-out cell", "e_inf", "a", "b"];

/// The share, percent, that an earlier simulation of the same rule found, of the first that is asked at 3 seeds.
fn noted(level: &str, asked: usize, seeds: u64) -> Option<f64> {
    match (level, asked, seeds) {
        ("cells", 0, 3) => Some(94.0),
        ("items", 0, 3) => Some(97.0),
        _ => None,
    }
}

/// Draws, those without a fit or its intervals, and how often each of [`ASKED`] held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Covered {
    pub draws: u64,
    pub refused: u64,
    pub held: [u64; ASKED.len()],
}

impl Covered {
    fn add(mut self, found: Option<&Found>) -> Self {
        self.draws += 1;
        let Some(found) = found.filter(|found| !found.draws.is_empty()) else {
            self.refused += 1;
            return self;
        };
        let last = SIZES[SIZES.len() - 1];
        let at = [amount(last).unwrap_or(f64::NAN)];
        let is_in = |[low, high]: [f64; 2], truth: f64| (low..=high).contains(&truth);
        let of_curve = interval(found.draws.iter().map(|curve| curve.at(&at)).collect());
        let [floor, scale, power] = TRUTH;
        let truths = [floor, scale * libm::pow(1000.0, power), power];
        let mut held = [false; ASKED.len()];
        held[0] = is_in(of_curve, error(last));
        held[1] = found.held_out.iter().all(|cell| cell.is_inside() == Some(true));
        for (idx, (quantity, truth)) in found.quantities.iter().zip(truths).enumerate() {
            held[2 + idx] = quantity.interval.is_some_and(|ends| is_in(ends, truth));
        }
        self.held.iter_mut().zip(held).for_each(|(count, held)| *count += u64::from(held));
        self
    }

    fn and(mut self, other: &Self) -> Self {
        self.draws += other.draws;
        self.refused += other.refused;
        self.held.iter_mut().zip(other.held).for_each(|(a, b)| *a += b);
        self
    }
}

/// Cells and items on the curve.
fn world(num_seeds: u64) -> World {
    let cell = |size: &&str| TrueCell {
        row: "m0".to_owned(),
        column: Some((*size).to_owned()),
        mean: 100.0 - error(size),
        seed_sd: 0.65,
        has_scorer: false,
    };
    let cells = SIZES.iter().map(cell).collect();
    World { cells, num_seeds, num_items: 500, block_sd: SCATTER.1, scorer_sd: 0.0, level: 50.0, turned: 0.0102, likely: 0.98 }
}

/// A draw of runs that scatter about their cells.
fn cells_alone(seed: u64, number: u64, num_seeds: u64) -> Table {
    let mut draws = Philox::new(seed, Stream::Simulation).at(number, 1);
    let blocks: Vec<f64> = (0..num_seeds).map(|_| SCATTER.1 * draws.normal()).collect();
    let mut cell = |(idx, size): (usize, &&str)| Cell {
        row: vec!["m0".to_owned()],
        column: Some((*size).to_owned()),
        metric: METRIC.to_owned(),
        values: (0..).zip(blocks.iter().map(|block| 100.0 - error(size) + block + SCATTER.0 * draws.normal())).collect(),
        run_ids: (0..num_seeds).map(|seed| format!("{idx}-{seed}")).collect(),
        missing: 0,
        drawn: SeedParts::none(),
    };
    let cells = SIZES.iter().enumerate().map(&mut cell).collect();
    Table {
        name: "t".to_owned(),
        caption: None,
        rows: vec!["model".to_owned()],
        columns: Some("size".to_owned()),
        fixed: BTreeMap::new(),
        metrics: vec![METRIC.to_owned()],
        cells,
    }
}

fn spec() -> ScalingSpec {
    let one = |text: &str| OneOrMany(vec![text.to_owned()]);
    ScalingSpec {
        name: "t".to_owned(),
        caption: None,
        of: METRIC.to_owned(),
        against: one("size"),
        by: Some(one("model")),
        along: None,
        filter: BTreeMap::new(),
        frontier: false,
        hold_out: BTreeMap::from([("size".to_owned(), OneOrMany(vec![crate::tables::Label::new("largest")]))]),
    }
}

/// How often intervals hold at a number of seeds, with items drawn or without.
pub(super) fn covered(args: &BenchClaims, num_seeds: u64, has_items: bool) -> Covered {
    let (spec, world) = (spec(), world(num_seeds));
    let one = |number: u64| {
        let (table, outcomes) = match has_items {
            true => world.draw(args.seed, number),
            false => (cells_alone(args.seed, number, num_seeds), Outcomes::default()),
        };
        let fit = fit(&spec, &table, &outcomes, &fit_normals);
        Covered::default().add(fit.curves[0].found.as_ref().ok())
    };
    let chunks: Vec<u64> = (0..args.draws.div_ceil(CHUNK)).collect();
    let of_chunk = |chunk: &u64| {
        let numbers = chunk * CHUNK..((chunk + 1) * CHUNK).min(args.draws);
        numbers.map(one).fold(Covered::default(), |sum, one| sum.and(&one))
    };
    let all: Vec<Covered> = chunks.par_iter().map(of_chunk).collect();
    all.iter().fold(Covered::default(), Covered::and)
}

/// The columns of [`rows`].
pub(super) const HEADER: [&str; 7] = ["level", "asked", "seeds", "draws", "refused_percent", "holds_percent", "noted_percent"];

/// A row a level, number of seeds, and what is asked; shares are of the draws that gave intervals.
pub(super) fn rows(args: &BenchClaims, seeds: &[u64]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (level, has_items) in [("cells", false), ("items", true)] {
        for &num_seeds in seeds {
            let Covered { draws, refused, held } = covered(args, num_seeds, has_items);
            for (idx, (asked, held)) in ASKED.into_iter().zip(held).enumerate() {
                let noted = noted(level, idx, num_seeds).map_or(String::new(), |noted| format!("{noted:.1}"));
                let of = draws - refused;
                let share = if of == 0 { String::new() } else { format!("{:.1}", percent(held, of)) };
                let texts = [level.to_owned(), asked.to_owned(), num_seeds.to_string(), draws.to_string()];
                rows.push(texts.into_iter().chain([format!("{:.1}", percent(refused, draws)), share, noted]).collect());
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_what_they_should_in_most_draws() {
        for (has_items, draws) in [(false, 10), (true, 4)] {
            let args = BenchClaims { out: None, draws, seed: 2 };
            let found = covered(&args, 3, has_items);
            assert_eq!((found.draws, found.refused), (draws, 0), "{found:?}");
            // Of 95 % expected; the draws are always the same.
            let held: u64 = found.held.iter().sum();
            assert!(10 * held >= 8 * draws * ASKED.len() as u64, "{has_items}: {found:?}");
        }
        let few = BenchClaims { out: None, draws: 1, seed: 2 };
        assert_eq!(covered(&few, 3, false), covered(&few, 3, false));
    }
}
