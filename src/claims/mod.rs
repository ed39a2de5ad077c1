//! Tables and statements to verdicts, with the numbers that decided.
//!
//! Owns the language of claims ([`statement`]), the rules by which numbers are compared, and the verdicts. Input: claims and a
//! [`CellSource`]: tables of runs ([`RunTables`]) or tidy CSV files ([`Values`]). Output: [`Verdict`]s. Invariant: pure; no
//! claim has code of its own. Must not know: the trainer, files, the clock.
//!
//! A comparison is true or false where the difference exceeds the band, else a tie. The band is the larger of the claim's tie
//! band and half the width of the interval around the difference: stated errors in quadrature, and over seeds a t interval,
//! paired where the same seeds stand behind every cell and by Welch otherwise. With one seed the band has no end, unless the
//! claim asks for no confidence. A verdict is supported (none false, some true), mixed, refuted (some false, none true),
//! undecided (ties only) or no data.

mod estimate;
mod findings;
mod fit;
mod frame;
mod judge;
mod operand;
mod selection;
mod source;
pub mod statement;
mod stats;
mod validate;
mod verdict;

pub use findings::{Artefact, Findings, findings};
pub use judge::judge;
pub use source::{CellRow, CellSource, Measure, RunTables, Values, ValuesError};
pub use statement::{ClaimSpec, ClaimsFile, Confidence, Operand, Selection, TestSpec, VerdictKind};
pub use stats::t_two_sided;
pub use validate::validate;
pub use verdict::{Comparison, Outcome, Verdict, to_csv, to_json, to_text};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
