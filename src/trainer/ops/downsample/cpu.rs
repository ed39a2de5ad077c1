//! The CPU's rows: the norm into scratch, then the convolution.

use super::Downsample;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::{Accumulation, conv, layer_norm};

impl Rows for Downsample {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let (x, shape) = (chunk.inputs[0].rows(), &self.conv_shape);
        let [mean, rstd] = &mut *chunk.saved else { unreachable!("a downsampling step has two saved slots") };
        let (ops, [normed]) = work.split([x.len()]);
        layer_norm::forward_with(self.eps, x, params.view(self.norm.0), params.view(self.norm.1), normed, mean, rstd);
        let (weight, bias) = (params.linear(self.conv.0), params.view(self.conv.1));
        conv::forward(shape, &weight, chunk.samples, normed, Some(bias), chunk.output, ops);
    }

    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (x, shape, samples) = (chunk.inputs[0].rows(), &self.conv_shape, chunk.samples);
        let [mean, rstd] = &mut *chunk.saved else { unreachable!("a downsampling step has two saved slots") };
        let (ops, [normed, grad_normed]) = work.split([x.len(), x.len()]);
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::recompute(x, gain, bias, mean, rstd, normed);
        let accumulate = !grads.first;
        let (grad_weight, grad_bias) = grads.pair(self.conv.0, self.conv.1);
        conv::backward_weight(shape, samples, normed, chunk.grad_output, grad_weight, Some(grad_bias), accumulate, ops);
        let weight = params.linear(self.conv.0);
        conv::backward_input(shape, &weight, samples, chunk.grad_output, grad_normed, Accumulation::Overwrite, ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm.0, self.norm.1);
        let (grad_x, mode) = chunk.grad_inputs[0].rows();
        layer_norm::backward(x, grad_normed, gain, mean, rstd, grad_x, mode, grad_gain, grad_bias);
    }
}
