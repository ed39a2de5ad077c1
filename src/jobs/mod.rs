//! One file a job kind: hands the inputs of a job to its room and its output to the store.
//!
//! Owns [`LocalWorker`], the executor's worker that does real jobs on this machine. Invariant: what a job writes is a function
//! of its spec and its parents' outputs. Must not know terminals or experiment files.

mod adopt;
mod dataset;
mod evaluate;
mod features;
mod outcomes;
mod report;
mod results;
mod scores;
mod subset;
mod tokenizer;
mod train;

pub use adopt::{Adopted, AdoptedRun, results_folders};
pub use dataset::PackedSummary;
pub use features::FeatureCache;
pub use files::{CURVE as CURVE_FILE, MODEL as MODEL_FILE};
pub use report::{ReportInputs, fit_normals, mark, rebuild, run_records};
pub use results::{Published, publish, publish_partial, sync};
pub use tokenizer::TokenizerSummary;

use crate::data::DataError;
use crate::executor::{JobContext, JobError, JobOutput, Worker};
use crate::plan::{Job, JobSpec};
use crate::trainer::TrainerError;

/// File names inside job folders that other jobs read.
pub(crate) mod files {
    /// A trained model.
    pub const MODEL: &str = "model.safetensors";
    /// The model after so many steps.
    pub fn milestone(step: u64) -> String {
        format!("milestone-{step:012}.safetensors")
    }
    /// How a linear probe was fitted.
    pub const PROBE: &str = "probe.json";
    /// A loss curve.
    pub const CURVE: &str = "curve.json";
    /// Scores of a pool, one f64 a sample.
    pub const SCORES: &str = "scores.f64";
    /// Chosen samples of a pool.
    pub const SUBSET: &str = "indices.u32";
}

/// Does jobs on this machine.
pub struct LocalWorker {
    /// Steps between checkpoints of a training, by its steps in all; 0 for none.
    pub checkpoint_every: Box<dyn Fn(u64) -> u64 + Send + Sync>,
    /// What the report says.
    pub report: Option<ReportInputs>,
    /// Features that evaluations share.
    pub features: FeatureCache,
}

impl Worker for LocalWorker {
    fn run(&self, job: &Job, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
        match &job.spec {
            JobSpec::Dataset(spec) => dataset::pack_pool(spec, ctx),
            JobSpec::EvalSet(spec) => dataset::pack_eval(spec, ctx),
            JobSpec::Tokenizer(spec) => tokenizer::run(spec, ctx),
            JobSpec::Scores(spec) => scores::run(spec, ctx),
            JobSpec::Subset(spec) => subset::run(spec, ctx),
            JobSpec::Train(spec) => train::run(spec, &job.key, (self.checkpoint_every)(spec.train.steps), ctx),
            JobSpec::Evaluate(spec) => evaluate::run(spec, &self.features, ctx),
            JobSpec::Report(_) => report::run(self.report.as_ref(), ctx),
        }
    }
}

fn with_hint(error: JobError, hint: Option<String>) -> JobError {
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// A failure with a path: the machine's fault where no other job could write either.
fn of_io(error: &std::io::Error, reason: String, hint: Option<String>) -> JobError {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem => JobError::Environment { reason, hint },
        _ => with_hint(JobError::failed(reason), hint),
    }
}

impl From<DataError> for JobError {
    fn from(error: DataError) -> Self {
        let (reason, hint) = (error.to_string(), error.hint());
        match &error {
            DataError::Io { source, .. } => of_io(source, reason, hint),
            _ => with_hint(Self::failed(reason), hint),
        }
    }
}

impl From<TrainerError> for JobError {
    fn from(error: TrainerError) -> Self {
        let (reason, hint) = (error.to_string(), error.hint());
        match &error {
            TrainerError::Io { source, .. } => of_io(source, reason, hint),
            // No other job that needs a GPU would fare better.
            TrainerError::NoCuda { .. } => Self::Environment { reason, hint },
            _ => with_hint(Self::failed(reason), hint),
        }
    }
}

/// Runs `work` on a pool of the job's threads.
fn in_pool<R: Send>(ctx: &JobContext<'_>, work: impl FnOnce() -> R + Send) -> Result<R, JobError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(ctx.threads()).build();
    let pool = pool.map_err(|error| JobError::failed(format!("cannot start {} threads: {error}", ctx.threads())))?;
    Ok(pool.install(work))
}

/// Reads a file that a parent wrote.
fn read(path: &std::path::Path) -> Result<Vec<u8>, JobError> {
    std::fs::read(path).map_err(|error| JobError::failed(format!("cannot read {}: {error}", path.display())))
}

/// Writes a file of this job.
fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), JobError> {
    std::fs::write(path, bytes).map_err(|error| JobError::io("write", path, error))
}

/// The spec of a train job that this job builds on.
fn train_spec<'a>(ctx: &'a JobContext<'_>, key: &crate::plan::Key) -> Result<&'a crate::plan::TrainSpec, JobError> {
    match ctx.job(key).map(|job| &job.spec) {
        Some(JobSpec::Train(spec)) => Ok(spec),
        _ => Err(JobError::failed(format!("job {} is not a training of this plan", key.short()))),
    }
}
