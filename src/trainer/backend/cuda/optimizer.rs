//! The optimiser of a session from the host's side: what it works on, and the numbers of a step.
//!
//! Input: a program, the layout of its parameters, a training config. Output: the device's work list, and before each step the
//! controls that its kernels read. Must not know a device or a recording.

use super::layout::PaddedLayout;
use super::record::Update;
use crate::run::{OptimizerConfig, TrainConfig};
use crate::trainer::ops::adafactor::FactorView;
use crate::trainer::ops::flat::{FlatView, control};
use crate::trainer::ops::{adafactor, adamw};
use crate::trainer::program::Program;

/// What the optimiser of a session needs from the host.
pub(super) struct CudaOptimizer {
    pub(super) train: TrainConfig,
    pub(super) views: Vec<FlatView>,
    /// Where each view's second moment lies.
    pub(super) second: PaddedLayout,
}

impl CudaOptimizer {
    pub(super) fn new(program: &Program, layout: &PaddedLayout, train: &TrainConfig) -> Self {
        let view = |(idx, view): (usize, &crate::trainer::program::ParamView)| FlatView {
            offset: layout.offset(idx),
            matrix: FactorView { leading: view.matrix.count, rows: view.matrix.rows, cols: view.matrix.columns },
            decay: view.decay,
        };
        let views: Vec<FlatView> = program.params.iter().enumerate().map(view).collect();
        let second = match train.optimizer {
            OptimizerConfig::Adamw { .. } => layout.clone(),
            OptimizerConfig::Adafactor { .. } => PaddedLayout::of_lengths(views.iter().map(|view| view.matrix.second_len())),
        };
        Self { train: train.clone(), views, second }
    }

    pub(super) fn table(&self) -> Vec<u32> {
        match self.train.optimizer {
            OptimizerConfig::Adamw { .. } => adamw::cuda::table(&self.views),
            OptimizerConfig::Adafactor { .. } => adafactor::cuda::table(&self.views),
        }
    }

    pub(super) fn update(&self) -> Update<'_> {
        Update { optimizer: self.train.optimizer, views: &self.views, grad_clip_norm: self.train.grad_clip_norm }
    }

    /// What the kernels read of a step.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "kernels compute in f32")]
    pub(super) fn controls(&self, step: u64, lr: f64) -> [f32; control::LEN] {
        let mut controls = [0.0; control::LEN];
        controls[control::LR] = lr as f32;
        controls[control::KEEP] = self.train.decay_factor(lr) as f32;
        controls[control::STEP] = step as f32;
        match self.train.optimizer {
            OptimizerConfig::Adamw { beta1, beta2, eps } => {
                let constants = adamw::AdamW::new(beta1, beta2, eps);
                [controls[control::UNBIAS1], controls[control::UNBIAS2]] = adamw::unbias(&constants, step);
            }
            OptimizerConfig::Adafactor { beta1, beta2_cap } => {
                let constants = adafactor::Adafactor::new(beta1, beta2_cap);
                controls[control::DECAY] = adafactor::decay(&constants, step);
            }
        }
        controls
    }
}
