//! Token ids to tokens: a table row and a position each.
//!
//! Its backward runs over the whole batch in sample order, not by lanes: the table is large and each sample touches a few rows.

pub mod reference;

use crate::embedding;
use crate::op::{Forward, Input, Params};
use crate::params::{ParamIdx, ParamView};

/// A token embedding and where its parameters are.
#[derive(Debug, Clone)]
pub struct TokenEmbed {
    /// Height of the table (V).
    pub vocab_size: usize,
    /// Tokens a sample (T).
    pub tokens: usize,
    /// Channels (C).
    pub width: usize,
    /// [V, C].
    pub table: ParamIdx,
    /// [T, C].
    pub positions: ParamIdx,
}

impl TokenEmbed {
    /// One chunk forward.
    pub fn forward(&self, params: &Params, chunk: &mut Forward) {
        let Input::Tokens(ids) = chunk.input else { unreachable!("the program wires token ids to a token embedding") };
        let (table, positions) = (params.view(self.table), params.view(self.positions));
        for (ids, rows) in ids.chunks_exact(self.tokens).zip(chunk.output.chunks_exact_mut(self.tokens * self.width)) {
            embedding::forward(ids, table, positions, rows);
        }
    }

    /// The whole batch back, added to the flat gradient.
    pub fn backward(&self, views: &[ParamView], ids: &[u32], grad_rows: &[f32], grad: &mut [f32]) {
        let (table, positions) = (views[self.table].range(), views[self.positions].range());
        let (head, tail) = grad.split_at_mut(positions.start);
        let (grad_table, grad_positions) = (&mut head[table], &mut tail[..positions.end - positions.start]);
        for (ids, rows) in ids.chunks_exact(self.tokens).zip(grad_rows.chunks_exact(self.tokens * self.width)) {
            embedding::backward(ids, rows, grad_table, grad_positions);
        }
    }
}
