//! Why a curve is not given.
//!
//! Owns [`Refusal`], whose words stand in the row that would hold the parameters. Invariant: the words say what was found and what a
//! fit needs.

use thiserror::Error;

use crate::tables::short;

/// Why the parameters of a curve are not given: the cells do not fix them.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Refusal {
    /// Too few places.
    #[error("{have} cells at different amounts, {needed} are needed for its {params} parameters")]
    TooFew {
        /// Places that cells have.
        have: usize,
        /// Places that are needed.
        needed: usize,
        /// Parameters of the form.
        params: usize,
    },
    /// Too few amounts of one of two kinds.
    #[error("{have} different amounts of `{amount}`, {needed} are needed")]
    TooFewOf {
        /// Which of them.
        amount: String,
        /// Amounts of it.
        have: usize,
        /// Amounts that are needed.
        needed: usize,
    },
    /// Amounts lie close together.
    #[error("amounts of `{amount}` differ by a factor of {}, at least {} is needed", short(*.factor), short(*.needed))]
    Narrow {
        /// Which of them.
        amount: String,
        /// Largest over smallest.
        factor: f64,
        /// What is needed.
        needed: f64,
    },
    /// Both amounts go together.
    #[error("`{0}` and `{1}` are in one ratio in all cells, so what each does is not told apart")]
    InOneRatio(String, String),
    /// An amount is not above zero.
    #[error("an amount of `{0}` is not above zero")]
    NotPositive(String),
    /// Nothing falls.
    #[error("the error does not fall")]
    Rises,
    /// It falls by no more than seeds and items scatter.
    #[error("flat: from first to last amount the error falls by {} points, which seeds and items alone can do", short(*.0))]
    Flat(f64),
    /// e_inf is at its bound.
    #[error("e_inf is at its bound of 0: the cells do not show where the error ends")]
    FloorAtZero,
    /// A power is at its bound.
    #[error("a power is at its bound ({least} to {most}): the cells do not bend as a power law does")]
    PowerAtEnd {
        /// Smallest.
        least: f64,
        /// Largest.
        most: f64,
    },
    /// Parameters stand for one another.
    #[error("the Jacobian is singular: parameters stand for one another")]
    Singular,
    /// No least squares.
    #[error("no least squares were found")]
    NoEnd,
}
