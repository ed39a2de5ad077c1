//! Group norm of one sample: each group's elements as one row of a norm, gain and bias by channel, (+ add), then ReLU where asked.

use super::GroupNormShape;
use crate::reference::Matrix;

/// What a norm is made of.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Its shape.
    pub shape: &'a GroupNormShape,
    /// Gain.
    pub gain: &'a [f64],
    /// Bias.
    pub bias: &'a [f64],
    /// Rows that are added.
    pub add: Option<&'a Matrix>,
    /// Whether negative sums become 0.
    pub relu: bool,
}

/// The elements of one group: pixel and channel.
fn places(shape: &GroupNormShape, group: usize) -> impl Iterator<Item = (usize, usize)> {
    let (pixels, part) = (shape.pixels, shape.channels / shape.groups);
    (0..pixels).flat_map(move |pixel| (group * part..(group + 1) * part).map(move |c| (pixel, c)))
}

/// The normalised map h and 1 / sqrt(var + eps) of each group.
fn standardise(shape: &GroupNormShape, x: &Matrix) -> (Matrix, Vec<f64>) {
    let mut h = Matrix::zeros(x.rows, x.columns);
    let mut rstds = Vec::new();
    for group in 0..shape.groups {
        let values: Vec<f64> = places(shape, group).map(|(pixel, c)| x.row(pixel)[c]).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let rstd = (variance + f64::from(shape.eps)).sqrt().recip();
        for (pixel, c) in places(shape, group) {
            h.row_mut(pixel)[c] = (x.row(pixel)[c] - mean) * rstd;
        }
        rstds.push(rstd);
    }
    (h, rstds)
}

fn before_relu(norm: &Norm, h: &Matrix) -> Matrix {
    let scaled = h.values.iter().enumerate().map(|(i, h)| h * norm.gain[i % h_width(norm)]).collect();
    let z = Matrix::from_rows(h_width(norm), scaled).plus_row(norm.bias);
    norm.add.map_or_else(|| z.clone(), |add| z.plus(add))
}

fn h_width(norm: &Norm) -> usize {
    norm.shape.channels
}

/// y of one sample.
pub fn forward(norm: &Norm, x: &Matrix) -> Matrix {
    before_relu(norm, &standardise(norm.shape, x).0).map(|z| if norm.relu { z.max(0.0) } else { z })
}

/// Gradients of x, gain, bias and the residual.
pub fn backward(norm: &Norm, x: &Matrix, grad_y: &Matrix) -> (Matrix, Vec<f64>, Vec<f64>, Matrix) {
    let (h, rstds) = standardise(norm.shape, x);
    let z = before_relu(norm, &h);
    let passed = |(dy, z): (&f64, &f64)| if norm.relu && *z <= 0.0 { 0.0 } else { *dy };
    let grad_z = Matrix::from_rows(x.columns, grad_y.values.iter().zip(&z.values).map(passed).collect());
    let dz_h = Matrix::from_rows(x.columns, grad_z.values.iter().zip(&h.values).map(|(a, b)| a * b).collect());
    let mut grad_x = Matrix::zeros(x.rows, x.columns);
    for (group, rstd) in rstds.into_iter().enumerate() {
        let count = places(norm.shape, group).count() as f64;
        let mean = |of: &Matrix| places(norm.shape, group).map(|(p, c)| norm.gain[c] * of.row(p)[c]).sum::<f64>() / count;
        let (mean_g, mean_gh) = (mean(&grad_z), mean(&dz_h));
        for (p, c) in places(norm.shape, group) {
            grad_x.row_mut(p)[c] = rstd * (norm.gain[c] * grad_z.row(p)[c] - mean_g - h.row(p)[c] * mean_gh);
        }
    }
    (grad_x, dz_h.column_sums(), grad_z.column_sums(), grad_z)
}
