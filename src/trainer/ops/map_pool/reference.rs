//! y = norm(sum of x / pixels).

use super::MapPool;
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters};

fn mean(pool: &MapPool, x: &Matrix) -> Matrix {
    Matrix::from_rows(pool.width, x.column_sums()).map(|sum| sum / pool.pixels as f64)
}

impl Reference for MapPool {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let mean = mean(self, inputs[0].rows());
        match self.norm {
            Some((gain, bias)) => layer_norm::forward_with(f64::from(self.eps), &mean, params.vector(gain), params.vector(bias)),
            None => mean,
        }
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let mut grad_mean = grad_y.clone();
        if let Some((gain, bias)) = self.norm {
            let mean = mean(self, inputs[0].rows());
            let (grad, grad_gain, grad_bias) = layer_norm::backward_with(f64::from(self.eps), &mean, params.vector(gain), grad_y);
            grads.add(gain, &grad_gain);
            grads.add(bias, &grad_bias);
            grad_mean = grad;
        }
        let share: Vec<f64> = grad_mean.values.iter().map(|grad| grad / self.pixels as f64).collect();
        vec![Some(Matrix::zeros(self.pixels, self.width).plus_row(&share))]
    }
}
