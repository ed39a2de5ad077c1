//! ONE run: `RunConfig` and packed data in, trained parameters and metrics out.
//!
//! A model and a strategy become a step [`program`]; a [`backend`] prepares and runs it; [`step`] walks the steps with its
//! schedule and checkpoints; [`eval`] measures the result. Imports `run` and `data` only: it knows no experiment file, plan,
//! executor, CSV or terminal, and reports through callbacks.

pub mod backend;
pub mod check;
pub mod checkpoint;
pub mod cost;
mod error;
pub mod eval;
pub mod model;
pub mod optim;
#[cfg(test)]
mod pins;
pub mod program;
pub mod step;
pub mod strategy;

pub use error::TrainerError;
pub use scaledown_ops as ops;

#[cfg(test)]
pub(crate) mod tests;
