//! One job from its lease to its record: attempts, time limit, panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Execution;
use crate::executor::{JobContext, JobError, JobOutput, Stage};
use crate::plan::{Job, JobSpec};
use crate::run::{Event, JobKind};
use crate::store::{Begin, Completion, FailureRecord, JobDir, JobStatus, LeaseInfo, StoreError, Timings};

/// What became of a job.
#[derive(Debug)]
pub(super) enum Settled {
    /// It is done and in the store.
    Finished { wall_s: f64 },
    /// Another program did it.
    Adopted,
    /// Another program is at it.
    Held(LeaseInfo),
    /// It failed for good.
    Failed { reason: String, hint: Option<String>, is_environment: bool },
    /// It stopped as asked.
    Interrupted,
}

/// A failed attempt.
struct Fault {
    reason: String,
    hint: Option<String>,
    retryable: bool,
    is_environment: bool,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self { reason: error.to_string(), hint: error.hint(), retryable: false, is_environment: error.is_environment() }
    }
}

impl Fault {
    fn plain(reason: String, retryable: bool) -> Self {
        Self { reason, hint: None, retryable, is_environment: false }
    }

    fn settled(self) -> Settled {
        Settled::Failed { reason: self.reason, hint: self.hint, is_environment: self.is_environment }
    }
}

/// How one attempt ended.
enum Attempt {
    Done(JobOutput),
    Stopped,
    Faulty(Fault),
}

impl Execution<'_> {
    /// Does a job that is ready, unless another program does or did it.
    pub(super) fn perform(&self, index: usize) -> Settled {
        let job = self.plan.job(index);
        let dir = match self.store.begin(&job.key, &job.spec) {
            Ok(Begin::Work(dir)) => dir,
            Ok(Begin::Finished) => return Settled::Adopted,
            Ok(Begin::HeldBy(info)) => return Settled::Held(info),
            Err(error) => return Fault::from(error).settled(),
        };
        match self.inherited(index) {
            Ok(None) => {}
            Ok(Some(output)) => {
                return self
                    .commit(dir, output, Instant::now(), Duration::ZERO)
                    .unwrap_or_else(|fault| self.give_up(index, 1, fault));
            }
            Err(error) => return self.give_up(index, 1, error.into()),
        }
        let mut attempt = 1;
        loop {
            let (start, cpu_start) = (Instant::now(), cpu_time());
            let label = self.plan.label(index);
            (self.events)(Event::Started { job: index, kind: job.spec.kind(), label, attempt });
            let missing = if job.spec.kind() == JobKind::Report { self.lock().missing_for(index) } else { Vec::new() };
            let fault = match self.attempt(index, attempt, &dir, &missing) {
                // A report on less than everything is not what its key promises: it was written, and is not kept.
                Attempt::Done(_) if !missing.is_empty() => return Settled::Finished { wall_s: start.elapsed().as_secs_f64() },
                Attempt::Done(output) => {
                    let cpu = cpu_time().saturating_sub(cpu_start);
                    return self.commit(dir, output, start, cpu).unwrap_or_else(|fault| self.give_up(index, attempt, fault));
                }
                Attempt::Stopped => return Settled::Interrupted,
                Attempt::Faulty(fault) => fault,
            };
            let is_last = !fault.retryable || attempt > self.options.retries || self.shutdown.stage() > Stage::Running;
            if is_last {
                return self.give_up(index, attempt, fault);
            }
            (self.events)(Event::Failed { job: index, reason: fault.reason, retrying: true });
            if let Err(error) = dir.reset() {
                return self.give_up(index, attempt, error.into());
            }
            attempt += 1;
        }
    }

    fn attempt(&self, index: usize, attempt: u32, dir: &JobDir<'_>, missing: &[(usize, String)]) -> Attempt {
        let ctx = JobContext {
            index,
            attempt,
            plan: self.plan,
            store: self.store,
            dir,
            threads: self.options.threads.get(),
            shutdown: self.shutdown,
            deadline: self.options.time_limit.and_then(|limit| Instant::now().checked_add(limit)),
            over_time: AtomicBool::new(false),
            events: self.events,
            last_event: Mutex::new(None),
            missing,
        };
        let job = self.plan.job(index);
        // The worker is shared and owns what it changes behind locks; the job's folder is thrown away after a panic.
        let result = catch_unwind(AssertUnwindSafe(|| self.worker.run(job, &ctx)));
        let is_over_time = ctx.over_time.load(Ordering::Acquire);
        match result {
            Ok(Ok(output)) => Attempt::Done(output),
            Ok(Err(JobError::Interrupted)) => self.stopped(is_over_time),
            Ok(Err(JobError::Failed { reason, retryable, hint })) => {
                Attempt::Faulty(Fault { reason, hint, retryable, is_environment: false })
            }
            Ok(Err(JobError::Environment { reason, hint })) => {
                Attempt::Faulty(Fault { reason, hint, retryable: false, is_environment: true })
            }
            Err(panic) => {
                let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
                let reason = format!("panicked: {}", said.as_deref().unwrap_or("no message"));
                Attempt::Faulty(Fault::plain(reason, true))
            }
        }
    }

    fn stopped(&self, is_over_time: bool) -> Attempt {
        if self.shutdown.stage() >= Stage::Stopping {
            return Attempt::Stopped;
        }
        match self.options.time_limit {
            Some(limit) if is_over_time => Attempt::Faulty(Fault {
                hint: Some("its checkpoint is kept: the same command goes on from there, or give a longer `--time-limit`".into()),
                ..Fault::plain(format!("time limit of {} s", limit.as_secs_f64()), false)
            }),
            _ => Attempt::Faulty(Fault::plain("the job stopped without being asked to".into(), true)),
        }
    }

    fn commit(&self, dir: JobDir<'_>, output: JobOutput, start: Instant, cpu: Duration) -> Result<Settled, Fault> {
        let wall_s = start.elapsed().as_secs_f64();
        let timings = Timings { wall_s, cpu_s: cpu.as_secs_f64(), threads: self.options.threads.get() };
        let JobOutput { status, reason, summary } = output;
        dir.commit(Completion { status, reason, summary, timings })?;
        Ok(Settled::Finished { wall_s })
    }

    /// The end of a job that a diverged one feeds: diverged itself, without being done.
    fn inherited(&self, index: usize) -> Result<Option<JobOutput>, StoreError> {
        let job = self.plan.job(index);
        if job.spec.kind() == JobKind::Report {
            return Ok(None);
        }
        for parent in job.spec.parents() {
            let can_diverge = self.plan.index_of(&parent).is_some_and(|parent| can_diverge(self.plan.job(parent)));
            if can_diverge
                && let Some(record) = self.store.record(&parent)?
                && record.status == JobStatus::Diverged
            {
                let why = record.reason.unwrap_or_else(|| "diverged".into());
                let summary = if job.spec.kind() == JobKind::Evaluate { json!({ "metrics": {} }) } else { Value::Null };
                return Ok(Some(JobOutput { status: JobStatus::Diverged, reason: Some(why), summary }));
            }
        }
        Ok(None)
    }

    fn give_up(&self, index: usize, attempts: u32, fault: Fault) -> Settled {
        let job = self.plan.job(index);
        let failure = FailureRecord {
            key: job.key,
            kind: job.spec.tag().to_owned(),
            label: self.plan.label(index),
            reason: fault.reason.clone(),
            attempts,
        };
        if let Err(error) = self.store.record_failure(&failure)
            && !fault.is_environment
        {
            self.warn(format!("the failure of {} is not noted in the store: {error}", failure.label));
        }
        fault.settled()
    }
}

fn can_diverge(job: &Job) -> bool {
    matches!(job.spec, JobSpec::Train(_) | JobSpec::Scores(_) | JobSpec::Subset(_))
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
