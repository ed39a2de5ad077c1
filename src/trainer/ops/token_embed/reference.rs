//! Token ids to tokens: a row of the table plus a position each.

use super::TokenEmbed;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Parameters};
use crate::reference::{Matrix, add};

/// Rows [T, C].
fn forward(block: &TokenEmbed, params: &Parameters, ids: &[u32]) -> Matrix {
    let table = params.matrix(block.table);
    let mut tokens = params.matrix(block.positions);
    for (row, id) in ids.iter().enumerate() {
        add(table.row(*id as usize), tokens.row_mut(row));
    }
    tokens
}

/// Adds the parameters' gradients.
fn backward(block: &TokenEmbed, ids: &[u32], grad_y: &Matrix, grads: &mut Gradients) {
    for (row, id) in ids.iter().enumerate() {
        grads.add_row(block.table, *id as usize, grad_y.row(row));
        grads.add_row(block.positions, row, grad_y.row(row));
    }
}

impl Reference for TokenEmbed {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        forward(self, params, inputs[0].words())
    }

    fn backward(&self, _: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        backward(self, inputs[0].words(), grad_y, grads);
        vec![None]
    }
}
