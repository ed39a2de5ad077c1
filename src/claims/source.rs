//! Where cells come from, and those of tables of runs.
//!
//! Owns [`CellSource`] and [`RunTables`]. Invariant: a row that stands for a cell without a value is still a row,
//! so that a missing run is counted and not forgotten. Must not know: what is done with the cells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::statement::CellsSpec;
use crate::run::{Outcomes, SeedParts, SetOutcomes};
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
    /// Runs, one a seed.
    Seeds(Vec<SeedRun>),
    /// What somebody else states of runs whose single values are not known.
    Summary(Summary),
}

/// A cell of a table that somebody else made of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Mean over runs.
    pub mean: f64,
    /// Standard deviation over runs (n - 1 in the denominator); none of one run.
    pub stddev: Option<f64>,
    /// Runs.
    pub n: u32,
}

/// One run of a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedRun {
    /// Its seed.
    pub seed: u64,
    /// Its value.
    pub value: f64,
    /// Its id: cells of the same runs are one cell.
    pub run_id: String,
    /// What the seeds of its cell draw.
    pub drawn: SeedParts,
    /// What the items behind the value came to, where that is known.
    pub items: Option<Arc<[SetOutcomes]>>,
}

impl Measure {
    /// The value, or the mean over seeds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Reading { value, .. } => *value,
            Self::Seeds(runs) => runs.iter().map(|run| run.value).sum::<f64>() / runs.len() as f64,
            Self::Summary(summary) => summary.mean,
        }
    }

    /// Runs behind it, 0 of a reading.
    #[must_use]
    pub fn num_runs(&self) -> usize {
        match self {
            Self::Reading { .. } => 0,
            Self::Seeds(runs) => runs.len(),
            Self::Summary(summary) => summary.n as usize,
        }
    }

    /// What somebody states of its error, points; 0 of runs.
    #[must_use]
    pub fn stated_error(&self) -> f64 {
        match self {
            Self::Reading { error, .. } => *error,
            Self::Seeds(_) | Self::Summary(_) => 0.0,
        }
    }

    /// The value of one seed.
    #[must_use]
    pub fn at_seed(&self, seed: u64) -> Option<f64> {
        match self {
            Self::Reading { .. } | Self::Summary(_) => None,
            Self::Seeds(runs) => runs.iter().find(|run| run.seed == seed).map(|run| run.value),
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

/// Tables of runs, and what the items behind their values came to.
#[derive(Debug, Clone, Copy)]
pub struct RunTables<'a> {
    tables: &'a [Table],
    outcomes: Option<&'a Outcomes>,
}

impl<'a> RunTables<'a> {
    /// Tables of which no outcomes are known.
    #[must_use]
    pub fn new(tables: &'a [Table]) -> Self {
        Self { tables, outcomes: None }
    }

    /// The same with outcomes.
    #[must_use]
    pub fn with(self, outcomes: &'a Outcomes) -> Self {
        Self { outcomes: Some(outcomes), ..self }
    }

    /// Rows of all tables.
    pub(super) fn rows_of_all(self) -> impl Iterator<Item = CellRow> + 'a {
        self.tables.iter().flat_map(move |table| self.rows_of(table))
    }

    fn rows_of(self, table: &'a Table) -> impl Iterator<Item = CellRow> + 'a {
        table.cells.iter().map(move |cell| {
            let mut labels = table.fixed.clone();
            labels.extend(table.rows.iter().cloned().zip(cell.row.iter().cloned()));
            labels.extend(table.columns.iter().cloned().zip(cell.column.iter().cloned()));
            labels.insert("metric".to_owned(), cell.metric.clone());
            labels.insert("table".to_owned(), table.name.clone());
            CellRow { labels, measure: self.measure(cell) }
        })
    }

    /// A cell with a run that has no value has none itself: the mean of the runs that are left is another quantity.
    fn measure(self, cell: &Cell) -> Result<Measure, String> {
        let run = |((seed, value), run_id): (&(u64, f64), &String)| SeedRun {
            seed: *seed,
            value: *value,
            run_id: run_id.clone(),
            drawn: cell.drawn,
            items: self.outcomes.and_then(|outcomes| outcomes.of(run_id, &cell.metric)).cloned(),
        };
        match (cell.missing, cell.values.len()) {
            (0, 0) => Err("no run".to_owned()),
            (0, _) => Ok(Measure::Seeds(cell.values.iter().zip(&cell.run_ids).map(run).collect())),
            (missing, there) => Err(format!("{missing} of its {} runs without a value", missing + there)),
        }
    }
}

impl CellSource for RunTables<'_> {
    fn rows(&self, cells: &CellsSpec, _: &BTreeSet<&str>) -> Vec<CellRow> {
        let names = cells.table.iter().flatten();
        let tables = names.filter_map(|name| self.tables.iter().find(|table| &table.name == name));
        tables.flat_map(|table| self.rows_of(table)).collect()
    }
}
