//! One job from its lease to its record: attempts, time limit, panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::json;

use super::Execution;
use crate::executor::worker::Account;
use crate::executor::{JobContext, JobError, JobOutput, Stage};
use crate::plan::JobSpec;
use crate::run::{Event, JobKind};
use crate::store::{Begin, Completion, FailureRecord, JobDir, JobStatus, LeaseInfo, StoreError, Timings};

/// What became of a job.
#[derive(Debug)]
pub(super) enum Settled {
    /// It is done and in the store.
    Finished { wall_s: f64 },
    /// Another program did it.
    Elsewhere,
    /// Another program is at it.
    Held(LeaseInfo),
    /// Another program took it from this one, which was silent for too long; who, where it is still at it.
    TakenOver(Option<LeaseInfo>),
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
    Done(JobOutput, Timings),
    Stopped,
    TakenOver,
    Faulty(Fault),
}

impl Execution<'_> {
    /// Does a job that is ready, unless another program does or did it.
    pub(super) fn perform(&self, index: usize) -> Settled {
        let job = self.plan.job(index);
        let dir = match self.store.begin(&job.key, &job.spec) {
            Ok(Begin::Work(dir)) => dir,
            Ok(Begin::Finished) => return Settled::Elsewhere,
            Ok(Begin::HeldBy(info)) => return Settled::Held(info),
            Err(error) => return Fault::from(error).settled(),
        };
        match self.inherited(index) {
            Ok(None) => {}
            Ok(Some(output)) => {
                let timings = Timings { wall_s: 0.0, cpu_s: 0.0, threads: self.options.threads.get(), samples: None };
                return self.commit(index, 1, dir, output, timings);
            }
            Err(error) => return self.give_up(index, 1, error.into()),
        }
        let mut attempt = 1;
        loop {
            let label = self.plan.label(index);
            (self.events)(Event::Started { job: index, kind: job.spec.kind(), label, attempt });
            let missing = if job.spec.kind() == JobKind::Report { self.lock().missing_for(index) } else { Vec::new() };
            let fault = match self.attempt(index, attempt, &dir, &missing) {
                // A report on less than everything is not what its key promises: it was written, and is not kept.
                Attempt::Done(_, timings) if !missing.is_empty() => return Settled::Finished { wall_s: timings.wall_s },
                Attempt::Done(output, timings) => return self.commit(index, attempt, dir, output, timings),
                Attempt::Stopped => return Settled::Interrupted,
                Attempt::TakenOver => return self.taken_over(index),
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
            lost: AtomicBool::new(false),
            events: self.events,
            account: Mutex::new(Account::begin()),
            missing,
        };
        let job = self.plan.job(index);
        // The worker is shared and owns what it changes behind locks; the job's folder is thrown away after a panic.
        let result = catch_unwind(AssertUnwindSafe(|| self.worker.run(job, &ctx)));
        let is_over_time = ctx.over_time.load(Ordering::Acquire);
        // What it wrote is gone with its lease, so whatever it says about its end is about that.
        if !dir.is_held() && self.shutdown.stage() < Stage::Stopping {
            return Attempt::TakenOver;
        }
        match result {
            Ok(Ok(output)) => {
                let account = ctx.account.into_inner().unwrap_or_else(PoisonError::into_inner);
                Attempt::Done(output, account.timings(self.options.threads.get()))
            }
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

    fn commit(&self, index: usize, attempt: u32, dir: JobDir<'_>, output: JobOutput, timings: Timings) -> Settled {
        let JobOutput { status, reason, summary } = output;
        let key = *dir.key();
        match dir.commit(Completion { status, reason, summary, timings }) {
            Ok(_) => Settled::Finished { wall_s: timings.wall_s },
            // Taken over in the last moment: the other one's outputs are as good.
            Err(_) if self.store.is_finished(&key) => Settled::Elsewhere,
            Err(error) => self.give_up(index, attempt, error.into()),
        }
    }

    /// What becomes of a job whose lease another program has broken: it does the job, or it did.
    fn taken_over(&self, index: usize) -> Settled {
        let key = &self.plan.job(index).key;
        match self.store.holder_of(key) {
            Ok(holder) => Settled::TakenOver(holder),
            Err(error) => self.give_up(index, 1, error.into()),
        }
    }

    /// The end of an evaluation whose training diverged: it has no model to measure, which is data and no failure. Everything
    /// else that reads a diverged training (scores by a scorer) fails by itself and says so.
    fn inherited(&self, index: usize) -> Result<Option<JobOutput>, StoreError> {
        let JobSpec::Evaluate(spec) = &self.plan.job(index).spec else { return Ok(None) };
        let Some(record) = self.store.record(&spec.train)?.filter(|record| record.status == JobStatus::Diverged) else {
            return Ok(None);
        };
        let why = record.reason.unwrap_or_else(|| "diverged".into());
        Ok(Some(JobOutput::diverged(why, &json!({ "metrics": {} }))))
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
