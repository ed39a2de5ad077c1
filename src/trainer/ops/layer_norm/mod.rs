//! Layer norm over the last dimension: y = (x - mean) / sqrt(var + eps) * gain + bias, with the biased variance.
//!
//! **Shapes** x, y `[rows, width]`, gain, bias `[width]`, mean, rstd `[rows]`; width is `gain.len()`.
//! Backward, with h = (x - mean) rstd and g = dy * gain: dx = rstd (g - mean(g) - h mean(g h)); dgain = sum dy h, dbias = sum dy.

mod cpu;
pub mod cuda;
pub mod reference;

use super::Accumulation;
use cpu::{Affine, Saved, Statistics};

/// Added to the variance where a model names nothing else.
///
/// **Source** PyTorch's default, which `open_clip` uses.
pub const EPS: f32 = 1e-5;

/// y, and the statistics that backward needs; [`EPS`] is added to the variance.
pub fn forward(x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], mean: &mut [f32], rstd: &mut [f32]) {
    forward_with(EPS, x, gain, bias, y, mean, rstd);
}

/// As [`forward`], with an `eps` of the model. Backward and [`recompute`] need none: they read the statistics.
pub fn forward_with(eps: f32, x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], mean: &mut [f32], rstd: &mut [f32]) {
    check(gain, x, y, mean, rstd);
    check_bias(gain, bias);
    cpu::forward(eps, x, Affine { gain, bias }, y, Statistics { mean, rstd });
}

/// x += add, then [`forward`] of the sum.
pub fn forward_residual(x: &mut [f32], add: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], mean: &mut [f32], rstd: &mut [f32]) {
    forward_residual_with(EPS, x, add, gain, bias, y, mean, rstd);
}

/// As [`forward_residual`], with an `eps` of the model.
#[expect(clippy::too_many_arguments, reason = "rows in, rows and statistics out, all plain slices")]
pub fn forward_residual_with(
    eps: f32,
    x: &mut [f32],
    add: &[f32],
    gain: &[f32],
    bias: &[f32],
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    check(gain, x, y, mean, rstd);
    check_bias(gain, bias);
    assert_eq!(x.len(), add.len(), "rows of a layer norm");
    cpu::forward_residual(eps, x, add, Affine { gain, bias }, y, Statistics { mean, rstd });
}

/// y from saved statistics: the same bits as [`forward`].
pub fn recompute(x: &[f32], gain: &[f32], bias: &[f32], mean: &[f32], rstd: &[f32], y: &mut [f32]) {
    check(gain, x, y, mean, rstd);
    check_bias(gain, bias);
    cpu::recompute(x, Affine { gain, bias }, mean, rstd, y);
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
    mode: Accumulation,
    grad_gain: &mut [f32],
    grad_bias: &mut [f32],
) {
    check(gain, x, grad_y, mean, rstd);
    check(gain, x, grad_x, mean, rstd);
    check_bias(gain, grad_gain);
    check_bias(gain, grad_bias);
    cpu::backward(Saved { x, gain, mean, rstd }, grad_y, grad_x, mode, grad_gain, grad_bias);
}

fn check(gain: &[f32], x: &[f32], y: &[f32], mean: &[f32], rstd: &[f32]) {
    assert_eq!(x.len(), mean.len() * gain.len(), "rows of a layer norm");
    assert_eq!(x.len(), y.len(), "rows of a layer norm");
    assert_eq!(mean.len(), rstd.len(), "statistics of a layer norm");
}

fn check_bias(gain: &[f32], bias: &[f32]) {
    assert!(!gain.is_empty() && gain.len() == bias.len(), "gain and bias of a layer norm");
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{DIFFERENCE, SUM, assert_close, differences, random, widen};
    use super::*;

    fn reference(x: &[f64], gain: &[f64], bias: &[f64]) -> Vec<f64> {
        let width = gain.len();
        let rows = x.chunks_exact(width).flat_map(|row| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            let rstd = 1.0 / (var + f64::from(EPS)).sqrt();
            (0..width).map(move |i| (row[i] - mean) * rstd * gain[i] + bias[i])
        });
        rows.collect()
    }

    /// dx, dgain, dbias in f64 by the formula of the module.
    fn reference_gradients(x: &[f64], gain: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let width = gain.len();
        let n = width as f64;
        let (mut dx, mut dgain, mut dbias) = (vec![], vec![0.0; width], vec![0.0; width]);
        for (row, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let h = reference(row, &vec![1.0; width], &vec![0.0; width]);
            let mean = row.iter().sum::<f64>() / n;
            let rstd = 1.0 / (row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + f64::from(EPS)).sqrt();
            let g: Vec<f64> = dy.iter().zip(gain).map(|(d, g)| d * g).collect();
            let (sum, sum_h) = (g.iter().sum::<f64>() / n, g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>() / n);
            for i in 0..width {
                dx.push(rstd * (g[i] - sum - h[i] * sum_h));
                dgain[i] += dy[i] * h[i];
                dbias[i] += dy[i];
            }
        }
        [dx, dgain, dbias]
    }

    const SHAPES: [(usize, usize); 7] = [(1, 3), (3, 5), (4, 16), (7, 48), (5, 50), (6, 96), (9, 192)];

    #[test]
    fn rows_and_gradients_agree_with_f64_loops() {
        for (rows, width) in SHAPES {
            let x: Vec<f32> = random(1, rows * width).iter().map(|v| v * 3.0 + 0.5).collect();
            let (gain, bias, dy) = (random(2, width), random(3, width), random(4, rows * width));
            let expected = reference(&widen(&x), &widen(&gain), &widen(&bias));
            let [dx, dgain, dbias] = reference_gradients(&widen(&x), &widen(&gain), &widen(&dy));
            on_every_path(|path| {
                let what = |name| format!("{name}, {path}, {rows} x {width}");
                let (mut y, mut mean, mut rstd) = (vec![f32::NAN; x.len()], vec![0.0; rows], vec![0.0; rows]);
                forward(&x, &gain, &bias, &mut y, &mut mean, &mut rstd);
                assert_close(&what("y"), &y, &expected, SUM);
                let mut again = vec![f32::NAN; x.len()];
                recompute(&x, &gain, &bias, &mean, &rstd, &mut again);
                assert!(y == again, "{}", what("recomputed y differs"));

                let (mut found_dx, mut found_gain, mut found_bias) = (vec![f32::NAN; x.len()], vec![0.0; width], vec![0.0; width]);
                for (mode, times) in [(Accumulation::Overwrite, 1.0), (Accumulation::Add, 2.0)] {
                    backward(&x, &dy, &gain, &mean, &rstd, &mut found_dx, mode, &mut found_gain, &mut found_bias);
                    let scaled = |v: &[f64]| v.iter().map(|v| v * times).collect::<Vec<_>>();
                    assert_close(&what("dx"), &found_dx, &scaled(&dx), SUM);
                    assert_close(&what("dgain"), &found_gain, &scaled(&dgain), SUM);
                    assert_close(&what("dbias"), &found_bias, &scaled(&dbias), SUM);
                }
            });
        }
    }

    #[test]
    fn an_eps_of_the_model_takes_the_place_of_the_usual_one() {
        let (x, gain, bias) = (random(1, 30).iter().map(|v| v * 1e-3).collect::<Vec<_>>(), [1.0; 10], [0.0; 10]);
        let reference = |eps: f64| {
            let rows = crate::reference::Matrix::from_rows(10, widen(&x));
            super::reference::forward_with(eps, &rows, &widen(&gain), &widen(&bias)).values
        };
        on_every_path(|path| {
            for eps in [1e-5f32, 1e-6] {
                let (mut y, mut mean, mut rstd) = (vec![f32::NAN; 30], [0.0; 3], [0.0; 3]);
                forward_with(eps, &x, &gain, &bias, &mut y, &mut mean, &mut rstd);
                assert_close(&format!("{path} {eps}"), &y, &reference(f64::from(eps)), SUM);
            }
        });
        assert!((reference(1e-6)[0] / reference(1e-5)[0]).abs() > 1.5);
    }

    #[test]
    fn the_residual_is_added_to_the_input_before_the_norm() {
        let (x, add, gain, bias) = (random(1, 3 * 50), random(2, 3 * 50), random(3, 50), random(4, 50));
        on_every_path(|path| {
            let sums: Vec<f32> = x.iter().zip(&add).map(|(x, a)| x + a).collect();
            let mut expected = [vec![0.0; 150], vec![0.0; 3], vec![0.0; 3]];
            let [y, mean, rstd] = &mut expected;
            forward(&sums, &gain, &bias, y, mean, rstd);
            let mut found = [vec![0.0; 150], vec![0.0; 3], vec![0.0; 3]];
            let (mut x, [y, mean, rstd]) = (x.clone(), &mut found);
            forward_residual(&mut x, &add, &gain, &bias, y, mean, rstd);
            assert!(x == sums && found == expected, "{path}");
        });
    }

    #[test]
    fn the_reference_gradient_is_the_slope_of_the_reference() {
        let (x, gain, dy) = (widen(&random(1, 10)), widen(&random(2, 5)), widen(&random(3, 10)));
        let loss = |x: &[f64]| reference(x, &gain, &[0.0; 5]).iter().zip(&dy).map(|(y, d)| y * d).sum();
        let found: Vec<f32> = reference_gradients(&x, &gain, &dy)[0].iter().map(|&v| v as f32).collect();
        assert_close("dx", &found, &differences(&x, loss), DIFFERENCE);
    }
}
