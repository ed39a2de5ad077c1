//! AdamW (Loshchilov & Hutter 2019) over one slice of the flat parameters; weight decay is a factor of the caller.
//!
//! m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p = keep p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

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

/// What one step does to one slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Steps done before this one.
    pub step: u64,
    /// Learning rate of this step.
    pub lr: f32,
    /// What the parameter is multiplied by first: 1 - lr * weight_decay, or 1 where there is no decay.
    pub keep: f32,
}

/// One step of one slice: element by element, so any cut of the flat buffers gives the same bits.
pub fn update(h: &AdamW, u: &Update, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    let len = params.len();
    assert!(grads.len() == len && m.len() == len && v.len() == len, "slices of an optimiser step");
    let t = i32::try_from(u.step + 1).unwrap_or(i32::MAX);
    let first = (1.0 / (1.0 - f64::from(h.beta1).powi(t))) as f32;
    let second = (1.0 / (1.0 - f64::from(h.beta2).powi(t))) as f32;
    for i in 0..len {
        let g = grads[i];
        m[i] = h.beta1 * m[i] + (1.0 - h.beta1) * g;
        v[i] = h.beta2 * v[i] + (1.0 - h.beta2) * (g * g);
        let step = m[i] * first / ((v[i] * second).sqrt() + h.eps);
        params[i] = u.keep * params[i] - u.lr * step;
    }
}
