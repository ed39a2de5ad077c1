//! Runs whose truth is known: tables and outcomes drawn from cells with stated means.
//!
//! Owns [`World`]. An item is likely to be right or likely to be wrong in a cell: which of the two is the item's own, but for a share of
//! cells that turns it round, so that items and cells interact. A run moves the probabilities of all items to its mean: that of its
//! cell, and what its seed adds to all cells and to this one. Invariant: a draw is a function of the world, the seed and its number;
//! the expected value of a cell is its stated mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::data::{Draws, Philox, Stream};
use crate::run::{Outcomes, SeedPart, SetOutcomes};
use crate::tables::{Cell, Table};

/// The metric of every table.
pub(super) const METRIC: &str = "acc1";

/// One cell of a table: labels of its row and column, its mean in percent, the standard deviation that its seeds add, points, and whether
/// they draw a scorer.
#[derive(Debug, Clone)]
pub(super) struct TrueCell {
    pub row: String,
    pub column: Option<String>,
    pub mean: f64,
    pub seed_sd: f64,
    pub has_scorer: bool,
}

/// Cells and how they are measured.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub cells: Vec<TrueCell>,
    pub num_seeds: u64,
    pub num_items: usize,
    /// Standard deviation of what a seed adds to all cells alike, points.
    pub block_sd: f64,
    /// Standard deviation of what a seed adds to all cells with a scorer alike, points.
    pub scorer_sd: f64,
    /// The mean about which items are right or wrong in a cell, percent.
    pub level: f64,
    /// The share of items that a cell turns round.
    pub turned: f64,
    /// How probable the likely outcome of an item is.
    pub likely: f64,
}

impl World {
    /// The table and the outcomes of one draw.
    pub fn draw(&self, seed: u64, number: u64) -> (Table, Outcomes) {
        let mut draws = Philox::new(seed, Stream::Simulation).at(number, 0);
        let shifts = self.shifts(&mut draws);
        let thresholds: Vec<Vec<[u16; 2]>> =
            shifts.iter().map(|cell| cell.iter().map(|shift| self.thresholds(*shift)).collect()).collect();
        let mut hits = vec![vec![Vec::with_capacity(self.num_items); thresholds[0].len()]; self.cells.len()];
        let mut bytes = Bytes { draws, left: 0, word: 0 };
        let (is_right, is_turned) = (cut(self.share_right()), cut(self.turned));
        for _ in 0..self.num_items {
            let usually_right = bytes.is_below(is_right);
            for (thresholds, hits) in thresholds.iter().zip(&mut hits) {
                let right = usize::from(usually_right != bytes.is_below(is_turned));
                for (of_run, hits) in thresholds.iter().zip(hits) {
                    hits.push(u8::from(bytes.is_below(of_run[right])));
                }
            }
        }
        self.tabled(hits)
    }

    /// What every run of every cell is above the level, as a share.
    fn shifts(&self, draws: &mut Draws) -> Vec<Vec<f64>> {
        let blocks: Vec<f64> = (0..self.num_seeds).map(|_| self.block_sd * draws.normal()).collect();
        let scorers: Vec<f64> = match self.scorer_sd {
            0.0 => vec![0.0; blocks.len()],
            sd => blocks.iter().map(|_| sd * draws.normal()).collect(),
        };
        let mut of_cell = |cell: &TrueCell| {
            let mut of_seed = |(block, scorer): (&f64, &f64)| {
                let scorer = if cell.has_scorer { *scorer } else { 0.0 };
                (cell.mean - self.level + block + scorer + cell.seed_sd * draws.normal()) / 100.0
            };
            blocks.iter().zip(&scorers).map(&mut of_seed).collect()
        };
        self.cells.iter().map(&mut of_cell).collect()
    }

    /// The share of items that are usually right, so that a cell at the level has the level's mean.
    fn share_right(&self) -> f64 {
        let straight = (self.level / 100.0 - (1.0 - self.likely)) / (2.0 * self.likely - 1.0);
        ((straight - self.turned) / (1.0 - 2.0 * self.turned)).clamp(0.0, 1.0)
    }

    /// Below which of 65536 an unlikely and a likely item is right in a run: a shift up takes its share of what is wrong, one down
    /// its share of what is right, so that the mean moves by the shift.
    fn thresholds(&self, shift: f64) -> [u16; 2] {
        let level = self.level / 100.0;
        let moved = |p: f64| if shift > 0.0 { p + shift * (1.0 - p) / (1.0 - level) } else { p + shift * p / level };
        [cut(moved(1.0 - self.likely)), cut(moved(self.likely))]
    }

    fn tabled(&self, hits: Vec<Vec<Vec<u8>>>) -> (Table, Outcomes) {
        let mut outcomes = BTreeMap::new();
        let mut cells = Vec::with_capacity(self.cells.len());
        for (cell_idx, (cell, hits)) in self.cells.iter().zip(hits).enumerate() {
            let (mut values, mut run_ids) = (Vec::new(), Vec::new());
            for (seed, hits) in (0..).zip(hits) {
                let run_id = format!("{cell_idx}-{seed}");
                let set = SetOutcomes { set: "items".to_owned(), of: hits.len() as u64, hits };
                values.push((seed, set.percent()));
                let sets: Arc<[SetOutcomes]> = Arc::new([set]);
                outcomes.insert(run_id.clone(), BTreeMap::from([(METRIC.to_owned(), sets)]));
                run_ids.push(run_id);
            }
            let (row, column) = (vec![cell.row.clone()], cell.column.clone());
            let drawn = cell.has_scorer.then_some(SeedPart::Scorer).into_iter().collect();
            cells.push(Cell { row, column, metric: METRIC.to_owned(), values, run_ids, missing: 0, drawn });
        }
        let columns = self.cells[0].column.as_ref().map(|_| "size".to_owned());
        let table = Table {
            name: "t".to_owned(),
            caption: None,
            rows: vec!["model".to_owned()],
            columns,
            fixed: BTreeMap::new(),
            metrics: vec![METRIC.to_owned()],
            cells,
        };
        (table, Outcomes(outcomes))
    }
}

/// So many of 65536.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
fn cut(share: f64) -> u16 {
    (share * 65536.0).round().clamp(0.0, 65535.0) as u16
}

/// Uniform bytes, four of a word.
struct Bytes {
    draws: Draws,
    word: u32,
    left: u32,
}

impl Bytes {
    fn next(&mut self) -> u8 {
        if self.left == 0 {
            (self.word, self.left) = (self.draws.word(), 4);
        }
        self.left -= 1;
        let byte = self.word as u8;
        self.word >>= 8;
        byte
    }

    /// True in so many of 65536 cases; the second byte is drawn only where the first does not say.
    fn is_below(&mut self, threshold: u16) -> bool {
        let [high, low] = threshold.to_be_bytes();
        let first = self.next();
        first < high || first == high && self.next() < low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_its_mean_and_a_draw_is_repeatable() {
        let cell = |row: &str, mean: f64| TrueCell { row: row.to_owned(), column: None, mean, seed_sd: 1.0, has_scorer: false };
        let cells = vec![cell("a", 50.0), cell("b", 44.0), cell("c", 57.0)];
        let world =
            World { cells, num_seeds: 3, num_items: 500, block_sd: 0.5, scorer_sd: 0.0, level: 50.0, turned: 0.05, likely: 0.95 };
        assert_eq!(world.draw(3, 7).0, world.draw(3, 7).0);
        let mut sums = [0.0; 3];
        for number in 0..400 {
            let (table, _) = world.draw(1, number);
            sums.iter_mut().zip(&table.cells).for_each(|(sum, cell)| *sum += cell.mean().unwrap_or(f64::NAN) / 400.0);
        }
        // The error of such a mean is about sqrt((2.2^2 + 1^2) / 400), 2.2 points being that of 500 items.
        for (found, expected) in sums.into_iter().zip([50.0, 44.0, 57.0]) {
            assert!((found - expected).abs() < 0.5, "{found} is not {expected}");
        }
    }
}
