//! What a claim states, as written.
//!
//! Owns [`ClaimSpec`] and the language of its comparisons, which `spec` deserialises. Invariant: data only; a statement is
//! complete before any number is looked at. What a claim names is checked in [`super::validate`] and judged in
//! [`super::judge`].
//!
//! A comparison stands in a context of columns: those that `cells` restricts, those that `each` and a test's `along` bind,
//! those that an operand fixes itself, and last the `defaults`. An operand wins over `each`, `each` over `defaults`.

mod claim;
mod operand;
mod test;

pub use super::selection::{AmountRange, Confidence, Selection};
pub use claim::{CellsSpec, ClaimSpec, ClaimsFile, DEFAULT_TIE_BAND, FileDefaults, Ties, VerdictKind};
pub use operand::{Columns, GainSpec, InterpolateSpec, MeanSpec, Operand, XSpec};
pub use test::{AtMostSpec, BestSpec, CrossoverSpec, EqualSpec, FitSpec, GreaterSpec, INTERIOR, RisesSpec, TestSpec, TrendSpec};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
