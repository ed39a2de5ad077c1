//! The CPU's rows: one product of the chunk each way, one for the weight.

use super::LinearMap;
use crate::linear::{backward_input, backward_weight, forward};
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::{Accumulation, elementwise};

impl Rows for LinearMap {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let bias = self.bias.map(|bias| params.view(bias));
        let rows = chunk.samples * self.rows;
        forward(&params.linear(self.weight), rows, chunk.inputs[0].rows(), bias, chunk.output, &mut work.ops);
    }

    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let rows = chunk.samples * self.rows;
        let (ops, [grad_x]) = work.split([rows * self.inputs]);
        let map = params.linear(self.weight);
        match chunk.grad_inputs[0].rows() {
            (to, Accumulation::Overwrite) => backward_input(&map, rows, chunk.grad_output, to, ops),
            (to, Accumulation::Add) => {
                backward_input(&map, rows, chunk.grad_output, grad_x, ops);
                elementwise::add(grad_x, to);
            }
        }
        let (accumulate, x) = (!grads.first, chunk.inputs[0].rows());
        let (grad_w, grad_b) = match self.bias {
            None => (grads.view(self.weight), None),
            Some(bias) => {
                let (weight, bias) = grads.pair(self.weight, bias);
                (weight, Some(bias))
            }
        };
        backward_weight(&map.shape, rows, x, chunk.grad_output, grad_w, grad_b, accumulate, ops);
    }
}
