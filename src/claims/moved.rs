//! Whether tables of other seeds moved from committed ones by more than seeds do.
//!
//! Input: tables of the same points on both sides, with the values of their runs. Output: the cells that moved, and the means over
//! cells. Invariant: no tolerance enters; all that is compared is one family of tests.

use std::collections::{BTreeMap, BTreeSet};

use super::stats;
use crate::tables::{Cell, Drift, DriftKind, Drifts, Table, TableData, unlike};

/// All tests together find a movement where there is none in at most this share of checks.
pub const MOVED_LEVEL: f64 = 0.05;

/// Cells of two sides whose seeds are all different.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Cells compared, and every cell or mean over cells that moved.
    pub drifts: Drifts,
    /// Metrics that nothing could be said of: no cell of theirs has two seeds.
    pub unknown: BTreeSet<String>,
}

/// One test: where its result would stand, both means, and its two-sided p value.
struct Compared {
    table: String,
    cell: Vec<(String, String)>,
    ours: f64,
    committed: f64,
    p: f64,
}

/// Compares every cell of both sides by Student's t, with one variance for each metric, pooled over the cells of both sides, and for each
/// metric the mean over its cells by the t test of two samples of seeds; all of them together after Holm at 5 %. What is there on one side
/// only is a drift.
///
/// A cell that stands in several tables is compared once.
#[must_use]
pub fn moved(ours: &[Table], committed: &[Table]) -> Moved {
    let data = |tables: &[Table]| tables.iter().map(TableData::from).collect::<Vec<_>>();
    let mut drifts = unlike(&data(ours), &data(committed));
    let mut by_metric: BTreeMap<&str, Vec<Pair<'_>>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for old in committed {
        let Some(new) = ours.iter().find(|table| table.name == old.name) else { continue };
        for committed in &old.cells {
            let place = |cell: &Cell| (cell.row.clone(), cell.column.clone(), cell.metric.clone());
            let Some(ours) = new.cells.iter().find(|cell| place(cell) == place(committed)) else { continue };
            if known.insert((committed.run_ids.as_slice(), committed.metric.as_str())) {
                by_metric.entry(&committed.metric).or_default().push(Pair { table: new, ours, committed });
            }
        }
    }
    let (mut tests, mut unknown) = (Vec::new(), BTreeSet::new());
    for (metric, pairs) in by_metric {
        match pooled(&pairs) {
            None => drop(unknown.insert(metric.to_owned())),
            Some(spread) => {
                tests.extend(pairs.iter().filter_map(|pair| pair.test(spread)));
                tests.extend(of_means(metric, &pairs));
            }
        }
    }
    let far = stats::holm(&tests.iter().map(|test| test.p).collect::<Vec<_>>(), MOVED_LEVEL);
    let far = tests.into_iter().zip(far).filter_map(|(test, is_far)| is_far.then_some(test));
    drifts.found.extend(far.map(|Compared { table, cell, ours, committed, p }| Drift {
        table,
        cell,
        kind: DriftKind::Moved { ours, committed, p },
    }));
    Moved { drifts, unknown }
}

/// One cell on both sides.
struct Pair<'a> {
    table: &'a Table,
    ours: &'a Cell,
    committed: &'a Cell,
}

/// A standard deviation over seeds and its degrees of freedom.
#[derive(Clone, Copy)]
struct Spread {
    stddev: f64,
    degrees: f64,
}

impl Pair<'_> {
    fn test(&self, Spread { stddev, degrees }: Spread) -> Option<Compared> {
        let (ours, committed) = (self.ours.mean()?, self.committed.mean()?);
        let error = stddev * (1.0 / count(self.ours.n()) + 1.0 / count(self.committed.n())).sqrt();
        let rows = self.table.rows.iter().cloned().zip(self.ours.row.iter().cloned());
        let column = self.table.columns.iter().cloned().zip(self.ours.column.iter().cloned());
        let cell = rows.chain(column).chain([("metric".to_owned(), self.ours.metric.clone())]).collect();
        Some(Compared { table: self.table.name.clone(), cell, ours, committed, p: two_sided(ours - committed, error, degrees) })
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of seeds and cells")]
fn count(n: usize) -> f64 {
    n as f64
}

/// Two-sided p value of a difference; of none at all, 1, whatever its error.
fn two_sided(difference: f64, error: f64, degrees: f64) -> f64 {
    if difference == 0.0 { 1.0 } else { 2.0 * stats::tail((difference / error).abs(), degrees) }
}

/// The spread over seeds within cells, of both sides together.
fn pooled(pairs: &[Pair<'_>]) -> Option<Spread> {
    let (mut squares, mut degrees) = (0.0, 0.0);
    for cell in pairs.iter().flat_map(|pair| [pair.ours, pair.committed]) {
        if let Some(stddev) = cell.stddev() {
            let free = count(cell.n() - 1);
            (squares, degrees) = (squares + free * stddev * stddev, degrees + free);
        }
    }
    (degrees > 0.0).then(|| Spread { stddev: (squares / degrees).sqrt(), degrees })
}

/// The mean over the cells that have every seed of their side, seed by seed: two samples that no seed is in twice.
fn of_means(metric: &str, pairs: &[Pair<'_>]) -> Option<Compared> {
    let whole: Vec<&Pair<'_>> = pairs.iter().filter(|pair| pair.ours.missing == 0 && pair.committed.missing == 0).collect();
    let sample = |cells: Vec<&Cell>| -> Vec<f64> {
        let mut by_seed: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (seed, value) in cells.into_iter().flat_map(|cell| &cell.values) {
            by_seed.entry(*seed).or_default().push(*value);
        }
        let whole = by_seed.into_values().filter(|values| values.len() == whole.len());
        whole.map(|values| values.iter().sum::<f64>() / count(values.len())).collect()
    };
    let ours = sample(whole.iter().map(|pair| pair.ours).collect());
    let committed = sample(whole.iter().map(|pair| pair.committed).collect());
    if whole.len() < 2 || ours.is_empty() || committed.is_empty() || ours.len() + committed.len() < 3 {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / count(values.len());
    let squares = |values: &[f64]| values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>();
    let degrees = count(ours.len() + committed.len() - 2);
    let stddev = ((squares(&ours) + squares(&committed)) / degrees).sqrt();
    let error = stddev * (1.0 / count(ours.len()) + 1.0 / count(committed.len())).sqrt();
    let (ours, committed) = (mean(&ours), mean(&committed));
    let table = format!("mean of {metric} over {} cells", whole.len());
    Some(Compared { table, cell: Vec::new(), ours, committed, p: two_sided(ours - committed, error, degrees) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Philox, Stream};
    use crate::run::SeedParts;

    fn table(values: &[[f64; 3]], first_seed: u64) -> Table {
        let cells = values.iter().enumerate().map(|(row, values)| Cell {
            row: vec![row.to_string()],
            column: None,
            metric: "m".to_owned(),
            values: (first_seed..).zip(values.iter().copied()).collect(),
            run_ids: (first_seed..first_seed + 3).map(|seed| format!("{row}-{seed}")).collect(),
            missing: 0,
            drawn: SeedParts::none(),
        });
        Table {
            name: "t".to_owned(),
            caption: None,
            rows: vec!["x".to_owned()],
            columns: None,
            fixed: BTreeMap::new(),
            metrics: vec!["m".to_owned()],
            cells: cells.collect(),
        }
    }

    #[test]
    fn one_cell_is_students_t_of_two_samples() {
        let (ours, committed) = (table(&[[1.0, 2.0, 4.0]], 3), table(&[[6.0, 7.0, 7.5]], 0));
        let found = moved(&[ours], &[committed]);
        let [Drift { kind: DriftKind::Moved { p, .. }, .. }] = found.drifts.found.as_slice() else { panic!("{found:?}") };
        // scipy.stats.ttest_ind([1, 2, 4], [6, 7, 7.5]).pvalue
        assert!((p - 0.010_308_838_581_296).abs() < 1e-12, "{p}");
        assert_eq!(found.drifts.compared, 1);
    }

    #[test]
    fn the_spread_is_of_all_cells_and_holm_is_over_all_of_them() {
        // The first cell moved by 2 and scatters little; the others scatter by 2, so that 2 is nothing.
        let others = [[10.0, 12.0, 14.0], [20.0, 22.0, 24.0], [30.0, 32.0, 34.0]];
        let with = |first: [f64; 3]| [&[first][..], &others].concat();
        let near = moved(&[table(&with([1.0, 1.0, 1.1]), 3)], &[table(&with([3.0, 3.0, 3.1]), 0)]);
        assert_eq!(near.drifts.found, [], "{near:?}");
        let far = moved(&[table(&with([1.0, 1.0, 1.1]), 3)], &[table(&with([13.0, 13.0, 13.1]), 0)]);
        assert_eq!(far.drifts.found.len(), 1, "{far:?}");
        assert_eq!(far.drifts.compared, 4);
    }

    #[test]
    fn what_moves_a_little_everywhere_moves_the_mean() {
        let values = |by: f64| -> Vec<[f64; 3]> {
            let turned = |cell: i32, seed: f64| if cell % 2 == 0 { seed } else { 2.0 - seed };
            (0..8).map(|cell| [0.0, 1.0, 2.0].map(|seed| f64::from(cell) * 10.0 + by + turned(cell, seed))).collect()
        };
        let (ours, committed) = (values(1.2), values(0.0));
        let found = moved(&[table(&ours, 3)], &[table(&committed, 0)]).drifts.found;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].table, "mean of m over 8 cells");
    }

    #[test]
    fn false_alarms_are_rare() {
        let philox = Philox::new(9, Stream::Scenes);
        let alarms = (0..1000)
            .filter(|draw| {
                let mut draws = philox.at(*draw, 0);
                let mut normal = || (0..12).map(|_| draws.uniform64()).sum::<f64>() - 6.0;
                let mut side = |seed| {
                    // Seeds move all cells alike, as far as each moves alone.
                    let of_seeds = [normal(), normal(), normal()];
                    let values: Vec<[f64; 3]> = (0..6).map(|_| of_seeds.map(|of_seed| of_seed + normal())).collect();
                    table(&values, seed)
                };
                let (ours, committed) = (side(3), side(0));
                !moved(&[ours], &[committed]).drifts.found.is_empty()
            })
            .count();
        assert!(alarms <= 65, "{alarms} of 1000");
    }

    #[test]
    fn without_two_seeds_nothing_is_said() {
        let mut one = table(&[[1.0, 2.0, 3.0]], 3);
        one.cells[0].values.truncate(1);
        let mut other = table(&[[9.0, 2.0, 3.0]], 0);
        other.cells[0].values.truncate(1);
        let found = moved(&[one], &[other]);
        assert!(found.drifts.found.is_empty() && found.unknown.contains("m"), "{found:?}");
    }
}
