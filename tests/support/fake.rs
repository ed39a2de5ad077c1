//! A worker that trains nothing: scripted outcomes, small outputs, and metrics that are a plausible pure function of what a
//! job is. It puts the executor and the store to work in milliseconds.
//!
//! It belongs to tests and benchmarks alone, which include this file by its path: the library and the program have no worker
//! but the one that trains.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use scaledown::executor::{Control, EvaluateSummary, JobContext, JobError, JobOutput, TrainSummary, Worker};
use scaledown::plan::{EvaluateSpec, Job, JobSpec, Key, TrainSpec};
use scaledown::run::{DataSource, EvalTask, ImageEncoderConfig, Keep};
use scaledown::store::write_atomic;

/// What a scripted job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// It succeeds at once.
    Succeed,
    /// Its first attempts fail, and it succeeds after them.
    Fail {
        /// Attempts that fail; `u32::MAX`: all.
        attempts: u32,
        /// Whether it says that another attempt may help.
        retryable: bool,
    },
    /// It panics.
    Panic,
    /// Its loss becomes NaN.
    Diverge,
    /// It goes on until it is told to stop.
    Block,
    /// It takes steps, keeps a checkpoint after each, resumes from it, and asks at each whether to stop.
    Steps {
        /// Steps in all.
        steps: u64,
        /// Time of one.
        each: Duration,
    },
}

type Script = dyn Fn(&Job) -> Behaviour + Send + Sync;

/// The worker. Its outputs depend on the job alone, whatever the script does on the way to them.
pub struct FakeWorker {
    script: Box<Script>,
}

impl Default for FakeWorker {
    fn default() -> Self {
        Self::new(|_| Behaviour::Succeed)
    }
}

impl FakeWorker {
    /// A worker that does with each job what `script` says.
    pub fn new(script: impl Fn(&Job) -> Behaviour + Send + Sync + 'static) -> Self {
        Self { script: Box::new(script) }
    }
}

impl Worker for FakeWorker {
    fn run(&self, job: &Job, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
        match (self.script)(job) {
            Behaviour::Fail { attempts, retryable } if ctx.attempt() <= attempts => {
                let reason = format!("scripted failure of attempt {}", ctx.attempt());
                return Err(if retryable { JobError::retryable(reason) } else { JobError::failed(reason) });
            }
            Behaviour::Panic => std::panic::panic_any(String::from("scripted panic")),
            Behaviour::Diverge => {
                let summary = TrainSummary { subset_samples: 0, steps: 3, samples_seen: 0, gmacs: 0.0 };
                return Ok(JobOutput::diverged("loss is NaN at step 3", &summary));
            }
            Behaviour::Block => loop {
                if ctx.control() != Control::Continue {
                    return Err(JobError::Interrupted);
                }
                thread::sleep(Duration::from_millis(2));
            },
            Behaviour::Steps { steps, each } => take_steps(ctx, steps, each)?,
            Behaviour::Succeed | Behaviour::Fail { .. } => {}
        }
        let output = ctx.out().join("output.txt");
        fs::write(&output, format!("{} {}\n", job.spec.tag(), job.key)).map_err(|error| JobError::io("write", &output, error))?;
        Ok(summary(job, ctx))
    }
}

fn take_steps(ctx: &JobContext<'_>, steps: u64, each: Duration) -> Result<(), JobError> {
    let checkpoint = ctx.keep()?.join("step");
    let saved = fs::read_to_string(&checkpoint).ok().and_then(|text| text.parse().ok());
    for step in saved.unwrap_or(0)..steps {
        if ctx.control() != Control::Continue {
            return Err(JobError::Interrupted);
        }
        thread::sleep(each);
        write_atomic(&checkpoint, (step + 1).to_string().as_bytes())?;
        ctx.step(step + 1, steps, 5.0 / (step + 1) as f64, 100.0);
    }
    Ok(())
}

fn summary(job: &Job, ctx: &JobContext<'_>) -> JobOutput {
    match &job.spec {
        JobSpec::Train(spec) => JobOutput::finished(&train_summary(spec, ctx)),
        JobSpec::Evaluate(spec) => JobOutput::finished(&EvaluateSummary { metrics: metrics(spec, ctx) }),
        _ => JobOutput::finished(&serde_json::Map::new()),
    }
}

fn train_summary(spec: &TrainSpec, ctx: &JobContext<'_>) -> TrainSummary {
    let samples_seen = spec.train.samples_seen();
    TrainSummary {
        subset_samples: subset_samples(spec, ctx),
        steps: spec.train.steps,
        samples_seen,
        gmacs: rounded(parameters(spec) * 1e-9 * 64.0 * samples_seen as f64),
    }
}

fn pool_samples(pool: &Key, ctx: &JobContext<'_>) -> u64 {
    let Some(JobSpec::Dataset(spec)) = ctx.job(pool).map(|job| &job.spec) else { return 10_000 };
    let all = match spec.source {
        DataSource::Declared { samples } => samples,
        _ => 10_000,
    };
    spec.size.unwrap_or(all)
}

fn subset_samples(spec: &TrainSpec, ctx: &JobContext<'_>) -> u64 {
    let pool = pool_samples(&spec.pool, ctx);
    match kept(spec, ctx) {
        None => pool,
        Some(Keep::Share(share) | Keep::WholeShare(share) | Keep::Datacomp(share)) => (pool as f64 * share) as u64,
        Some(Keep::Count(count)) => count.min(pool),
        Some(Keep::AtLeast(_)) => pool / 2,
    }
}

fn kept(spec: &TrainSpec, ctx: &JobContext<'_>) -> Option<Keep> {
    match &ctx.job(&spec.subset?)?.spec {
        JobSpec::Subset(subset) => Some(subset.keep),
        _ => None,
    }
}

/// Weights of the transformer blocks, roughly.
fn parameters(spec: &TrainSpec) -> f64 {
    let image = match &spec.model.image_encoder {
        ImageEncoderConfig::Vit(vit) => vit.layers * vit.width * vit.width,
        other => panic!("the fake worker trains no {}", other.family()),
    };
    let text = &spec.model.text_encoder;
    12.0 * (image + text.layers * text.width * text.width) as f64
}

/// More samples, more training and larger models help with diminishing returns; the best 40 % of a pool help a little more.
fn skill(spec: &TrainSpec, ctx: &JobContext<'_>) -> f64 {
    let data = (subset_samples(spec, ctx).max(1) as f64).powf(-0.25);
    let seen = (spec.train.samples_seen().max(1) as f64).powf(-0.2);
    let size = parameters(spec).max(1.0).powf(-0.15);
    let picked = match kept(spec, ctx) {
        Some(Keep::Share(share)) => 0.05 * (1.0 - (share - 0.4).abs()),
        Some(_) => 0.02,
        None => 0.0,
    };
    (1.0 - 1.5 * data - 1.5 * seen - size + picked).clamp(0.01, 0.95)
}

/// In [-1, 1), from a key.
fn noise(key: &Key, salt: &str) -> f64 {
    let mut digest = blake3::Hasher::new();
    digest.update(key.bytes());
    digest.update(salt.as_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&digest.finalize().as_bytes()[..4]);
    f64::from(u32::from_le_bytes(first)) / f64::from(1_u32 << 31) - 1.0
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn metrics(spec: &EvaluateSpec, ctx: &JobContext<'_>) -> BTreeMap<String, f64> {
    let of = |names: &[(&str, f64)]| names.iter().map(|(name, factor)| ((*name).to_owned(), *factor)).collect();
    let names: Vec<(String, f64)> = match spec.task {
        EvalTask::Zeroshot => of(&[("acc1", 1.0), ("acc5", 1.6), ("mean_per_class_recall", 0.98)]),
        EvalTask::Retrieval => of(&[
            ("image_retrieval_recall@1", 0.6),
            ("image_retrieval_recall@5", 1.1),
            ("image_retrieval_recall@10", 1.3),
            ("text_retrieval_recall@1", 0.65),
            ("text_retrieval_recall@5", 1.15),
            ("text_retrieval_recall@10", 1.35),
        ]),
        EvalTask::Fewshot => spec.shots.iter().map(|k| (format!("fewshot{k}_acc1"), 1.0 - 1.0 / (*k as f64 + 1.0))).collect(),
        EvalTask::LinearProbe => of(&[("lp_acc1", 1.2), ("lp_acc5", 1.7), ("lp_mean_per_class_recall", 1.19)]),
    };
    let skill = match ctx.job(&spec.train).map(|job| &job.spec) {
        Some(JobSpec::Train(train)) => skill(train, ctx),
        _ => 0.01,
    };
    let prefix = format!("{}/{}", spec.task.name(), spec.name);
    let mut metrics = BTreeMap::new();
    for (metric, factor) in &names {
        let mut total = 0.0;
        for (index, set) in spec.sets.iter().enumerate() {
            let harder = 1.0 - 0.08 * index as f64;
            let value = 100.0 * skill * factor * harder + 0.4 * noise(&spec.train, &set.name);
            let value = rounded(value.clamp(0.0, 100.0));
            total += value;
            if spec.sets.len() > 1 {
                metrics.insert(format!("{prefix}/{}.{metric}", set.name), value);
            }
        }
        metrics.insert(format!("{prefix}.{metric}"), rounded(total / spec.sets.len().max(1) as f64));
    }
    metrics
}
