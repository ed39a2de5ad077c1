//! The patch embedding as nodes. Patches are cut once more in backward.

use super::PatchEmbed;
use crate::Accumulation;
use crate::launch::{Real, View};
use crate::layer_norm::{self, cuda::record_backward};
use crate::params::ParamIdx;
use crate::patchify::cuda::{Cut, TokenShape, Unplace, patchify, place, unplace, unplace_scratch_bytes};
use crate::recorder::{Array, Output, Record, Recorded, Recorder, Site, Value};

impl PatchEmbed {
    /// Positions: an embedding without them was refused.
    fn placed(&self) -> ParamIdx {
        self.positions.expect("an embedding without positions has no form for a GPU")
    }

    fn token_shape(&self, samples: usize) -> TokenShape {
        let (kept, patches, width) = (self.kept, self.patches, self.width);
        TokenShape { samples, kept, patches, width, has_class: self.class_token.is_some() }
    }

    /// Normalised patches of the compute type [samples kept, 3PP].
    fn record_cut(&self, r: &mut Recorder, site: &Site) -> Array {
        let patches = r.reals("patches", site.samples * self.kept, self.shape.row_len());
        let cut = Cut { shape: &self.shape, real: r.real(), kept: self.kept, samples: site.samples };
        let pixels = site.inputs[0].pixels();
        r.push([patchify(&cut, pixels.bytes, pixels.index, kept(site), patches.view)]);
        patches
    }
}

/// The kept patches, where some are masked: the second input.
fn kept(site: &Site) -> Option<View> {
    site.inputs.get(1).map(|kept| kept.words().view)
}

impl Record for PatchEmbed {
    fn forward(&self, r: &mut Recorder, site: &Site, output: Output) -> Recorded {
        let (samples, width) = (site.samples, self.width);
        let total = samples * self.tokens();
        let patches = self.record_cut(r, site);
        let embedded = r.floats("patch rows", samples * self.kept, width);
        r.linear((self.weight, None), patches, embedded, None);
        let tokens = if self.norm.is_some() { r.floats("tokens", total, width) } else { output.floats };
        let class = self.class_token.map(|class| r.param(class));
        let positions = r.param(self.placed());
        r.push([place(&self.token_shape(samples), embedded.view, kept(site), class, positions, tokens.view)]);
        let mut saved = Vec::new();
        if let Some((gain, bias)) = self.norm {
            let (mean, rstd) = (r.floats("mean", total, 1), r.floats("rstd", total, 1));
            let args = layer_norm::cuda::Forward {
                rows: total,
                width,
                x: tokens.view,
                pick: None,
                gain: r.param(gain),
                bias: r.param(bias),
                y: output.floats.view,
                y_real: Real::F32,
                mean: mean.view,
                rstd: rstd.view,
            };
            r.push([layer_norm::cuda::forward(&args)]);
            saved = vec![tokens, mean, rstd];
        }
        Recorded { output: Value::floats(output.floats), saved }
    }

    fn backward(&self, r: &mut Recorder, site: &Site, saved: &[Array], grad: Value) -> Vec<Option<Value>> {
        let (samples, width) = (site.samples, self.width);
        let total = samples * self.tokens();
        let mut grad_tokens = r.in_floats(grad);
        if let (Some((gain, bias)), [x, mean, rstd]) = (self.norm, saved) {
            let grad_y = std::mem::replace(&mut grad_tokens, r.floats("grad tokens", total, width));
            let ([grad_gain, grad_bias], accumulate) = r.grads([gain, bias]);
            let args = layer_norm::cuda::Backward {
                rows: total,
                width,
                x: x.view,
                pick: None,
                grad_y: grad_y.view,
                grad_y_real: Real::F32,
                rows_per_grad: 1,
                gain: r.param(gain),
                bias: r.param(bias),
                mean: mean.view,
                rstd: rstd.view,
                grad_x: grad_tokens.view,
                mode: Accumulation::Overwrite,
                grad_x_real: None,
                normed: None,
                grad_gain,
                grad_bias,
                accumulate,
            };
            record_backward(r, &args);
        }
        let shape = self.token_shape(samples);
        let scratch = r.scratch("positions scratch", unplace_scratch_bytes(&shape));
        let grad_rows = r.reals("grad patch rows", samples * self.kept, width);
        let (grad_class, grad_positions, accumulate) = match self.class_token {
            Some(class) => {
                let ([class, positions], accumulate) = r.grads([class, self.placed()]);
                (Some(class), positions, accumulate)
            }
            None => {
                let ([positions], accumulate) = r.grads([self.placed()]);
                (None, positions, accumulate)
            }
        };
        let (real, keep) = (r.real(), kept(site));
        let (grad_tokens, grad_rows_view) = (grad_tokens.view, grad_rows.view);
        let at = Unplace { grad_tokens, keep, real, grad_rows: grad_rows_view, grad_class, grad_positions, accumulate };
        r.push(unplace(&shape, &at, scratch));
        let patches = self.record_cut(r, site);
        r.linear_weight((self.weight, None), patches, grad_rows);
        vec![None; site.inputs.len()]
    }
}
