//! Cells of tidy CSV files: any label columns, and `value` (or `mean`) with `error_pt` where errors are known; `stddev` and `n`
//! beside it say that it is the mean of so many runs.
//!
//! Owns [`Values`]. Input: the text of files. Invariant: every problem of a file is reported, each with its line; a file that can
//! give no cells says why ([`Values::idle`]). Must not know: where the files lie, what is asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::source::{CellRow, CellSource, Measure, Summary};
use super::statement::CellsSpec;

/// Tidy CSV files.
#[derive(Debug, Clone, Default)]
pub struct Values {
    files: Vec<ValuesFile>,
    idle: Vec<Idle>,
}

#[derive(Debug, Clone)]
struct ValuesFile {
    columns: BTreeSet<String>,
    rows: Vec<CellRow>,
}

/// A file that gives no cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// The file.
    pub file: String,
    /// Why.
    pub why: String,
    /// What to do about it, where that is plain.
    pub hint: Option<String>,
}

/// A CSV file that cannot be read as cells: every problem of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesError {
    problems: Vec<String>,
    hint: Option<String>,
}

impl ValuesError {
    fn one(problem: String) -> Self {
        Self { problems: vec![problem], hint: None }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for ValuesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ValuesError {}

const VALUE: &str = "value";
/// As tables of runs call it.
const MEAN: &str = "mean";
const ERROR: &str = "error_pt";
const STDDEV: &str = "stddev";
const N: &str = "n";
/// Runs without a value, in our own tables: such a cell has none.
const MISSING: &str = "missing";

/// Problems of one file that are listed; the rest is counted.
const LISTED: usize = 20;

impl Values {
    /// Adds the text of one CSV file. A file without a `value` or `mean` column or without rows adds no cells, and is idle.
    ///
    /// # Errors
    /// Where the text is not CSV, a column is there twice, or values and errors are not numbers.
    pub fn add(&mut self, file: &str, text: &[u8]) -> Result<(), ValuesError> {
        // Spreadsheets begin a file with a byte order mark.
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
        let header = reader.headers().map_err(|error| malformed(file, &error))?.clone();
        let header: Vec<String> = header.iter().map(|column| column.trim().to_owned()).collect();
        let mut problems = twice(file, &header);
        let columns = Columns::of(&header);
        let mut rows = Vec::new();
        for record in reader.records() {
            match record {
                Ok(record) => rows.extend(row(file, &columns, &record, &mut problems)),
                Err(error) => return Err(malformed(file, &error)),
            }
        }
        if !problems.is_empty() {
            let more = problems.len().saturating_sub(LISTED);
            problems.truncate(LISTED);
            problems.extend((more > 0).then(|| format!("{file}: {more} more of the kind")));
            let is_number = problems.iter().any(|problem| problem.ends_with("expected a number"));
            return Err(ValuesError {
                problems,
                hint: is_number.then(|| "leave the cell empty where the value is missing".into()),
            });
        }
        match why_idle(&header, rows.is_empty()) {
            Some((why, hint)) => self.idle.push(Idle { file: file.to_owned(), why, hint }),
            None => self.files.push(ValuesFile { columns: header.into_iter().filter(|column| !column.is_empty()).collect(), rows }),
        }
        Ok(())
    }

    /// Files that give no cells, in the order added.
    #[must_use]
    pub fn idle(&self) -> &[Idle] {
        &self.idle
    }

    /// Whether no file gives cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Every column of every file that gives cells.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        self.files.iter().flat_map(|file| &file.columns).map(String::as_str).collect()
    }
}

fn malformed(file: &str, error: &csv::Error) -> ValuesError {
    let line = error.position().map_or(String::new(), |position| format!(":{}", position.line()));
    let what = match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8 text", err.field() + 1),
        _ => error.to_string(),
    };
    ValuesError::one(format!("{file}{line}: {what}"))
}

/// Columns that a header names more than once; columns without a name are not read.
fn twice(file: &str, header: &[String]) -> Vec<String> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut problems = Vec::new();
    for (idx, column) in header.iter().enumerate().filter(|(_, column)| !column.is_empty()) {
        if let Some(before) = first.insert(column, idx) {
            problems.push(format!("{file}:1: column `{column}` is there twice, as columns {} and {}", before + 1, idx + 1));
        }
    }
    problems
}

/// Why a file of this header gives no cells, and what to do about it.
fn why_idle(header: &[String], has_no_rows: bool) -> Option<(String, Option<String>)> {
    if header.iter().all(String::is_empty) {
        return Some((format!("is empty, expected a header line with a column `{VALUE}`"), None));
    }
    if !header.iter().any(|column| column == VALUE || column == MEAN) {
        let found = header.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
        let near = |column: &&String| strsim::damerau_levenshtein(&column.to_lowercase(), VALUE) <= 2;
        let hint = match (header, header.iter().find(near)) {
            ([one], _) if one.contains([';', '\t', '|']) => Some("separate the columns by commas".to_owned()),
            (_, Some(near)) => Some(format!("rename the column `{near}`")),
            _ => None,
        };
        return Some((format!("has no column `{VALUE}` or `{MEAN}`; its columns are {found}"), hint));
    }
    has_no_rows.then(|| ("holds a header and no rows".to_owned(), None))
}

/// A header, and what its columns mean: of others' files `mean`, `n` and `missing` may be labels.
struct Columns<'a> {
    header: &'a [String],
    /// The column with the value.
    value: &'static str,
    /// Whether the value is the mean of so many runs.
    is_summary: bool,
}

impl<'a> Columns<'a> {
    fn of(header: &'a [String]) -> Self {
        let has = |name: &str| header.iter().any(|column| column == name);
        Self { header, value: if has(VALUE) { VALUE } else { MEAN }, is_summary: has(STDDEV) && has(N) }
    }
}

/// One line as a cell; what is wrong with it goes to `problems`.
fn row(file: &str, columns: &Columns<'_>, record: &csv::StringRecord, problems: &mut Vec<String>) -> Option<CellRow> {
    let Columns { header, value: value_column, is_summary } = *columns;
    let line = record.position().map_or(0, csv::Position::line);
    if record.len() != header.len() {
        problems.push(format!("{file}:{line}: {} fields, expected {} as in the header", record.len(), header.len()));
        return None;
    }
    let (mut labels, mut value, mut error, mut stddev) = (BTreeMap::new(), None, 0.0, None);
    let (mut n, mut missing) = (None, 0);
    let mut wrong = |column: &str, text: &str, expected: &str| {
        problems.push(format!("{file}:{line}: column `{column}` is `{text}`, expected {expected}"));
    };
    for (column, text) in header.iter().zip(record) {
        let text = text.trim();
        if text.is_empty() || column.is_empty() {
            continue;
        }
        let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
        let count = || text.parse::<u32>().ok();
        match column.as_str() {
            name if name == value_column => match number() {
                Some(number) => value = Some(number),
                None => wrong(column, text, "a number"),
            },
            ERROR => match number() {
                Some(number) if number >= 0.0 => error = number,
                Some(_) => wrong(column, text, "an error of 0 or more"),
                None => wrong(column, text, "a number"),
            },
            STDDEV if is_summary => match number() {
                Some(number) if number >= 0.0 => stddev = Some(number),
                _ => wrong(column, text, "a standard deviation of 0 or more"),
            },
            N if is_summary => match count() {
                Some(count) => n = Some(count),
                None => wrong(column, text, "a number of runs"),
            },
            MISSING if is_summary => match count() {
                Some(count) => missing = count,
                None => wrong(column, text, "a number of runs"),
            },
            _ => _ = labels.insert(column.clone(), text.to_owned()),
        }
    }
    let measure = match (value, n) {
        (None, _) => Err("its value is empty".to_owned()),
        _ if missing > 0 => {
            Err(format!("{missing} of its {} runs without a value", u64::from(missing) + u64::from(n.unwrap_or(0))))
        }
        (Some(mean), Some(n)) => Ok(Measure::Summary(Summary { mean, stddev, n })),
        (Some(value), _) => Ok(Measure::Reading { value, error }),
    };
    Some(CellRow { labels, measure })
}

impl CellSource for Values {
    fn rows(&self, cells: &CellsSpec, named: &BTreeSet<&str>) -> Vec<CellRow> {
        if cells.table.is_some() {
            return Vec::new();
        }
        let files = self.files.iter().filter(|file| named.iter().all(|column| file.columns.contains(*column)));
        files.flat_map(|file| file.rows.iter().cloned()).collect()
    }

    fn why_none(&self, named: &BTreeSet<&str>) -> Option<String> {
        let known = self.columns();
        let list = |columns: Vec<&str>| columns.into_iter().map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
        let unknown: Vec<&str> = named.iter().copied().filter(|column| !known.contains(column)).collect();
        Some(match unknown.is_empty() {
            false => format!("no file has the column {}", list(unknown)),
            true => format!("no one file has all the columns that the claim names: {}", list(named.iter().copied().collect())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Values::default().add("a.csv", text.as_bytes()).map_or_else(|error| error.to_string(), |()| "read".to_owned())
    }

    fn idle(text: &str) -> (String, Option<String>) {
        let mut values = Values::default();
        assert_eq!(values.add("a.csv", text.as_bytes()), Ok(()));
        assert!(values.is_empty());
        values.idle().first().map_or((String::new(), None), |idle| (idle.why.clone(), idle.hint.clone()))
    }

    #[test]
    fn every_problem_of_a_file_is_named_with_its_line() {
        assert_eq!(
            refused("model,value,error_pt\na,much,0.3\nb,nan,\nc,1,-2\nd,1\n"),
            "a.csv:2: column `value` is `much`, expected a number\na.csv:3: column `value` is `nan`, expected a number\n\
             a.csv:4: column `error_pt` is `-2`, expected an error of 0 or more\na.csv:5: 2 fields, expected 3 as in the header"
        );
        assert_eq!(refused("model,value,model\na,1,b\n"), "a.csv:1: column `model` is there twice, as columns 1 and 3");
        let many = (0..30).fold("model,value\n".to_owned(), |text, idx| format!("{text}m{idx},x\n"));
        assert_eq!((refused(&many).lines().count(), refused(&many).ends_with("10 more of the kind")), (21, true));
        let not_text = Values::default().add("a.csv", b"model,value\n\xff\xfe,1\n").map_err(|error| error.to_string());
        assert_eq!(not_text, Err("a.csv:2: field 1 is not UTF-8 text".to_owned()));
    }

    #[test]
    fn tables_of_runs_are_read_with_their_spread() {
        let mut values = Values::default();
        assert_eq!(
            values.add("a.csv", b"model,metric,mean,stddev,n,missing\na,m,50,1.5,3,0\nb,m,51,,1,0\nc,m,52,1,2,1\nd,m,,,0,3\n"),
            Ok(())
        );
        let rows = values.rows(&CellsSpec::default(), &BTreeSet::from(["model"]));
        let found: Vec<_> = rows.iter().map(|row| row.measure.clone()).collect();
        let summary = |mean, stddev, n| Ok(Measure::Summary(Summary { mean, stddev, n }));
        let empty = Err("its value is empty".to_owned());
        let lacking = Err("1 of its 3 runs without a value".to_owned());
        assert_eq!(found, [summary(50.0, Some(1.5), 3), summary(51.0, None, 1), lacking, empty]);
        assert_eq!(rows[0].labels.keys().collect::<Vec<_>>(), ["metric", "model"]);
        // A column `n` without `stddev` is a label.
        let mut values = Values::default();
        assert_eq!(values.add("b.csv", b"n,value\n10M,3\n"), Ok(()));
        assert!(values.rows(&CellsSpec::default(), &BTreeSet::from(["n"])).iter().all(|row| row.labels["n"] == "10M"));
        assert!(
            refused("model,mean,stddev,n\na,1,-1,3\n")
                .ends_with("column `stddev` is `-1`, expected a standard deviation of 0 or more")
        );
        assert!(refused("model,mean,stddev,n\na,1,1,3.5\n").ends_with("column `n` is `3.5`, expected a number of runs"));
    }

    #[test]
    fn a_file_that_gives_no_cells_says_why() {
        let columns = "has no column `value` or `mean`; its columns are `model`, `gmacs`";
        assert_eq!(idle("model,gmacs\na,1\n"), (columns.to_owned(), None));
        assert_eq!(idle("model,Value\na,1\n").1.as_deref(), Some("rename the column `Value`"));
        assert_eq!(idle("model;value\na;1\n").1.as_deref(), Some("separate the columns by commas"));
        assert_eq!(idle("").0, "is empty, expected a header line with a column `value`");
        assert_eq!(idle("model,value\n").0, "holds a header and no rows");
    }

    #[test]
    fn blanks_around_names_and_columns_without_a_name_do_no_harm() {
        let mut values = Values::default();
        assert_eq!(values.add("a.csv", b",model, value,\n0,a, 1.5,x\n1,b,,y\n"), Ok(()));
        let rows = values.rows(&CellsSpec::default(), &BTreeSet::from(["model"]));
        let labels = |name: &str| BTreeMap::from([("model".to_owned(), name.to_owned())]);
        let first = CellRow { labels: labels("a"), measure: Ok(Measure::Reading { value: 1.5, error: 0.0 }) };
        assert_eq!(rows, [first, CellRow { labels: labels("b"), measure: Err("its value is empty".to_owned()) }]);
    }
}
