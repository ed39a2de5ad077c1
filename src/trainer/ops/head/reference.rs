//! Tokens to a feature: norm, pooling, projection y = x W, L2 normalisation f = y / |y|.
//!
//! Backward of the last: dy = (df - f (f . df)) / |y|.

use super::{Head, HeadPooling};
use crate::layer_norm::reference as layer_norm;
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Parameters};
use crate::reference::{Matrix, add, dot};

/// Floor of the length, as `torch.nn.functional.normalize` has it.
const SHORTEST: f64 = 1e-12;

/// Rows that pooling averages; `end` is the caption's last token.
fn pooled_rows(head: &Head, end: Option<u32>) -> std::ops::Range<usize> {
    match head.pooling {
        HeadPooling::First => 0..1,
        HeadPooling::Mean => 0..head.tokens,
        HeadPooling::EndOfText => {
            let end = end.expect("a caption has an end") as usize;
            end..end + 1
        }
    }
}

/// The pooled row before projection, and the projected one.
fn project(head: &Head, params: &Parameters, x: &Matrix, end: Option<u32>) -> (Matrix, Matrix) {
    let normed = layer_norm::forward(x, params.vector(head.gain), params.vector(head.bias));
    let rows = pooled_rows(head, end);
    let mut pooled = Matrix::zeros(1, head.width);
    for row in rows.clone() {
        add(normed.row(row), pooled.row_mut(0));
    }
    let pooled = pooled.map(|sum| sum / rows.len() as f64);
    let projected = pooled.times(&params.matrix(head.project));
    (pooled, projected)
}

fn length(y: &Matrix) -> f64 {
    dot(&y.values, &y.values).sqrt().max(SHORTEST)
}

/// The feature [1, E] of tokens [T, C]; `end` is the caption's last token.
fn forward(head: &Head, params: &Parameters, x: &Matrix, end: Option<u32>) -> Matrix {
    let (_, projected) = project(head, params, x, end);
    let length = length(&projected);
    projected.map(|y| y / length)
}

/// Gradient of x; those of the parameters are added to `grads`.
fn backward(
    head: &Head,
    params: &Parameters,
    x: &Matrix,
    end: Option<u32>,
    grad_feature: &Matrix,
    grads: &mut Gradients,
) -> Matrix {
    let (pooled, projected) = project(head, params, x, end);
    let length = length(&projected);
    let feature = projected.map(|y| y / length);
    let along = dot(&feature.values, &grad_feature.values);
    let grad_projected = grad_feature.plus(&feature.map(|f| -f * along)).map(|grad| grad / length);
    grads.add(head.project, &pooled.transposed_times(&grad_projected).values);
    let grad_pooled = grad_projected.times_transposed(&params.matrix(head.project));
    let rows = pooled_rows(head, end);
    let mut grad_normed = Matrix::zeros(x.rows, x.columns);
    for row in rows.clone() {
        add(&grad_pooled.map(|grad| grad / rows.len() as f64).values, grad_normed.row_mut(row));
    }
    let (grad_x, grad_gain, grad_bias) = layer_norm::backward(x, params.vector(head.gain), &grad_normed);
    grads.add(head.gain, &grad_gain);
    grads.add(head.bias, &grad_bias);
    grad_x
}

/// The end of a caption's text, where there is a caption.
fn end(inputs: &[Value]) -> Option<u32> {
    inputs.get(1).map(|end| end.words()[0])
}

impl Reference for Head {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        forward(self, params, inputs[0].rows(), end(inputs))
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let mut found = vec![Some(backward(self, params, inputs[0].rows(), end(inputs), grad_y, grads))];
        found.resize(inputs.len(), None);
        found
    }
}
