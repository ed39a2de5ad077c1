//! What the f64 forms of ops share: matrices, and named views of parameters and their gradient.
//!
//! An op's own form is its `reference.rs`: plain loops, one sample at a time, nothing saved (backward computes forward values
//! again). Invariant: it shares no arithmetic with the op's other forms; what it takes from the op are shapes and parameter
//! indices. It is slow, and only tests use it.

mod matrix;
mod parameters;

pub use matrix::{Matrix, add, dot};
pub use parameters::{Gradients, Parameters};
