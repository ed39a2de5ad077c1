//! How long the training to do will take on this machine, and what that is taken from.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::experiment::Loaded;
use crate::plan::{JobSpec, Key};
use crate::run::{DeviceKind, ModelConfig, counted};
use crate::store::Store;
use crate::trainer::backend::cpu::{CpuSettings, CpuStep};
use crate::trainer::backend::{Step, StepBatch};
use crate::trainer::cost::{gmacs_of_steps, gmacs_per_sample};
use crate::trainer::model::{build, initial_parameters};
use crate::trainer::program::Tower;

/// An estimate.
pub(super) struct Estimate {
    /// Seconds of training on all cores, or on one device of the stated speed; `None` where it cannot be told.
    pub seconds: Option<f64>,
    /// What it is taken from.
    pub source: String,
}

/// Finished trainings that are looked at for their speed.
const LOOKED_AT: usize = 32;
/// Time that a calibration may take.
const CALIBRATION: Duration = Duration::from_millis(150);

/// Parameters, or floats of activations, that a calibration may make.
const MAX_CALIBRATED: usize = 100_000_000;
/// Forward multiply-accumulates of a pair that a calibration may do: a batch of them is a second or two.
const MAX_CALIBRATED_MACS: u64 = 2_500_000_000;

/// Floating-point operations of a step for each multiply-accumulate of its forward pass: two, and twice as many backward.
const OPERATIONS: f64 = 6.0;

/// Estimates the training that is to do: at a stated speed in TFLOP/s, from the speed of this plan's finished trainings, else
/// from a short calibration.
///
/// `known` are the jobs that need not be done: `finished` ones, and those of adopted runs.
pub(super) fn estimate(
    loaded: &Loaded,
    store: &Store,
    (finished, known): (&HashSet<Key>, &HashSet<Key>),
    gmacs: &[f64],
    tflops: Option<f64>,
) -> Estimate {
    let runs = loaded.plan.runs().iter().zip(gmacs);
    let unfinished = runs.filter(|(run, _)| !known.contains(&loaded.plan.job(run.train).key));
    let of_runs: f64 = unfinished.map(|(run, gmacs)| gmacs - checkpointed(loaded, store, run.train)).sum();
    let needed: HashSet<usize> = loaded.plan.todo(|key| known.contains(key)).into_iter().collect();
    let scorers = loaded.scorers().into_iter().filter(|(job, _)| needed.contains(job));
    let to_do = of_runs + scorers.map(|(job, gmacs)| gmacs - checkpointed(loaded, store, job)).sum::<f64>();
    if to_do == 0.0 {
        return Estimate { seconds: Some(0.0), source: "every training is finished".into() };
    }
    if let Some(tflops) = tflops {
        let source = format!("at {tflops} TFLOP/s sustained, {OPERATIONS} operations a forward multiply-accumulate");
        return Estimate { seconds: Some(to_do * OPERATIONS * 1e-3 / tflops), source };
    }
    if let Some((rate, count)) = recorded(loaded, store, finished) {
        return Estimate {
            seconds: Some(to_do / rate),
            source: format!("from {} of this plan, {rate:.1} GMAC/s", counted(count, "finished training")),
        };
    }
    if loaded.spec().resolved.device == DeviceKind::Cuda {
        return Estimate { seconds: None, source: "not known before a first training on this GPU".into() };
    }
    match cheapest(loaded, gmacs).and_then(calibrate) {
        Some(rate) => {
            let source =
                format!("calibration of {} ms on this machine: {rate:.1} GMAC/s of forward passes", CALIBRATION.as_millis());
            Estimate { seconds: Some(to_do / rate), source }
        }
        None => Estimate { seconds: None, source: "not known: the model is too large to calibrate in a moment".into() },
    }
}

/// Forward GMACs of a training that lie behind its newest checkpoint.
fn checkpointed(loaded: &Loaded, store: &Store, train: usize) -> f64 {
    let JobSpec::Train(spec) = &loaded.plan.job(train).spec else { return 0.0 };
    match loaded.steps_done(store, train) {
        0 => 0.0,
        steps => gmacs_of_steps(&spec.model, &spec.train, steps),
    }
}

/// Forward GMACs a second of finished trainings, and how many there were.
fn recorded(loaded: &Loaded, store: &Store, finished: &HashSet<Key>) -> Option<(f64, usize)> {
    let (mut work, mut time, mut count) = (0.0, 0.0, 0);
    let trains = loaded.plan.jobs().filter(|job| finished.contains(&job.key));
    for job in trains {
        let JobSpec::Train(spec) = &job.spec else { continue };
        let Some(timings) = store.timings(&job.key) else { continue };
        // Where the time of an earlier attempt is not known, the pairs of the last one are what its time was spent on.
        let Some(samples) = timings.samples else { continue };
        #[expect(clippy::cast_precision_loss, reason = "sample counts below 2^53")]
        let share = samples as f64 / spec.train.samples_seen().max(1) as f64;
        let gmacs = gmacs_of_steps(&spec.model, &spec.train, spec.train.steps) * share;
        (work, time, count) = (work + gmacs, time + timings.wall_s, count + 1);
        if count == LOOKED_AT {
            break;
        }
    }
    (time > 0.0).then(|| (work / time, count))
}

/// The model of the run that costs least a sample.
fn cheapest<'l>(loaded: &'l Loaded, gmacs: &[f64]) -> Option<&'l ModelConfig> {
    #[expect(clippy::cast_precision_loss, reason = "sample counts below 2^53")]
    let a_sample = |run: usize| gmacs[run] / loaded.expansion.parts(run).train.samples_seen().max(1) as f64;
    let cheapest = (0..gmacs.len()).min_by(|one, other| a_sample(*one).total_cmp(&a_sample(*other)));
    cheapest.map(|run| loaded.expansion.parts(run).model)
}

/// Forward GMACs a second of training steps of this model, measured for a moment.
fn calibrate(model: &ModelConfig) -> Option<f64> {
    const BATCH: usize = 32;
    let program = Arc::new(build(model, 0.0));
    // A model whose few steps take longer than the calibration, or that memory may not hold, is not worth waiting for.
    let is_large = program.num_params() > MAX_CALIBRATED || program.activation_bytes(BATCH) > MAX_CALIBRATED * 4;
    let macs = program.macs(Tower::Image) + program.macs(Tower::Text);
    if is_large || macs > MAX_CALIBRATED_MACS {
        return None;
    }
    let settings = CpuSettings { threads: super::cores(), lanes: 8 };
    let mut step = CpuStep::new(program.clone(), initial_parameters(&program, 0), settings, None).ok()?;
    let text = &model.text_encoder;
    let batch = StepBatch {
        samples: BATCH,
        images: vec![128; BATCH * model.image_size * model.image_size * 3],
        tokens: vec![1; BATCH * text.context_length],
        ends: vec![u32::try_from(text.context_length - 1).ok()?; BATCH],
        ..StepBatch::default()
    };
    step.gradient(&batch, 1).ok()?;
    let (begun, mut steps) = (Instant::now(), 0_u32);
    while steps == 0 || begun.elapsed() < CALIBRATION {
        step.gradient(&batch, 1).ok()?;
        steps += 1;
    }
    let strategy = crate::run::StrategyConfig::clip();
    #[expect(clippy::cast_precision_loss, reason = "a batch size")]
    let work = gmacs_per_sample(model, &strategy) * BATCH as f64 * f64::from(steps);
    Some(work / begun.elapsed().as_secs_f64())
}
