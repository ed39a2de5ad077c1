//! f = y / |y|, y = x W; dy = (df - f (f . df)) / |y|.

use super::Project;
use crate::WeightLayout;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters, dot};

/// Floor of the length, as `torch.nn.functional.normalize` has it.
const SHORTEST: f64 = 1e-12;

/// The weight as [C, E].
fn input_major(op: &Project, params: &Parameters) -> Matrix {
    let weight = params.matrix(op.weight);
    match layout(op, params) {
        WeightLayout::InOut => weight,
        WeightLayout::OutIn => weight.transposed(),
    }
}

fn layout(op: &Project, params: &Parameters) -> WeightLayout {
    params.views[op.weight].linear.expect("a linear map's view has a linear shape").layout
}

fn length(y: &Matrix) -> f64 {
    dot(&y.values, &y.values).sqrt().max(SHORTEST)
}

impl Reference for Project {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let y = inputs[0].rows().times(&input_major(self, params));
        let length = length(&y);
        y.map(|y| y / length)
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Option<Matrix> {
        let (x, weight) = (inputs[0].rows(), input_major(self, params));
        let y = x.times(&weight);
        let length = length(&y);
        let feature = y.map(|y| y / length);
        let along = dot(&feature.values, &grad_y.values);
        let grad = grad_y.plus(&feature.map(|f| -f * along)).map(|grad| grad / length);
        let grad_weight = x.transposed_times(&grad);
        let stored = if layout(self, params) == WeightLayout::InOut { grad_weight } else { grad_weight.transposed() };
        grads.add(self.weight, &stored.values);
        Some(grad.times_transposed(&weight))
    }
}
