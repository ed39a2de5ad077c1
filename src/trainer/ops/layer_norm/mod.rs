//! Layer norm over the last dimension: y = (x - mean) / sqrt(var + eps) * gain + bias, with the biased variance.
//!
//! **Shapes** x, y `[rows, width]`, gain, bias `[width]`, mean, rstd `[rows]`; width is `gain.len()`.
//! Backward, with h = (x - mean) rstd and g = dy * gain: dx = rstd (g - mean(g) - h mean(g h)); dgain = sum dy h, dbias = sum dy.

use super::{Into, elementwise};

/// Added to the variance.
///
/// **Source** PyTorch's default, which `open_clip` uses.
pub const EPS: f32 = 1e-5;

/// y, and the statistics that backward needs.
pub fn forward(x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], mean: &mut [f32], rstd: &mut [f32]) {
    check(gain, x, y, mean, rstd);
    let width = gain.len();
    for (r, row) in x.chunks_exact(width).enumerate() {
        let m = row.iter().sum::<f32>() / width as f32;
        let var = row.iter().map(|v| (v - m) * (v - m)).sum::<f32>() / width as f32;
        mean[r] = m;
        rstd[r] = 1.0 / (var + EPS).sqrt();
    }
    recompute(x, gain, bias, mean, rstd, y);
}

/// x += add, then [`forward`] of the sum.
pub fn forward_residual(x: &mut [f32], add: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], mean: &mut [f32], rstd: &mut [f32]) {
    elementwise::add(add, x);
    forward(x, gain, bias, y, mean, rstd);
}

/// y from saved statistics: the same bits as [`forward`].
pub fn recompute(x: &[f32], gain: &[f32], bias: &[f32], mean: &[f32], rstd: &[f32], y: &mut [f32]) {
    check(gain, x, y, mean, rstd);
    let width = gain.len();
    for (r, (row, out)) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).enumerate() {
        for i in 0..width {
            out[i] = (row[i] - mean[r]) * rstd[r] * gain[i] + bias[i];
        }
    }
}

/// Gradients of input, gain and bias; those of gain and bias are added to what is there.
#[expect(clippy::too_many_arguments, reason = "saved values in, three gradients out, all plain slices")]
pub fn backward(
    x: &[f32],
    grad_y: &[f32],
    gain: &[f32],
    mean: &[f32],
    rstd: &[f32],
    grad_x: &mut [f32],
    mode: Into,
    grad_gain: &mut [f32],
    grad_bias: &mut [f32],
) {
    check(gain, x, grad_y, mean, rstd);
    check(gain, x, grad_x, mean, rstd);
    let width = gain.len();
    for r in 0..mean.len() {
        let at = r * width;
        let h = |i: usize| (x[at + i] - mean[r]) * rstd[r];
        let (mut sum, mut sum_h) = (0.0, 0.0);
        for i in 0..width {
            let d = grad_y[at + i];
            grad_gain[i] += d * h(i);
            grad_bias[i] += d;
            sum += d * gain[i];
            sum_h += d * gain[i] * h(i);
        }
        let (sum, sum_h) = (sum / width as f32, sum_h / width as f32);
        for i in 0..width {
            let d = rstd[r] * (grad_y[at + i] * gain[i] - sum - h(i) * sum_h);
            match mode {
                Into::Overwrite => grad_x[at + i] = d,
                Into::Add => grad_x[at + i] += d,
            }
        }
    }
}

fn check(gain: &[f32], x: &[f32], y: &[f32], mean: &[f32], rstd: &[f32]) {
    assert_eq!(x.len(), mean.len() * gain.len(), "rows of a layer norm");
    assert_eq!(x.len(), y.len(), "rows of a layer norm");
    assert_eq!(mean.len(), rstd.len(), "statistics of a layer norm");
}
