//! Named views of the flat parameters and of their gradient.

use super::matrix::{Matrix, add};
use crate::params::{ParamIdx, ParamView};

/// The parameters of a program.
#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    /// Of the program.
    pub views: &'a [ParamView],
    /// The flat buffer.
    pub flat: &'a [f64],
}

impl<'a> Parameters<'a> {
    /// The parameter's values.
    pub fn vector(&self, idx: ParamIdx) -> &'a [f64] {
        &self.flat[self.views[idx].range()]
    }

    /// The parameter as its first dimension by all others.
    pub fn matrix(&self, idx: ParamIdx) -> Matrix {
        Matrix::from_rows(self.views[idx].shape[1..].iter().product(), self.vector(idx).to_vec())
    }
}

/// The flat gradient, summed over samples.
pub struct Gradients<'a> {
    /// Of the program.
    pub views: &'a [ParamView],
    /// The flat buffer.
    pub flat: &'a mut [f64],
}

impl Gradients<'_> {
    /// Adds to a parameter's gradient.
    pub fn add(&mut self, idx: ParamIdx, gradient: &[f64]) {
        add(gradient, &mut self.flat[self.views[idx].range()]);
    }

    /// Adds to one row of a parameter.
    pub fn add_row(&mut self, idx: ParamIdx, row: usize, gradient: &[f64]) {
        let start = self.views[idx].offset + row * gradient.len();
        add(gradient, &mut self.flat[start..start + gradient.len()]);
    }
}
