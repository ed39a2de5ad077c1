//! Where cells come from, and those of tables of runs.
//!
//! Owns [`CellSource`] and [`RunTables`]. Invariant: a row that stands for a cell without a value is still a row,
//! so that a missing run is counted and not forgotten. Must not know: what is done with the cells.

use std::collections::{BTreeMap, BTreeSet};

use super::statement::CellsSpec;
use crate::tables::{Cell, Table};

/// What is known of one cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    /// A value that somebody else states, with its error in points.
    Reading {
        /// The value.
        value: f64,
        /// Its error, 0 where none is stated.
        error: f64,
    },
    /// Values over seeds.
    Seeds(Vec<(u64, f64)>),
}

impl Measure {
    /// The value, or the mean over seeds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Reading { value, .. } => *value,
            Self::Seeds(seeds) => seeds.iter().map(|(_, value)| value).sum::<f64>() / seeds.len() as f64,
        }
    }

    /// The value of one seed.
    #[must_use]
    pub fn at_seed(&self, seed: u64) -> Option<f64> {
        match self {
            Self::Reading { .. } => None,
            Self::Seeds(seeds) => seeds.iter().find(|(known, _)| *known == seed).map(|(_, value)| *value),
        }
    }
}

/// One cell with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct CellRow {
    /// Column to label; a column that does not concern the row is absent.
    pub labels: BTreeMap<String, String>,
    /// What is known of it, or why it has no value.
    pub measure: Result<Measure, String>,
}

/// Gives the cells that a claim speaks of.
pub trait CellSource {
    /// Rows of the tables named in `cells`, or, where it names none, of every file that has all the columns in `named`.
    /// `cells.where` need not be applied.
    fn rows(&self, cells: &CellsSpec, named: &BTreeSet<&str>) -> Vec<CellRow>;

    /// Why there are no rows for these columns, where the source knows.
    fn why_none(&self, named: &BTreeSet<&str>) -> Option<String> {
        let _ = named;
        None
    }
}

/// Tables of runs.
#[derive(Debug, Clone, Copy)]
pub struct RunTables<'a>(pub &'a [Table]);

impl CellSource for RunTables<'_> {
    fn rows(&self, cells: &CellsSpec, _: &BTreeSet<&str>) -> Vec<CellRow> {
        let names = cells.table.iter().flatten();
        let tables = names.filter_map(|name| self.0.iter().find(|table| &table.name == name));
        tables.flat_map(table_rows).collect()
    }
}

fn table_rows(table: &Table) -> impl Iterator<Item = CellRow> + '_ {
    table.cells.iter().map(|cell| {
        let mut labels = table.fixed.clone();
        labels.extend(table.rows.iter().cloned().zip(cell.row.iter().cloned()));
        labels.extend(table.columns.iter().cloned().zip(cell.column.iter().cloned()));
        labels.insert("metric".to_owned(), cell.metric.clone());
        labels.insert("table".to_owned(), table.name.clone());
        CellRow { labels, measure: measure(cell) }
    })
}

/// A cell with a run that has no value has none itself: the mean of the runs that are left is another quantity.
fn measure(cell: &Cell) -> Result<Measure, String> {
    match (cell.missing, cell.values.len()) {
        (0, 0) => Err("no run".to_owned()),
        (0, _) => Ok(Measure::Seeds(cell.values.clone())),
        (missing, there) => Err(format!("{missing} of its {} runs without a value", missing + there)),
    }
}
