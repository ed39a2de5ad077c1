//! Where cells come from: tables of runs, or tidy CSV files.
//!
//! Owns [`CellSource`] and its two implementations. Invariant: a row that stands for a cell without a value is still a row,
//! so that a missing run is counted and not forgotten. Must not know: what is done with the cells.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::statement::CellsSpec;
use crate::tables::Table;

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
}

/// One cell with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct CellRow {
    /// Column to label; a column that does not concern the row is absent.
    pub labels: BTreeMap<String, String>,
    /// What is known of it; `None` where it is missing.
    pub measure: Option<Measure>,
}

/// Gives the cells that a claim speaks of.
pub trait CellSource {
    /// Rows of the tables named in `cells`, or, where it names none, of every file that has all the columns in `named`.
    /// `cells.where` need not be applied.
    fn rows(&self, cells: &CellsSpec, named: &BTreeSet<&str>) -> Vec<CellRow>;
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
        let measure = (!cell.values.is_empty()).then(|| Measure::Seeds(cell.values.clone()));
        CellRow { labels, measure }
    })
}

/// Tidy CSV files: any label columns, `value`, and `error_pt` where errors are known.
#[derive(Debug, Clone, Default)]
pub struct Values {
    files: Vec<ValuesFile>,
}

#[derive(Debug, Clone)]
struct ValuesFile {
    columns: BTreeSet<String>,
    rows: Vec<CellRow>,
}

/// A CSV file that cannot be read as cells.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValuesError {
    /// The text is not CSV.
    #[error("{file}: {what}")]
    Malformed {
        /// The file.
        file: String,
        /// Why, with the line.
        what: String,
    },
    /// A cell that should hold a number does not.
    #[error("{file}:{line}: column `{column}` is `{found}`, expected a number")]
    NotANumber {
        /// The file.
        file: String,
        /// Its line, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// The text found.
        found: String,
    },
}

impl ValuesError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Malformed { .. } => None,
            Self::NotANumber { .. } => Some("leave the cell empty where the value is missing".to_owned()),
        }
    }
}

const VALUE: &str = "value";
const ERROR: &str = "error_pt";

impl Values {
    /// Adds the text of one CSV file. A file without a `value` column holds no cells and adds none.
    ///
    /// # Errors
    /// Where the text is not CSV, or a value or error is not a number.
    pub fn add(&mut self, file: &str, text: &[u8]) -> Result<(), ValuesError> {
        let malformed = |error: csv::Error| ValuesError::Malformed { file: file.to_owned(), what: error.to_string() };
        // Spreadsheets begin a file with a byte order mark.
        let mut reader = csv::Reader::from_reader(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
        let header = reader.headers().map_err(malformed)?.clone();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(malformed)?;
            rows.push(values_row(file, &header, &record)?);
        }
        if header.iter().any(|column| column == VALUE) {
            self.files.push(ValuesFile { columns: header.iter().map(str::to_owned).collect(), rows });
        }
        Ok(())
    }

    /// Every column of every file.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        self.files.iter().flat_map(|file| &file.columns).map(String::as_str).collect()
    }
}

fn values_row(file: &str, header: &csv::StringRecord, record: &csv::StringRecord) -> Result<CellRow, ValuesError> {
    let (mut labels, mut value, mut error) = (BTreeMap::new(), None, 0.0);
    for (column, text) in header.iter().zip(record) {
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let number = |column: &'static str| {
            let found = || ValuesError::NotANumber { file: file.to_owned(), line, column, found: text.to_owned() };
            text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(found)
        };
        match column {
            VALUE => value = Some(number(VALUE)?),
            ERROR => error = number(ERROR)?,
            _ => {
                labels.insert(column.to_owned(), text.to_owned());
            }
        }
    }
    Ok(CellRow { labels, measure: value.map(|value| Measure::Reading { value, error }) })
}

impl CellSource for Values {
    fn rows(&self, cells: &CellsSpec, named: &BTreeSet<&str>) -> Vec<CellRow> {
        if cells.table.is_some() {
            return Vec::new();
        }
        let files = self.files.iter().filter(|file| named.iter().all(|column| file.columns.contains(*column)));
        files.flat_map(|file| file.rows.iter().cloned()).collect()
    }
}
