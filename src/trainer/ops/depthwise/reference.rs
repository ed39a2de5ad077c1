//! Depthwise convolution as its definition, a channel and a tap at a time.

use super::DepthwiseShape;
use crate::reference::Matrix;

/// Calls `visit(tap, output pixel, input pixel)` for every product of one channel of one sample.
fn products(shape: &DepthwiseShape, mut visit: impl FnMut(usize, usize, usize)) {
    let (side, half) = (shape.side as isize, (shape.kernel / 2) as isize);
    for to in 0..side * side {
        for tap in 0..(shape.kernel * shape.kernel) as isize {
            let y = to / side + tap / shape.kernel as isize - half;
            let x = to % side + tap % shape.kernel as isize - half;
            if (0..side).contains(&y) && (0..side).contains(&x) {
                visit(tap as usize, to as usize, (y * side + x) as usize);
            }
        }
    }
}

/// y of one sample; `weight` is [k k, C] as stored.
pub fn forward(shape: &DepthwiseShape, weight: &Matrix, bias: &[f64], x: &Matrix) -> Matrix {
    let mut y = Matrix::zeros(x.rows, x.columns).plus_row(bias);
    products(shape, |tap, to, from| {
        for c in 0..shape.channels {
            y.row_mut(to)[c] += weight.row(tap)[c] * x.row(from)[c];
        }
    });
    y
}

/// Gradients of x, weight and bias.
pub fn backward(shape: &DepthwiseShape, weight: &Matrix, x: &Matrix, grad_y: &Matrix) -> (Matrix, Matrix, Vec<f64>) {
    let (mut grad_x, mut grad_w) = (Matrix::zeros(x.rows, x.columns), Matrix::zeros(weight.rows, weight.columns));
    products(shape, |tap, to, from| {
        for c in 0..shape.channels {
            grad_x.row_mut(from)[c] += weight.row(tap)[c] * grad_y.row(to)[c];
            grad_w.row_mut(tap)[c] += x.row(from)[c] * grad_y.row(to)[c];
        }
    });
    (grad_x, grad_w, grad_y.column_sums())
}
