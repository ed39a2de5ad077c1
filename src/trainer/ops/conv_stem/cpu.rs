//! The CPU's rows: patches cut and normalised, a product, the norm.

use super::ConvStem;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::{Accumulation, layer_norm, linear, patchify};

impl ConvStem {
    fn cut(&self, pixels: &[u8], patches: &mut [f32]) {
        let (side, len) = (self.shape.image_size, self.shape.patches() * self.shape.row_len());
        for (image, rows) in pixels.chunks_exact(3 * side * side).zip(patches.chunks_exact_mut(len)) {
            patchify::forward(&self.shape, image, None, rows);
        }
    }
}

impl Rows for ConvStem {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let rows = chunk.samples * self.shape.patches();
        let [embedded, mean, rstd] = &mut *chunk.saved else { unreachable!("a stem has three saved slots") };
        let (ops, [patches]) = work.split([rows * self.shape.row_len()]);
        self.cut(chunk.inputs[0].bytes(), patches);
        linear::forward(&params.linear(self.conv.0), rows, patches, Some(params.view(self.conv.1)), embedded, ops);
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::forward_with(self.eps, embedded, gain, bias, chunk.output, mean, rstd);
    }

    /// Parameter gradients only: pixels have none.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let rows = chunk.samples * self.shape.patches();
        let [embedded, mean, rstd] = &mut *chunk.saved else { unreachable!("a stem has three saved slots") };
        let (ops, [patches, grad_rows]) = work.split([rows * self.shape.row_len(), rows * self.width]);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm.0, self.norm.1);
        let (gain, grad_y, mode) = (params.view(self.norm.0), &*chunk.grad_output, Accumulation::Overwrite);
        layer_norm::backward(embedded, grad_y, gain, mean, rstd, grad_rows, mode, grad_gain, grad_bias);
        self.cut(chunk.inputs[0].bytes(), patches);
        let (shape, accumulate) = (params.linear(self.conv.0).shape, !grads.first);
        let (weight, bias) = grads.pair(self.conv.0, self.conv.1);
        linear::backward_weight(&shape, rows, patches, grad_rows, weight, Some(bias), accumulate, ops);
    }
}
