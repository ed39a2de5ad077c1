//! Activation functions of an MLP, element by element: `gelu` (erf), `gelu_tanh`, `quick_gelu`.
//!
//! gelu: x Phi(x), derivative Phi(x) + x phi(x). gelu_tanh: x s(2 sqrt(2/pi) (x + 0.044715 x^3)). quick_gelu: x s(1.702 x), with s
//! the logistic function.

mod cpu;
pub mod cuda;
pub mod reference;

use crate::Activation;

/// y = f(x).
pub fn forward(kind: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of an activation");
    cpu::forward(kind, x, y);
}

/// y = f(x) once more, the same bits as [`forward`], and grad from dL/dy to dL/dx in place.
pub fn backward(kind: Activation, x: &[f32], y: &mut [f32], grad: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of an activation");
    assert_eq!(x.len(), grad.len(), "lengths of an activation");
    cpu::backward(kind, x, y, grad);
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{DIFFERENCE, FUNCTION, assert_close, differences, random, widen};
    use super::*;

    const KINDS: [Activation; 3] = [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu];

    /// Phi by the Maclaurin series of the error function, which is exact enough for |x| < 7.
    fn normal(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= x * x / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    fn reference(kind: Activation, x: f64) -> f64 {
        match kind {
            Activation::Gelu => x * normal(x),
            Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
            Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        }
    }

    #[test]
    fn values_and_slopes_agree_with_f64_for_lengths_that_are_no_whole_vectors() {
        for kind in KINDS {
            for len in [1, 15, 16, 37, 1000] {
                let x: Vec<f32> = random(len as u64, len).iter().map(|v| v * 6.0).collect();
                let upstream = random(9, len);
                let expected: Vec<f64> = widen(&x).into_iter().map(|x| reference(kind, x)).collect();
                let slopes: Vec<f64> = widen(&x).iter().map(|&x| differences(&[x], |x| reference(kind, x[0]))[0]).collect();
                let expected_grad: Vec<f64> = slopes.iter().zip(&upstream).map(|(s, &u)| s * f64::from(u)).collect();
                on_every_path(|path| {
                    let (mut y, mut again, mut grad) = (vec![0.0; len], vec![0.0; len], upstream.clone());
                    forward(kind, &x, &mut y);
                    backward(kind, &x, &mut again, &mut grad);
                    assert_close(&format!("{kind:?} {path}"), &y, &expected, FUNCTION);
                    assert_close(&format!("{kind:?} {path} gradient"), &grad, &expected_grad, DIFFERENCE);
                    assert!(y == again, "{kind:?} {path}: recomputed values differ");
                });
            }
        }
    }

    #[test]
    fn far_arguments_are_the_identity_and_zero() {
        for kind in KINDS {
            on_every_path(|path| {
                let (mut y, mut grad) = ([0.0; 3], [1.0; 3]);
                backward(kind, &[60.0, -60.0, f32::NAN], &mut y, &mut grad);
                assert_eq!((y[0], grad[0]), (60.0, 1.0), "{kind:?} {path}");
                assert!(y[1].abs() < 1e-30 && grad[1].abs() < 1e-30, "{kind:?} {path}");
                assert!(y[2].is_nan() && grad[2].is_nan(), "{kind:?} {path}: NaN must not vanish");
            });
        }
    }
}
