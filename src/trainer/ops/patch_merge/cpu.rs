//! The CPU's rows of merging: copies, a norm, a product.

use super::NEIGHBOURS;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::patch_merge::PatchMerge;
use crate::{Accumulation, elementwise, layer_norm, linear};

impl PatchMerge {
    /// Calls `each` with the place of every row that leaves, the quarter of it, and the row that enters there.
    #[inline]
    fn neighbours(&self, samples: usize, mut each: impl FnMut(usize, usize, usize)) {
        let half = self.side / 2;
        for row in 0..samples * self.rows() {
            let (line, column) = (row / half, row % half);
            for (quarter, (down, right)) in NEIGHBOURS.iter().enumerate() {
                // Lines of all samples follow each other, two that enter for one that leaves.
                each(row, quarter, (2 * line + down) * self.side + 2 * column + right);
            }
        }
    }

    fn side_by_side(&self, samples: usize, x: &[f32], merged: &mut [f32]) {
        let width = self.width;
        self.neighbours(samples, |row, quarter, from| {
            merged[(4 * row + quarter) * width..][..width].copy_from_slice(&x[from * width..][..width]);
        });
    }
}

impl Rows for PatchMerge {
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace) {
        let rows = chunk.samples * self.rows();
        let [mean, rstd] = &mut *chunk.saved else { unreachable!("the program gives merging two saved slots") };
        let (ops, [merged, normed]) = work.split([rows * 4 * self.width; 2]);
        self.side_by_side(chunk.samples, chunk.inputs[0].rows(), merged);
        layer_norm::forward_with(self.eps, merged, params.view(self.norm.0), params.view(self.norm.1), normed, mean, rstd);
        linear::forward(&params.linear(self.reduce), rows, normed, None, chunk.output, ops);
    }

    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace) {
        let (width, rows) = (self.width, chunk.samples * self.rows());
        let [mean, rstd] = &mut *chunk.saved else { unreachable!("the program gives merging two saved slots") };
        let (ops, [merged, normed, grad_normed, grad_merged]) = work.split([rows * 4 * width; 4]);
        self.side_by_side(chunk.samples, chunk.inputs[0].rows(), merged);
        let (gain, bias) = (params.view(self.norm.0), params.view(self.norm.1));
        layer_norm::recompute(merged, gain, bias, mean, rstd, normed);
        let accumulate = !grads.first;
        let shape = params.linear(self.reduce).shape;
        linear::backward_weight(&shape, rows, normed, chunk.grad_output, grads.view(self.reduce), None, accumulate, ops);
        linear::backward_input(&params.linear(self.reduce), rows, chunk.grad_output, grad_normed, ops);
        let (grad_gain, grad_bias) = grads.pair_zeroed(self.norm.0, self.norm.1);
        let mode = Accumulation::Overwrite;
        layer_norm::backward(merged, grad_normed, gain, mean, rstd, grad_merged, mode, grad_gain, grad_bias);
        let (grad_x, mode) = chunk.grad_inputs[0].rows();
        self.neighbours(chunk.samples, |row, quarter, from| {
            let (grad, out) = (&grad_merged[(4 * row + quarter) * width..][..width], &mut grad_x[from * width..][..width]);
            match mode {
                Accumulation::Overwrite => out.copy_from_slice(grad),
                Accumulation::Add => elementwise::add(grad, out),
            }
        });
    }
}
