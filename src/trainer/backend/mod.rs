//! Backends: a program goes in, a step that runs on batches comes out.
//!
//! [`cpu`] is the CPU trainer (dfdx tensors and tape, fused blocks); [`cuda`] records nodes and replays them on a GPU; [`mod@reference`] is the same program in plain f64 loops, the
//! oracle of the others. Invariant: the same program, parameters and batch give the same update on every backend, within the
//! tolerance of its arithmetic.

pub mod cpu;
pub mod cuda;
pub mod reference;

use super::TrainerError;

/// What a step reads: one batch, already augmented and tokenised.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepBatch {
    /// Pairs (B).
    pub samples: usize,
    /// [B, S, S, 3].
    pub images: Vec<u8>,
    /// Kept patches of each image, ascending [B, kept]; empty where none is masked.
    pub keep: Vec<u32>,
    /// [B, T].
    pub tokens: Vec<u32>,
    /// End-of-text position of each caption, B of them.
    pub ends: Vec<u32>,
}

/// What a gradient pass found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossReport {
    /// Symmetric contrastive loss, nats.
    pub loss: f64,
    /// The logit scale (multiplier) that it was computed with.
    pub logit_scale: f64,
}

/// How an update is made, resolved for one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateReport {
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
}

/// A prepared program: parameters, gradients and optimiser state on one device.
pub trait Step {
    /// The flat parameters.
    fn parameters(&self) -> Vec<f32>;
    /// Replaces the flat parameters.
    ///
    /// # Errors
    /// If the length is not the program's.
    fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError>;
    /// Forward and backward of one batch in `chunks` parts; the flat gradient is replaced.
    ///
    /// # Errors
    /// Out of memory.
    fn gradient(&mut self, batch: &StepBatch, chunks: usize) -> Result<LossReport, TrainerError>;
    /// The flat gradient of the last [`Step::gradient`].
    fn gradients(&self) -> Vec<f32>;
    /// One optimiser update with the gradient at hand; `step` counts from 0.
    ///
    /// # Errors
    /// If no gradient is at hand.
    fn update(&mut self, step: u64, lr: f64) -> Result<UpdateReport, TrainerError>;
    /// The optimiser's state as named buffers, for checkpoints.
    fn optimizer_state(&self) -> Vec<(String, Vec<f32>)>;
    /// Restores what [`Step::optimizer_state`] returned.
    ///
    /// # Errors
    /// If a buffer is missing or has another length.
    fn set_optimizer_state(&mut self, state: &[(String, Vec<f32>)]) -> Result<(), TrainerError>;
    /// Normalised image features [B, E].
    ///
    /// # Errors
    /// Out of memory.
    fn encode_images(&mut self, samples: usize, images: &[u8]) -> Result<Vec<f32>, TrainerError>;
    /// Normalised text features [B, E].
    ///
    /// # Errors
    /// Out of memory.
    fn encode_texts(&mut self, samples: usize, tokens: &[u32], ends: &[u32]) -> Result<Vec<f32>, TrainerError>;
}
