//! Batch norm of a group of rows: h = (x - mean) / sqrt(var + eps) by channel, y = h gain + bias (+ add), then ReLU where asked.

use crate::reference::{Matrix, add};

/// What a group's norm is made of.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// Gain.
    pub gain: &'a [f64],
    /// Bias.
    pub bias: &'a [f64],
    /// Added to the variance.
    pub eps: f64,
    /// Rows that are added.
    pub add: Option<&'a Matrix>,
    /// Whether negative sums become 0.
    pub relu: bool,
}

/// Mean and biased variance of each channel.
pub fn statistics(x: &Matrix) -> (Vec<f64>, Vec<f64>) {
    let rows = x.rows as f64;
    let mean: Vec<f64> = x.column_sums().iter().map(|sum| sum / rows).collect();
    let mut variance = vec![0.0; x.columns];
    for row in 0..x.rows {
        let squares: Vec<f64> = x.row(row).iter().zip(&mean).map(|(x, mean)| (x - mean).powi(2) / rows).collect();
        add(&squares, &mut variance);
    }
    (mean, variance)
}

/// The normalised rows h, and 1 / sqrt(var + eps).
fn standardise(x: &Matrix, eps: f64) -> (Matrix, Vec<f64>) {
    let (mean, variance) = statistics(x);
    let rstd: Vec<f64> = variance.iter().map(|var| (var + eps).sqrt().recip()).collect();
    let values = x.values.iter().enumerate().map(|(i, x)| (x - mean[i % mean.len()]) * rstd[i % rstd.len()]).collect();
    (Matrix::from_rows(rstd.len(), values), rstd)
}

/// Sums before ReLU.
fn before_relu(group: &Group, x: &Matrix) -> Matrix {
    let (h, _) = standardise(x, group.eps);
    let values = h.values.iter().enumerate().map(|(i, h)| h * group.gain[i % x.columns]).collect();
    let z = Matrix::from_rows(x.columns, values).plus_row(group.bias);
    group.add.map_or_else(|| z.clone(), |add| z.plus(add))
}

/// y of all rows of a group.
pub fn forward(group: &Group, x: &Matrix) -> Matrix {
    before_relu(group, x).map(|z| if group.relu { z.max(0.0) } else { z })
}

/// Gradients of x, gain, bias and the residual.
pub fn backward(group: &Group, x: &Matrix, grad_y: &Matrix) -> (Matrix, Vec<f64>, Vec<f64>, Matrix) {
    let (h, rstd) = standardise(x, group.eps);
    let z = before_relu(group, x);
    let passed = |(dy, z): (&f64, &f64)| if group.relu && *z <= 0.0 { 0.0 } else { *dy };
    let grad_z = Matrix::from_rows(x.columns, grad_y.values.iter().zip(&z.values).map(passed).collect());
    let dz_h = Matrix::from_rows(x.columns, grad_z.values.iter().zip(&h.values).map(|(a, b)| a * b).collect());
    let (grad_bias, grad_gain, rows) = (grad_z.column_sums(), dz_h.column_sums(), x.rows as f64);
    let mut grad_x = grad_z.clone();
    for (i, dx) in grad_x.values.iter_mut().enumerate() {
        let c = i % x.columns;
        *dx = group.gain[c] * rstd[c] * (*dx - grad_bias[c] / rows - h.values[i] * grad_gain[c] / rows);
    }
    (grad_x, grad_gain, grad_bias, grad_z)
}
