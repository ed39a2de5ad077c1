//! Layer norm of rows: y = h gain + bias with h = (x - mean) / sqrt(var + eps), where var is the biased variance.
//!
//! Backward, with g = dy gain: dx = (g - mean(g) - h mean(g h)) / sqrt(var + eps), dgain = sum dy h, dbias = sum dy.

use crate::reference::{Matrix, add, dot};

/// PyTorch's default, which `open_clip` leaves.
const EPS: f64 = 1e-5;

/// The normalised row h and 1 / sqrt(var + eps).
fn standardise(eps: f64, x: &[f64]) -> (Vec<f64>, f64) {
    let width = x.len() as f64;
    let mean = x.iter().sum::<f64>() / width;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width;
    let rstd = (variance + eps).sqrt().recip();
    (x.iter().map(|x| (x - mean) * rstd).collect(), rstd)
}

/// y of rows x.
pub fn forward(x: &Matrix, gain: &[f64], bias: &[f64]) -> Matrix {
    forward_with(EPS, x, gain, bias)
}

/// y of rows x, with an eps of the model.
pub fn forward_with(eps: f64, x: &Matrix, gain: &[f64], bias: &[f64]) -> Matrix {
    let mut y = Matrix::zeros(x.rows, x.columns);
    for row in 0..x.rows {
        let (h, _) = standardise(eps, x.row(row));
        for (i, y) in y.row_mut(row).iter_mut().enumerate() {
            *y = h[i] * gain[i] + bias[i];
        }
    }
    y
}

/// Gradients of x, gain and bias.
pub fn backward(x: &Matrix, gain: &[f64], grad_y: &Matrix) -> (Matrix, Vec<f64>, Vec<f64>) {
    backward_with(EPS, x, gain, grad_y)
}

/// As [`backward`], with an eps of the model.
pub fn backward_with(eps: f64, x: &Matrix, gain: &[f64], grad_y: &Matrix) -> (Matrix, Vec<f64>, Vec<f64>) {
    let width = x.columns as f64;
    let mut grad_x = Matrix::zeros(x.rows, x.columns);
    let (mut grad_gain, mut grad_bias) = (vec![0.0; x.columns], vec![0.0; x.columns]);
    for row in 0..x.rows {
        let (h, rstd) = standardise(eps, x.row(row));
        let dy = grad_y.row(row);
        let g: Vec<f64> = dy.iter().zip(gain).map(|(dy, gain)| dy * gain).collect();
        let (mean_g, mean_gh) = (g.iter().sum::<f64>() / width, dot(&g, &h) / width);
        for (i, dx) in grad_x.row_mut(row).iter_mut().enumerate() {
            *dx = (g[i] - mean_g - h[i] * mean_gh) * rstd;
        }
        let dy_h: Vec<f64> = dy.iter().zip(&h).map(|(dy, h)| dy * h).collect();
        add(&dy_h, &mut grad_gain);
        add(dy, &mut grad_bias);
    }
    (grad_x, grad_gain, grad_bias)
}
