//! The cells of one claim, indexed for looking up by column and label.
//!
//! Owns [`Frame`]. Invariant: labels keep the order in which the source gave them; a lookup finds exactly one row or says how
//! many there were.

use std::collections::BTreeMap;

use super::source::{CellRow, Measure};
use super::statement::Selection;
use crate::tables::{Label, same_label, sort_labels};

/// Column to the label it must have.
pub(super) type Bound = BTreeMap<String, Label>;

#[derive(Debug, Default)]
pub(super) struct Frame {
    columns: BTreeMap<String, usize>,
    labels: Vec<Vec<String>>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    /// Position of the row's label in `labels` of each column; `ABSENT` where the row does not have the column.
    ids: Vec<u32>,
    measure: Option<Measure>,
}

const ABSENT: u32 = u32::MAX;

/// What a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// One cell with a value: its row.
    One(usize),
    /// No cell, or one without a value.
    Missing,
    /// So many cells.
    Many(usize),
}

impl Frame {
    /// Indexes those rows that `keep` wants.
    pub fn new(rows: Vec<CellRow>, keep: impl Fn(&CellRow) -> bool) -> Self {
        let mut frame = Self::default();
        let mut interned: Vec<BTreeMap<String, u32>> = Vec::new();
        for CellRow { labels, measure } in rows.into_iter().filter(|row| keep(row)) {
            let mut ids = vec![ABSENT; frame.labels.len()];
            for (column, label) in labels {
                let column_idx = *frame.columns.entry(column).or_insert_with(|| {
                    frame.labels.push(Vec::new());
                    interned.push(BTreeMap::new());
                    ids.push(ABSENT);
                    frame.labels.len() - 1
                });
                let known = &mut frame.labels[column_idx];
                ids[column_idx] = *interned[column_idx].entry(label.clone()).or_insert_with(|| {
                    known.push(label);
                    u32::try_from(known.len() - 1).expect("fewer labels than rows of memory")
                });
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
        let known = self.columns.get(column).map_or(&[][..], |&idx| self.labels[idx].as_slice());
        let mut picked: Vec<String> = Vec::new();
        for label in known.iter().filter(|label| selection.picks(label)) {
            if !picked.iter().any(|other| same_label(other, label)) {
                picked.push(label.clone());
            }
        }
        sort_labels(&mut picked);
        picked.into_iter().map(Label::new).collect()
    }

    /// The row with these labels. Defaults hold for columns not bound, where a row has them.
    pub fn find(&self, bound: &Bound, defaults: &Bound) -> Found {
        let mut wanted: Vec<(usize, Vec<u32>, bool)> = Vec::with_capacity(bound.len() + defaults.len());
        for (column, label) in bound {
            let Some(&column_idx) = self.columns.get(column) else { return Found::Missing };
            wanted.push((column_idx, self.ids(column_idx, label), false));
        }
        for (column, label) in defaults.iter().filter(|(column, _)| !bound.contains_key(*column)) {
            if let Some(&column_idx) = self.columns.get(column) {
                wanted.push((column_idx, self.ids(column_idx, label), true));
            }
        }
        let mut matching = self.rows.iter().enumerate().filter(|(_, row)| {
            wanted.iter().all(|(column_idx, ids, absent_too)| match row.ids.get(*column_idx).copied().unwrap_or(ABSENT) {
                ABSENT => *absent_too,
                id => ids.contains(&id),
            })
        });
        let Some((row_idx, row)) = matching.next() else { return Found::Missing };
        match (matching.count(), &row.measure) {
            (0, Some(_)) => Found::One(row_idx),
            (0, None) => Found::Missing,
            (more, _) => Found::Many(more + 1),
        }
    }

    fn ids(&self, column_idx: usize, label: &Label) -> Vec<u32> {
        let known = self.labels[column_idx].iter().enumerate().filter(|(_, text)| label.names(text));
        known.filter_map(|(id, _)| u32::try_from(id).ok()).collect()
    }

    /// What is known of a row that [`Frame::find`] found.
    pub fn measure(&self, row_idx: usize) -> &Measure {
        self.rows[row_idx].measure.as_ref().expect("a found row has a value")
    }

    /// The label that a row has in a column.
    pub fn label(&self, row_idx: usize, column: &str) -> Option<&str> {
        let column_idx = *self.columns.get(column)?;
        let id = self.rows[row_idx].ids.get(column_idx).copied().filter(|id| *id != ABSENT)?;
        self.labels[column_idx].get(id as usize).map(String::as_str)
    }
}
