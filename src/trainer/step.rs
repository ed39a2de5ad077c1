//! The training loop of one run.
//!
//! Input: the resolved config and a source of batches. Output: trained parameters and the loss curve, or why there are none.
//! Invariant: what step n computes is a function of the config, the data and the parameters before it, so a run that goes on
//! from a checkpoint has the bytes of one that was never stopped.

use std::path::PathBuf;
use std::sync::Arc;

use super::TrainerError;
use super::backend::cpu::{CpuSettings, CpuStep};
use super::backend::{Step, StepBatch};
use super::checkpoint::Checkpoint;
use super::model::{build, initial_parameters};
use super::optim::learning_rate;
use super::strategy::PatchMask;
use crate::data::{Batch, BatchSource};
use crate::run::{CurvePoint, ModelConfig, TrainConfig};

/// Points of a loss curve at most, evenly spread; the last step is always one.
const CURVE_POINTS: u64 = 100;

/// What is trained: the parts of a run's config that decide it, beside the data.
#[derive(Debug, Clone, Copy)]
pub struct TrainSetup<'a> {
    /// What learns.
    pub model: &'a ModelConfig,
    /// How it learns.
    pub train: &'a TrainConfig,
    /// The run's seed.
    pub seed: u64,
}

/// How a run is executed; nothing here changes a byte of its result.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Identity of the run, kept in its checkpoints.
    pub run: String,
    /// Threads of a step.
    pub threads: usize,
    /// Where checkpoints are; `None` for none.
    pub checkpoints: Option<PathBuf>,
    /// Steps between checkpoints; 0 for none but when stopped.
    pub checkpoint_every: u64,
}

/// What the caller wants after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Go on.
    Continue,
    /// Write a checkpoint and return.
    Stop,
    /// Return at once, without a checkpoint.
    Abandon,
}

/// A step was done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDone {
    /// Steps done.
    pub step: u64,
    /// Loss of its batch.
    pub loss: f64,
    /// Pairs it saw.
    pub batch: u64,
}

/// How training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// At the last step.
    Finished,
    /// The loss or a gradient was not finite.
    Diverged {
        /// Which number.
        what: String,
    },
    /// The caller stopped it.
    Stopped,
}

/// Outcome of training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// How it ended.
    pub ending: Ending,
    /// Steps done.
    pub step: u64,
    /// Flat parameters after them.
    pub parameters: Vec<f32>,
    /// The loss curve.
    pub curve: Vec<CurvePoint>,
}

/// Trains one run to its end, or until the caller stops it.
///
/// # Errors
/// A config that cannot be trained here, no memory, or checkpoints that cannot be written. Divergence is an [`Ending`].
pub fn train(
    setup: &TrainSetup,
    batches: &BatchSource,
    options: &TrainOptions,
    on_step: &mut dyn FnMut(StepDone) -> Command,
) -> Result<Trained, TrainerError> {
    let train = setup.train;
    let program = Arc::new(build(setup.model, train.strategy.masked));
    let resumed = match &options.checkpoints {
        Some(folder) => Checkpoint::load_newest(folder, &options.run)?,
        None => None,
    };
    let start = resumed.as_ref().map_or(0, |checkpoint| checkpoint.step);
    let parameters = resumed.as_ref().map_or_else(|| initial_parameters(&program, setup.seed), |found| found.parameters.clone());
    let settings = CpuSettings { threads: options.threads, lanes: train.lanes };
    let mut step = CpuStep::new(program, parameters, settings, Some(train))?;
    let mut curve = Vec::new();
    if let Some(checkpoint) = resumed {
        step.set_optimizer_state(&checkpoint.optimizer)?;
        curve = checkpoint.curve;
    }
    let mut feed = Feed::new(setup, batches);
    for done in start..train.steps {
        let point = one_step(&mut step, &mut feed, train, done)?;
        let unfit = [("loss", point.loss), ("gradient norm", point.grad_norm)].into_iter().find(|(_, value)| !value.is_finite());
        if let Some((what, value)) = unfit {
            let ending = Ending::Diverged { what: format!("{what} is {value} at step {}", done + 1) };
            return Ok(Trained { ending, step: done + 1, parameters: step.parameters(), curve });
        }
        if done == 0 || (done + 1).is_multiple_of(train.steps.div_ceil(CURVE_POINTS)) || done + 1 == train.steps {
            curve.push(point);
        }
        let command = on_step(StepDone { step: done + 1, loss: point.loss, batch: train.effective_batch() });
        let last = done + 1 == train.steps;
        let due = options.checkpoint_every > 0 && (done + 1) % options.checkpoint_every == 0 && !last;
        if let Some(folder) = options.checkpoints.as_ref().filter(|_| due || (command == Command::Stop && !last)) {
            let (parameters, optimizer) = (step.parameters(), step.optimizer_state());
            Checkpoint { run: options.run.clone(), step: done + 1, parameters, optimizer, curve: curve.clone() }.save(folder)?;
        }
        if command != Command::Continue && !last {
            return Ok(Trained { ending: Ending::Stopped, step: done + 1, parameters: step.parameters(), curve });
        }
    }
    Ok(Trained { ending: Ending::Finished, step: train.steps, parameters: step.parameters(), curve })
}

/// The batches of a run in the form that a step reads.
struct Feed<'a> {
    batches: &'a BatchSource,
    mask: Option<PatchMask>,
    batch: Batch,
    step_batch: StepBatch,
}

impl<'a> Feed<'a> {
    fn new(setup: &TrainSetup, batches: &'a BatchSource) -> Self {
        let mask = PatchMask::new(setup.model, setup.train.strategy.masked, setup.seed);
        Self { batches, mask, batch: Batch::default(), step_batch: StepBatch::default() }
    }

    fn next(&mut self, step: u64, samples: usize) -> &StepBatch {
        self.batches.fill(step, samples, &mut self.batch);
        let out = &mut self.step_batch;
        out.samples = samples;
        std::mem::swap(&mut out.images, &mut self.batch.images);
        std::mem::swap(&mut out.tokens, &mut self.batch.tokens);
        std::mem::swap(&mut out.ends, &mut self.batch.ends);
        if let Some(mask) = &self.mask {
            mask.fill(step, samples, &mut out.keep);
        }
        out
    }
}

fn one_step(step: &mut CpuStep, feed: &mut Feed, train: &TrainConfig, done: u64) -> Result<CurvePoint, TrainerError> {
    let samples = usize::try_from(train.effective_batch()).map_err(|_| TrainerError::Input("batch too large".into()))?;
    let chunks = usize::try_from(train.accumulate).unwrap_or(usize::MAX);
    let report = step.gradient(feed.next(done, samples), chunks)?;
    let lr = learning_rate(train, done);
    // A step with a NaN is not applied: the last good parameters stay.
    let grad_norm = if report.loss.is_finite() { step.update(done, lr)?.grad_norm } else { f64::NAN };
    Ok(CurvePoint {
        step: done + 1,
        samples_seen: (done + 1) * train.effective_batch(),
        loss: report.loss,
        lr,
        logit_scale: report.logit_scale,
        grad_norm,
    })
}
