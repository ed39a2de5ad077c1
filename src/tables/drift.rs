//! How far tables have moved from committed ones.
//!
//! Owns [`TableData`], a table as its CSV states it, and [`drift`]. Invariant: every cell of either side is accounted for;
//! what is missing or new on one side is drift too.

use std::collections::BTreeMap;
use std::fmt;

use super::{Table, TablesError};
use crate::run::counted;

/// A table as its CSV file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct TableData {
    /// File name without its ending.
    pub name: String,
    /// Label columns, `metric` last.
    pub labels: Vec<String>,
    /// Cells in file order.
    pub cells: Vec<CellData>,
}

/// One line of a table's CSV.
#[derive(Debug, Clone, PartialEq)]
pub struct CellData {
    /// Labels, in the order of the label columns.
    pub labels: Vec<String>,
    /// Mean over seeds.
    pub mean: Option<f64>,
    /// Seeds with a value.
    pub n: u64,
}

const AMOUNTS: [&str; 4] = ["mean", "stddev", "n", "missing"];

impl TableData {
    /// Reads a table's CSV.
    ///
    /// # Errors
    /// Where the text is not a table as [`Table::to_csv`] writes it.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, TablesError> {
        let unreadable = |what: String| TablesError::Unreadable { table: name.to_owned(), what };
        let mut reader = csv::Reader::from_reader(text);
        let header: Vec<String> =
            reader.headers().map_err(|error| unreadable(error.to_string()))?.iter().map(str::to_owned).collect();
        let num_labels = header.len().saturating_sub(AMOUNTS.len());
        if header[num_labels..] != AMOUNTS || num_labels == 0 {
            return Err(unreadable(format!("line 1: its columns are {header:?}, expected labels, then {AMOUNTS:?}")));
        }
        let mut cells = Vec::new();
        for (row_idx, record) in reader.records().enumerate() {
            let record = record.map_err(|error| unreadable(error.to_string()))?;
            let wrong =
                |column: &str, text: &str| unreadable(format!("line {}: `{column}` is `{text}`, not a number", row_idx + 2));
            let (mean, n) = (&record[num_labels], &record[num_labels + 2]);
            cells.push(CellData {
                labels: record.iter().take(num_labels).map(str::to_owned).collect(),
                mean: if mean.is_empty() { None } else { Some(mean.parse().map_err(|_| wrong("mean", mean))?) },
                n: n.parse().map_err(|_| wrong("n", n))?,
            });
        }
        Ok(Self { name: name.to_owned(), labels: header[..num_labels].to_vec(), cells })
    }
}

impl From<&Table> for TableData {
    fn from(table: &Table) -> Self {
        let cells = table.cells.iter().map(|cell| CellData {
            labels: cell.row.iter().chain(&cell.column).chain([&cell.metric]).cloned().collect(),
            mean: cell.mean(),
            n: cell.n() as u64,
        });
        let labels = table.rows.iter().chain(&table.columns).cloned().chain(["metric".to_owned()]).collect();
        Self { name: table.name.clone(), labels, cells: cells.collect() }
    }
}

/// One difference between a table and its committed form.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// The table.
    pub table: String,
    /// Labels of the cell, `column=label` joined by commas; empty where the whole table is concerned.
    pub cell: String,
    /// What differs.
    pub kind: DriftKind,
}

/// What differs.
#[derive(Debug, Clone, PartialEq)]
pub enum DriftKind {
    /// The mean moved by more than the tolerance, appeared or vanished.
    Mean {
        /// Now.
        ours: Option<f64>,
        /// As committed.
        committed: Option<f64>,
    },
    /// Another number of seeds stands behind the mean.
    Seeds {
        /// Now.
        ours: u64,
        /// As committed.
        committed: u64,
    },
    /// Committed, but not there now.
    Missing,
    /// There now, but not committed.
    Extra,
    /// The label columns are others.
    Columns {
        /// Now.
        ours: Vec<String>,
        /// As committed.
        committed: Vec<String>,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |mean: &Option<f64>| mean.map_or("no value".to_owned(), |mean| format!("{mean:.2}"));
        write!(f, "{}", self.table)?;
        if !self.cell.is_empty() {
            write!(f, " ({})", self.cell)?;
        }
        match &self.kind {
            DriftKind::Mean { ours: Some(ours), committed: Some(committed) } => {
                write!(f, ": {ours:.2}, committed {committed:.2} ({:+.2})", ours - committed)
            }
            DriftKind::Mean { ours, committed } => write!(f, ": {}, committed {}", value(ours), value(committed)),
            DriftKind::Seeds { ours, committed } => write!(f, ": {}, committed {committed}", counted(*ours, "seed")),
            DriftKind::Missing => write!(f, ": committed, but not there now"),
            DriftKind::Extra => write!(f, ": there now, but not committed"),
            DriftKind::Columns { ours, committed } => write!(f, ": columns {ours:?}, committed {committed:?}"),
        }
    }
}

/// Compares every cell of both sides; means may differ by `tolerance`.
#[must_use]
pub fn drift(ours: &[TableData], committed: &[TableData], tolerance: f64) -> Vec<Drift> {
    let mut found = Vec::new();
    let whole = |table: &TableData, kind| Drift { table: table.name.clone(), cell: String::new(), kind };
    for old in committed {
        match ours.iter().find(|table| table.name == old.name) {
            None => found.push(whole(old, DriftKind::Missing)),
            Some(new) if new.labels != old.labels => {
                let kind = DriftKind::Columns { ours: new.labels.clone(), committed: old.labels.clone() };
                found.push(whole(new, kind));
            }
            Some(new) => compare_cells(new, old, tolerance, &mut found),
        }
    }
    let extra = ours.iter().filter(|table| !committed.iter().any(|old| old.name == table.name));
    found.extend(extra.map(|table| whole(table, DriftKind::Extra)));
    found
}

fn compare_cells(ours: &TableData, committed: &TableData, tolerance: f64, found: &mut Vec<Drift>) {
    let by_labels =
        |table: &TableData| table.cells.iter().map(|cell| (cell.labels.clone(), cell.clone())).collect::<BTreeMap<_, _>>();
    let (new, old) = (by_labels(ours), by_labels(committed));
    let mut report = |labels: &[String], kind| {
        let cell = ours.labels.iter().zip(labels).map(|(column, label)| format!("{column}={label}")).collect::<Vec<_>>().join(", ");
        found.push(Drift { table: ours.name.clone(), cell, kind });
    };
    for CellData { labels, mean, n } in &committed.cells {
        let Some(cell) = new.get(labels) else {
            report(labels, DriftKind::Missing);
            continue;
        };
        let moved = match (cell.mean, mean) {
            (Some(a), Some(b)) => (a - b).abs() > tolerance + 1e-9,
            (a, b) => a.is_some() != b.is_some(),
        };
        if moved {
            report(labels, DriftKind::Mean { ours: cell.mean, committed: *mean });
        } else if cell.n != *n {
            report(labels, DriftKind::Seeds { ours: cell.n, committed: *n });
        }
    }
    for cell in &ours.cells {
        if !old.contains_key(&cell.labels) {
            report(&cell.labels, DriftKind::Extra);
        }
    }
}
