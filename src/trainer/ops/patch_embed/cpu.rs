//! The CPU's rows: patches cut and normalised, a product, optional positions, an optional norm.

use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::patch_embed::PatchEmbed;
use crate::{Accumulation, elementwise, layer_norm, linear, patchify};

impl Rows for PatchEmbed {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let (pixels, keep) = (chunk.inputs[0].bytes(), chunk.inputs.get(1).map(|keep| keep.words()));
        let rows = chunk.samples * self.kept;
        let (ops, [patches, embedded_rows]) = work.split([rows * self.pixels(), rows * self.width]);
        self.cut(pixels, keep, patches);
        linear::forward(&params.linear(self.weight), rows, patches, self.bias.map(|bias| params.view(bias)), embedded_rows, ops);
        let embedded: &mut [f32] = if self.norm.is_some() { chunk.saved[0] } else { chunk.output };
        let samples = embedded.chunks_exact_mut(self.tokens() * self.width);
        for (sample, (tokens, rows)) in samples.zip(embedded_rows.chunks_exact(self.kept * self.width)).enumerate() {
            self.place(params, self.kept_of(keep, sample), rows, tokens);
        }
        if let Some((gain, bias)) = self.norm {
            let [embedded, mean, rstd] = &mut *chunk.saved else { unreachable!("a norm has three saved slots") };
            layer_norm::forward(embedded, params.view(gain), params.view(bias), chunk.output, mean, rstd);
        }
    }

    /// Parameter gradients only: pixels have none.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (pixels, keep) = (chunk.inputs[0].bytes(), chunk.inputs.get(1).map(|keep| keep.words()));
        let (width, rows) = (self.width, chunk.samples * self.kept);
        let per_sample = self.tokens() * width;
        let (ops, [patches, grad_tokens, grad_rows]) = work.split([rows * self.pixels(), chunk.samples * per_sample, rows * width]);
        if let Some((gain, bias)) = self.norm {
            let [embedded, mean, rstd] = &mut *chunk.saved else { unreachable!("a norm has three saved slots") };
            let (grad_gain, grad_bias) = grads.pair_zeroed(gain, bias);
            let (grad_y, gain) = (&*chunk.grad_output, params.view(gain));
            layer_norm::backward(embedded, grad_y, gain, mean, rstd, grad_tokens, Accumulation::Overwrite, grad_gain, grad_bias);
        } else {
            grad_tokens.copy_from_slice(chunk.grad_output);
        }
        if grads.first {
            for added in [self.positions, self.class_token].into_iter().flatten() {
                grads.view(added).fill(0.0);
            }
        }
        let samples = grad_tokens.chunks_exact(per_sample).zip(grad_rows.chunks_exact_mut(self.kept * width));
        for (sample, (grad, grad_rows)) in samples.enumerate() {
            self.unplace(grads, self.kept_of(keep, sample), grad, grad_rows);
        }
        self.cut(pixels, keep, patches);
        let shape = params.linear(self.weight).shape;
        let accumulate = !grads.first;
        let (weight, bias) = match self.bias {
            Some(bias) => {
                let (weight, bias) = grads.pair(self.weight, bias);
                (weight, Some(bias))
            }
            None => (grads.view(self.weight), None),
        };
        linear::backward_weight(&shape, rows, patches, grad_rows, weight, bias, accumulate, ops);
    }
}

impl PatchEmbed {
    fn kept_of<'a>(&self, keep: Option<&'a [u32]>, sample: usize) -> Option<&'a [u32]> {
        keep.map(|keep| &keep[sample * self.kept..(sample + 1) * self.kept])
    }

    /// Cuts and normalises the patches of every sample of the chunk.
    fn cut(&self, pixels: &[u8], keep: Option<&[u32]>, patches: &mut [f32]) {
        let image = 3 * self.shape.image_size * self.shape.image_size;
        for (sample, rows) in patches.chunks_exact_mut(self.kept * self.pixels()).enumerate() {
            patchify::forward(&self.shape, &pixels[sample * image..(sample + 1) * image], self.kept_of(keep, sample), rows);
        }
    }

    /// Patch rows plus positions, behind the class token where there is one.
    fn place(&self, params: &Params, kept: Option<&[u32]>, rows: &[f32], tokens: &mut [f32]) {
        let width = self.width;
        let class_width = if self.class_token.is_some() { width } else { 0 };
        let (row, tokens) = tokens.split_at_mut(class_width);
        if let Some(class) = self.class_token {
            row.copy_from_slice(params.view(class));
        }
        tokens.copy_from_slice(rows);
        let Some(positions) = self.positions else { return };
        let (of_class, positions) = params.view(positions).split_at(class_width);
        elementwise::add(of_class, row);
        for (token, row) in tokens.chunks_exact_mut(width).enumerate() {
            let patch = kept.map_or(token, |kept| kept[token] as usize);
            elementwise::add(&positions[patch * width..(patch + 1) * width], row);
        }
    }

    /// One sample's token gradients to class token, positions and patch rows.
    fn unplace(&self, grads: &mut GradLane, kept: Option<&[u32]>, grad: &[f32], grad_rows: &mut [f32]) {
        let width = self.width;
        let class_width = if self.class_token.is_some() { width } else { 0 };
        let (grad_class, grad_patches) = grad.split_at(class_width);
        if let Some(class) = self.class_token {
            elementwise::add(grad_class, grads.view(class));
        }
        grad_rows.copy_from_slice(grad_patches);
        let Some(positions) = self.positions else { return };
        let (of_class, positions) = grads.view(positions).split_at_mut(class_width);
        elementwise::add(grad_class, of_class);
        for (token, row) in grad_patches.chunks_exact(width).enumerate() {
            let patch = kept.map_or(token, |kept| kept[token] as usize);
            elementwise::add(row, &mut positions[patch * width..(patch + 1) * width]);
        }
    }
}
