//! The CPU's rows: norm of what pooling reads, the mean, a product, L2 normalisation.

use crate::head::{Head, HeadPooling};
use crate::linear::LinearShape;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::{Accumulation, layer_norm, linear, normalize};

impl Head {
    /// Tokens that pooling reads of one sample.
    fn read(&self, ends: Option<&[u32]>, sample: usize) -> std::ops::Range<usize> {
        let first = match self.pooling {
            HeadPooling::First | HeadPooling::Mean => 0,
            HeadPooling::EndOfText => ends.expect("the program gives a text head the ends")[sample] as usize,
        };
        let start = (sample * self.tokens + first) * self.width;
        start..start + self.pooled_tokens() * self.width
    }
}

impl Rows for Head {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let (width, tokens) = (self.width, self.pooled_tokens());
        let (x, ends) = (chunk.inputs[0].rows(), chunk.inputs.get(1).map(|ends| ends.words()));
        let [mean, rstd, pooled, feature, norm] = &mut *chunk.saved else { unreachable!("a head has five saved slots") };
        let (ops, [normed, projected]) = work.split([tokens * width, chunk.samples * self.embed_dim]);
        let (gain, bias) = (params.view(self.gain), params.view(self.bias));
        for sample in 0..chunk.samples {
            let stats = sample * tokens..(sample + 1) * tokens;
            let rows = &x[self.read(ends, sample)];
            layer_norm::forward(rows, gain, bias, normed, &mut mean[stats.clone()], &mut rstd[stats]);
            mean_rows(normed, &mut pooled[sample * width..(sample + 1) * width]);
        }
        linear::forward(&params.linear(self.project), chunk.samples, pooled, None, projected, ops);
        normalize::forward(self.embed_dim, projected, chunk.output, norm);
        feature.copy_from_slice(chunk.output);
    }

    /// Only the rows that pooling read get a gradient.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (width, tokens, samples) = (self.width, self.pooled_tokens(), chunk.samples);
        let (x, ends) = (chunk.inputs[0].rows(), chunk.inputs.get(1).map(|ends| ends.words()));
        let [mean, rstd, pooled, feature, norm] = &mut *chunk.saved else { unreachable!("a head has five saved slots") };
        let (ops, [grad_projected, grad_pooled, grad_normed]) =
            work.split([samples * self.embed_dim, samples * width, tokens * width]);
        normalize::backward(self.embed_dim, feature, norm, chunk.grad_output, grad_projected);
        linear::backward_input(&params.linear(self.project), samples, grad_projected, grad_pooled, ops);
        let shape: LinearShape = params.linear(self.project).shape;
        let accumulate = !grads.first;
        linear::backward_weight(&shape, samples, pooled, grad_projected, grads.view(self.project), None, accumulate, ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.gain, self.bias);
        #[expect(clippy::cast_precision_loss, reason = "a token count")]
        let share = 1.0 / tokens as f32;
        let grad_x = chunk.grad_inputs[0].summed();
        for sample in 0..samples {
            let grad_row = &grad_pooled[sample * width..(sample + 1) * width];
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
