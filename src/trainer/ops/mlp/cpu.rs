//! The CPU's rows of an MLP with its norm and its residual.

use super::Mlp;
use crate::op::{GradLane, Params};
use crate::params::ParamIdx;
use crate::{Accumulation, Scratch, activation, elementwise, layer_norm, linear};

/// What forward leaves for backward.
pub(crate) struct Kept<'a> {
    /// The rows that enter (m): [rows, C].
    pub middle: &'a mut [f32],
    /// Pre-activation: [rows, M].
    pub hidden: &'a mut [f32],
    pub mean: &'a mut [f32],
    pub rstd: &'a mut [f32],
}

/// Temporary rows; contents are left over.
pub(crate) struct Room<'a> {
    /// [rows, M].
    pub active: &'a mut [f32],
    /// [rows, M]; backward only.
    pub grad_hidden: &'a mut [f32],
    /// [rows, C].
    pub normed: &'a mut [f32],
    /// [rows, C]; backward only.
    pub grad_normed: &'a mut [f32],
}

impl Mlp {
    /// m += x, then y. `active` and `normed` are temporary.
    pub(crate) fn forward(
        &self,
        params: &Params,
        x: &[f32],
        kept: Kept,
        y: &mut [f32],
        (active, normed): (&mut [f32], &mut [f32]),
        ops: &mut Scratch,
    ) {
        let rows = x.len() / self.width;
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::forward_residual_with(self.eps, kept.middle, x, gain, bias, normed, kept.mean, kept.rstd);
        linear::forward(&params.linear(self.fc1.0), rows, normed, Some(params.view(self.fc1.1)), kept.hidden, ops);
        activation::forward(self.activation, kept.hidden, active);
        linear::forward(&params.linear(self.fc2.0), rows, active, Some(params.view(self.fc2.1)), y, ops);
        elementwise::add(kept.middle, y);
    }

    /// Turns the gradient of y into that of m, in place.
    pub(crate) fn backward(
        &self,
        params: &Params,
        kept: &Kept,
        grad: &mut [f32],
        grads: &mut GradLane,
        room: &mut Room,
        ops: &mut Scratch,
    ) {
        let rows = grad.len() / self.width;
        linear::backward_input(&params.linear(self.fc2.0), rows, grad, room.grad_hidden, ops);
        activation::backward(self.activation, kept.hidden, room.active, room.grad_hidden);
        weight_grad(params, grads, self.fc2, rows, (room.active, grad), ops);
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::recompute(kept.middle, gain, bias, kept.mean, kept.rstd, room.normed);
        linear::backward_input(&params.linear(self.fc1.0), rows, room.grad_hidden, room.grad_normed, ops);
        weight_grad(params, grads, self.fc1, rows, (room.normed, room.grad_hidden), ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm.0, self.norm.1);
        let (mean, rstd) = (&*kept.mean, &*kept.rstd);
        layer_norm::backward(kept.middle, room.grad_normed, gain, mean, rstd, grad, Accumulation::Add, grad_gain, grad_bias);
    }
}

/// Gradients of one linear map's weight and bias from its input and the gradient of its output, added to the lane.
pub(crate) fn weight_grad(
    params: &Params,
    grads: &mut GradLane,
    map: (ParamIdx, ParamIdx),
    rows: usize,
    (x, grad_y): (&[f32], &[f32]),
    ops: &mut Scratch,
) {
    let shape = params.linear(map.0).shape;
    let accumulate = !grads.first;
    let (weight, bias) = grads.pair(map.0, map.1);
    linear::backward_weight(&shape, rows, x, grad_y, weight, Some(bias), accumulate, ops);
}
