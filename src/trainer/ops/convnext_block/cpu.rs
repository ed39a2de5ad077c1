//! The CPU's rows of a ConvNeXt block.

use super::{ConvNextBlock, ConvNextShape};
use crate::mlp::weight_grad;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::simd::{Simd, dispatch, for_vectors};
use crate::{Accumulation, activation, depthwise, layer_norm, linear};

impl Rows for ConvNextBlock {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let ConvNextShape { side, width, mlp_width, activation, eps, .. } = self.shape;
        let rows = chunk.samples * side * side;
        let x = chunk.inputs[0].rows();
        let [mixed, mean, rstd, hidden, branch] = &mut *chunk.saved else {
            unreachable!("the program gives a ConvNeXt block five saved slots")
        };
        let (ops, [normed, active]) = work.split([rows * width, rows * mlp_width]);
        let (weight, bias) = (params.view(self.depthwise.0), params.view(self.depthwise.1));
        depthwise::forward(&self.depthwise_shape(), chunk.samples, x, weight, Some(bias), mixed, ops);
        layer_norm::forward_with(eps, mixed, params.view(self.norm.0), params.view(self.norm.1), normed, mean, rstd);
        linear::forward(&params.linear(self.fc1.0), rows, normed, Some(params.view(self.fc1.1)), hidden, ops);
        activation::forward(activation, hidden, active);
        linear::forward(&params.linear(self.fc2.0), rows, active, Some(params.view(self.fc2.1)), branch, ops);
        scaled_residual(params.view(self.gamma), x, branch, chunk.output);
    }

    /// Turns the output's gradient into the input's, in place.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let ConvNextShape { side, width, mlp_width, activation, .. } = self.shape;
        let (samples, rows) = (chunk.samples, chunk.samples * side * side);
        let x = chunk.inputs[0].rows();
        let grad = &mut *chunk.grad_output;
        let [mixed, mean, rstd, hidden, branch] = &mut *chunk.saved else {
            unreachable!("the program gives a ConvNeXt block five saved slots")
        };
        let (ops, [grad_rows, active, grad_hidden, normed, grad_normed]) =
            work.split([rows * width, rows * mlp_width, rows * mlp_width, rows * width, rows * width]);
        if grads.first {
            grads.view(self.gamma).fill(0.0);
        }
        scaled_gradient(params.view(self.gamma), branch, grad, grad_rows, grads.view(self.gamma));
        linear::backward_input(&params.linear(self.fc2.0), rows, grad_rows, grad_hidden, ops);
        activation::backward(activation, hidden, active, grad_hidden);
        weight_grad(params, grads, self.fc2, rows, (active, grad_rows), ops);
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::recompute(mixed, gain, bias, mean, rstd, normed);
        weight_grad(params, grads, self.fc1, rows, (normed, grad_hidden), ops);
        linear::backward_input(&params.linear(self.fc1.0), rows, grad_hidden, grad_normed, ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm.0, self.norm.1);
        let grad_mixed = grad_rows;
        layer_norm::backward(mixed, grad_normed, gain, mean, rstd, grad_mixed, Accumulation::Overwrite, grad_gain, grad_bias);
        let (shape, accumulate) = (self.depthwise_shape(), !grads.first);
        let (grad_weight, grad_bias) = grads.pair(self.depthwise.0, self.depthwise.1);
        depthwise::backward_weight(&shape, samples, x, grad_mixed, grad_weight, Some(grad_bias), accumulate, ops);
        let weight = params.view(self.depthwise.0);
        depthwise::backward_input(&shape, samples, grad_mixed, weight, grad, Accumulation::Add, ops);
    }
}

dispatch! {
    /// y = x + gamma branch, row by row.
    fn scaled_residual(gamma: &[f32], x: &[f32], branch: &[f32], y: &mut [f32]) = scaled_residual_on;
}

dispatch! {
    /// Gradient of the branch = gamma dy, and gamma's += sum of dy branch, rows in order.
    fn scaled_gradient(gamma: &[f32], branch: &[f32], dy: &[f32], grad_branch: &mut [f32], grad_gamma: &mut [f32]) = scaled_gradient_on;
}

#[inline(always)]
fn scaled_residual_on<S: Simd>(s: S, gamma: &[f32], x: &[f32], branch: &[f32], y: &mut [f32]) {
    let width = gamma.len();
    for ((x, branch), y) in x.chunks_exact(width).zip(branch.chunks_exact(width)).zip(y.chunks_exact_mut(width)) {
        for_vectors!(s: S, width, |at| {
            at.store(y, s.mul_add(at.load(gamma), at.load(branch), at.load(x)));
        });
    }
}

#[inline(always)]
fn scaled_gradient_on<S: Simd>(s: S, gamma: &[f32], branch: &[f32], dy: &[f32], grad_branch: &mut [f32], grad_gamma: &mut [f32]) {
    let width = gamma.len();
    let grad_gamma = &mut grad_gamma[..width];
    for ((branch, dy), to) in branch.chunks_exact(width).zip(dy.chunks_exact(width)).zip(grad_branch.chunks_exact_mut(width)) {
        for_vectors!(s: S, width, |at| {
            let d = at.load(dy);
            at.store(to, s.mul(d, at.load(gamma)));
            at.store(grad_gamma, s.mul_add(d, at.load(branch), at.load(grad_gamma)));
        });
    }
}
