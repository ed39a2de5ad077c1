//! A transformer block forward and back as nodes; what is saved and what is computed again is as on the CPU.

use super::{Out, Recorder, StreamGrad};
use crate::trainer::ops::transformer::TransformerBlock;
use crate::trainer::ops::{Accumulation, activation, attention, layer_norm};

use crate::trainer::ops::launch::{Real, View};

/// What a block keeps from forward to backward.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Saved {
    x: View,
    qkv: View,
    attended: View,
    lse: View,
    middle: View,
    hidden: View,
    mean1: View,
    rstd1: View,
    mean2: View,
    rstd2: View,
}

impl Recorder<'_> {
    /// Output rows f32 [samples T, C], and what backward needs.
    pub fn transformer(&mut self, block: &TransformerBlock, samples: usize, x: View) -> (View, Saved) {
        let shape = block.shape;
        let (rows, width, hidden_width) = (samples * shape.tokens, shape.width, shape.mlp_width);
        let saved = Saved {
            x,
            qkv: self.reals("qkv", rows * 3 * width),
            attended: self.reals("attention", rows * width),
            lse: self.floats("lse", rows * shape.heads),
            middle: self.floats("middle", rows * width),
            hidden: self.reals("hidden", rows * hidden_width),
            mean1: self.floats("mean1", rows),
            rstd1: self.floats("rstd1", rows),
            mean2: self.floats("mean2", rows),
            rstd2: self.floats("rstd2", rows),
        };
        let normed = self.norm(block.norm1, rows, width, x, (saved.mean1, saved.rstd1));
        self.forward(block.qkv.0, rows, normed, Out::Reals(saved.qkv), Some(block.qkv.1), None);
        let heads = block.attention_shape();
        self.push([attention::cuda::forward(&heads, self.real, samples, saved.qkv, saved.attended, saved.lse)]);
        self.forward(block.out.0, rows, saved.attended, Out::Floats(saved.middle), Some(block.out.1), Some(x));
        let normed = self.norm(block.norm2, rows, width, saved.middle, (saved.mean2, saved.rstd2));
        self.forward(block.fc1.0, rows, normed, Out::Reals(saved.hidden), Some(block.fc1.1), None);
        let active = self.reals("active", rows * hidden_width);
        self.push([activation::cuda::forward(shape.activation, rows * hidden_width, saved.hidden, active)]);
        let output = self.floats("block output", rows * width);
        self.forward(block.fc2.0, rows, active, Out::Floats(output), Some(block.fc2.1), Some(saved.middle));
        (output, saved)
    }

    fn norm(&mut self, norm: (usize, usize), rows: usize, width: usize, x: View, (mean, rstd): (View, View)) -> View {
        let y = self.reals("normed", rows * width);
        let (gain, bias) = (self.param(norm.0), self.param(norm.1));
        let args = layer_norm::cuda::Forward { rows, width, x, pick: None, gain, bias, y, y_real: self.real, mean, rstd };
        self.push([layer_norm::cuda::forward(&args)]);
        y
    }

    /// Turns the output's gradient into the input's, whose f32 part is in the same place, and records the gradients of the block's
    /// parameters.
    pub fn transformer_backward(
        &mut self,
        block: &TransformerBlock,
        samples: usize,
        saved: &Saved,
        grad: StreamGrad,
        accumulate: bool,
    ) -> StreamGrad {
        let shape = block.shape;
        let (rows, width, hidden_width) = (samples * shape.tokens, shape.width, shape.mlp_width);
        // MLP half: y = middle + fc2(act(fc1(norm2(middle)))).
        let grad_hidden = self.reals("grad hidden", rows * hidden_width);
        let active = self.reals("active", rows * hidden_width);
        self.backward_input(block.fc2.0, rows, grad.reals, grad_hidden);
        let len = rows * hidden_width;
        self.push([activation::cuda::backward(shape.activation, len, saved.hidden, active, grad_hidden)]);
        self.backward_weight((block.fc2.0, Some(block.fc2.1)), rows, active, grad.reals, accumulate);
        let grad_normed = self.reals("grad normed", rows * width);
        self.backward_input(block.fc1.0, rows, grad_hidden, grad_normed);
        let statistics = (saved.mean2, saved.rstd2);
        let (normed, grad) =
            self.norm_backward(block.norm2, (rows, width), saved.middle, statistics, grad_normed, grad, accumulate);
        self.backward_weight((block.fc1.0, Some(block.fc1.1)), rows, normed, grad_hidden, accumulate);
        // Attention half: middle = x + out(attention(qkv(norm1(x)))).
        let grad_attended = self.reals("grad attention", rows * width);
        self.backward_input(block.out.0, rows, grad.reals, grad_attended);
        self.backward_weight((block.out.0, Some(block.out.1)), rows, saved.attended, grad.reals, accumulate);
        let heads = block.attention_shape();
        let scratch = self.temporary("attention scratch", attention::cuda::backward_scratch_bytes(&heads, self.real, samples));
        let grad_qkv = self.reals("grad qkv", rows * 3 * width);
        let views = attention::cuda::BackwardViews {
            qkv: saved.qkv,
            out: saved.attended,
            grad_out: grad_attended,
            lse: saved.lse,
            grad_qkv,
            scratch,
        };
        let nodes = attention::cuda::backward(&heads, self.real, samples, views);
        self.push(nodes);
        let grad_normed = self.reals("grad normed", rows * width);
        self.backward_input(block.qkv.0, rows, grad_qkv, grad_normed);
        let statistics = (saved.mean1, saved.rstd1);
        let (normed, grad) = self.norm_backward(block.norm1, (rows, width), saved.x, statistics, grad_normed, grad, accumulate);
        self.backward_weight((block.qkv.0, Some(block.qkv.1)), rows, normed, grad_qkv, accumulate);
        grad
    }

    /// Adds a norm's input gradient to the stream's; returns the norm's output once more, and the stream's gradient: the copy for
    /// products in a new place, since gradients of weights may still wait to read the old one.
    #[expect(clippy::too_many_arguments, reason = "a norm, its input, its statistics and two gradients")]
    fn norm_backward(
        &mut self,
        norm: (usize, usize),
        (rows, width): (usize, usize),
        x: View,
        (mean, rstd): (View, View),
        grad_y: View,
        grad: StreamGrad,
        accumulate: bool,
    ) -> (View, StreamGrad) {
        let normed = self.reals("normed", rows * width);
        let reals = grad.copy().map_or(grad.floats, |_| self.reals("stream gradient copy", rows * width));
        let grad = StreamGrad { reals, ..grad };
        let args = layer_norm::cuda::Backward {
            rows,
            width,
            x,
            pick: None,
            grad_y,
            grad_y_real: self.real,
            rows_per_grad: 1,
            gain: self.param(norm.0),
            bias: self.param(norm.1),
            mean,
            rstd,
            grad_x: grad.floats,
            mode: Accumulation::Add,
            grad_x_real: grad.copy(),
            normed: Some(normed),
            grad_gain: self.grad(norm.0),
            grad_bias: self.grad(norm.1),
            accumulate,
        };
        self.norm_gradients(&args);
        (normed, grad)
    }
}

/// The compute type of a view that is f32 in every mode.
pub(super) const STREAM: Real = Real::F32;
