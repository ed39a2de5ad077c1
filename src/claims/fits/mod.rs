//! Scaling fits: how the error falls with data or compute, and how far that is known.
//!
//! Owns what a fit is asked to show ([`ScalingSpec`]), the curve ([`Curve`]) and its least squares, intervals by draws ([`Spread`]), and
//! the files of a fit ([`Fit`]) and of the frontier of its cells. Invariant: pure; the numbers of draws come from outside by number and stream. Where cells do not fix
//! the parameters a fit says so ([`Refusal`]) and gives none.

mod curve;
mod fit;
mod refusal;
mod render;
mod spec;
mod spread;
mod validate;

pub use curve::{Curve, Term};
pub use fit::{CurveCell, Fit, FitCurve, Found, HeldOut, LEAST_FACTOR, Quantity, Shape, fit, fit_cells, frontier_of};
pub use refusal::Refusal;
pub use spec::{FILE_PREFIX, FRONTIER_PREFIX, LARGEST, ScalingSpec, is_of_fit};
pub use spread::{DRAWS, Normals, Spread, interval};
pub use validate::validate;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
