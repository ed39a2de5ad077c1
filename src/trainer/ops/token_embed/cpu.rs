//! The CPU's rows: a table row and a position each; back in the order of samples.

use crate::embedding;
use crate::op::{Backward, Forward, GradLane, Params, Rows, Workspace};
use crate::token_embed::TokenEmbed;

impl Rows for TokenEmbed {
    fn forward(&self, params: &Params, chunk: &mut Forward, _: &mut Workspace) {
        let (table, positions) = (params.view(self.table), params.view(self.positions));
        let ids = chunk.inputs[0].words();
        for (ids, rows) in ids.chunks_exact(self.tokens).zip(chunk.output.chunks_exact_mut(self.tokens * self.width)) {
            embedding::forward(ids, table, positions, rows);
        }
    }

    fn backward(&self, _: &Params, chunk: &mut Backward, grads: &mut GradLane, _: &mut Workspace) {
        let (grad_table, grad_positions) = grads.pair_zeroed(self.table, self.positions);
        let ids = chunk.inputs[0].words();
        for (ids, rows) in ids.chunks_exact(self.tokens).zip(chunk.grad_output.chunks_exact(self.tokens * self.width)) {
            embedding::backward(ids, rows, grad_table, grad_positions);
        }
    }
}
