//! y = x W + b in f64; dx = dy Wᵀ, dW = xᵀ dy, db = column sums of dy.

use super::LinearMap;
use crate::WeightLayout;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters};

impl LinearMap {
    fn is_transposed(&self, params: &Parameters) -> bool {
        params.views[self.weight].linear.as_ref().is_some_and(|linear| linear.layout == WeightLayout::OutIn)
    }

    /// W as [inputs, outputs].
    fn map(&self, params: &Parameters) -> Matrix {
        let weight = params.matrix(self.weight);
        if self.is_transposed(params) { weight.transposed() } else { weight }
    }
}

impl Reference for LinearMap {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let mut y = inputs[0].rows().times(&self.map(params));
        if let Some(bias) = self.bias {
            let bias = params.vector(bias);
            y.values.chunks_mut(self.outputs).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
        }
        y
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let grad_map = inputs[0].rows().transposed_times(grad_y);
        grads.add(self.weight, &if self.is_transposed(params) { grad_map.transposed() } else { grad_map }.values);
        if let Some(bias) = self.bias {
            let sum = |column: usize| (0..grad_y.rows).map(|row| grad_y.row(row)[column]).sum();
            grads.add(bias, &(0..self.outputs).map(sum).collect::<Vec<f64>>());
        }
        vec![Some(grad_y.times_transposed(&self.map(params)))]
    }
}
