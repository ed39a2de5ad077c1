//! Tables and statements to verdicts, with the numbers that decided.
//!
//! Owns the language of claims ([`statement`]), the rules by which numbers are compared, and the verdicts. Input: claims and a
//! [`CellSource`]: tables of runs ([`RunTables`]) or tidy CSV files ([`Values`]). Output: [`Verdict`]s. Beside them stand curves through
//! the same cells ([`fits`]), the best cell at each cost ([`Frontier`]), and what runs favour at a budget ([`Advice`]). Invariant: pure; no
//! claim has code of its own. Must not know: the trainer, files, the clock.
//!
//! A comparison is true or false where the difference exceeds the band, else a tie. The band is the larger of the claim's tie
//! band and half the width of the interval around the difference: stated errors in quadrature, and of runs a t interval. Every
//! comparison of runs is one weighted sum of cells with one standard error: the seeds' part, pooled over the cells of the claim's
//! tables with seeds as blocks and never below the comparison's own, and the items' part from outcomes. Fewer than
//! three seeds decide nothing, unless the claim asks for no confidence, and the verdict then says so; a cell with a run that did
//! not finish is missing. A verdict is supported where every comparison is true; how the others come about stands in
//! [`VerdictKind`]. What is false of runs is so after Holm's correction over the claim.

mod advice;
mod compare;
mod contrast;
mod crossover;
mod estimate;
mod findings;
mod fit;
pub mod fits;
mod frame;
mod frontier;
mod items;
mod judge;
mod moved;
mod operand;
mod orders;
mod planned;
mod pool;
mod selection;
mod sheet;
mod source;
pub mod statement;
mod stats;
mod validate;
mod values;
mod verdict;
mod versus;
mod wording;

pub use advice::{Advice, AdviceError, Basis, Budget, Pick, Rival, advise};
pub use findings::{Artefact, Findings, Statements, findings};
pub use frontier::{Frontier, Step, frontier};
pub use judge::judge;
pub use moved::{MOVED_LEVEL, Moved, moved};
pub use planned::{too_few_items, too_few_seeds};
pub use source::{CellRow, CellSource, Measure, RunTables, SeedRun};
pub use statement::{ClaimSpec, ClaimsFile, Confidence, Operand, Selection, TestSpec, Ties, VerdictKind};
pub use validate::validate;
pub use values::{Idle, Values, ValuesError};
pub use verdict::{Answer, Comparison, Meets, Verdict, to_csv, to_json, to_text, to_value};
pub use versus::{Costed, Versus, costed};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
