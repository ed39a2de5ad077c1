//! Trainings: a longer one on both devices, whose loss curves have to stay together, and one batch with known losses.

use std::sync::Arc;

use super::steps::{ADAMW, OpenStep, model, train};
use crate::data::{Philox, Stream};
use crate::run::{Pooling, TrainConfig};
use crate::trainer::backend::cpu::{CpuSettings, CpuStep};
use crate::trainer::backend::cuda::CudaStep;
use crate::trainer::backend::cuda::device::Device;
use crate::trainer::backend::{Step, StepAt, StepBatch};
use crate::trainer::model::{build, initial_parameters};
use crate::trainer::ops::launch::Real;
use crate::trainer::optim::learning_rate;
use crate::trainer::program::Program;

/// Steps of the check on a GPU.
pub const STEPS: u64 = 200;
/// Steps whose losses agree one by one; later, rounding has grown into another path of the same training.
const TOGETHER: usize = 50;
const PAIRS: usize = 32;
const SEED: u64 = 11;

/// In f32 the first 50 losses are within 1e-3 of the CPU's, and the mean of the last quarter of `steps` steps is within 1 %.
///
/// # Panics
/// If they are not, or the loss has not fallen.
pub fn follows_the_cpu<D: Device>(open: OpenStep<D>, steps: u64) {
    let config = TrainConfig { batch_size: PAIRS as u64, steps, warmup_steps: steps / 10, ..train(ADAMW, 0.0) };
    let program = Arc::new(build(&model(Pooling::Mean), 0.0));
    let parameters = initial_parameters(&program, SEED);
    let settings = CpuSettings { threads: 1, lanes: 8 };
    let cpu = CpuStep::new(program.clone(), parameters.clone(), settings, Some(&config)).expect("threads start");
    let device = open(Real::F32, 0).expect("the device opens");
    let gpu = CudaStep::new(device, program, &parameters, Some(&config), None).expect("memory is there");
    let (expected, found) = (losses(cpu, &config, batch), losses(gpu, &config, batch));
    for (step, (found, expected)) in found.iter().zip(&expected).take(TOGETHER).enumerate() {
        assert!((found / expected - 1.0).abs() <= 1e-3, "step {}: loss {found}, the CPU's {expected}", step + 1);
    }
    let last = expected.len() * 3 / 4..expected.len();
    #[expect(clippy::cast_precision_loss, reason = "a step count")]
    let mean = |losses: &[f64]| losses[last.clone()].iter().sum::<f64>() / last.len() as f64;
    let (found, expected, start) = (mean(&found), mean(&expected), expected[0]);
    assert!((found / expected - 1.0).abs() <= 0.01, "last quarter of {steps} steps: mean loss {found}, the CPU's {expected}");
    assert!(expected < 0.95 * start, "the loss goes from {start} to {expected}: nothing was learnt");
}

/// Steps done, and the loss of the same 32 pairs then: computed by the f64 backend (the test below repeats it).
const KNOWN: [(usize, f64); 3] = [(0, 4.706057230), (5, 2.654905105), (11, 1.607935344)];

/// One batch, 12 times over, has the losses that are written down here: in f32 within 1e-3, in bf16 within a twentieth.
///
/// # Panics
/// If it has others.
pub fn one_batch_has_the_known_losses<D: Device>(open: OpenStep<D>) {
    let (program, config) = one_batch();
    for (real, limit) in [(Real::F32, 1e-3), (Real::Bf16, 0.05)] {
        let device = open(real, 1).expect("the device opens");
        let parameters = initial_parameters(&program, SEED);
        let step = CudaStep::new(device, program.clone(), &parameters, Some(&config), None).expect("memory is there");
        let found = losses(step, &config, |_| batch(0));
        for (done, known) in KNOWN {
            let found = found[done];
            assert!((found / known - 1.0).abs() <= limit, "{real:?}, {done} steps done: loss {found}, known is {known}");
        }
    }
}

fn one_batch() -> (Arc<Program>, TrainConfig) {
    let config = TrainConfig { batch_size: PAIRS as u64, steps: 12, warmup_steps: 3, lr: 2e-3, ..train(ADAMW, 0.0) };
    (Arc::new(build(&model(Pooling::ClassToken), 0.0)), config)
}

fn losses(mut step: impl Step, config: &TrainConfig, batch: impl Fn(u64) -> StepBatch) -> Vec<f64> {
    (0..config.steps)
        .map(|done| {
            let at = StepAt { step: done, lr: learning_rate(config, done), chunks: 1 };
            step.advance(&batch(done), at).expect("a step");
            step.found().expect("a step was done").loss
        })
        .collect()
}

/// Pairs of 16 kinds: each has its own colours and its own words, with noise on both.
fn batch(step: u64) -> StepBatch {
    let philox = Philox::new(SEED, Stream::Scenes);
    let mut batch = StepBatch { samples: PAIRS, ..StepBatch::default() };
    for place in 0..PAIRS as u32 {
        let mut noise = philox.at(step + 1, place);
        let kind = noise.below(16);
        let mut look = philox.at(0, kind);
        for _ in 0..12 * 12 * 3 {
            batch.images.push((look.below(192) + noise.below(64)) as u8);
        }
        batch.tokens.extend([1, 2 + kind, 2 + look.below(24), 3 + noise.below(24), 30, 0, 0]);
        batch.ends.push(4);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::backend::reference::ReferenceStep;

    #[test]
    fn the_known_losses_are_those_of_the_f64_backend() {
        let (program, config) = one_batch();
        let step = ReferenceStep::new(program.clone(), &initial_parameters(&program, SEED), Some(&config)).expect("it fits");
        let found = losses(step, &config, |_| batch(0));
        let is_known = KNOWN.iter().all(|(done, known)| (found[*done] / known - 1.0).abs() < 1e-6);
        assert!(is_known, "{found:?}");
    }
}
