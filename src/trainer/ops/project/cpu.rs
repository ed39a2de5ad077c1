//! The CPU's rows: a product, L2 normalisation.

use super::Project;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::{linear, normalize};

impl Rows for Project {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let [feature, norm] = &mut *chunk.saved else { unreachable!("a projection has two saved slots") };
        let (ops, [projected]) = work.split([chunk.samples * self.embed_dim]);
        linear::forward(&params.linear(self.weight), chunk.samples, chunk.inputs[0].rows(), None, projected, ops);
        normalize::forward(self.embed_dim, projected, chunk.output, norm);
        feature.copy_from_slice(chunk.output);
    }

    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let [feature, norm] = &mut *chunk.saved else { unreachable!("a projection has two saved slots") };
        let (samples, x, weight) = (chunk.samples, chunk.inputs[0].rows(), params.linear(self.weight));
        let (ops, [grad_projected]) = work.split([samples * self.embed_dim]);
        normalize::backward(self.embed_dim, feature, norm, chunk.grad_output, grad_projected);
        let accumulate = !grads.first;
        linear::backward_weight(&weight.shape, samples, x, grad_projected, grads.view(self.weight), None, accumulate, ops);
        // The gradient of the input is zero on entry: overwriting it is adding to it.
        linear::backward_input(&weight, samples, grad_projected, chunk.grad_input, ops);
    }
}
