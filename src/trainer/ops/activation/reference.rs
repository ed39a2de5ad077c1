//! Activation functions and their derivatives, in closed form.
//!
//! **Source** gelu and its tanh form: Hendrycks & Gimpel 2016; `quick_gelu`: OpenAI's CLIP.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

use crate::Activation;

/// f(x).
pub fn value(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x * FRAC_1_SQRT_2)),
        Activation::GeluTanh => 0.5 * x * (1.0 + tanh_argument(x).tanh()),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    }
}

/// f'(x).
pub fn slope(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::Gelu => 0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2)) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
        Activation::GeluTanh => {
            let tanh = tanh_argument(x).tanh();
            let inner = FRAC_2_PI.sqrt() * (1.0 + 3.0 * 0.044_715 * x * x);
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
        }
        Activation::QuickGelu => {
            let share = 1.0 / (1.0 + (-1.702 * x).exp());
            share + 1.702 * x * share * (1.0 - share)
        }
    }
}

/// sqrt(2 / pi) (x + 0.044715 x³).
fn tanh_argument(x: f64) -> f64 {
    FRAC_2_PI.sqrt() * (x + 0.044_715 * x.powi(3))
}
