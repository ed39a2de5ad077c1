//! The greatest of each window by its definition.

use super::MaxPoolShape;
use crate::reference::Matrix;

/// For each element of the output, its value and the pixel that it comes from: the first of the window's greatest.
fn greatest(shape: &MaxPoolShape, x: &Matrix) -> Vec<(f64, usize)> {
    let (side, out) = (shape.side as isize, shape.out_side());
    let mut found = Vec::new();
    for pixel in 0..out * out {
        let corner = |place: usize| (place * shape.stride) as isize - shape.padding as isize;
        let (top, left) = (corner(pixel / out), corner(pixel % out));
        for c in 0..shape.channels {
            let mut best = (f64::NEG_INFINITY, 0);
            for y in top.max(0)..(top + shape.kernel as isize).min(side) {
                for x_at in left.max(0)..(left + shape.kernel as isize).min(side) {
                    let from = (y * side + x_at) as usize;
                    if x.row(from)[c] > best.0 {
                        best = (x.row(from)[c], from);
                    }
                }
            }
            found.push(best);
        }
    }
    found
}

/// y of one sample.
pub fn max_forward(shape: &MaxPoolShape, x: &Matrix) -> Matrix {
    Matrix::from_rows(shape.channels, greatest(shape, x).into_iter().map(|(value, _)| value).collect())
}

/// Gradient of x.
pub fn max_backward(shape: &MaxPoolShape, x: &Matrix, grad_y: &Matrix) -> Matrix {
    let mut grad_x = Matrix::zeros(x.rows, x.columns);
    for (i, (_, from)) in greatest(shape, x).into_iter().enumerate() {
        grad_x.row_mut(from)[i % shape.channels] += grad_y.values[i];
    }
    grad_x
}
