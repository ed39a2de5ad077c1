//! AdamW (Loshchilov & Hutter 2019) over one slice of the flat parameters; weight decay is a factor of the caller.
//!
//! m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p = keep p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

mod cpu;
pub mod cuda;
pub mod reference;

/// Constants of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

impl AdamW {
    /// Constants as a config states them; computed with in f32.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "constants are used in f32")]
    pub fn new(beta1: f64, beta2: f64, eps: f64) -> Self {
        Self { beta1: beta1 as f32, beta2: beta2 as f32, eps: eps as f32 }
    }
}

/// What one step does to one slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Steps done before this one.
    pub step: u64,
    /// Learning rate of this step.
    pub lr: f32,
    /// What the parameter is multiplied by first (`TrainConfig::decay_factor`), or 1 where there is no decay.
    pub keep: f32,
}

/// One step of one slice: element by element, so any cut of the flat buffers gives the same bits.
pub fn update(h: &AdamW, u: &Update, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    let len = params.len();
    assert!(grads.len() == len && m.len() == len && v.len() == len, "slices of an optimiser step");
    cpu::update(*h, cpu::Factors { unbias: unbias(h, u.step), lr: u.lr, keep: u.keep }, params, grads, m, v);
}

/// Corrections of both moments after `step` steps and this one: 1 / (1 - beta^(step + 1)).
#[must_use]
pub fn unbias(h: &AdamW, step: u64) -> [f32; 2] {
    let t = i32::try_from(step + 1).unwrap_or(i32::MAX);
    [h.beta1, h.beta2].map(|beta| (1.0 / (1.0 - f64::from(beta).powi(t))) as f32)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{ROUNDED, SUM, Tolerance, assert_close, random, widen};
    use super::*;

    #[test]
    fn ten_steps_agree_with_f64_loops() {
        let (h, len) = (AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8 }, 37);
        let (b1, b2) = (f64::from(h.beta1), f64::from(h.beta2));
        let start = random(1, len);
        on_every_path(|path| {
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; len], vec![0.0; len]);
            let (mut p64, mut m64, mut v64) = (widen(&start), vec![0.0; len], vec![0.0; len]);
            for step in 0..10 {
                let g = random(50 + step, len);
                let u = Update { step, lr: 0.01, keep: 0.999 };
                update(&h, &u, &mut p, &g, &mut m, &mut v);
                let t = i32::try_from(step).unwrap() + 1;
                for i in 0..len {
                    let g = f64::from(g[i]);
                    m64[i] = b1 * m64[i] + (1.0 - b1) * g;
                    v64[i] = b2 * v64[i] + (1.0 - b2) * g * g;
                    let (mean, square) = (m64[i] / (1.0 - b1.powi(t)), v64[i] / (1.0 - b2.powi(t)));
                    p64[i] = f64::from(u.keep) * p64[i] - f64::from(u.lr) * mean / (square.sqrt() + 1e-8);
                }
            }
            assert_close(&format!("m, {path}"), &m, &m64, SUM);
            // 1 - beta2 is rounded once: 4e-7 of it where beta2 is 0.95.
            assert_close(&format!("v, {path}"), &v, &v64, Tolerance { atol: 1e-6, ..ROUNDED });
            assert_close(&format!("p, {path}"), &p, &p64, SUM);
        });
    }

    #[test]
    fn any_cut_of_the_buffers_gives_the_same_bits() {
        let h = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
        let u = Update { step: 3, lr: 0.1, keep: 1.0 };
        on_every_path(|path| {
            let g = random(3, 100);
            let (mut whole, mut cut) =
                ([random(1, 100), random(2, 100), vec![0.5; 100]], [random(1, 100), random(2, 100), vec![0.5; 100]]);
            let [p, m, v] = &mut whole;
            update(&h, &u, p, &g, m, v);
            let [p, m, v] = &mut cut;
            for at in [0..3, 3..50, 50..100] {
                update(&h, &u, &mut p[at.clone()], &g[at.clone()], &mut m[at.clone()], &mut v[at]);
            }
            assert!(whole == cut, "{path}");
        });
    }
}
