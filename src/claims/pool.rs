//! How much values scatter over seeds, told by all cells of a claim's tables together.
//!
//! Owns [`Pool`]. Input: every row that the source gives, also those that the claim's `where` leaves out. Invariant: cells that
//! hold the same runs are one cell, and a cell with a missing run is none. Must not know: what is compared.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{CellRow, Measure};

/// Values of complete cells by metric.
#[derive(Debug, Default)]
pub(super) struct Pool {
    metrics: BTreeMap<String, Vec<BTreeMap<u64, f64>>>,
}

/// A variance of one value of one seed, and its degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub variance: f64,
    pub degrees: f64,
}

impl Pool {
    pub fn new(rows: &[CellRow]) -> Self {
        // The same runs may stand in several tables: equal seeds with equal bits are the same runs.
        let mut known: BTreeSet<(&str, Vec<(u64, u64)>)> = BTreeSet::new();
        let mut pool = Self::default();
        for row in rows {
            let (Ok(Measure::Seeds(values)), Some(metric)) = (&row.measure, row.labels.get("metric")) else { continue };
            let bits = values.iter().map(|(seed, value)| (*seed, value.to_bits())).collect();
            if known.insert((metric, bits)) {
                pool.metrics.entry(metric.clone()).or_default().push(values.iter().copied().collect());
            }
        }
        pool
    }

    /// Whether any cell holds runs.
    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }

    /// What is left of a metric's variance once its cells' means and its seeds' means are taken out, over the cells that have
    /// all of these seeds: r = y - mean of its cell - mean of its seed + mean of all, with (cells - 1)(seeds - 1) degrees of
    /// freedom. `None` where fewer than two cells have them.
    #[expect(clippy::cast_precision_loss, reason = "numbers of cells and seeds")]
    pub fn blocked(&self, metric: &str, seeds: &[u64]) -> Option<Spread> {
        let cells: Vec<Vec<f64>> = self.cells(metric).filter_map(|cell| at_seeds(cell, seeds)).collect();
        let degrees = (cells.len().saturating_sub(1) * seeds.len().saturating_sub(1)) as f64;
        if degrees == 0.0 {
            return None;
        }
        let of_cell: Vec<f64> = cells.iter().map(|cell| mean(cell.iter().copied())).collect();
        let of_seed: Vec<f64> = (0..seeds.len()).map(|seed_idx| mean(cells.iter().map(|cell| cell[seed_idx]))).collect();
        let of_all = mean(of_cell.iter().copied());
        let residual =
            |cell_idx: usize, seed_idx: usize| cells[cell_idx][seed_idx] - of_cell[cell_idx] - of_seed[seed_idx] + of_all;
        let squares =
            (0..cells.len()).flat_map(|cell_idx| (0..seeds.len()).map(move |seed_idx| residual(cell_idx, seed_idx).powi(2)));
        Some(Spread { variance: squares.sum::<f64>() / degrees, degrees })
    }

    /// A metric's variance within its cells, over all of them. `None` where no cell has two seeds.
    #[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
    pub fn within(&self, metric: &str) -> Option<Spread> {
        let degrees: usize = self.cells(metric).map(|cell| cell.len().saturating_sub(1)).sum();
        let squares = |cell: &BTreeMap<u64, f64>| {
            let centre = mean(cell.values().copied());
            cell.values().map(|value| (value - centre).powi(2)).sum::<f64>()
        };
        let degrees = degrees as f64;
        (degrees > 0.0).then(|| Spread { variance: self.cells(metric).map(squares).sum::<f64>() / degrees, degrees })
    }

    fn cells(&self, metric: &str) -> impl Iterator<Item = &BTreeMap<u64, f64>> {
        self.metrics.get(metric).into_iter().flatten()
    }
}

fn at_seeds(cell: &BTreeMap<u64, f64>, seeds: &[u64]) -> Option<Vec<f64>> {
    seeds.iter().map(|seed| cell.get(seed).copied()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "numbers of cells and seeds")]
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metric: &str, values: &[f64]) -> CellRow {
        let labels = BTreeMap::from([("metric".to_owned(), metric.to_owned())]);
        CellRow { labels, measure: Ok(Measure::Seeds((0..).zip(values.iter().copied()).collect())) }
    }

    #[test]
    fn seeds_are_blocks_and_cells_of_the_same_runs_count_once() {
        // Cells (1 2 3) and (2 4 3): means 2 and 3, of seeds 1.5, 3, 3, of all 2.5; residuals 0, -0.5, 0.5 and 0, 0.5, -0.5.
        let rows = [row("a", &[1.0, 2.0, 3.0]), row("a", &[2.0, 4.0, 3.0]), row("b", &[7.0, 9.0, 0.0]), row("a", &[1.0, 2.0, 3.0])];
        let pool = Pool::new(&rows);
        assert_eq!(pool.blocked("a", &[0, 1, 2]), Some(Spread { variance: 0.5, degrees: 2.0 }));
        // Within: (2 + 2) over 2 + 2.
        assert_eq!(pool.within("a"), Some(Spread { variance: 1.0, degrees: 4.0 }));
        assert_eq!((pool.blocked("b", &[0, 1, 2]), pool.blocked("a", &[0, 1, 9])), (None, None));
    }

    #[test]
    fn a_seed_that_lifts_every_cell_alike_adds_nothing() {
        let rows = [row("a", &[1.0, 6.0, 3.0]), row("a", &[11.0, 16.0, 13.0]), row("a", &[5.0, 10.0, 7.0])];
        let pool = Pool::new(&rows);
        assert!(pool.blocked("a", &[0, 1, 2]).is_some_and(|spread| spread.variance < 1e-20 && spread.degrees == 4.0));
    }
}
