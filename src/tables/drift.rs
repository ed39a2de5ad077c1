//! How far tables have moved from committed ones.
//!
//! Owns [`TableData`], a table as its CSV states it, and [`drift`]. Invariant: every cell of either side is accounted for;
//! what is missing or new on one side is drift too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Allowance, Table, TablesError, Tolerance, rounded};

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
    /// Runs with a value.
    pub n: u64,
    /// Runs without one.
    pub missing: u64,
}

impl CellData {
    /// Runs with and without a value.
    fn runs(&self) -> (u64, u64) {
        (self.n, self.missing)
    }
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
        if header[num_labels..] != AMOUNTS || header.get(num_labels.wrapping_sub(1)).is_none_or(|last| last != "metric") {
            return Err(unreadable(format!("line 1: its columns are {header:?}, expected labels, `metric`, then {AMOUNTS:?}")));
        }
        let (mut cells, mut known) = (Vec::new(), BTreeSet::new());
        for record in reader.records() {
            let record = record.map_err(|error| unreadable(error.to_string()))?;
            let cell = cell(&record, num_labels).map_err(&unreadable)?;
            if !known.insert(cell.labels.clone()) {
                let line = record.position().map_or(0, csv::Position::line);
                return Err(unreadable(format!("line {line}: the cell ({}) is there twice", cell.labels.join(", "))));
            }
            cells.push(cell);
        }
        Ok(Self { name: name.to_owned(), labels: header[..num_labels].to_vec(), cells })
    }
}

fn cell(record: &csv::StringRecord, num_labels: usize) -> Result<CellData, String> {
    let line = record.position().map_or(0, csv::Position::line);
    let wrong = |column: usize, expected: &str| {
        format!("line {line}: `{}` is `{}`, expected {expected}", AMOUNTS[column], &record[num_labels + column])
    };
    let count = |column: usize| record[num_labels + column].parse::<u64>().map_err(|_| wrong(column, "a count"));
    let mean = match &record[num_labels] {
        "" => None,
        text => Some(text.parse::<f64>().ok().filter(|mean| mean.is_finite()).ok_or_else(|| wrong(0, "a number"))?),
    };
    let labels = record.iter().take(num_labels).map(str::to_owned).collect();
    Ok(CellData { labels, mean, n: count(2)?, missing: count(3)? })
}

impl From<&Table> for TableData {
    fn from(table: &Table) -> Self {
        let cells = table.cells.iter().map(|cell| CellData {
            labels: cell.row.iter().chain(&cell.column).chain([&cell.metric]).cloned().collect(),
            mean: cell.mean(),
            n: cell.n() as u64,
            missing: cell.missing as u64,
        });
        let labels = table.rows.iter().chain(&table.columns).cloned().chain(["metric".to_owned()]).collect();
        Self { name: table.name.clone(), labels, cells: cells.collect() }
    }
}

/// What a comparison of tables found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drifts {
    /// Cells that both sides have.
    pub compared: usize,
    /// Every difference, in the order of the committed tables.
    pub found: Vec<Drift>,
}

impl Drifts {
    /// Runs whose losses left those of the committed ones.
    #[must_use]
    pub fn losses(&self) -> usize {
        self.found.iter().filter(|drift| matches!(drift.kind, DriftKind::Loss { .. })).count()
    }
}

/// One difference between a table and its committed form.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// The table.
    pub table: String,
    /// Columns and labels of the cell, `metric` last; empty where the whole table is concerned.
    pub cell: Vec<(String, String)>,
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
        /// How far it might have moved. `None` where cells are compared without one.
        allowed: Option<Allowance>,
    },
    /// With other seeds the mean moved by more than seeds do: the two-sided p value, which is significant after Holm over all cells.
    Moved {
        /// Now.
        ours: f64,
        /// As committed.
        committed: f64,
        /// Of this one comparison.
        p: f64,
    },
    /// The loss of a run left that of the committed run at this step, the first one that did.
    Loss {
        /// Steps done.
        step: u64,
        /// Now; `None` where there is no such step, or no finite loss.
        ours: Option<f64>,
        /// As committed.
        committed: Option<f64>,
        /// How far it might have moved.
        allowed: Allowance,
    },
    /// Another number of runs has, or lacks, a value.
    Seeds {
        /// Runs with and without a value now.
        ours: (u64, u64),
        /// As committed.
        committed: (u64, u64),
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

impl DriftKind {
    /// One word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mean { .. } => "mean",
            Self::Moved { .. } => "moved",
            Self::Loss { .. } => "loss",
            Self::Seeds { .. } => "seeds",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Columns { .. } => "columns",
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |mean: &Option<f64>| mean.map_or("no value".to_owned(), |mean| rounded(mean, 2));
        let seeds = |(n, missing): (u64, u64)| if missing == 0 { format!("{n}") } else { format!("{n} of {}", n + missing) };
        let moved = |ours: f64, committed: f64| {
            let sign = if ours > committed { "+" } else { "" };
            format!("{}, committed {} ({sign}{}", rounded(ours, 2), rounded(committed, 2), rounded(ours - committed, 2))
        };
        write!(f, "{}", self.table)?;
        if !self.cell.is_empty() {
            let labels: Vec<String> = self.cell.iter().map(|(column, label)| format!("{column}={label}")).collect();
            write!(f, " ({})", labels.join(", "))?;
        }
        match &self.kind {
            DriftKind::Mean { ours: Some(ours), committed: Some(committed), allowed: Some(allowed) } => {
                write!(f, ": {}, tolerance {allowed})", moved(*ours, *committed))
            }
            DriftKind::Mean { ours, committed, .. } => write!(f, ": {}, committed {}", value(ours), value(committed)),
            DriftKind::Moved { ours, committed, p } => write!(f, ": {}, p {p:.1e})", moved(*ours, *committed)),
            DriftKind::Loss { step, ours: Some(ours), committed: Some(committed), allowed } => {
                let share = (ours - committed).abs() / committed.abs() * 100.0;
                write!(f, ": loss {ours:.7} at step {step}, committed {committed:.7} ({share:.1e}% away, tolerance {allowed})")
            }
            DriftKind::Loss { step, ours, committed, .. } => {
                write!(f, ": loss at step {step}: {}, committed {}", value(ours), value(committed))
            }
            DriftKind::Seeds { ours, committed } => write!(f, ": {} seeds, committed {}", seeds(*ours), seeds(*committed)),
            DriftKind::Missing => write!(f, ": committed, but not there now"),
            DriftKind::Extra => write!(f, ": there now, but not committed"),
            DriftKind::Columns { ours, committed } => write!(f, ": columns {ours:?}, committed {committed:?}"),
        }
    }
}

/// Compares every cell of both sides; means may differ by the tolerance of their metric.
#[must_use]
pub fn drift(ours: &[TableData], committed: &[TableData], tolerance: &Tolerance) -> Drifts {
    compare(ours, committed, &|ours, committed, metric| {
        let allowed = tolerance.of(metric);
        if allowed.is_left(ours.mean, committed.mean) {
            Some(DriftKind::Mean { ours: ours.mean, committed: committed.mean, allowed: Some(allowed) })
        } else {
            (ours.runs() != committed.runs()).then(|| DriftKind::Seeds { ours: ours.runs(), committed: committed.runs() })
        }
    })
}

/// Compares which tables and cells there are on both sides, which have a value, and how many runs of each have none.
#[must_use]
pub fn unlike(ours: &[TableData], committed: &[TableData]) -> Drifts {
    compare(ours, committed, &|ours, committed, _| {
        if ours.mean.is_some() != committed.mean.is_some() {
            Some(DriftKind::Mean { ours: ours.mean, committed: committed.mean, allowed: None })
        } else {
            (ours.missing != committed.missing).then(|| DriftKind::Seeds { ours: ours.runs(), committed: committed.runs() })
        }
    })
}

/// How a cell differs from a committed one, of this metric.
type Difference<'a> = dyn Fn(&CellData, &CellData, &str) -> Option<DriftKind> + 'a;

fn compare(ours: &[TableData], committed: &[TableData], difference: &Difference<'_>) -> Drifts {
    let mut drifts = Drifts::default();
    let whole = |table: &TableData, kind| Drift { table: table.name.clone(), cell: Vec::new(), kind };
    for old in committed {
        match ours.iter().find(|table| table.name == old.name) {
            None => drifts.found.push(whole(old, DriftKind::Missing)),
            Some(new) if new.labels != old.labels => {
                let kind = DriftKind::Columns { ours: new.labels.clone(), committed: old.labels.clone() };
                drifts.found.push(whole(new, kind));
            }
            Some(new) => compare_cells(new, old, difference, &mut drifts),
        }
    }
    let extra = ours.iter().filter(|table| !committed.iter().any(|old| old.name == table.name));
    drifts.found.extend(extra.map(|table| whole(table, DriftKind::Extra)));
    drifts
}

fn compare_cells(ours: &TableData, committed: &TableData, difference: &Difference<'_>, drifts: &mut Drifts) {
    let by_labels =
        |table: &TableData| table.cells.iter().map(|cell| (cell.labels.clone(), cell.clone())).collect::<BTreeMap<_, _>>();
    let (new, old) = (by_labels(ours), by_labels(committed));
    let mut report = |labels: &[String], kind| {
        let cell = ours.labels.iter().cloned().zip(labels.iter().cloned()).collect();
        drifts.found.push(Drift { table: ours.name.clone(), cell, kind });
    };
    for cell in &committed.cells {
        let labels = &cell.labels;
        let Some(now) = new.get(labels) else {
            report(labels, DriftKind::Missing);
            continue;
        };
        drifts.compared += 1;
        if let Some(kind) = difference(now, cell, labels.last().map_or("", String::as_str)) {
            report(labels, kind);
        }
    }
    for cell in &ours.cells {
        if !old.contains_key(&cell.labels) {
            report(&cell.labels, DriftKind::Extra);
        }
    }
}
