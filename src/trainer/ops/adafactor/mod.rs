//! Adafactor as in `big_vision`: second moment factored over the last two dimensions, momentum on the scaled update.
//!
//! With g² + eps of one matrix: row = mean over columns, column = mean over rows, each an exponential average with decay
//! min(beta2_cap, 1 - (t + 1)^-0.8); update = g / sqrt(row column / mean(row)); m = beta1 m + (1 - beta1) update;
//! p = keep p - lr m. Unfactored where a dimension is under 32: update = g / sqrt(v).
//!
//! **Source** `big_vision/optax.py` (`scale_by_adafactor`) and optax's `scale_by_factored_rms`.
//! **Differs** momentum is kept in f32, not bf16; factored dimensions are the last two of the view, not the two largest.

use super::elementwise;

/// A dimension shorter than this is not factored.
pub const MIN_DIM_TO_FACTOR: usize = 32;
/// Added to the squared gradient.
pub const EPS: f32 = 1e-30;
/// Exponent of the decay schedule.
const DECAY_RATE: f64 = 0.8;

/// Constants of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adafactor {
    /// Momentum.
    pub beta1: f32,
    /// Cap on the decay of the second moment.
    pub beta2_cap: f32,
}

/// A parameter as a stack of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactorView {
    /// Product of the leading dimensions.
    pub leading: usize,
    /// Second-to-last dimension.
    pub rows: usize,
    /// Last dimension.
    pub cols: usize,
}

impl FactorView {
    /// Elements of the parameter.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leading * self.rows * self.cols
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the second moment is kept as rows and columns.
    #[must_use]
    pub fn is_factored(&self) -> bool {
        self.rows.min(self.cols) >= MIN_DIM_TO_FACTOR
    }

    /// Floats of the second moment's state: per matrix its rows, then its columns; or one per element.
    #[must_use]
    pub fn second_len(&self) -> usize {
        if self.is_factored() { self.leading * (self.rows + self.cols) } else { self.len() }
    }
}

/// What one step does to one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Steps done before this one.
    pub step: u64,
    /// Learning rate of this step.
    pub lr: f32,
    /// What the parameter is multiplied by first (decoupled weight decay), or 1.
    pub keep: f32,
}

/// One step of one parameter; `grads` is left as scratch (it holds the scaled update afterwards).
///
/// **Shapes** params, grads, momentum `view.len()`; second `view.second_len()`; all state starts at zero.
pub fn update(
    h: &Adafactor,
    u: &Update,
    view: &FactorView,
    params: &mut [f32],
    grads: &mut [f32],
    momentum: &mut [f32],
    second: &mut [f32],
) {
    let len = view.len();
    assert!(params.len() == len && grads.len() == len && momentum.len() == len, "slices of an optimiser step");
    assert_eq!(second.len(), view.second_len(), "second moment of an optimiser step");
    let decay = (1.0 - ((u.step + 1) as f64).powf(-DECAY_RATE)).min(f64::from(h.beta2_cap)) as f32;
    if view.is_factored() {
        let matrix = view.rows * view.cols;
        for (grads, second) in grads.chunks_exact_mut(matrix).zip(second.chunks_exact_mut(view.rows + view.cols)) {
            scale_factored(view, decay, grads, second);
        }
    } else {
        for (g, v) in grads.iter_mut().zip(second) {
            *v = decay * *v + (1.0 - decay) * (*g * *g + EPS);
            *g /= v.sqrt();
        }
    }
    for i in 0..len {
        momentum[i] = h.beta1 * momentum[i] + (1.0 - h.beta1) * grads[i];
        params[i] = u.keep * params[i] - u.lr * momentum[i];
    }
}

fn scale_factored(view: &FactorView, decay: f32, grads: &mut [f32], second: &mut [f32]) {
    let (row_state, col_state) = second.split_at_mut(view.rows);
    elementwise::scale(decay, col_state);
    for (row, state) in grads.chunks_exact(view.cols).zip(row_state.iter_mut()) {
        let mut sum = 0.0;
        for (g, col) in row.iter().zip(col_state.iter_mut()) {
            let square = g * g + EPS;
            sum += square;
            *col += (1.0 - decay) * square / view.rows as f32;
        }
        *state = decay * *state + (1.0 - decay) * sum / view.cols as f32;
    }
    let mean = row_state.iter().sum::<f32>() / view.rows as f32;
    for (row, state) in grads.chunks_exact_mut(view.cols).zip(row_state.iter()) {
        let factor = (state / mean).sqrt().recip();
        for (g, col) in row.iter_mut().zip(col_state.iter()) {
            *g *= factor / col.sqrt();
        }
    }
}
