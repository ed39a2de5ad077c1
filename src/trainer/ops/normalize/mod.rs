//! L2 normalisation of rows: y = x / max(|x|, eps).
//!
//! **Shapes** x, y `[rows, width]`, norm `[rows]`. Backward: dx = (dy - y (y . dy)) / norm; where |x| < eps, dx = dy / eps.

mod cpu;
pub mod cuda;

/// Floor of the norm.
///
/// **Source** `torch.nn.functional.normalize`.
pub const EPS: f32 = 1e-12;

/// y, and the floored norms that backward needs.
pub fn forward(width: usize, x: &[f32], y: &mut [f32], norm: &mut [f32]) {
    check(width, x, y, norm);
    cpu::forward(width, x, y, norm);
}

/// grad_x from the normalised rows and the norms.
pub fn backward(width: usize, y: &[f32], norm: &[f32], grad_y: &[f32], grad_x: &mut [f32]) {
    check(width, y, grad_y, norm);
    check(width, y, grad_x, norm);
    cpu::backward(width, y, norm, grad_y, grad_x);
}

fn check(width: usize, x: &[f32], y: &[f32], norm: &[f32]) {
    assert!(width > 0, "rows of nothing");
    assert_eq!(x.len(), norm.len() * width, "rows to normalise");
    assert_eq!(x.len(), y.len(), "rows to normalise");
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{DIFFERENCE, SUM, assert_close, differences, random, widen};
    use super::*;

    fn reference(x: &[f64], width: usize) -> Vec<f64> {
        let rows = x.chunks_exact(width).flat_map(|row| {
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::from(EPS));
            row.iter().map(move |v| v / norm)
        });
        rows.collect()
    }

    #[test]
    fn rows_have_unit_length_and_gradients_are_slopes() {
        for (rows, width) in [(1, 1), (2, 5), (3, 16), (2, 50), (4, 64)] {
            let (x, dy) = (random(1, rows * width), random(2, rows * width));
            let expected = reference(&widen(&x), width);
            let upstream = widen(&dy);
            let loss = |x: &[f64]| reference(x, width).iter().zip(&upstream).map(|(y, d)| y * d).sum();
            let slopes = differences(&widen(&x), loss);
            on_every_path(|path| {
                let (mut y, mut norm, mut dx) = (vec![0.0; x.len()], vec![0.0; rows], vec![f32::NAN; x.len()]);
                forward(width, &x, &mut y, &mut norm);
                assert_close(&format!("{path} {rows}x{width}"), &y, &expected, SUM);
                backward(width, &y, &norm, &dy, &mut dx);
                assert_close(&format!("{path} {rows}x{width} gradient"), &dx, &slopes, DIFFERENCE);
            });
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero_and_passes_the_gradient_over_eps() {
        on_every_path(|path| {
            let (mut y, mut norm, mut dx) = ([1.0; 3], [0.0], [0.0; 3]);
            forward(3, &[0.0; 3], &mut y, &mut norm);
            backward(3, &y, &norm, &[1e-12, 0.0, -2e-12], &mut dx);
            assert_eq!((y, norm), ([0.0; 3], [EPS]), "{path}");
            assert_eq!(dx, [1.0, 0.0, -2.0], "{path}");
        });
    }
}
