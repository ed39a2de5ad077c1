//! AdamW on one parameter: algorithm 2 of Loshchilov & Hutter 2019, with the decay scaled by the learning rate as PyTorch
//! does.
//!
//! m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p = p - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p), t from 1.

/// Constants of one step.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Decay of the first moment (b1).
    pub beta1: f64,
    /// Decay of the second moment (b2).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Learning rate.
    pub lr: f64,
    /// What a rate of 1 would take away.
    pub decay: f64,
}

impl AdamW {
    /// One step on a parameter; `step` counts from 0.
    pub fn update(&self, step: u64, p: &mut [f64], g: &[f64], m: &mut [f64], v: &mut [f64]) {
        let t = (step + 1) as f64;
        for i in 0..p.len() {
            m[i] = self.beta1 * m[i] + (1.0 - self.beta1) * g[i];
            v[i] = self.beta2 * v[i] + (1.0 - self.beta2) * g[i] * g[i];
            let unbiased_m = m[i] / (1.0 - self.beta1.powf(t));
            let unbiased_v = v[i] / (1.0 - self.beta2.powf(t));
            p[i] -= self.lr * (unbiased_m / (unbiased_v.sqrt() + self.eps) + self.decay * p[i]);
        }
    }
}
