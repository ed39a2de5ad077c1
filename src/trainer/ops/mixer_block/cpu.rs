//! The CPU's rows of a Mixer block.

use crate::mixer_block::{MixerBlock, MixerShape};
use crate::mlp::{Kept, Room};
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::params::ParamIdx;
use crate::product::{Dims, Mat, Start, Target, cpu};
use crate::{Accumulation, Scratch, activation, elementwise, layer_norm};

impl Rows for MixerBlock {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let MixerShape { tokens, width, token_hidden, mlp_width, activation, .. } = self.shape;
        let rows = chunk.samples * tokens;
        let x = chunk.inputs[0].rows();
        let [mixed, middle, hidden, mean1, rstd1, mean2, rstd2] = &mut *chunk.saved else {
            unreachable!("the program gives a Mixer block seven saved slots")
        };
        let (ops, [normed, active, token_active]) = work.split([rows * width, rows * mlp_width, token_hidden * width]);
        layer_norm::forward_with(self.shape.eps, x, params.view(self.norm.0), params.view(self.norm.1), normed, mean1, rstd1);
        for sample in 0..chunk.samples {
            let part = |rows: usize| sample * rows * width..(sample + 1) * rows * width;
            let hidden = &mut mixed[part(token_hidden)];
            left_map(params, self.token_fc1, width, &normed[part(tokens)], hidden, ops);
            activation::forward(activation, hidden, token_active);
            left_map(params, self.token_fc2, width, token_active, &mut middle[part(tokens)], ops);
        }
        let kept = Kept { middle, hidden, mean: mean2, rstd: rstd2 };
        self.mlp.forward(params, x, kept, chunk.output, (active, normed), ops);
    }

    /// Turns the output's gradient into the input's, in place.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let MixerShape { tokens, width, token_hidden, mlp_width, activation, .. } = self.shape;
        let rows = chunk.samples * tokens;
        let x = chunk.inputs[0].rows();
        let grad = &mut *chunk.grad_output;
        let [mixed, middle, hidden, mean1, rstd1, mean2, rstd2] = &mut *chunk.saved else {
            unreachable!("the program gives a Mixer block seven saved slots")
        };
        let wide = (rows * mlp_width).max(token_hidden * width);
        let (ops, [active, grad_hidden, normed, grad_normed]) = work.split([wide, wide, rows * width, rows * width]);
        let kept = Kept { middle, hidden, mean: mean2, rstd: rstd2 };
        let (wide, mix) = (rows * mlp_width, token_hidden * width);
        let mut room = Room { active: &mut active[..wide], grad_hidden: &mut grad_hidden[..wide], normed, grad_normed };
        self.mlp.backward(params, &kept, grad, grads, &mut room, ops);
        // m = x + mix(norm(x)).
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::recompute(x, gain, bias, mean1, rstd1, normed);
        let (active, grad_hidden) = (&mut active[..mix], &mut grad_hidden[..mix]);
        for sample in 0..chunk.samples {
            let part = |rows: usize| sample * rows * width..(sample + 1) * rows * width;
            let (grad, normed) = (&grad[part(tokens)], &normed[part(tokens)]);
            let accumulate = !grads.first || sample > 0;
            left_map_back(params, self.token_fc2.0, width, grad, grad_hidden, ops);
            activation::backward(activation, &mixed[part(token_hidden)], active, grad_hidden);
            left_map_grad(grads, self.token_fc2, width, (active, grad), accumulate, ops);
            left_map_grad(grads, self.token_fc1, width, (normed, grad_hidden), accumulate, ops);
            left_map_back(params, self.token_fc1.0, width, grad_hidden, &mut grad_normed[part(tokens)], ops);
        }
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm.0, self.norm.1);
        layer_norm::backward(x, grad_normed, gain, mean1, rstd1, grad, Accumulation::Add, grad_gain, grad_bias);
    }
}

/// y = W x + b, b a column: x [inputs, width], y [outputs, width].
fn left_map(params: &Params, (weight, bias): (ParamIdx, ParamIdx), width: usize, x: &[f32], y: &mut [f32], ops: &mut Scratch) {
    let (inputs, outputs) = (x.len() / width, y.len() / width);
    for (row, bias) in y.chunks_exact_mut(width).zip(params.view(bias)) {
        row.fill(*bias);
    }
    let (w, x) = (Mat::rows(params.view(weight), inputs), Mat::rows(x, width));
    cpu::multiply(Dims { m: outputs, n: width, k: inputs }, w, x, Start::Add, Target { data: y, stride: width }, ops);
}

/// dx = Wᵀ dy.
fn left_map_back(params: &Params, weight: ParamIdx, width: usize, grad_y: &[f32], grad_x: &mut [f32], ops: &mut Scratch) {
    let (inputs, outputs) = (grad_x.len() / width, grad_y.len() / width);
    let (w, dy) = (Mat::rows(params.view(weight), inputs).transposed(), Mat::rows(grad_y, width));
    cpu::multiply(Dims { m: inputs, n: width, k: outputs }, w, dy, Start::Zero, Target { data: grad_x, stride: width }, ops);
}

/// dW = dy xᵀ and db = sums along the rows of dy, of one sample.
fn left_map_grad(
    grads: &mut GradLane,
    map: (ParamIdx, ParamIdx),
    width: usize,
    (x, grad_y): (&[f32], &[f32]),
    accumulate: bool,
    ops: &mut Scratch,
) {
    let (inputs, outputs) = (x.len() / width, grad_y.len() / width);
    let (weight, bias) = grads.pair(map.0, map.1);
    let start = if accumulate { Start::Add } else { Start::Zero };
    let (dy, x) = (Mat::rows(grad_y, width), Mat::rows(x, width).transposed());
    cpu::multiply(Dims { m: outputs, n: inputs, k: width }, dy, x, start, Target { data: weight, stride: inputs }, ops);
    if !accumulate {
        bias.fill(0.0);
    }
    elementwise::row_sums(grad_y, bias);
}
