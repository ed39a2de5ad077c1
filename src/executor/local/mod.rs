//! The executor of one machine: a few threads that take ready jobs from one queue.

mod attempt;
mod queue;

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Shutdown, Stage, Worker};
use crate::plan::Plan;
use crate::run::Event;
use crate::store::{LeaseInfo, Store, StoreError};
use attempt::Settled;
use queue::{Next, Queue};

/// How to execute. None of it changes a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Jobs that run at once.
    pub jobs: NonZero<usize>,
    /// Of these, jobs on a GPU.
    pub gpu_jobs: NonZero<usize>,
    /// Threads a job.
    pub threads: NonZero<usize>,
    /// Further attempts at a job whose failure another attempt may mend.
    pub retries: u32,
    /// Time that one attempt at one job may take; it is then stopped at a checkpoint and counts as failed.
    pub time_limit: Option<Duration>,
    /// Failures after which nothing new is started.
    pub max_failures: Option<NonZero<usize>>,
    /// How often leases are renewed.
    pub heartbeat: Duration,
    /// First wait before looking again at a job that another program does; doubled up to 2 s.
    pub poll: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            jobs: NonZero::<usize>::MIN,
            gpu_jobs: NonZero::<usize>::MIN,
            threads: thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
            retries: 0,
            time_limit: None,
            max_failures: None,
            heartbeat: Duration::from_secs(5),
            poll: Duration::from_millis(25),
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Nobody needs its output: all that would are finished.
    Unneeded,
    /// Found finished.
    Cached,
    /// Not started.
    Waiting,
    /// Running.
    Running,
    /// Done by this execution.
    Finished,
    /// Done meanwhile by another program.
    Elsewhere,
    /// Failed; why is in [`Outcome::failed`].
    Failed,
    /// A job that it needs failed.
    Blocked {
        /// That job.
        by: usize,
    },
    /// Stopped before its end.
    Interrupted,
}

/// A job that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its index.
    pub job: usize,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Where each job stands, by index.
    pub states: Vec<JobState>,
    /// Jobs done here.
    pub finished: usize,
    /// Jobs done meanwhile by other programs.
    pub elsewhere: usize,
    /// Jobs that needed no doing: finished before, or needed by nothing that is to be done.
    pub cached: usize,
    /// Jobs that failed, in the order in which they did.
    pub failed: Vec<Failure>,
    /// Jobs that could not run, and the failed job that each stands on.
    pub blocked: Vec<(usize, usize)>,
    /// Jobs stopped before their end.
    pub interrupted: Vec<usize>,
    /// Jobs never started.
    pub waiting: Vec<usize>,
    /// How far the user had asked to stop.
    pub stage: Stage,
    /// The machine refused (disk full, read-only): why and what to do.
    pub environment: Option<(String, Option<String>)>,
}

impl Outcome {
    /// Whether every job that was wanted is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.blocked.is_empty() && self.interrupted.is_empty() && self.waiting.is_empty()
    }
}

/// Why an execution could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl ExecutorError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Thread(_) => Some("give fewer jobs at once with `-j`, or raise `ulimit -u`".into()),
        }
    }
}

/// Does what is left to do of `plan`, and returns when all of it is done, failed or blocked, or when `shutdown` says so.
///
/// # Errors
/// The store cannot be listed or a thread not started. What happens to jobs is in the [`Outcome`].
pub fn execute(
    plan: &Plan,
    store: &Store,
    worker: &dyn Worker,
    options: &Options,
    events: &(dyn Fn(Event) + Sync),
    shutdown: &Shutdown,
) -> Result<Outcome, ExecutorError> {
    let finished = store.finished()?;
    let queue = Queue::new(plan, |key| finished.contains(key), options);
    events(Event::Planned { jobs: plan.len(), cached: plan.len() - queue.left() });
    let num_threads = options.jobs.get().min(queue.left());
    let execution = Execution {
        plan,
        store,
        worker,
        options,
        events,
        shutdown,
        queue: Mutex::new(queue),
        changed: Condvar::new(),
        told: Mutex::default(),
    };
    if num_threads > 0 {
        if let Err(error) = store.gc(None) {
            execution.warn(format!("cannot sweep what dead programs left: {error}"));
        }
        execution.run(num_threads)?;
    }
    let queue = execution.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(queue.outcome(shutdown.stage()))
}

struct Execution<'a> {
    plan: &'a Plan,
    store: &'a Store,
    worker: &'a dyn Worker,
    options: &'a Options,
    events: &'a (dyn Fn(Event) + Sync),
    shutdown: &'a Shutdown,
    queue: Mutex<Queue<'a>>,
    /// Signalled whenever a job settles and when the last thread leaves.
    changed: Condvar,
    /// Holders that the user was told about.
    told: Mutex<HashSet<String>>,
}

/// How soon a signal is noticed.
const TICK: Duration = Duration::from_millis(50);

impl<'a> Execution<'a> {
    fn run(&self, num_threads: usize) -> Result<(), ExecutorError> {
        thread::scope(|scope| {
            let mut threads = Vec::with_capacity(num_threads);
            for number in 0..num_threads {
                self.lock().threads += 1;
                let spawned = thread::Builder::new().name(format!("job-{number}")).spawn_scoped(scope, || self.take_jobs());
                match spawned {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        self.lock().threads -= 1;
                        if threads.is_empty() {
                            return Err(ExecutorError::Thread(error));
                        }
                        self.warn(format!("cannot start thread {number}, going on with {}: {error}", threads.len()));
                        break;
                    }
                }
            }
            self.watch();
            Ok(())
        })
    }

    /// Renews leases and passes on what the user asks for, until the last thread is gone.
    fn watch(&self) {
        let mut beat = Instant::now();
        let mut stage = Stage::Running;
        let mut queue = self.lock();
        while queue.threads > 0 {
            queue = self.changed.wait_timeout(queue, TICK).unwrap_or_else(PoisonError::into_inner).0;
            let now = self.shutdown.stage();
            if now > stage {
                drop(queue);
                self.announce(stage, now);
                stage = now;
                self.changed.notify_all();
                queue = self.lock();
            }
            if beat.elapsed() >= self.options.heartbeat {
                drop(queue);
                self.store.heartbeat();
                beat = Instant::now();
                queue = self.lock();
            }
        }
    }

    fn announce(&self, before: Stage, now: Stage) {
        if before < Stage::Draining && now == Stage::Draining {
            (self.events)(Event::Draining);
        }
        if before < Stage::Stopping && now >= Stage::Stopping {
            (self.events)(Event::Stopping);
        }
    }

    fn take_jobs(&self) {
        let mut queue = self.lock();
        loop {
            if self.shutdown.stage() > Stage::Running {
                break;
            }
            match queue.next(Instant::now()) {
                Next::Job(job) => {
                    drop(queue);
                    let settled = self.perform(job);
                    queue = self.settle(job, settled);
                }
                Next::Sleep(time) => {
                    let time = time.unwrap_or(TICK).min(TICK);
                    queue = self.changed.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Done => break,
            }
        }
        queue.threads -= 1;
        drop(queue);
        self.changed.notify_all();
    }

    /// Enters what became of a job and tells about what follows from it.
    fn settle(&self, job: usize, settled: Settled) -> MutexGuard<'_, Queue<'a>> {
        match &settled {
            Settled::Held(info) => self.tell_of(info, job),
            Settled::TakenOver(by) => self.tell_of_takeover(by.as_ref(), job),
            _ => {}
        }
        let mut queue = self.lock();
        let consequences = queue.settle(job, settled, Instant::now());
        if !consequences.is_empty() {
            drop(queue);
            consequences.into_iter().for_each(self.events);
            queue = self.lock();
        }
        self.changed.notify_all();
        queue
    }

    fn tell_of(&self, info: &LeaseInfo, job: usize) {
        let holder = info.to_string();
        let is_new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(holder.clone());
        if is_new {
            let (kind, label) = (self.plan.job(job).spec.kind().name(), self.plan.label(job));
            self.warn(format!(
                "{holder} works on this store too (now on {kind} {label}): taking other jobs, or waiting for its results"
            ));
        }
    }

    fn tell_of_takeover(&self, by: Option<&LeaseInfo>, job: usize) {
        let (kind, label) = (self.plan.job(job).spec.kind().name(), self.plan.label(job));
        let by = by.map_or_else(|| "another program".to_owned(), ToString::to_string);
        self.warn(format!(
            "{kind} {label} was taken over by {by}: this program showed no sign of life for too long; its result is waited for"
        ));
    }

    fn warn(&self, message: String) {
        (self.events)(Event::Warning { message });
    }

    fn lock(&self) -> MutexGuard<'_, Queue<'a>> {
        // Nothing panics while the queue is locked, so it is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
