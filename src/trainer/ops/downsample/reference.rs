//! y = conv(norm(x)) + b.

use super::Downsample;
use crate::conv::reference as conv;
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters};

fn norm(step: &Downsample, params: &Parameters, x: &Matrix) -> Matrix {
    layer_norm::forward_with(f64::from(step.eps), x, params.vector(step.norm.0), params.vector(step.norm.1))
}

impl Reference for Downsample {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let normed = norm(self, params, inputs[0].rows());
        conv::forward(&self.conv_shape, &params.matrix(self.conv.0), Some(params.vector(self.conv.1)), &normed)
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let x = inputs[0].rows();
        let normed = norm(self, params, x);
        let (grad_normed, grad_weight, grad_bias) = conv::backward(&self.conv_shape, &params.matrix(self.conv.0), &normed, grad_y);
        grads.add(self.conv.0, &grad_weight.values);
        grads.add(self.conv.1, &grad_bias);
        let (grad_x, grad_gain, grad_bias) =
            layer_norm::backward_with(f64::from(self.eps), x, params.vector(self.norm.0), &grad_normed);
        grads.add(self.norm.0, &grad_gain);
        grads.add(self.norm.1, &grad_bias);
        vec![Some(grad_x)]
    }
}
