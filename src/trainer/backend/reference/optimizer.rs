//! One update of the flat parameters: clipping, then `AdamW` or Adafactor on each view by itself.

use crate::run::{DecayScale, OptimizerConfig, TrainConfig};
use crate::trainer::ops::adafactor::reference::{self as adafactor, Adafactor};
use crate::trainer::ops::adamw::reference::AdamW;
use crate::trainer::program::{ParamView, Program};

/// An optimiser in f64 with its state.
#[derive(Debug, Clone)]
pub struct ReferenceOptimizer {
    views: Vec<ParamView>,
    config: OptimizerConfig,
    peak_lr: f64,
    weight_decay: f64,
    decay_scale: DecayScale,
    grad_clip_norm: Option<f64>,
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
    second_lens: Vec<usize>,
}

impl ReferenceOptimizer {
    /// A fresh optimiser.
    #[must_use]
    pub fn new(program: &Program, train: &TrainConfig) -> Self {
        let TrainConfig {
            strategy: _,
            loss: _,
            batch_size: _,
            accumulate: _,
            steps: _,
            lr,
            warmup_steps: _,
            optimizer,
            weight_decay,
            decay_scale,
            grad_clip_norm,
            lanes: _,
            milestones: _,
        } = train;
        let second_len = |view: &ParamView| match optimizer {
            OptimizerConfig::Adafactor { .. } => adafactor::second_len(&view.matrix),
            OptimizerConfig::Adamw { .. } => view.len(),
        };
        let second_lens: Vec<usize> = program.params.iter().map(second_len).collect();
        Self {
            views: program.params.clone(),
            config: *optimizer,
            peak_lr: *lr,
            weight_decay: *weight_decay,
            decay_scale: *decay_scale,
            grad_clip_norm: *grad_clip_norm,
            first: vec![0.0; program.num_params()],
            second: vec![0.0; second_lens.iter().sum()],
            second_lens,
        }
    }

    /// One step, `step` from 0; returns the global gradient norm before clipping.
    pub fn update(&mut self, step: u64, lr: f64, parameters: &mut [f64], gradient: &[f64]) -> f64 {
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let clip = self.grad_clip_norm.map_or(1.0, |limit| if norm > limit { limit / norm } else { 1.0 });
        let gradient: Vec<f64> = gradient.iter().map(|g| g * clip).collect();
        // What a rate of 1 would take away: AdamW and Adafactor multiply it with the step's rate.
        let decay = match self.decay_scale {
            DecayScale::Rate => self.weight_decay,
            DecayScale::RelativeRate if self.peak_lr > 0.0 => self.weight_decay / self.peak_lr,
            DecayScale::RelativeRate => 0.0,
        };
        let mut start = 0;
        for (view, second_len) in self.views.iter().zip(&self.second_lens) {
            let decay = if view.decay { decay } else { 0.0 };
            let second = &mut self.second[start..start + second_len];
            let (p, g, m) = (&mut parameters[view.range()], &gradient[view.range()], &mut self.first[view.range()]);
            match self.config {
                OptimizerConfig::Adamw { beta1, beta2, eps } => {
                    AdamW { beta1, beta2, eps, lr, decay }.update(step, p, g, m, second)
                }
                OptimizerConfig::Adafactor { beta1, beta2_cap } => {
                    Adafactor { beta1, beta2_cap, lr, decay }.update(step, &view.matrix, p, g, m, second);
                }
            }
            start += second_len;
        }
        norm
    }
}
