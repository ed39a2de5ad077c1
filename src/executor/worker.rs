//! The seam between running jobs and doing them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Shutdown, Stage};
use crate::plan::{Job, Key, Plan};
use crate::run::Event;
use crate::store::{JobDir, JobRecord, JobStatus, Store, StoreError, Timings};

/// Does jobs. One value does all kinds, from several threads at once.
pub trait Worker: Sync {
    /// Does one job: reads its inputs, writes its outputs under `ctx.out()`.
    ///
    /// A worker of long jobs asks [`JobContext::control`] at every step and keeps checkpoints under [`JobContext::keep`].
    ///
    /// # Errors
    /// The job failed, or was stopped as asked.
    fn run(&self, job: &Job, ctx: &JobContext<'_>) -> Result<JobOutput, JobError>;
}

/// What a job leaves besides its files.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOutput {
    /// How it ended.
    pub status: JobStatus,
    /// Why, where the training diverged.
    pub reason: Option<String>,
    /// What it found out: [`TrainSummary`] of a train job, [`EvaluateSummary`] of an evaluate job, anything small of others.
    pub summary: Value,
}

impl JobOutput {
    /// A job that did what it was to do.
    ///
    /// # Panics
    /// If `summary` has maps with keys that are no text.
    #[must_use]
    pub fn finished(summary: &impl Serialize) -> Self {
        Self { status: JobStatus::Finished, reason: None, summary: to_value(summary) }
    }

    /// A training that became NaN or infinite.
    ///
    /// # Panics
    /// If `summary` has maps with keys that are no text.
    #[must_use]
    pub fn diverged(reason: impl Into<String>, summary: &impl Serialize) -> Self {
        Self { status: JobStatus::Diverged, reason: Some(reason.into()), summary: to_value(summary) }
    }
}

fn to_value(summary: &impl Serialize) -> Value {
    serde_json::to_value(summary).expect("summaries are plain structs with text keys")
}

/// Summary of a train job: fields of a run record by the same names. The loss curve is a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSummary {
    /// Distinct samples it was trained on.
    pub subset_samples: u64,
    /// Steps done.
    pub steps: u64,
    /// Pairs seen, repeats counted.
    pub samples_seen: u64,
    /// Forward multiply-accumulates of both encoders times samples seen, in units of 1e9.
    pub gmacs: f64,
}

/// Summary of an evaluate job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSummary {
    /// Full metric name to value.
    pub metrics: BTreeMap<String, f64>,
}

/// Time that a job took, and the pairs that a training saw in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Wall time, seconds.
    pub wall_s: f64,
    /// CPU time of the process meanwhile, seconds.
    pub cpu_s: f64,
    /// Pairs.
    pub samples: u64,
}

/// Why a job did not end well.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It cannot be done, at least not like this.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
        /// Whether another attempt may end otherwise.
        retryable: bool,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The machine cannot take it (disk full, read-only): the next job would fail likewise, so nothing new is started.
    #[error("{reason}")]
    Environment {
        /// Why.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// It stopped because [`JobContext::control`] said so; its checkpoint is kept.
    #[error("stopped before its end")]
    Interrupted,
}

impl JobError {
    /// A failure that another attempt would repeat.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), retryable: false, hint: None }
    }

    /// A failure that another attempt may mend.
    #[must_use]
    pub fn retryable(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), retryable: true, hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Failed { reason, retryable, .. } => Self::Failed { reason, retryable, hint: Some(hint.into()) },
            Self::Environment { reason, .. } => Self::Environment { reason, hint: Some(hint.into()) },
            Self::Interrupted => self,
        }
    }

    /// `operation` on `path` failed with `error`.
    #[must_use]
    pub fn io(operation: &'static str, path: &Path, error: io::Error) -> Self {
        StoreError::io(operation, path, error).into()
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        let (reason, hint) = (error.to_string(), error.hint());
        if error.is_environment() { Self::Environment { reason, hint } } else { Self::Failed { reason, retryable: false, hint } }
    }
}

/// What a running job is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Write a checkpoint and return [`JobError::Interrupted`].
    Stop,
    /// Return [`JobError::Interrupted`] at once.
    Abort,
}

/// Least time between two progress events of a job.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);
/// Least time between two looks at the lease of a running job.
const LEASE_INTERVAL: Duration = Duration::from_millis(500);

/// The clocks of one attempt.
pub(super) struct Account {
    begun: Instant,
    cpu_begun: Duration,
    /// What the checkpoint cost that this attempt went on from.
    earlier: Spent,
    /// Pairs of this attempt, where it trains.
    samples: Option<u64>,
    last_event: Option<Instant>,
    lease_seen: Instant,
}

impl Account {
    pub(super) fn begin() -> Self {
        let begun = Instant::now();
        Self { begun, cpu_begun: cpu_time(), earlier: Spent::default(), samples: None, last_event: None, lease_seen: begun }
    }

    fn spent(&self) -> Spent {
        let Spent { wall_s, cpu_s, samples } = self.earlier;
        Spent {
            wall_s: wall_s + self.begun.elapsed().as_secs_f64(),
            cpu_s: cpu_s + cpu_time().saturating_sub(self.cpu_begun).as_secs_f64(),
            samples: samples + self.samples.unwrap_or(0),
        }
    }

    /// The timings of a job that ends now.
    pub(super) fn timings(&self, threads: usize) -> Timings {
        let Spent { wall_s, cpu_s, samples } = self.spent();
        Timings { wall_s, cpu_s, threads, samples: self.samples.map(|_| samples) }
    }
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What a worker sees of the world while it does one job.
pub struct JobContext<'a> {
    pub(super) index: usize,
    pub(super) attempt: u32,
    pub(super) plan: &'a Plan,
    pub(super) store: &'a Store,
    pub(super) dir: &'a JobDir<'a>,
    pub(super) threads: usize,
    pub(super) shutdown: &'a Shutdown,
    pub(super) deadline: Option<Instant>,
    pub(super) over_time: AtomicBool,
    /// Whether another program took the lease.
    pub(super) lost: AtomicBool,
    pub(super) events: &'a (dyn Fn(Event) + Sync),
    pub(super) account: Mutex<Account>,
    pub(super) missing: &'a [(usize, String)],
}

impl JobContext<'_> {
    /// Where the job writes its outputs.
    #[must_use]
    pub fn out(&self) -> &Path {
        self.dir.out()
    }

    /// Where the job keeps checkpoints; what stands there is from an earlier attempt at the same job.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn keep(&self) -> Result<PathBuf, StoreError> {
        self.dir.keep()
    }

    /// Folder of a parent's outputs.
    #[must_use]
    pub fn input(&self, key: &Key) -> PathBuf {
        self.store.output_dir(key)
    }

    /// Folder of a parent's outputs, after a look whether they are still the ones that its record names. What a job reads is read
    /// from here.
    ///
    /// # Errors
    /// A file that is not what the parent wrote: the parent is set aside and done again by the next run.
    pub fn checked_input(&self, key: &Key) -> Result<PathBuf, JobError> {
        self.store.check_outputs(key)?;
        Ok(self.input(key))
    }

    /// Record of a parent.
    ///
    /// # Errors
    /// It has none, or it cannot be read.
    pub fn input_record(&self, key: &Key) -> Result<JobRecord, JobError> {
        let record = self.store.record(key)?;
        let gone = || JobError::failed(format!("job {} has no record in the store any more", key.short()));
        record.ok_or_else(|| gone().with_hint("run the same command again: that job is done anew"))
    }

    /// What a parent (or any other job of the plan) is.
    #[must_use]
    pub fn job(&self, key: &Key) -> Option<&Job> {
        self.plan.index_of(key).map(|index| self.plan.job(index))
    }

    /// The whole plan, for the report.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.plan
    }

    /// The store, for the report.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Index of the job in the plan.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// 1 for the first attempt; it changes no result.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Threads that the job may use; it changes no result.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Jobs that a report has to do without, with the reason. Empty for all other kinds.
    #[must_use]
    pub fn missing(&self) -> &[(usize, String)] {
        self.missing
    }

    /// Says what it cost to come to the checkpoint that this attempt goes on from.
    pub fn goes_on_from(&self, earlier: Spent) {
        self.account().earlier = earlier;
    }

    /// What the job cost so far, earlier attempts up to their checkpoints included, once this attempt has seen so many pairs.
    pub fn spent(&self, samples: u64) -> Spent {
        let mut account = self.account();
        account.samples = Some(samples);
        account.spent()
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // Numbers are whole between any two statements.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do now. Cheap: to be asked at every step.
    #[must_use]
    pub fn control(&self) -> Control {
        if self.is_taken_over() {
            return Control::Abort;
        }
        match self.shutdown.stage() {
            Stage::Running | Stage::Draining => {}
            Stage::Stopping => return Control::Stop,
            Stage::Aborting => return Control::Abort,
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.over_time.store(true, Ordering::Release);
            return Control::Stop;
        }
        Control::Continue
    }

    /// Says that a training did a step. Sent on a few times a second, and the last step always.
    pub fn step(&self, step: u64, steps: u64, loss: f64, samples_per_s: f64) {
        if self.is_due() || step == steps {
            (self.events)(Event::Step { job: self.index, step, steps, loss, samples_per_s });
        }
    }

    /// Says that another kind of job moved on. Sent on a few times a second, and the last unit always.
    pub fn progress(&self, done: u64, total: u64) {
        if self.is_due() || done == total {
            (self.events)(Event::Progress { job: self.index, done, total });
        }
    }

    /// Says something that a person should know and that stops nothing.
    pub fn warn(&self, message: impl Into<String>) {
        (self.events)(Event::Warning { message: message.into() });
    }

    fn is_due(&self) -> bool {
        let mut account = self.account();
        let now = Instant::now();
        let is_due = account.last_event.is_none_or(|last| now.duration_since(last) >= EVENT_INTERVAL);
        if is_due {
            account.last_event = Some(now);
        }
        is_due
    }

    /// Whether this program slept so long that another one took the job.
    fn is_taken_over(&self) -> bool {
        let mut account = self.account();
        if account.lease_seen.elapsed() >= LEASE_INTERVAL {
            account.lease_seen = Instant::now();
            if !self.dir.is_held() {
                self.lost.store(true, Ordering::Release);
            }
        }
        self.lost.load(Ordering::Acquire)
    }
}
