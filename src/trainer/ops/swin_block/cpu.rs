//! The CPU's rows of a Swin block.

use crate::mlp::{Kept, Room, weight_grad};
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::swin_block::{SwinBlock, SwinShape};
use crate::{Accumulation, layer_norm, linear};

impl SwinBlock {
    /// Rows of the map in the order of windows: where they are, or copied.
    fn windowed<'a>(&self, map: &'a [f32], copy: &'a mut [f32]) -> &'a [f32] {
        let windows = self.windows();
        if windows.is_one_window() {
            return map;
        }
        windows.gather(self.shape.width, map, copy);
        copy
    }
}

impl Rows for SwinBlock {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let SwinShape { side, width, mlp_width, .. } = self.shape;
        let rows = chunk.samples * side * side;
        let x = chunk.inputs[0].rows();
        let [qkv, attended, middle, hidden, mean1, rstd1, mean2, rstd2, lse] = &mut *chunk.saved else {
            unreachable!("the program gives a Swin block nine saved slots")
        };
        let (ops, [normed, copy, active]) = work.split([rows * width, rows * width, rows * mlp_width]);
        layer_norm::forward_with(self.shape.eps, x, params.view(self.norm.0), params.view(self.norm.1), normed, mean1, rstd1);
        let windowed = self.windowed(normed, copy);
        linear::forward(&params.linear(self.qkv.0), rows, windowed, Some(params.view(self.qkv.1)), qkv, ops);
        let windows = self.windows();
        windows.forward(params.view(self.table), qkv, attended, lse, ops);
        let (out, bias) = (params.linear(self.out.0), Some(params.view(self.out.1)));
        if windows.is_one_window() {
            linear::forward(&out, rows, attended, bias, middle, ops);
        } else {
            linear::forward(&out, rows, attended, bias, copy, ops);
            windows.scatter(width, copy, middle);
        }
        let kept = Kept { middle, hidden, mean: mean2, rstd: rstd2 };
        self.mlp.forward(params, x, kept, chunk.output, (active, normed), ops);
    }

    /// Turns the output's gradient into the input's, in place.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let SwinShape { side, width, mlp_width, .. } = self.shape;
        let rows = chunk.samples * side * side;
        let x = chunk.inputs[0].rows();
        let grad = &mut *chunk.grad_output;
        let [qkv, attended, middle, hidden, mean1, rstd1, mean2, rstd2, lse] = &mut *chunk.saved else {
            unreachable!("the program gives a Swin block nine saved slots")
        };
        let (narrow, wide) = (rows * width, rows * mlp_width);
        let lens = [wide.max(narrow), wide.max(3 * narrow), narrow, narrow, narrow];
        let (ops, [active, grad_wide, normed, grad_normed, copy]) = work.split(lens);
        let kept = Kept { middle, hidden, mean: mean2, rstd: rstd2 };
        let (active, grad_hidden) = (&mut active[..wide], &mut grad_wide[..wide]);
        self.mlp.backward(params, &kept, grad, grads, &mut Room { active, grad_hidden, normed, grad_normed }, ops);
        // m = x + out(attention in windows(qkv(norm(x)))).
        let windows = self.windows();
        let grad_windowed = self.windowed(grad, copy);
        linear::backward_input(&params.linear(self.out.0), rows, grad_windowed, grad_normed, ops);
        weight_grad(params, grads, self.out, rows, (attended, grad_windowed), ops);
        let grad_qkv = &mut grad_wide[..3 * narrow];
        let first = grads.first;
        let grad_table = grads.view(self.table);
        if first {
            grad_table.fill(0.0);
        }
        windows.backward(params.view(self.table), qkv, attended, grad_normed, lse, grad_qkv, grad_table, ops);
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::recompute(x, gain, bias, mean1, rstd1, normed);
        weight_grad(params, grads, self.qkv, rows, (self.windowed(normed, copy), grad_qkv), ops);
        let grad_normed: &[f32] = if windows.is_one_window() {
            linear::backward_input(&params.linear(self.qkv.0), rows, grad_qkv, grad_normed, ops);
            grad_normed
        } else {
            linear::backward_input(&params.linear(self.qkv.0), rows, grad_qkv, copy, ops);
            windows.scatter(width, copy, grad_normed);
            grad_normed
        };
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm.0, self.norm.1);
        layer_norm::backward(x, grad_normed, gain, mean1, rstd1, grad, Accumulation::Add, grad_gain, grad_bias);
    }
}
