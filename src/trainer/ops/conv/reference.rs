//! Convolution as its definition: y(oy, ox, o) = b(o) + sum over ky, kx, i of w(o, ky, kx, i) x(oy s + ky - p, ox s + kx - p, i).

use super::ConvShape;
use crate::reference::Matrix;

/// Calls `visit(output row, column of the weight's matrix, input row, input channel)` for every product of one sample.
fn products(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize, usize)) {
    let (side, out) = (shape.side as isize, shape.out_side());
    for oy in 0..out {
        for ox in 0..out {
            for ky in 0..shape.kernel {
                for kx in 0..shape.kernel {
                    let y = (oy * shape.stride + ky) as isize - shape.padding as isize;
                    let x = (ox * shape.stride + kx) as isize - shape.padding as isize;
                    if y < 0 || x < 0 || y >= side || x >= side {
                        continue;
                    }
                    for i in 0..shape.inputs {
                        visit(oy * out + ox, (ky * shape.kernel + kx) * shape.inputs + i, (y * side + x) as usize, i);
                    }
                }
            }
        }
    }
}

/// y of one sample; `weight` is [outputs, k k inputs] as stored.
pub fn forward(shape: &ConvShape, weight: &Matrix, bias: Option<&[f64]>, x: &Matrix) -> Matrix {
    let mut y = Matrix::zeros(shape.out_pixels(), shape.outputs);
    if let Some(bias) = bias {
        y = y.plus_row(bias);
    }
    products(shape, |row, column, pixel, i| {
        for o in 0..shape.outputs {
            y.row_mut(row)[o] += weight.row(o)[column] * x.row(pixel)[i];
        }
    });
    y
}

/// Gradients of x, weight and bias.
pub fn backward(shape: &ConvShape, weight: &Matrix, x: &Matrix, grad_y: &Matrix) -> (Matrix, Matrix, Vec<f64>) {
    let (mut grad_x, mut grad_w) = (Matrix::zeros(x.rows, x.columns), Matrix::zeros(weight.rows, weight.columns));
    products(shape, |row, column, pixel, i| {
        for o in 0..shape.outputs {
            let dy = grad_y.row(row)[o];
            grad_x.row_mut(pixel)[i] += weight.row(o)[column] * dy;
            grad_w.row_mut(o)[column] += x.row(pixel)[i] * dy;
        }
    });
    (grad_x, grad_w, grad_y.column_sums())
}
