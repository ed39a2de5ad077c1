//! Adafactor as in `big_vision`: second moment factored over the last two dimensions, momentum on the scaled update.
//!
//! With g² + eps of one matrix: row = mean over columns, column = mean over rows, each an exponential average with decay
//! min(beta2_cap, 1 - (t + 1)^-0.8); update = g / sqrt(row column / mean(row)); m = beta1 m + (1 - beta1) update;
//! p = keep p - lr m. Unfactored where a dimension is under 32: update = g / sqrt(v).
//!
//! **Source** `big_vision/optax.py` (`scale_by_adafactor`) and optax's `scale_by_factored_rms`.
//! **Differs** momentum is kept in f32, not bf16; factored dimensions are the last two of the view, not the two largest.

mod cpu;
pub mod cuda;
pub mod reference;

pub use super::factor_view::{FactorView, MIN_DIM_TO_FACTOR};

use super::Scratch;
use cpu::{Factors, Matrix};

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

impl Adafactor {
    /// Constants as a config states them; computed with in f32.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "constants are used in f32")]
    pub fn new(beta1: f64, beta2_cap: f64) -> Self {
        Self { beta1: beta1 as f32, beta2_cap: beta2_cap as f32 }
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

/// A parameter and its state, all cut to its view.
#[derive(Debug)]
pub struct Slices<'a> {
    /// The parameter, `view.len()`.
    pub params: &'a mut [f32],
    /// Its gradient, as long.
    pub grads: &'a [f32],
    /// Its momentum, as long; zero before the first step.
    pub momentum: &'a mut [f32],
    /// Its second moment, `view.second_len()`; zero before the first step.
    pub second: &'a mut [f32],
}

/// One step of one parameter.
pub fn update(h: &Adafactor, u: &Update, view: &FactorView, slices: Slices, s: &mut Scratch) {
    let Slices { params, grads, momentum, second } = slices;
    let len = view.len();
    assert!(params.len() == len && grads.len() == len && momentum.len() == len, "slices of an optimiser step");
    assert_eq!(second.len(), view.second_len(), "second moment of an optimiser step");
    let f = Factors { decay: decay(h, u.step), beta1: h.beta1, lr: u.lr, keep: u.keep };
    if !view.is_factored() {
        cpu::apply_unfactored(f, Matrix { params, grads, momentum }, second);
        return;
    }
    let matrix = view.rows * view.cols;
    let matrices = params.chunks_exact_mut(matrix).zip(grads.chunks_exact(matrix)).zip(momentum.chunks_exact_mut(matrix));
    for (((params, grads), momentum), second) in matrices.zip(second.chunks_exact_mut(view.rows + view.cols)) {
        let (rows, cols) = second.split_at_mut(view.rows);
        cpu::moments(f.decay, grads, rows, cols);
        let [row_factors, col_factors] = s.floats([view.rows, view.cols]);
        let mean = rows.iter().sum::<f32>() / view.rows as f32;
        for (factor, row) in row_factors.iter_mut().zip(rows) {
            *factor = 1.0 / (*row / mean).sqrt();
        }
        for (factor, col) in col_factors.iter_mut().zip(cols) {
            *factor = 1.0 / col.sqrt();
        }
        cpu::apply_factored(f, Matrix { params, grads, momentum }, row_factors, col_factors);
    }
}

/// Decay of the second moment at a step: 0 at the first, then towards the cap.
#[must_use]
pub fn decay(h: &Adafactor, step: u64) -> f32 {
    (1.0 - ((step + 1) as f64).powf(-DECAY_RATE)).min(f64::from(h.beta2_cap)) as f32
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{CHAIN, assert_close, random, widen};
    use super::*;

    /// One matrix, factored, in f64 and as the formula of the module says.
    struct Reference {
        rows: Vec<f64>,
        cols: Vec<f64>,
        momentum: Vec<f64>,
        params: Vec<f64>,
    }

    impl Reference {
        fn step(&mut self, t: u64, g: &[f64]) {
            let (height, width) = (self.rows.len(), self.cols.len());
            let decay = (1.0 - ((t + 1) as f64).powf(-0.8)).min(0.999);
            let square = |i: usize, j: usize| g[i * width + j].powi(2) + 1e-30;
            for i in 0..height {
                let mean = (0..width).map(|j| square(i, j)).sum::<f64>() / width as f64;
                self.rows[i] = decay * self.rows[i] + (1.0 - decay) * mean;
            }
            for j in 0..width {
                let mean = (0..height).map(|i| square(i, j)).sum::<f64>() / height as f64;
                self.cols[j] = decay * self.cols[j] + (1.0 - decay) * mean;
            }
            let mean = self.rows.iter().sum::<f64>() / height as f64;
            for i in 0..height {
                for j in 0..width {
                    let at = i * width + j;
                    let scaled = g[at] / (self.rows[i] * self.cols[j] / mean).sqrt();
                    self.momentum[at] = 0.9 * self.momentum[at] + 0.1 * scaled;
                    self.params[at] = 0.999 * self.params[at] - 0.01 * self.momentum[at];
                }
            }
        }
    }

    const H: Adafactor = Adafactor { beta1: 0.9, beta2_cap: 0.999 };

    #[test]
    fn factored_steps_of_a_stack_agree_with_f64_loops_matrix_by_matrix() {
        let view = FactorView { leading: 2, rows: 33, cols: 50 };
        let (len, matrix) = (view.len(), 33 * 50);
        let mut s = Scratch::new();
        on_every_path(|path| {
            let (mut params, mut momentum, mut second) = (random(1, len), vec![0.0; len], vec![0.0; view.second_len()]);
            let mut references: Vec<Reference> = (0..2)
                .map(|i| Reference {
                    rows: vec![0.0; 33],
                    cols: vec![0.0; 50],
                    momentum: vec![0.0; matrix],
                    params: widen(&params[i * matrix..][..matrix]),
                })
                .collect();
            for step in 0..5 {
                let grads: Vec<f32> = random(20 + step, len).iter().map(|g| g * 1e-3).collect();
                let u = Update { step, lr: 0.01, keep: 0.999 };
                let slices = Slices { params: &mut params, grads: &grads, momentum: &mut momentum, second: &mut second };
                update(&H, &u, &view, slices, &mut s);
                for (reference, g) in references.iter_mut().zip(grads.chunks_exact(matrix)) {
                    reference.step(step, &widen(g));
                }
            }
            for (i, reference) in references.iter().enumerate() {
                assert_close(path, &params[i * matrix..][..matrix], &reference.params, CHAIN);
                assert_close(path, &momentum[i * matrix..][..matrix], &reference.momentum, CHAIN);
            }
        });
    }

    #[test]
    fn a_short_dimension_is_not_factored_and_the_first_step_is_the_sign_of_the_gradient() {
        let view = FactorView { leading: 1, rows: 31, cols: 3 };
        assert_eq!(view.second_len(), 93);
        assert!(FactorView { leading: 4, rows: 32, cols: 32 }.is_factored());
        on_every_path(|path| {
            let (mut params, mut momentum, mut second) = (vec![0.0; 93], vec![0.0; 93], vec![0.0; 93]);
            let grads = random(3, 93);
            let slices = Slices { params: &mut params, grads: &grads, momentum: &mut momentum, second: &mut second };
            update(&H, &Update { step: 0, lr: 1.0, keep: 1.0 }, &view, slices, &mut Scratch::new());
            let expected: Vec<f64> = grads.iter().map(|g| -0.1 * f64::from(g.signum())).collect();
            assert_close(path, &params, &expected, CHAIN);
        });
    }

    #[test]
    fn a_gradient_of_zeros_moves_nothing() {
        let view = FactorView { leading: 1, rows: 32, cols: 32 };
        let (mut params, mut momentum, mut second) = (vec![1.0; 1024], vec![0.0; 1024], vec![0.0; 64]);
        let slices = Slices { params: &mut params, grads: &[0.0; 1024], momentum: &mut momentum, second: &mut second };
        update(&H, &Update { step: 0, lr: 1.0, keep: 1.0 }, &view, slices, &mut Scratch::new());
        assert!(params.iter().all(|&p| p == 1.0) && second.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn the_decay_starts_at_zero_and_ends_at_the_cap() {
        assert_eq!(decay(&H, 0), 0.0);
        assert!((decay(&H, 1) - 0.425_65).abs() < 1e-4);
        assert_eq!(decay(&H, 1_000_000), 0.999);
    }
}
