//! The cells of one claim, indexed for looking up by column and label.
//!
//! Owns [`Frame`]. Invariant: labels keep the order in which the source gave them; a lookup finds exactly one row or says how
//! many there were.

use std::collections::BTreeMap;

use super::pool::{Pool, place};
use super::source::{CellRow, Measure};
use super::statement::Selection;
use crate::tables::{Label, NONE, canonical, sort_labels};

/// Columns with the one label that each must have.
pub(super) type Place = BTreeMap<String, Label>;

#[derive(Debug, Default)]
pub(super) struct Frame {
    names: BTreeMap<String, usize>,
    columns: Vec<Column>,
    rows: Vec<Row>,
    /// The first row with the same runs and metric, by row.
    first_of_runs: Vec<usize>,
    pool: Pool,
}

/// The labels of a column, each by every way to write it, and the rows that have it.
#[derive(Debug, Default)]
struct Column {
    ids: BTreeMap<String, usize>,
    labels: Vec<String>,
    rows: Vec<Vec<usize>>,
}

#[derive(Debug)]
struct Row {
    /// Position of the row's label in each column; `None` where the row does not have the column.
    ids: Vec<Option<usize>>,
    measure: Result<Measure, String>,
}

impl Row {
    fn id(&self, column_idx: usize) -> Option<usize> {
        self.ids.get(column_idx).copied().flatten()
    }
}

/// What a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// One cell with a value: its row.
    One(usize),
    /// One cell without a value: its row.
    Empty(usize),
    /// No cell.
    Missing,
    /// So many cells.
    Many(usize),
}

impl Frame {
    /// Indexes those rows that `keep` wants; what is known of spread comes from all of them.
    pub fn new(rows: Vec<CellRow>, keep: impl Fn(&CellRow) -> bool) -> Self {
        let mut frame = Self { pool: Pool::new(&rows), ..Self::default() };
        let mut known: BTreeMap<(String, Option<String>), usize> = BTreeMap::new();
        for CellRow { labels, measure } in rows.into_iter().filter(|row| keep(row)) {
            let row_idx = frame.rows.len();
            frame.first_of_runs.push(match &measure {
                Ok(Measure::Seeds(runs)) => *known.entry((place(runs), labels.get("metric").cloned())).or_insert(row_idx),
                _ => row_idx,
            });
            let mut ids = vec![None; frame.columns.len()];
            for (name, label) in labels {
                let column_idx = *frame.names.entry(name).or_insert_with(|| {
                    frame.columns.push(Column::default());
                    ids.push(None);
                    frame.columns.len() - 1
                });
                ids[column_idx] = Some(frame.columns[column_idx].add(label, row_idx));
            }
            frame.rows.push(Row { ids, measure });
        }
        frame
    }

    /// The labels of a column that a selection picks: a list in its own order, otherwise ascending where all are amounts, else
    /// in the order of the source.
    pub fn labels(&self, column: &str, selection: &Selection) -> Vec<Label> {
        if let Selection::Values(labels) = selection {
            return labels.clone();
        }
        let Some(&column_idx) = self.names.get(column) else { return Vec::new() };
        let known = &self.columns[column_idx].labels;
        // A row without the axis is asked for by name; it is none of the axis's values.
        let mut picked: Vec<String> = known.iter().filter(|label| !label.is_empty() && selection.picks(label)).cloned().collect();
        sort_labels(&mut picked);
        picked.into_iter().map(Label::new).collect()
    }

    /// The row with these labels. Defaults hold for columns not bound, where a row has them.
    pub fn find(&self, bound: &Place, defaults: &Place) -> Found {
        let mut wanted: Vec<(usize, Option<usize>)> = Vec::with_capacity(bound.len());
        for (name, label) in bound {
            let found = self.names.get(name).and_then(|&column_idx| Some((column_idx, self.columns[column_idx].id(label)?)));
            let Some((column_idx, id)) = found else { return Found::Missing };
            wanted.push((column_idx, Some(id)));
        }
        let open = defaults.iter().filter(|(name, _)| !bound.contains_key(*name));
        let assumed: Vec<(usize, Option<usize>)> = open
            .filter_map(|(name, label)| self.names.get(name).map(|&column_idx| (column_idx, self.columns[column_idx].id(label))))
            .collect();
        let matches = |row: &Row| {
            wanted.iter().all(|&(column_idx, id)| row.id(column_idx) == id)
                && assumed.iter().all(|&(column_idx, id)| row.id(column_idx).is_none_or(|have| Some(have) == id))
        };
        // The rarest label has the fewest rows to look at.
        let rows_of = |&(column_idx, id): &(usize, Option<usize>)| id.map(|id| &self.columns[column_idx].rows[id]);
        let fewest = wanted.iter().filter_map(rows_of).min_by_key(|rows| rows.len());
        let matching: Vec<usize> = match fewest {
            Some(rows) => rows.iter().copied().filter(|&row_idx| matches(&self.rows[row_idx])).collect(),
            None => (0..self.rows.len()).filter(|&row_idx| matches(&self.rows[row_idx])).collect(),
        };
        match matching.as_slice() {
            [] => Found::Missing,
            [row_idx] if self.rows[*row_idx].measure.is_ok() => Found::One(*row_idx),
            [row_idx] => Found::Empty(*row_idx),
            many => Found::Many(many.len()),
        }
    }

    /// What is known of a row that [`Frame::find`] found.
    pub fn measure(&self, row_idx: usize) -> &Measure {
        self.rows[row_idx].measure.as_ref().expect("a found row has a value")
    }

    /// The row that stands for all with the same runs and metric.
    pub fn first_of_runs(&self, row_idx: usize) -> usize {
        self.first_of_runs[row_idx]
    }

    /// Why a row has no value.
    pub fn absence(&self, row_idx: usize) -> &str {
        self.rows[row_idx].measure.as_ref().err().map_or("", String::as_str)
    }

    /// What all cells of the claim's tables say of spread.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The label that a row has in a column.
    pub fn label(&self, row_idx: usize, column: &str) -> Option<&str> {
        let column_idx = *self.names.get(column)?;
        let id = self.rows[row_idx].id(column_idx)?;
        self.columns[column_idx].labels.get(id).map(String::as_str)
    }
}

impl Column {
    fn add(&mut self, label: String, row_idx: usize) -> usize {
        let id = *self.ids.entry(canonical(&label).into_owned()).or_insert(self.labels.len());
        if id == self.labels.len() {
            self.labels.push(label);
            self.rows.push(Vec::new());
        }
        self.rows[id].push(row_idx);
        id
    }

    fn id(&self, label: &Label) -> Option<usize> {
        let stated = self.ids.get(canonical(label.as_str()).as_ref());
        // Rows without the axis have an empty label, which is called `none` unless a value has that name.
        stated.or_else(|| self.ids.get("").filter(|_| label.as_str() == NONE)).copied()
    }
}
