//! The CPU's rows: a product of the chunk, each row divided by its length.

use super::Project;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::{Accumulation, elementwise, linear, normalize};

impl Rows for Project {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let [feature, norm] = &mut *chunk.saved else { unreachable!("a projection has two saved slots") };
        let (ops, [projected]) = work.split([chunk.samples * self.embed_dim]);
        linear::forward(&params.linear(self.weight), chunk.samples, chunk.inputs[0].rows(), None, projected, ops);
        normalize::forward(self.embed_dim, projected, chunk.output, norm);
        feature.copy_from_slice(chunk.output);
    }

    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let samples = chunk.samples;
        let [feature, norm] = &mut *chunk.saved else { unreachable!("a projection has two saved slots") };
        let (ops, [grad_projected, grad_x]) = work.split([samples * self.embed_dim, samples * self.width]);
        normalize::backward(self.embed_dim, feature, norm, chunk.grad_output, grad_projected);
        let map = params.linear(self.weight);
        match chunk.grad_inputs[0].rows() {
            (rows, Accumulation::Overwrite) => linear::backward_input(&map, samples, grad_projected, rows, ops),
            (rows, Accumulation::Add) => {
                linear::backward_input(&map, samples, grad_projected, grad_x, ops);
                elementwise::add(grad_x, rows);
            }
        }
        let (accumulate, x) = (!grads.first, chunk.inputs[0].rows());
        linear::backward_weight(&map.shape, samples, x, grad_projected, grads.view(self.weight), None, accumulate, ops);
    }
}
