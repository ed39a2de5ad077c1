//! Tokens to one row: norm, then the mean of the rows that are pooled.

use super::{Pooled, TokenPool};
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Parameters};
use crate::reference::{Matrix, add};

/// Rows that pooling averages; `end` is the caption's last token.
fn pooled_rows(pool: &TokenPool, end: Option<u32>) -> std::ops::Range<usize> {
    match pool.pooling {
        Pooled::First => 0..1,
        Pooled::Mean => 0..pool.tokens,
        Pooled::EndOfText => {
            let end = end.expect("a caption has an end") as usize;
            end..end + 1
        }
    }
}

/// The pooled row [1, C] of tokens [T, C]; `end` is the caption's last token.
fn forward(pool: &TokenPool, params: &Parameters, x: &Matrix, end: Option<u32>) -> Matrix {
    let normed = layer_norm::forward_with(f64::from(pool.eps), x, params.vector(pool.gain), params.vector(pool.bias));
    let rows = pooled_rows(pool, end);
    let mut pooled = Matrix::zeros(1, pool.width);
    for row in rows.clone() {
        add(normed.row(row), pooled.row_mut(0));
    }
    pooled.map(|sum| sum / rows.len() as f64)
}

/// Gradient of x; those of the parameters are added to `grads`.
fn backward(
    pool: &TokenPool,
    params: &Parameters,
    x: &Matrix,
    end: Option<u32>,
    grad_pooled: &Matrix,
    grads: &mut Gradients,
) -> Matrix {
    let rows = pooled_rows(pool, end);
    let mut grad_normed = Matrix::zeros(x.rows, x.columns);
    for row in rows.clone() {
        add(&grad_pooled.map(|grad| grad / rows.len() as f64).values, grad_normed.row_mut(row));
    }
    let (grad_x, grad_gain, grad_bias) = layer_norm::backward_with(f64::from(pool.eps), x, params.vector(pool.gain), &grad_normed);
    grads.add(pool.gain, &grad_gain);
    grads.add(pool.bias, &grad_bias);
    grad_x
}

/// The end of a caption's text, where there is a caption.
fn end(inputs: &[Value]) -> Option<u32> {
    inputs.get(1).map(|end| end.words()[0])
}

impl Reference for TokenPool {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        forward(self, params, inputs[0].rows(), end(inputs))
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let mut found = vec![Some(backward(self, params, inputs[0].rows(), end(inputs), grad_y, grads))];
        found.resize(inputs.len(), None);
        found
    }
}
