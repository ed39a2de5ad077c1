//! Tables and statements to verdicts, with the numbers that decided. Pure.

mod selection;
pub mod statement;

pub use statement::{ClaimSpec, ClaimsFile, Confidence, Operand, Selection, TestSpec, VerdictKind};
