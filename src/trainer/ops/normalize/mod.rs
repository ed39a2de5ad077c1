//! L2 normalisation of rows: y = x / max(|x|, eps).
//!
//! **Shapes** x, y `[rows, width]`, norm `[rows]`. Backward: dx = (dy - y (y . dy)) / norm; where |x| < eps, dx = dy / eps.

/// Floor of the norm.
///
/// **Source** `torch.nn.functional.normalize`.
pub const EPS: f32 = 1e-12;

/// y, and the floored norms that backward needs.
pub fn forward(width: usize, x: &[f32], y: &mut [f32], norm: &mut [f32]) {
    check(width, x, y, norm);
    for ((x, y), norm) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(norm) {
        let squares: f32 = x.iter().map(|v| v * v).sum();
        *norm = squares.sqrt().max(EPS);
        for (y, x) in y.iter_mut().zip(x) {
            *y = x / *norm;
        }
    }
}

/// grad_x from the normalised rows and the norms.
pub fn backward(width: usize, y: &[f32], norm: &[f32], grad_y: &[f32], grad_x: &mut [f32]) {
    check(width, y, grad_y, norm);
    check(width, y, grad_x, norm);
    for (r, &norm) in norm.iter().enumerate() {
        let at = r * width..(r + 1) * width;
        let (y, dy) = (&y[at.clone()], &grad_y[at.clone()]);
        let along: f32 = if norm > EPS { y.iter().zip(dy).map(|(y, d)| y * d).sum() } else { 0.0 };
        for (i, dx) in grad_x[at].iter_mut().enumerate() {
            *dx = (dy[i] - y[i] * along) / norm;
        }
    }
}

fn check(width: usize, x: &[f32], y: &[f32], norm: &[f32]) {
    assert!(width > 0, "rows of nothing");
    assert_eq!(x.len(), norm.len() * width, "rows to normalise");
    assert_eq!(x.len(), y.len(), "rows to normalise");
}
