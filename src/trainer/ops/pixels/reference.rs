//! y = (pixel / 255 - mean) / std, channel by channel.

use super::Pixels;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters};

impl Reference for Pixels {
    fn forward(&self, _params: &Parameters, inputs: &[Value]) -> Matrix {
        let value = |(i, byte): (usize, &u8)| (f64::from(*byte) / 255.0 - f64::from(self.mean[i % 3])) / f64::from(self.std[i % 3]);
        Matrix::from_rows(3, inputs[0].bytes().iter().enumerate().map(value).collect())
    }

    fn backward(&self, _params: &Parameters, inputs: &[Value], _grad_y: &Matrix, _grads: &mut Gradients) -> Vec<Option<Matrix>> {
        vec![None; inputs.len()]
    }
}
