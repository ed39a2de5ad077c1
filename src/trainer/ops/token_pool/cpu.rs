//! The CPU's rows: norm of what pooling reads, and the mean.

use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::token_pool::{Pooled, TokenPool};
use crate::{Accumulation, layer_norm};

impl TokenPool {
    /// Tokens that pooling reads of one sample.
    fn read(&self, ends: Option<&[u32]>, sample: usize) -> std::ops::Range<usize> {
        let first = match self.pooling {
            Pooled::First | Pooled::Mean => 0,
            Pooled::EndOfText => ends.expect("the program gives a text head the ends")[sample] as usize,
        };
        let start = (sample * self.tokens + first) * self.width;
        start..start + self.pooled_tokens() * self.width
    }
}

impl Rows for TokenPool {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let (width, tokens) = (self.width, self.pooled_tokens());
        let (x, ends) = (chunk.inputs[0].rows(), chunk.inputs.get(1).map(|ends| ends.words()));
        let [mean, rstd] = &mut *chunk.saved else { unreachable!("a pooling has two saved slots") };
        let (_, [normed]) = work.split([tokens * width]);
        let (gain, bias) = (params.view(self.gain), params.view(self.bias));
        for sample in 0..chunk.samples {
            let stats = sample * tokens..(sample + 1) * tokens;
            let rows = &x[self.read(ends, sample)];
            layer_norm::forward_with(self.eps, rows, gain, bias, normed, &mut mean[stats.clone()], &mut rstd[stats]);
            mean_rows(normed, &mut chunk.output[sample * width..(sample + 1) * width]);
        }
    }

    /// Only the rows that pooling read get a gradient.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (width, tokens) = (self.width, self.pooled_tokens());
        let (x, ends) = (chunk.inputs[0].rows(), chunk.inputs.get(1).map(|ends| ends.words()));
        let [mean, rstd] = &mut *chunk.saved else { unreachable!("a pooling has two saved slots") };
        let (_, [grad_normed]) = work.split([tokens * width]);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.gain, self.bias);
        #[expect(clippy::cast_precision_loss, reason = "a token count")]
        let share = 1.0 / tokens as f32;
        let grad_x = chunk.grad_inputs[0].summed();
        for sample in 0..chunk.samples {
            let grad_row = &chunk.grad_output[sample * width..(sample + 1) * width];
            for row in grad_normed.chunks_exact_mut(width) {
                row.iter_mut().zip(grad_row).for_each(|(out, grad)| *out = grad * share);
            }
            let (stats, read) = (sample * tokens..(sample + 1) * tokens, self.read(ends, sample));
            let grad_x = &mut grad_x[read.clone()];
            let gain = params.view(self.gain);
            let (mean, rstd) = (&mean[stats.clone()], &rstd[stats]);
            layer_norm::backward(&x[read], grad_normed, gain, mean, rstd, grad_x, Accumulation::Add, grad_gain, grad_bias);
        }
    }
}

/// The mean of rows, summed in row order.
fn mean_rows(rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    #[expect(clippy::cast_precision_loss, reason = "a token count")]
    let share = 1.0 / (rows.len() / width) as f32;
    out.fill(0.0);
    for row in rows.chunks_exact(width) {
        out.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    out.iter_mut().for_each(|sum| *sum *= share);
}
