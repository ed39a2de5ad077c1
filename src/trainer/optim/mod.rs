//! Optimisers over the flat parameter buffer, the global norm and its clipping, the learning-rate schedule.
//!
//! Input: flat parameters and gradients with the program's views. Invariant: every view is updated on its own, so the result
//! does not depend on how views are spread over threads.

use rayon::prelude::*;

use super::TrainerError;
use super::ops::{Scratch, adafactor, adamw, elementwise};
use super::program::{ParamView, Program};
use crate::run::{OptimizerConfig, TrainConfig};

/// Learning rate of a step: linear warm-up (step + 1) / warmup, then a cosine to zero at the last step.
///
/// **Source** `open_clip` (`cosine_lr`) and `big_vision`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "step counts below 2^53")]
pub fn learning_rate(train: &TrainConfig, step: u64) -> f64 {
    if step < train.warmup_steps {
        return train.lr * (step + 1) as f64 / train.warmup_steps as f64;
    }
    let span = train.steps.saturating_sub(train.warmup_steps).max(1) as f64;
    let done = (step - train.warmup_steps) as f64 / span;
    train.lr * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
}

/// An optimiser with its state.
pub struct Optimizer {
    views: Vec<ParamView>,
    train: TrainConfig,
    /// Momentum or first moment, flat.
    first: Vec<f32>,
    /// Second moment, each view's state one after another.
    second: Vec<f32>,
    second_lens: Vec<usize>,
}

impl Optimizer {
    /// A fresh optimiser.
    #[must_use]
    pub fn new(program: &Program, train: &TrainConfig) -> Self {
        let second_lens: Vec<usize> = match train.optimizer {
            OptimizerConfig::Adafactor { .. } => program.params.iter().map(|view| factor_view(view).second_len()).collect(),
            OptimizerConfig::Adamw { .. } => program.params.iter().map(ParamView::len).collect(),
        };
        Self {
            views: program.params.clone(),
            train: train.clone(),
            first: vec![0.0; program.num_params()],
            second: vec![0.0; second_lens.iter().sum()],
            second_lens,
        }
    }

    /// One step on the current thread pool; returns the global gradient norm before clipping. `gradient` is used up. Where the
    /// norm is not finite nothing is changed.
    pub fn update(&mut self, step: u64, lr: f64, parameters: &mut [f32], gradient: &mut [f32]) -> f64 {
        let norm = self.global_norm(gradient);
        if !norm.is_finite() {
            return norm;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a factor on f32 gradients")]
        let clip = self.train.grad_clip_norm.filter(|limit| norm > *limit).map(|limit| (limit / norm) as f32);
        #[expect(clippy::cast_possible_truncation, reason = "a factor on f32 parameters")]
        let (config, decayed) = (self.train.optimizer, self.train.decay_factor(lr) as f32);
        let mut jobs = Vec::with_capacity(self.views.len());
        let (mut parameters, mut gradient) = (parameters, gradient);
        let (mut first, mut second) = (self.first.as_mut_slice(), self.second.as_mut_slice());
        for (view, second_len) in self.views.iter().zip(&self.second_lens) {
            let len = view.len();
            jobs.push(Job {
                view,
                parameters: cut(&mut parameters, len),
                gradient: cut(&mut gradient, len),
                first: cut(&mut first, len),
                second: cut(&mut second, *second_len),
            });
        }
        jobs.into_par_iter().for_each_init(Scratch::default, |scratch, job| {
            if let Some(factor) = clip {
                elementwise::scale(factor, job.gradient);
            }
            let keep = if job.view.decay { decayed } else { 1.0 };
            job.run(config, step, lr, keep, scratch);
        });
        norm
    }

    fn global_norm(&self, gradient: &[f32]) -> f64 {
        let squares: Vec<f64> = self.views.par_iter().map(|view| elementwise::sum_of_squares(&gradient[view.range()])).collect();
        squares.iter().sum::<f64>().sqrt()
    }

    /// State for a checkpoint.
    #[must_use]
    pub fn state(&self) -> Vec<(String, Vec<f32>)> {
        vec![("first_moment".into(), self.first.clone()), ("second_moment".into(), self.second.clone())]
    }

    /// Restores [`Self::state`].
    ///
    /// # Errors
    /// If a buffer is missing or has another length.
    pub fn set_state(&mut self, state: &[(String, Vec<f32>)]) -> Result<(), TrainerError> {
        for (name, target) in [("first_moment", &mut self.first), ("second_moment", &mut self.second)] {
            let found = state.iter().find(|(key, _)| key == name).map(|(_, values)| values);
            let values = found.filter(|values| values.len() == target.len());
            let values = values.ok_or_else(|| TrainerError::OptimizerState { buffer: name.into() })?;
            target.clone_from(values);
        }
        Ok(())
    }
}

/// One view's share of an update.
struct Job<'a> {
    view: &'a ParamView,
    parameters: &'a mut [f32],
    gradient: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Job<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "constants are used in f32")]
    fn run(self, config: OptimizerConfig, step: u64, lr: f64, keep: f32, scratch: &mut Scratch) {
        let lr = lr as f32;
        match config {
            OptimizerConfig::Adafactor { beta1, beta2_cap } => {
                let constants = adafactor::Adafactor::new(beta1, beta2_cap);
                let update = adafactor::Update { step, lr, keep };
                let view = factor_view(self.view);
                let Self { view: _, parameters: params, gradient: grads, first: momentum, second } = self;
                let slices = adafactor::Slices { params, grads, momentum, second };
                adafactor::update(&constants, &update, &view, slices, scratch);
            }
            OptimizerConfig::Adamw { beta1, beta2, eps } => {
                let constants = adamw::AdamW::new(beta1, beta2, eps);
                let update = adamw::Update { step, lr, keep };
                adamw::update(&constants, &update, self.parameters, self.gradient, self.first, self.second);
            }
        }
    }
}

fn factor_view(view: &ParamView) -> adafactor::FactorView {
    adafactor::FactorView { leading: view.matrix.count, rows: view.matrix.rows, cols: view.matrix.columns }
}

/// Takes the first `len` elements off a slice.
fn cut<'a>(slice: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (front, rest) = std::mem::take(slice).split_at_mut(len);
    *slice = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::tests::tiny_train;

    #[test]
    fn the_rate_rises_linearly_and_falls_to_zero() {
        let train = TrainConfig { lr: 2.0, warmup_steps: 4, steps: 24, ..tiny_train() };
        let rates: Vec<f64> = (0..24).map(|step| learning_rate(&train, step)).collect();
        assert_eq!(&rates[..5], &[0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!((rates[14] - 1.0).abs() < 1e-12, "half way down after half of the cosine: {}", rates[14]);
        assert!(rates[23] > 0.0 && rates[23] < 0.02);
        assert!(learning_rate(&train, 24).abs() < 1e-12);
    }
}
