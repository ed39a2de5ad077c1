//! Records to tables: mean, standard deviation, n over seeds.
//!
//! Owns what a table is asked to show ([`TableSpec`]), the table itself ([`Table`]), its CSV and Markdown ([`Grid`]), and its drift from
//! a committed one. Input: points and records ([`TableInput`]). Invariant: pure; the same input gives the same bytes, rows in
//! plan order, nothing averaged over but seeds. Must not know: the trainer, files, the clock.

mod amount;
mod build;
mod drift;
mod error;
mod grid;
mod label;
mod number;
mod render;
mod spec;
mod tolerance;
mod validate;

pub use amount::{AmountError, Decimal, amount};
pub use build::{COUNTS, Cell, LOSS, Places, Table, TableInput, build};
pub use drift::{CellData, Drift, DriftKind, Drifts, TableData, drift, unlike};
pub use error::TablesError;
pub use grid::Grid;
pub use label::{Label, NONE, OneOrMany, absent_name, canonical, same_label, sort_labels};
pub use number::{rounded, short};
pub use spec::TableSpec;
pub use tolerance::{Allowance, Tolerance};
pub use validate::{Problem, TableShape, is_file_name, shape, validate};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
