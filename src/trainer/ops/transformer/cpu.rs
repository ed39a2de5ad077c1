//! The CPU's rows of a transformer block.

use crate::mlp::weight_grad;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::transformer::{BlockShape, TransformerBlock};
use crate::{Accumulation, activation, attention, elementwise, layer_norm, linear};

impl Rows for TransformerBlock {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let BlockShape { tokens, width, heads, mlp_width, activation, .. } = self.shape;
        let rows = chunk.samples * tokens;
        let x = chunk.inputs[0].rows();
        let [qkv, attended, middle, hidden, mean1, rstd1, mean2, rstd2, lse] = &mut *chunk.saved else {
            unreachable!("the program gives a transformer block nine saved slots")
        };
        let (ops, [normed, active]) = work.split([rows * width, rows * mlp_width]);
        layer_norm::forward(x, params.view(self.norm1.0), params.view(self.norm1.1), normed, mean1, rstd1);
        linear::forward(&params.linear(self.qkv.0), rows, normed, Some(params.view(self.qkv.1)), qkv, ops);
        let shape = self.attention_shape();
        for sample in 0..chunk.samples {
            let part = |per_token: usize| sample * tokens * per_token..(sample + 1) * tokens * per_token;
            let (qkv, out) = (&qkv[part(3 * width)], &mut attended[part(width)]);
            attention::forward(&shape, qkv, out, &mut lse[part(heads)], ops);
        }
        linear::forward(&params.linear(self.out.0), rows, attended, Some(params.view(self.out.1)), middle, ops);
        let norm2 = (params.view(self.norm2.0), params.view(self.norm2.1));
        layer_norm::forward_residual(middle, x, norm2.0, norm2.1, normed, mean2, rstd2);
        linear::forward(&params.linear(self.fc1.0), rows, normed, Some(params.view(self.fc1.1)), hidden, ops);
        activation::forward(activation, hidden, active);
        linear::forward(&params.linear(self.fc2.0), rows, active, Some(params.view(self.fc2.1)), chunk.output, ops);
        elementwise::add(middle, chunk.output);
    }

    /// Turns the output's gradient into the input's, in place.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let BlockShape { tokens, width, heads, mlp_width, activation, .. } = self.shape;
        let rows = chunk.samples * tokens;
        let x = chunk.inputs[0].rows();
        let grad = &mut *chunk.grad_output;
        let [qkv, attended, middle, hidden, mean1, rstd1, mean2, rstd2, lse] = &mut *chunk.saved else {
            unreachable!("the program gives a transformer block nine saved slots")
        };
        let wide = mlp_width.max(3 * width);
        let (ops, [active, grad_hidden, normed, grad_normed]) =
            work.split([rows * mlp_width, rows * wide, rows * width, rows * width]);
        // MLP half: y = middle + fc2(act(fc1(norm2(middle)))).
        let grad_wide = &mut grad_hidden[..rows * mlp_width];
        linear::backward_input(&params.linear(self.fc2.0), rows, grad, grad_wide, ops);
        activation::backward(activation, hidden, active, grad_wide);
        weight_grad(params, grads, self.fc2, rows, (active, grad), ops);
        let (gain, bias) = (params.view(self.norm2.0), params.view(self.norm2.1));
        layer_norm::recompute(middle, gain, bias, mean2, rstd2, normed);
        linear::backward_input(&params.linear(self.fc1.0), rows, grad_wide, grad_normed, ops);
        weight_grad(params, grads, self.fc1, rows, (normed, grad_wide), ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm2.0, self.norm2.1);
        layer_norm::backward(middle, grad_normed, gain, mean2, rstd2, grad, Accumulation::Add, grad_gain, grad_bias);
        // Attention half: middle = x + out(attention(qkv(norm1(x)))).
        linear::backward_input(&params.linear(self.out.0), rows, grad, grad_normed, ops);
        weight_grad(params, grads, self.out, rows, (attended, grad), ops);
        let grad_qkv = &mut grad_hidden[..rows * 3 * width];
        let shape = self.attention_shape();
        for sample in 0..chunk.samples {
            let part = |per_token: usize| sample * tokens * per_token..(sample + 1) * tokens * per_token;
            let (qkv, out, grad_out) = (&qkv[part(3 * width)], &attended[part(width)], &grad_normed[part(width)]);
            attention::backward(&shape, qkv, out, grad_out, &lse[part(heads)], &mut grad_qkv[part(3 * width)], ops);
        }
        let (gain, bias) = (params.view(self.norm1.0), params.view(self.norm1.1));
        layer_norm::recompute(x, gain, bias, mean1, rstd1, normed);
        weight_grad(params, grads, self.qkv, rows, (normed, grad_qkv), ops);
        linear::backward_input(&params.linear(self.qkv.0), rows, grad_qkv, grad_normed, ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm1.0, self.norm1.1);
        layer_norm::backward(x, grad_normed, gain, mean1, rstd1, grad, Accumulation::Add, grad_gain, grad_bias);
    }
}
