//! A row to a feature: y = x W, f = y / |y|.
//!
//! Backward of the last: dy = (df - f (f . df)) / |y|.

use super::Project;
use crate::WeightLayout;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters, dot};

/// Floor of the length, as `torch.nn.functional.normalize` has it.
const SHORTEST: f64 = 1e-12;

fn length(y: &Matrix) -> f64 {
    dot(&y.values, &y.values).sqrt().max(SHORTEST)
}

impl Project {
    /// The weight as [C, E].
    fn map(&self, params: &Parameters) -> Matrix {
        match params.views[self.weight].linear.as_ref().map(|linear| linear.layout) {
            Some(WeightLayout::OutIn) => params.matrix(self.weight).transposed(),
            _ => params.matrix(self.weight),
        }
    }
}

impl Reference for Project {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let projected = inputs[0].rows().times(&self.map(params));
        let length = length(&projected);
        projected.map(|y| y / length)
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let (x, map) = (inputs[0].rows(), self.map(params));
        let projected = x.times(&map);
        let length = length(&projected);
        let feature = projected.map(|y| y / length);
        let along = dot(&feature.values, &grad_y.values);
        let grad_projected = grad_y.plus(&feature.map(|f| -f * along)).map(|grad| grad / length);
        let grad_map = x.transposed_times(&grad_projected);
        let is_transposed = params.views[self.weight].linear.as_ref().is_some_and(|linear| linear.layout == WeightLayout::OutIn);
        grads.add(self.weight, &if is_transposed { grad_map.transposed() } else { grad_map }.values);
        vec![Some(grad_projected.times_transposed(&map))]
    }
}
