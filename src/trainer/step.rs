//! The training loop of one run.
//!
//! Input: the resolved config and a source of batches. Output: trained parameters and the loss curve, or why there are none.
//! Invariant: what step n computes is a function of the config, the data and the parameters before it, so a run that goes on
//! from a checkpoint has the bytes of one that was never stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::TrainerError;
use super::backend::{self, Placement, Step, StepAt, StepBatch, StepFound, Unfit};
use super::checkpoint::{Checkpoint, Newest, Weights};
use super::model::{Recipe, build_with, initial_parameters};
use super::optim::learning_rate;
use super::strategy::PatchMask;
use crate::data::{Ahead, BatchSource};
use crate::run::{CurvePoint, DeviceKind, ModelConfig, Precision, TrainConfig};

/// Points of a loss curve at most, evenly spread; the last step is always one.
const CURVE_POINTS: u64 = 100;
/// How often a backend that runs ahead is looked at when no result depends on it: for people, in no result.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is trained: the parts of a run's config that decide it, beside the data.
#[derive(Debug, Clone, Copy)]
pub struct TrainSetup<'a> {
    /// What learns.
    pub model: &'a ModelConfig,
    /// How it learns.
    pub train: &'a TrainConfig,
    /// The run's seed.
    pub seed: u64,
    /// Seed of the initial parameters; `None`: `seed`.
    pub init: Option<u64>,
    /// Where it computes.
    pub device: DeviceKind,
    /// In which arithmetic.
    pub precision: Precision,
}

/// How a run is executed; nothing here changes a byte of its result.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Identity of the run, kept in its checkpoints.
    pub run: String,
    /// Threads of a step.
    pub threads: usize,
    /// Where checkpoints and weights of milestones are; `None` for none.
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
    /// How long it waited for them.
    pub waited: Duration,
}

/// How training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// At the last step.
    Finished,
    /// The loss, a gradient or a parameter was not finite.
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
    /// Running statistics after them; empty where the model keeps none.
    pub state: Vec<f32>,
    /// The loss curve.
    pub curve: Vec<CurvePoint>,
}

/// Who is told what goes on while a run is trained; nothing said here changes a byte of its result.
pub trait Watcher {
    /// A step was done; says how to go on.
    fn step(&mut self, done: StepDone) -> Command;
    /// Something happened that a person should know and that stops nothing.
    fn warn(&mut self, message: String);
}

/// For tests: warnings go nowhere.
impl<F: FnMut(StepDone) -> Command> Watcher for F {
    fn step(&mut self, done: StepDone) -> Command {
        self(done)
    }
    fn warn(&mut self, _: String) {}
}

/// Trains one run to its end, or until the watcher stops it.
///
/// # Errors
/// A config that cannot be trained here, a batch larger than the subset, no memory, or checkpoints that cannot be written.
/// Divergence is an [`Ending`].
pub fn train(
    setup: &TrainSetup,
    batches: &BatchSource,
    options: &TrainOptions,
    watcher: &mut dyn Watcher,
) -> Result<Trained, TrainerError> {
    check_batch(setup.train, batches.len())?;
    let resumed = resume(setup.train, options, watcher)?;
    let start = resumed.as_ref().map_or(0, |checkpoint| checkpoint.step);
    let masked = masked_at(setup, start);
    let parameters = match &resumed {
        Some(checkpoint) => checkpoint.parameters.clone(),
        None => initial_parameters(&build_with(setup.model, &Recipe::of(setup.train, masked)), setup.init.unwrap_or(setup.seed)),
    };
    let optimizer = resumed.as_ref().map(|checkpoint| checkpoint.optimizer.as_slice());
    let mut step = prepare(setup, options, masked, parameters, optimizer)?;
    if let Some(checkpoint) = &resumed {
        step.set_state(&checkpoint.state)?;
    }
    let mut training = Training {
        setup,
        options,
        step,
        feed: Feed::new(batches),
        curve: resumed.map_or_else(Vec::new, |checkpoint| checkpoint.curve),
        looked: Instant::now(),
        loss: f64::NAN,
    };
    training.feed.serve(setup, masked, options.threads, training.step.as_mut())?;
    training.run(start, watcher)
}

/// A batch that is larger than the subset would hold a pair twice, as its own negative.
fn check_batch(train: &TrainConfig, subset: usize) -> Result<(), TrainerError> {
    let batch = train.effective_batch();
    if batch <= subset as u64 { Ok(()) } else { Err(TrainerError::BatchBeyondSubset { batch, subset }) }
}

/// Where an earlier attempt stopped; says which checkpoints could not be used.
fn resume(train: &TrainConfig, options: &TrainOptions, watcher: &mut dyn Watcher) -> Result<Option<Checkpoint>, TrainerError> {
    let Some(folder) = &options.checkpoints else { return Ok(None) };
    let kept: Vec<u64> = train.kept_steps().collect();
    let Newest { found, passed_over } = Checkpoint::load_newest(folder, &options.run, &kept)?;
    let from = match &found {
        Some(checkpoint) => format!("the run goes on from the checkpoint before it, {} steps done", checkpoint.step),
        None => "there is no earlier one: the run starts again from step 0".into(),
    };
    passed_over.iter().for_each(|error| watcher.warn(format!("a checkpoint cannot be used: {error}; {from}")));
    Ok(found)
}

/// Share of patches that are left out in a step.
fn masked_at(setup: &TrainSetup, step: u64) -> f64 {
    if step < setup.train.masked_steps() { setup.train.strategy.masked } else { 0.0 }
}

/// Prepares the program of a stretch of steps that leave out one share of patches.
fn prepare(
    setup: &TrainSetup,
    options: &TrainOptions,
    masked: f64,
    parameters: Vec<f32>,
    optimizer: Option<&[(String, Vec<f32>)]>,
) -> Result<Box<dyn Step>, TrainerError> {
    let program = Arc::new(build_with(setup.model, &Recipe::of(setup.train, masked)));
    let placement = Placement { device: setup.device, precision: setup.precision, threads: options.threads };
    let mut step = backend::prepare(program, parameters, placement, Some((setup.train, setup.seed)))?;
    if let Some(optimizer) = optimizer {
        step.set_optimizer_state(optimizer)?;
    }
    Ok(step)
}

/// A run under way.
struct Training<'a> {
    setup: &'a TrainSetup<'a>,
    options: &'a TrainOptions,
    step: Box<dyn Step>,
    feed: Feed<'a>,
    curve: Vec<CurvePoint>,
    /// When the last step was looked at, and the loss found then.
    looked: Instant,
    loss: f64,
}

impl Training<'_> {
    fn run(mut self, start: u64, watcher: &mut dyn Watcher) -> Result<Trained, TrainerError> {
        let train = self.setup.train;
        for done in start..train.steps {
            let step = done + 1;
            let last = step == train.steps;
            let is_curve_point = done == 0 || step.is_multiple_of(train.steps.div_ceil(CURVE_POINTS)) || last;
            let is_due = self.options.checkpoint_every > 0 && step.is_multiple_of(self.options.checkpoint_every) && !last;
            let is_unmasked = done > start && masked_at(self.setup, done) != masked_at(self.setup, done - 1);
            if is_unmasked {
                if let Some(unfit) = self.step.found()?.unfit {
                    return self.diverged(unfit);
                }
                self = self.unmask(done)?;
            }
            self.advance(done)?;
            self.step.take_warnings().into_iter().for_each(|warning| watcher.warn(warning));
            // Reading the loss waits for a backend that runs ahead: only for a point of the curve, a checkpoint, and twice a second
            // for the progress display.
            let is_kept = train.kept_steps().any(|kept| kept == step);
            let is_looked_at =
                is_curve_point || is_due || is_kept || !self.step.runs_ahead() || self.looked.elapsed() >= LOOK_EVERY;
            let mut unfit = if is_looked_at { self.look(done, is_curve_point)? } else { None };
            let command = if unfit.is_some() {
                Command::Continue
            } else {
                watcher.step(StepDone { step, loss: self.loss, batch: train.effective_batch(), waited: self.feed.waited() })
            };
            let is_saved = (is_due || command == Command::Stop) && !last;
            if is_saved && !is_looked_at {
                unfit = self.look(done, false)?;
            }
            if let Some(unfit) = unfit {
                return self.diverged(unfit);
            }
            // Weights of a milestone are there before any checkpoint that stands after it.
            if is_kept {
                self.keep(step)?;
            }
            if is_saved {
                self.save(step)?;
            }
            if command != Command::Continue && !last {
                return self.end(Ending::Stopped, step);
            }
        }
        self.finish(train.steps)
    }

    /// Goes on with the program that sees whole images, from the same parameters and optimiser state.
    fn unmask(self, done: u64) -> Result<Self, TrainerError> {
        let Self { setup, options, mut step, mut feed, curve, looked, loss } = self;
        let masked = masked_at(setup, done);
        let (parameters, state, optimizer) = (step.parameters()?, step.state()?, step.optimizer_state()?);
        // Its memory is given back before the next one asks for as much.
        drop(step);
        let mut step = prepare(setup, options, masked, parameters, Some(&optimizer))?;
        step.set_state(&state)?;
        feed.serve(setup, masked, options.threads, step.as_mut())?;
        Ok(Self { setup, options, step, feed, curve, looked, loss })
    }

    fn advance(&mut self, done: u64) -> Result<(), TrainerError> {
        let train = self.setup.train;
        let samples = usize::try_from(train.effective_batch()).map_err(|_| TrainerError::Input("batch too large".into()))?;
        let chunks = usize::try_from(train.accumulate).unwrap_or(usize::MAX);
        let at = StepAt { step: done, lr: learning_rate(train, done), chunks };
        self.step.advance(self.feed.next(done, samples), at)
    }

    /// Reads what the step found; the first step that could not be applied, if there was one.
    fn look(&mut self, done: u64, is_curve_point: bool) -> Result<Option<Unfit>, TrainerError> {
        let StepFound { loss, logit_scale, grad_norm, unfit } = self.step.found()?;
        (self.looked, self.loss) = (Instant::now(), loss);
        if unfit.is_none() && is_curve_point {
            let (train, step) = (self.setup.train, done + 1);
            let (samples_seen, lr) = (step * train.effective_batch(), learning_rate(train, done));
            let terms = self.step.loss_terms();
            // Of one loss there is nothing to tell apart.
            let named = terms.len() > 1;
            let terms: BTreeMap<String, f64> =
                terms.into_iter().filter(|_| named).map(|(name, loss)| (name.to_owned(), loss)).collect();
            self.curve.push(CurvePoint { step, samples_seen, loss, terms, lr, logit_scale, grad_norm });
        }
        Ok(unfit)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainerError> {
        let Some(folder) = &self.options.checkpoints else { return Ok(()) };
        let (parameters, state, optimizer) = (self.step.parameters()?, self.step.state()?, self.step.optimizer_state()?);
        let (run, curve) = (self.options.run.clone(), self.curve.clone());
        Checkpoint { run, step, parameters, state, optimizer, curve }.save(folder)
    }

    /// Keeps the weights of a milestone beside the checkpoints.
    fn keep(&mut self, step: u64) -> Result<(), TrainerError> {
        let Some(folder) = &self.options.checkpoints else { return Ok(()) };
        let weights = Weights { parameters: self.step.parameters()?, state: self.step.state()? };
        weights.keep(folder, &self.options.run, step)
    }

    fn diverged(self, unfit: Unfit) -> Result<Trained, TrainerError> {
        let step = unfit.step + 1;
        let (what, value) = if unfit.loss.is_finite() { ("gradient norm", unfit.grad_norm) } else { ("loss", unfit.loss) };
        self.end(Ending::Diverged { what: format!("{what} is {value} at step {step}") }, step)
    }

    /// No later step looks at what the last update made: its parameters are looked at here.
    fn finish(mut self, step: u64) -> Result<Trained, TrainerError> {
        let (program, parameters) = (build_with(self.setup.model, &Recipe::of(self.setup.train, 0.0)), self.step.parameters()?);
        let ending = match program.not_finite(&parameters) {
            Some((name, value)) => Ending::Diverged { what: format!("parameter `{name}` is {value} after step {step}, the last") },
            None => Ending::Finished,
        };
        Ok(Trained { ending, step, parameters, state: self.step.state()?, curve: self.curve })
    }

    fn end(mut self, ending: Ending, step: u64) -> Result<Trained, TrainerError> {
        let (parameters, state) = (self.step.parameters()?, self.step.state()?);
        Ok(Trained { ending, step, parameters, state, curve: self.curve })
    }
}

/// The batches of a run in the form that a step reads, made ahead of it.
struct Feed<'a> {
    batches: &'a BatchSource,
    mask: Option<PatchMask>,
    ahead: Option<Ahead>,
    /// Whether images are held by the backend, which then gets their places.
    is_pool_held: bool,
    steps: u64,
    step_batch: StepBatch,
}

impl<'a> Feed<'a> {
    fn new(batches: &'a BatchSource) -> Self {
        Self { batches, mask: None, ahead: None, is_pool_held: false, steps: 0, step_batch: StepBatch::default() }
    }

    /// Makes batches for a prepared step of `threads` threads that leaves out this share of patches.
    fn serve(&mut self, setup: &TrainSetup, masked: f64, threads: usize, step: &mut dyn Step) -> Result<(), TrainerError> {
        let (batches, workers) = (self.batches, workers(setup.device, threads));
        let program = build_with(setup.model, &Recipe::of(setup.train, masked));
        self.mask = PatchMask::new(&program, setup.seed).filter(|_| !step.draws_masks());
        // What a device cannot do to the pictures is done here, and every batch is uploaded.
        self.is_pool_held = batches.is_for_devices() && step.hold_pool(batches.pool_images(), batches.pool_unit())?;
        // One feed is done before the next begins.
        self.ahead = None;
        let ahead = Ahead::new(batches, self.is_pool_held, workers);
        self.ahead = Some(ahead.map_err(|error| TrainerError::Threads { threads: workers, reason: error.to_string() })?);
        (self.steps, self.step_batch) = (setup.train.steps, StepBatch::default());
        Ok(())
    }

    fn next(&mut self, step: u64, samples: usize) -> &StepBatch {
        let (out, ahead) = (&mut self.step_batch, self.ahead.as_mut().expect("it serves a step"));
        let made = ahead.next(step, samples, step + 1 >= self.steps);
        out.samples = samples;
        if self.is_pool_held {
            std::mem::swap(&mut out.index, &mut made.places);
            std::mem::swap(&mut out.crops, &mut made.crops);
        } else {
            std::mem::swap(&mut out.images, &mut made.batch.images);
        }
        std::mem::swap(&mut out.tokens, &mut made.batch.tokens);
        std::mem::swap(&mut out.ends, &mut made.batch.ends);
        if let Some(mask) = &self.mask {
            mask.fill(step, samples, &mut out.keep);
        }
        out
    }

    /// How long the last batch was waited for.
    fn waited(&self) -> Duration {
        self.ahead.as_ref().map_or(Duration::ZERO, Ahead::waited)
    }
}

/// Threads that make batches beside a step of `threads` threads: one for every eight that compute, or as many where a device does.
fn workers(device: DeviceKind, threads: usize) -> usize {
    match device {
        DeviceKind::Cpu => threads.div_ceil(8),
        DeviceKind::Cuda => threads,
    }
}
