//! Tables of a page: rows that can be sorted and filtered where they stand.
//!
//! Invariant: a page without scripts shows every row; a cell whose text is no plain number carries the number by which it is sorted.

use maud::{Markup, html};

use crate::record::number;
use crate::tables::{Grid, amount};

/// One cell.
pub(super) struct Cell {
    pub text: String,
    /// What it is sorted by, where that is not its text.
    pub value: Option<f64>,
}

impl Cell {
    /// A label, sorted by the amount that it states.
    pub fn label(text: impl Into<String>) -> Self {
        let text = text.into();
        let is_plain = text.parse::<f64>().is_ok();
        let value = if is_plain { None } else { amount(text.rsplit('=').next().unwrap_or_default()) };
        Self { text, value }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None }
    }
}

/// One column.
pub(super) struct Column {
    pub name: String,
    pub kind: Kind,
}

/// How the cells of a column are set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Command,
}

/// A table under its columns.
pub(super) fn table(id: &str, name: &str, columns: &[Column], rows: impl Iterator<Item = Vec<Cell>>) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table.data id=(id) data-name=(name) {
                thead { tr { @for column in columns { th.n[column.kind == Kind::Number] scope="col" { (column.name) } } } }
                tbody {
                    @for row in rows {
                        tr { @for (cell, column) in row.iter().zip(columns) { (one(cell, column.kind)) } }
                    }
                }
            }
        }
    }
}

fn one(cell: &Cell, kind: Kind) -> Markup {
    let value = cell.value.map(number);
    match kind {
        Kind::Number => html! { td.n data-v=[value] { (cell.text) } },
        Kind::Text if cell.text.len() > 60 => html! { td.long data-v=[value] { (cell.text) } },
        Kind::Text => html! { td data-v=[value] { (cell.text) } },
        Kind::Command => html! { td.command { code { (cell.text) } } },
    }
}

/// A grid as it stands in Markdown.
pub(super) fn grid(id: &str, name: &str, grid: &Grid) -> Markup {
    let kind = |is_number: &bool| if *is_number { Kind::Number } else { Kind::Text };
    let columns: Vec<Column> = grid
        .head
        .iter()
        .zip(&grid.is_number)
        .map(|(name, is_number)| Column { name: name.clone(), kind: kind(is_number) })
        .collect();
    let row = |row: &Vec<String>| row.iter().map(Cell::label).collect();
    table(id, name, &columns, grid.rows.iter().map(row))
}
