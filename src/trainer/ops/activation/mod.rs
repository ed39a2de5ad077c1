//! Activation functions of an MLP, element by element: `gelu` (erf), `gelu_tanh`, `quick_gelu`.
//!
//! gelu: x Phi(x), derivative Phi(x) + x phi(x). gelu_tanh: x s(2 sqrt(2/pi) (x + 0.044715 x^3)). quick_gelu: x s(1.702 x), with s
//! the logistic function.

use crate::run::Activation;

/// y = f(x).
pub fn forward(kind: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of an activation");
    for (y, &x) in y.iter_mut().zip(x) {
        *y = value_and_slope(kind, x).0;
    }
}

/// y = f(x) once more, the same bits as [`forward`], and grad from dL/dy to dL/dx in place.
pub fn backward(kind: Activation, x: &[f32], y: &mut [f32], grad: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of an activation");
    assert_eq!(x.len(), grad.len(), "lengths of an activation");
    for ((y, grad), &x) in y.iter_mut().zip(grad).zip(x) {
        let (value, slope) = value_and_slope(kind, x);
        *y = value;
        *grad *= slope;
    }
}

fn value_and_slope(kind: Activation, x: f32) -> (f32, f32) {
    let logistic = |z: f32| 1.0 / (1.0 + (-z).exp());
    match kind {
        Activation::Gelu => {
            let x = f64::from(x);
            let cdf = 0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
            let pdf = (-0.5 * x * x).exp() * 0.398_942_280_401_432_7;
            ((x * cdf) as f32, (cdf + x * pdf) as f32)
        }
        Activation::GeluTanh => {
            let (a, b) = (1.595_769, 0.071_354_814);
            let s = logistic(x * (a + b * x * x));
            (x * s, s + x * s * (1.0 - s) * (a + 3.0 * b * x * x))
        }
        Activation::QuickGelu => {
            let s = logistic(1.702 * x);
            (x * s, s + 1.702 * x * s * (1.0 - s))
        }
    }
}

/// Error function: the Maclaurin series for small arguments, a continued fraction for the tail.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..60 {
            let n = f64::from(n);
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        return x.signum() * sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let tail = (1..60).rev().fold(0.0, |t, n| f64::from(n) * 0.5 / (a + t));
    x.signum() * (1.0 - (-a * a).exp() / ((a + tail) * std::f64::consts::PI.sqrt()))
}
