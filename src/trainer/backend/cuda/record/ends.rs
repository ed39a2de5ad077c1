//! The ends of a tower as nodes: patch embedding, token embedding, head.

use super::part::{Features, Inputs, Pixels};
use super::transformer::STREAM;
use super::{Out, Recorder, StreamGrad};
use crate::trainer::ops::head::{Head, HeadPooling};
use crate::trainer::ops::launch::{Node, View};
use crate::trainer::ops::params::ParamIdx;
use crate::trainer::ops::{
    Accumulation, embedding, layer_norm, normalize, patch_embed::PatchEmbed, patchify, token_embed::TokenEmbed,
};

/// What a patch embedding keeps.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct PatchSaved {
    /// Cut again in backward from these.
    pixels: Pixels,
    keep: Option<View>,
    /// Before the norm, with its statistics.
    normed: Option<(View, View, View)>,
}

/// What a head keeps.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct HeadSaved {
    x: View,
    ends: Option<View>,
    mean: View,
    rstd: View,
    pooled: View,
    feature: View,
    norm: View,
}

impl Recorder<'_> {
    /// Tokens f32 [samples, T, C].
    pub fn patch_embed(&mut self, block: &PatchEmbed, samples: usize, inputs: &Inputs) -> (View, PatchSaved) {
        let (rows, width) = (samples * block.kept, block.width);
        let total = samples * block.tokens();
        let pixels = inputs.pixels.expect("an image tower reads images");
        let patches = self.cut(block, samples, pixels, inputs.keep);
        let embedded = self.floats("patch rows", rows * width);
        self.forward(block.weight, rows, patches, Out::Floats(embedded), None, None);
        let tokens = self.floats("tokens", total * width);
        let class = block.class_token.map(|class| self.param(class));
        let positions = self.param(placed(block));
        let shape = token_shape(block, samples);
        self.push([patchify::cuda::place(&shape, embedded, inputs.keep, class, positions, tokens)]);
        let saved = |normed| PatchSaved { pixels, keep: inputs.keep, normed };
        let Some((gain, bias)) = block.norm else { return (tokens, saved(None)) };
        let (mean, rstd) = (self.floats("mean", total), self.floats("rstd", total));
        let y = self.floats("normed tokens", total * width);
        let (gain, bias) = (self.param(gain), self.param(bias));
        let args =
            layer_norm::cuda::Forward { rows: total, width, x: tokens, pick: None, gain, bias, y, y_real: STREAM, mean, rstd };
        self.push([layer_norm::cuda::forward(&args)]);
        (y, saved(Some((tokens, mean, rstd))))
    }

    /// Normalised patches of the compute type [samples kept, 3PP].
    fn cut(&mut self, block: &PatchEmbed, samples: usize, pixels: Pixels, keep: Option<View>) -> View {
        let len = samples * block.kept * block.shape.row_len();
        let patches = self.reals("patches", len);
        let cut = patchify::cuda::Cut { shape: &block.shape, real: self.real, kept: block.kept, samples };
        self.push([patchify::cuda::patchify(&cut, pixels.bytes, pixels.index, keep, patches)]);
        patches
    }

    pub fn patch_embed_backward(
        &mut self,
        block: &PatchEmbed,
        samples: usize,
        saved: &PatchSaved,
        grad: StreamGrad,
        accumulate: bool,
    ) {
        let (rows, width) = (samples * block.kept, block.width);
        let total = samples * block.tokens();
        let mut grad_tokens = grad.floats;
        if let (Some((gain, bias)), Some((x, mean, rstd))) = (block.norm, saved.normed) {
            grad_tokens = self.floats("grad tokens", total * width);
            let args = layer_norm::cuda::Backward {
                rows: total,
                width,
                x,
                pick: None,
                grad_y: grad.floats,
                grad_y_real: STREAM,
                rows_per_grad: 1,
                gain: self.param(gain),
                bias: self.param(bias),
                mean,
                rstd,
                grad_x: grad_tokens,
                mode: Accumulation::Overwrite,
                grad_x_real: None,
                normed: None,
                grad_gain: self.grad(gain),
                grad_bias: self.grad(bias),
                accumulate,
            };
            self.norm_gradients(&args);
        }
        let shape = token_shape(block, samples);
        let scratch = self.temporary("positions scratch", patchify::cuda::unplace_scratch_bytes(&shape));
        let grad_rows = self.reals("grad patch rows", rows * width);
        let at = patchify::cuda::Unplace {
            grad_tokens,
            keep: saved.keep,
            real: self.real,
            grad_rows,
            grad_class: block.class_token.map(|class| self.grad(class)),
            grad_positions: self.grad(placed(block)),
            accumulate,
        };
        self.push(patchify::cuda::unplace(&shape, &at, scratch));
        let patches = self.cut(block, samples, saved.pixels, saved.keep);
        self.backward_weight((block.weight, None), rows, patches, grad_rows, accumulate);
    }

    /// Tokens f32 [samples, T, C].
    pub fn token_embed(&mut self, block: &TokenEmbed, samples: usize, ids: View) -> View {
        let rows = self.floats("tokens", samples * block.tokens * block.width);
        let (table, positions) = (self.param(block.table), self.param(block.positions));
        let (vocab, tokens, width) = (block.vocab_size, block.tokens, block.width);
        self.push([embedding::cuda::forward(vocab, tokens, width, samples, ids, table, positions, rows)]);
        rows
    }

    /// The table's gradient is added to; it is zeroed once a step.
    pub fn token_embed_backward(&mut self, block: &TokenEmbed, samples: usize, plan: View, grad: StreamGrad, accumulate: bool) {
        let grad_table = self.grad(block.table);
        if !accumulate {
            let bytes = 4 * block.vocab_size * block.width;
            self.push([Node::Zero { view: grad_table, bytes }]);
        }
        let (tokens, width) = (block.tokens, block.width);
        let scratch = self.temporary("table scratch", embedding::cuda::backward_scratch_bytes(samples, tokens, width));
        let at = embedding::cuda::Backward {
            batch: samples,
            tokens,
            width,
            plan,
            grad_rows: grad.floats,
            grad_table,
            grad_positions: self.grad(block.positions),
            accumulate_positions: accumulate,
        };
        self.push(embedding::cuda::backward(&at, scratch));
    }

    /// Normalised features into `features`.
    pub fn head(&mut self, block: &Head, samples: usize, x: View, ends: Option<View>, features: Features) -> HeadSaved {
        let (width, embed_dim) = (block.width, block.embed_dim);
        let rows = samples * pooled_tokens(block);
        let (mean, rstd) = (self.floats("mean", rows), self.floats("rstd", rows));
        let normed = self.reals("normed", rows * width);
        let (gain, bias) = (self.param(block.gain), self.param(block.bias));
        let pick = pick(block, ends);
        let args = layer_norm::cuda::Forward { rows, width, x, pick, gain, bias, y: normed, y_real: self.real, mean, rstd };
        self.push([layer_norm::cuda::forward(&args)]);
        let mut pooled = normed;
        if block.pooling == HeadPooling::Mean {
            pooled = self.reals("pooled", samples * width);
            self.push([normalize::cuda::mean_rows(samples, block.tokens, width, normed, pooled)]);
        }
        let projected = self.floats("projected", samples * embed_dim);
        self.forward(block.project, samples, pooled, Out::Floats(projected), None, None);
        let norm = self.floats("norm", samples);
        let Features { floats, reals } = features;
        self.push([normalize::cuda::forward(samples, embed_dim, projected, floats, reals, norm)]);
        HeadSaved { x, ends, mean, rstd, pooled, feature: floats, norm }
    }

    /// The stream's gradient from that of the features, f32 [samples, E].
    pub fn head_backward(
        &mut self,
        block: &Head,
        samples: usize,
        saved: &HeadSaved,
        grad_features: View,
        accumulate: bool,
    ) -> StreamGrad {
        let (width, tokens) = (block.width, pooled_tokens(block));
        let rows = samples * tokens;
        let grad_projected = self.reals("grad projected", samples * block.embed_dim);
        let node = normalize::cuda::backward(samples, block.embed_dim, saved.feature, saved.norm, grad_features, grad_projected);
        self.push([node]);
        let grad_pooled = self.reals("grad pooled", samples * width);
        self.backward_input(block.project, samples, grad_projected, grad_pooled);
        self.backward_weight((block.project, None), samples, saved.pooled, grad_projected, accumulate);
        let grad = self.stream_grad(samples * block.tokens * width, block.pooling != HeadPooling::Mean);
        let args = layer_norm::cuda::Backward {
            rows,
            width,
            x: saved.x,
            pick: pick(block, saved.ends),
            grad_y: grad_pooled,
            grad_y_real: self.real,
            rows_per_grad: tokens,
            gain: self.param(block.gain),
            bias: self.param(block.bias),
            mean: saved.mean,
            rstd: saved.rstd,
            grad_x: grad.floats,
            mode: Accumulation::Overwrite,
            grad_x_real: grad.copy(),
            normed: None,
            grad_gain: self.grad(block.gain),
            grad_bias: self.grad(block.bias),
            accumulate,
        };
        self.norm_gradients(&args);
        grad
    }

    /// A buffer pair for a stream's gradient; zero where only some rows are going to be written.
    fn stream_grad(&mut self, len: usize, is_sparse: bool) -> StreamGrad {
        let floats = self.floats("stream gradient", len);
        let reals = if self.real == STREAM { floats } else { self.reals("stream gradient copy", len) };
        let grad = StreamGrad { floats, reals };
        if is_sparse {
            self.push([Node::Zero { view: floats, bytes: 4 * len }]);
            if let Some(copy) = grad.copy() {
                let bytes = self.real.bytes() * len;
                self.push([Node::Zero { view: copy, bytes }]);
            }
        }
        grad
    }
}

/// The positions of a patch embedding that has a form for a GPU.
fn placed(block: &PatchEmbed) -> ParamIdx {
    block.positions.expect("a patch embedding without positions has no form for a GPU")
}

fn token_shape(block: &PatchEmbed, samples: usize) -> patchify::cuda::TokenShape {
    let (kept, patches, width) = (block.kept, block.patches, block.width);
    patchify::cuda::TokenShape { samples, kept, patches, width, has_class: block.class_token.is_some() }
}

fn pooled_tokens(block: &Head) -> usize {
    if block.pooling == HeadPooling::Mean { block.tokens } else { 1 }
}

fn pick(block: &Head, ends: Option<View>) -> Option<layer_norm::cuda::RowPick> {
    match block.pooling {
        HeadPooling::Mean => None,
        HeadPooling::First => Some(layer_norm::cuda::RowPick { stride: block.tokens, ends: None }),
        HeadPooling::EndOfText => Some(layer_norm::cuda::RowPick { stride: block.tokens, ends }),
    }
}
