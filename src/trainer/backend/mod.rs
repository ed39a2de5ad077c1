//! Backends: a program goes in, a step that runs on batches comes out.
//!
//! [`cpu`] is the CPU trainer (dfdx tensors and tape, fused blocks); [`cuda`] records a step once and replays it on a GPU;
//! [`mod@reference`] is the same program in plain f64 loops, the oracle of the others. Invariant: the same program, parameters
//! and batch give the same update on every backend, within the tolerance of its arithmetic.

pub mod cpu;
pub mod cuda;
pub mod reference;

use std::sync::Arc;

use self::cpu::{CpuSettings, CpuStep};
use super::TrainerError;
use super::ops::op::Read;
use super::program::{Input, InputKind, Output, Program, Tower};
use crate::data::{Philox, Stream};
use crate::run::{DeviceKind, Precision, TrainConfig};

/// Numbers that say how an image is cropped.
pub const CROP_LEN: usize = 6;

/// What a step reads: one batch, already augmented and tokenised.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepBatch {
    /// Pairs (B).
    pub samples: usize,
    /// [V, B, S, S, 3], view after view; empty where `index` says which images of a held pool they are.
    pub images: Vec<u8>,
    /// Places of the images in a held pool, in its units, `[B]`, else empty.
    pub index: Vec<u32>,
    /// How each image of a held pool is cropped [B, 6]: left, top, width, height in pixels, 1 if flipped, pixels of the
    /// picture's rows; else empty.
    pub crops: Vec<f32>,
    /// Kept patches of each image, ascending [V, B, kept]; empty where none is masked, or where the backend draws them.
    pub keep: Vec<u32>,
    /// [B, T].
    pub tokens: Vec<u32>,
    /// End-of-text position of each caption, B of them.
    pub ends: Vec<u32>,
}

impl StepBatch {
    /// Checks that the parts that `towers` read fit a program and each other.
    ///
    /// # Errors
    /// [`TrainerError::Input`] with what does not fit.
    pub fn check(&self, program: &Program, towers: &[Tower]) -> Result<(), TrainerError> {
        let wrong = |what: String| Err(TrainerError::Input(format!("a batch of {} pairs: {what}", self.samples)));
        let length = |name: &str, found: usize, a_sample: usize| {
            let expected = self.samples * a_sample;
            if found == expected { Ok(()) } else { wrong(format!("{name} has {found} elements, expected {expected}")) }
        };
        let below = |name: &str, values: &[u32], limit: usize| match values.iter().find(|value| **value as usize >= limit) {
            Some(value) => wrong(format!("{name} {value} of {limit}")),
            None => Ok(()),
        };
        let views = program.views();
        for Input { kind, .. } in program.inputs.iter().filter(|input| towers.contains(&input.tower)) {
            match *kind {
                InputKind::Image { .. } if !self.keep.is_empty() && program.kept_patches().is_none() => {
                    return wrong("kept patches of a program that masks none".into());
                }
                InputKind::Image { side, .. } => {
                    match self.index.is_empty() {
                        true => length("images", self.images.len(), views * side * side * 3)?,
                        false if views > 1 => return wrong(format!("an image index for {views} views")),
                        false => length("the image index", self.index.len(), 1)?,
                    }
                    if !self.crops.is_empty() {
                        length("crops", self.crops.len(), CROP_LEN)?;
                        if let Some(value) = self.crops.iter().find(|value| !value.is_finite()) {
                            return wrong(format!("a crop holds {value}"));
                        }
                    }
                }
                // A device may draw them.
                InputKind::KeptPatches { .. } if self.keep.is_empty() => {}
                InputKind::KeptPatches { patches, kept, .. } => {
                    length("the kept patches", self.keep.len(), views * kept)?;
                    below("kept patch", &self.keep, patches)?;
                }
                InputKind::Tokens { length: tokens, vocab_size } => {
                    length("token ids", self.tokens.len(), tokens)?;
                    below("token", &self.tokens, vocab_size)?;
                }
                InputKind::Ends { length: tokens } => {
                    length("ends of text", self.ends.len(), 1)?;
                    below("end of text", &self.ends, tokens)?;
                }
            }
        }
        Ok(())
    }

    /// Takes over what another batch holds, in the buffers at hand.
    fn copy_from(&mut self, other: &Self) {
        let Self { samples, images, index, crops, keep, tokens, ends } = self;
        *samples = other.samples;
        images.clone_from(&other.images);
        index.clone_from(&other.index);
        crops.clone_from(&other.crops);
        keep.clone_from(&other.keep);
        tokens.clone_from(&other.tokens);
        ends.clone_from(&other.ends);
    }

    /// What an input holds of some samples.
    #[must_use]
    pub fn input<R: ?Sized>(&self, kind: InputKind, samples: std::ops::Range<usize>) -> Read<'_, R> {
        let (size, _) = kind.layout();
        let len = size.rows * size.channels;
        let first = kind.view() * self.samples;
        let range = (first + samples.start) * len..(first + samples.end) * len;
        match kind {
            InputKind::Image { .. } => Read::Bytes(&self.images[range]),
            InputKind::KeptPatches { .. } => Read::Words(&self.keep[range]),
            InputKind::Tokens { .. } => Read::Words(&self.tokens[range]),
            InputKind::Ends { .. } => Read::Words(&self.ends[range]),
        }
    }
}

/// What a gradient pass found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossReport {
    /// The sum of the program's losses, each times its weight, nats.
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

/// Where a whole step stands in its run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepAt {
    /// Steps done before it.
    pub step: u64,
    /// Its learning rate.
    pub lr: f64,
    /// Parts that its batch is cut into.
    pub chunks: usize,
}

/// What the last whole step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepFound {
    /// The sum of the program's losses, each times its weight, nats.
    pub loss: f64,
    /// The logit scale (multiplier) that it was computed with.
    pub logit_scale: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// The first step that could not be applied, if there was one.
    pub unfit: Option<Unfit>,
}

/// A step whose loss or gradient norm is not finite: neither it nor a later one changes anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unfit {
    /// Steps done before it.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Its gradient norm.
    pub grad_norm: f64,
}

/// A prepared program: parameters, gradients and optimiser state on one device.
///
/// What is read back can fail on a device that failed earlier.
pub trait Step {
    /// The flat parameters.
    ///
    /// # Errors
    /// If the device cannot be read.
    fn parameters(&mut self) -> Result<Vec<f32>, TrainerError>;
    /// Replaces the flat parameters.
    ///
    /// # Errors
    /// If the length is not the program's.
    fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError>;
    /// What training changes without a gradient, such as running statistics; empty where the program keeps none.
    ///
    /// # Errors
    /// If the device cannot be read.
    fn state(&mut self) -> Result<Vec<f32>, TrainerError> {
        Ok(Vec::new())
    }
    /// Replaces what [`Step::state`] returned.
    ///
    /// # Errors
    /// If the length is not the program's.
    fn set_state(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        if values.is_empty() { Ok(()) } else { Err(TrainerError::Input("this program keeps no running statistics".into())) }
    }
    /// Forward and backward of one batch in `chunks` parts; the flat gradient is replaced.
    ///
    /// # Errors
    /// Out of memory, or a batch that does not fit the program.
    fn gradient(&mut self, batch: &StepBatch, chunks: usize) -> Result<LossReport, TrainerError>;
    /// The flat gradient of the last [`Step::gradient`].
    ///
    /// # Errors
    /// If the device cannot be read.
    fn gradients(&mut self) -> Result<Vec<f32>, TrainerError>;
    /// One optimiser update with the gradient at hand; `step` counts from 0.
    ///
    /// # Errors
    /// If no gradient is at hand.
    fn update(&mut self, step: u64, lr: f64) -> Result<UpdateReport, TrainerError>;
    /// The program's losses by name in the last [`Step::gradient`] or [`Step::advance`], without their weights, in the program's order;
    /// empty where the backend tells none apart.
    fn loss_terms(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
    /// Starts a whole step, gradient and update; what it found is read with [`Step::found`].
    ///
    /// # Errors
    /// As [`Step::gradient`] and [`Step::update`].
    fn advance(&mut self, batch: &StepBatch, at: StepAt) -> Result<(), TrainerError>;
    /// What the last [`Step::advance`] found; waits for it.
    ///
    /// # Errors
    /// If the device failed.
    fn found(&mut self) -> Result<StepFound, TrainerError>;
    /// Whether [`Step::advance`] returns before the step is done, so that looking at every step costs time.
    fn runs_ahead(&self) -> bool {
        false
    }
    /// Whether masked patches are drawn by the backend: `StepBatch::keep` then stays empty.
    fn draws_masks(&self) -> bool {
        false
    }
    /// Bytes of device memory that are left; `None` where that is not known, or it computes in the host's memory.
    fn free_device_bytes(&self) -> Option<u64> {
        None
    }
    /// What a person should know of the steps since this was asked last, and that stops nothing.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// Offers the bytes of all images of a pool; true if they are held now, and batches may be places in them, in units of `unit`
    /// pixels: images [N, S, S, 3] with a unit of S x S, or pictures of any size that every batch crops.
    ///
    /// # Errors
    /// If the device failed.
    fn hold_pool(&mut self, _pixels: &[u8], _unit: usize) -> Result<bool, TrainerError> {
        Ok(false)
    }
    /// The optimiser's state as named buffers, for checkpoints.
    ///
    /// # Errors
    /// If the device cannot be read.
    fn optimizer_state(&mut self) -> Result<Vec<(String, Vec<f32>)>, TrainerError>;
    /// Restores what [`Step::optimizer_state`] returned.
    ///
    /// # Errors
    /// If a buffer is missing or has another length.
    fn set_optimizer_state(&mut self, state: &[(String, Vec<f32>)]) -> Result<(), TrainerError>;
    /// Outputs of a batch as an evaluation sees it [B, width], one list an output; the batch brings what they depend on.
    ///
    /// # Errors
    /// Out of memory, an output that the program lacks, or a batch that does not fit.
    fn encode(&mut self, outputs: &[Output], batch: &StepBatch) -> Result<Vec<Vec<f32>>, TrainerError>;
    /// Normalised image features [B, E].
    ///
    /// # Errors
    /// As [`Step::encode`].
    fn encode_images(&mut self, samples: usize, images: &[u8]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, images: images.to_vec(), ..StepBatch::default() };
        Ok(self.encode(&[Output::ImageFeatures], &batch)?.concat())
    }
    /// Normalised text features [B, E].
    ///
    /// # Errors
    /// As [`Step::encode`].
    fn encode_texts(&mut self, samples: usize, tokens: &[u32], ends: &[u32]) -> Result<Vec<f32>, TrainerError> {
        let batch = StepBatch { samples, tokens: tokens.to_vec(), ends: ends.to_vec(), ..StepBatch::default() };
        Ok(self.encode(&[Output::TextFeatures], &batch)?.concat())
    }
}

/// Where a program is prepared and in which arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Kind of device.
    pub device: DeviceKind,
    /// Arithmetic.
    pub precision: Precision,
    /// Threads of a step on the CPU; they change no result.
    pub threads: usize,
}

/// Parts that a batch is cut into for summing gradients where nothing is trained: without effect.
const LANES_OF_AN_ENCODER: usize = 8;

/// Prepares a program on a device; `train` gives the optimiser and the run's seed, `None` is for encoding alone.
///
/// # Errors
/// If the device is not there, or its memory is short, or `parameters` has another length than the program.
pub fn prepare(
    program: Arc<Program>,
    parameters: Vec<f32>,
    placement: Placement,
    train: Option<(&TrainConfig, u64)>,
) -> Result<Box<dyn Step>, TrainerError> {
    let config = train.map(|(config, _)| config);
    match placement.device {
        DeviceKind::Cpu => {
            let lanes = config.map_or(LANES_OF_AN_ENCODER, |config| config.lanes);
            let settings = CpuSettings { threads: placement.threads, lanes };
            Ok(Box::new(CpuStep::new(program, parameters, settings, config)?))
        }
        DeviceKind::Cuda => {
            let device = cuda::CudaDevice::new(0, placement.precision)?;
            let masked = train.filter(|_| program.kept_patches().is_some());
            let mask_key = masked.map(|(_, seed)| Philox::new(seed, Stream::Mask).key());
            Ok(Box::new(cuda::CudaStep::new(device, program, &parameters, config, mask_key)?))
        }
    }
}

/// Cuts `samples` into `chunks` contiguous parts of nearly equal length.
fn parts(samples: usize, chunks: usize) -> Vec<std::ops::Range<usize>> {
    group_parts(samples, chunks, 1)
}

/// As [`parts`], each of whole groups of `grain` samples; the last group may be short.
fn group_parts(samples: usize, chunks: usize, grain: usize) -> Vec<std::ops::Range<usize>> {
    let groups = samples.div_ceil(grain.max(1)).max(1);
    let chunks = chunks.clamp(1, groups);
    let at = |chunk: usize| (groups * chunk / chunks * grain.max(1)).min(samples);
    (0..chunks).map(|chunk| at(chunk)..at(chunk + 1)).collect()
}

/// A whole step of a backend that does it in two halves; `last` is what the step before found.
fn gradient_then_update(
    step: &mut impl Step,
    last: Option<StepFound>,
    batch: &StepBatch,
    at: StepAt,
) -> Result<StepFound, TrainerError> {
    let before = last.and_then(|found| found.unfit);
    let LossReport { loss, logit_scale } = step.gradient(batch, at.chunks)?;
    // A step with a NaN is not applied: the last good parameters stay.
    let is_applied = before.is_none() && loss.is_finite();
    let grad_norm = if is_applied { step.update(at.step, at.lr)?.grad_norm } else { f64::NAN };
    let is_unfit = !loss.is_finite() || !grad_norm.is_finite();
    let unfit = before.or_else(|| is_unfit.then_some(Unfit { step: at.step, loss, grad_norm }));
    Ok(StepFound { loss, logit_scale, grad_norm, unfit })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::run::Pooling;
    use crate::trainer::model::{build, initial_parameters};
    use crate::trainer::tests::tiny_model;

    /// Two pairs that fit the tiny model.
    fn batch() -> StepBatch {
        StepBatch { samples: 2, images: vec![9; 2 * 12 * 12 * 3], tokens: vec![3; 14], ends: vec![6, 2], ..StepBatch::default() }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_an_error_that_says_what() {
        let program = build(&tiny_model(Pooling::Mean), 0.0);
        let both = [Tower::Image, Tower::Text];
        batch().check(&program, &both).unwrap();
        let cases = [
            (StepBatch { images: vec![9; 5], ..batch() }, "images has 5 elements, expected 864"),
            (StepBatch { tokens: vec![3; 13], ..batch() }, "token ids has 13 elements, expected 14"),
            (StepBatch { tokens: vec![31; 14], ..batch() }, "token 31 of 31"),
            (StepBatch { ends: vec![6, 7], ..batch() }, "end of text 7 of 7"),
            (StepBatch { keep: vec![0; 3], ..batch() }, "kept patches of a program that masks none"),
            (StepBatch { index: vec![0], ..batch() }, "the image index has 1 elements, expected 2"),
            (StepBatch { crops: vec![0.0; 9], ..batch() }, "crops has 9 elements, expected 12"),
        ];
        for (batch, expected) in cases {
            let message = batch.check(&program, &both).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}, expected {expected}");
        }
        let masked = build(&tiny_model(Pooling::Mean), 0.5);
        for (keep, expected) in [(vec![0; 3], "the kept patches has 3 elements, expected 8"), (vec![9; 8], "kept patch 9 of 9")] {
            let message = StepBatch { keep, ..batch() }.check(&masked, &both).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}, expected {expected}");
        }
        // What a tower does not read is not looked at.
        StepBatch { tokens: Vec::new(), ..batch() }.check(&program, &[Tower::Image]).unwrap();
    }

    #[test]
    fn the_cpu_asks_for_the_masks_that_it_does_not_draw() {
        let program = Arc::new(build(&tiny_model(Pooling::Mean), 0.5));
        let parameters = initial_parameters(&program, 1);
        let placement = Placement { device: DeviceKind::Cpu, precision: Precision::F32, threads: 1 };
        let mut step = prepare(program, parameters, placement, Some((&crate::trainer::tests::tiny_train(), 1))).unwrap();
        assert!(!step.draws_masks() && !step.runs_ahead());
        let message = step.gradient(&batch(), 1).unwrap_err().to_string();
        assert!(message.contains("kept patches come along"), "{message}");
        assert!(matches!(step.found(), Err(TrainerError::NoStep)));
    }
}
