//! What is ready, what waits for what, and what follows from an end: the bookkeeping of an execution, without clock or I/O.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use super::attempt::Settled;
use super::{Failure, JobState, Options, Outcome};
use crate::executor::Stage;
use crate::plan::{Key, Plan, ResourceClass};
use crate::run::{Event, JobKind};

const CLASSES: [ResourceClass; 2] = [ResourceClass::Cpu, ResourceClass::Gpu];
/// Longest wait before looking again at another program's job.
const LONGEST_POLL: Duration = Duration::from_secs(2);

/// What a free thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This job.
    Job(usize),
    /// Nothing yet: look again after at most this long, or when something settles.
    Sleep(Option<Duration>),
    /// Nothing any more.
    Done,
}

/// A job that another program does.
#[derive(Debug, Clone, Copy)]
struct Held {
    job: usize,
    due: Instant,
}

#[derive(Debug, Default)]
struct Class {
    ready: BinaryHeap<Reverse<usize>>,
    running: usize,
    limit: usize,
}

#[derive(Debug)]
pub(super) struct Queue<'a> {
    plan: &'a Plan,
    states: Vec<JobState>,
    /// Parents of each job that are not settled.
    pending: Vec<u32>,
    classes: [Class; 2],
    held: Vec<Held>,
    /// Next wait for a job that is held, by job; only of those that were.
    polls: BTreeMap<usize, Duration>,
    first_poll: Duration,
    /// Jobs to do that are not settled.
    left: usize,
    is_draining: bool,
    max_failures: usize,
    failed: Vec<Failure>,
    environment: Option<(String, Option<String>)>,
    /// Threads that have not left yet.
    pub(super) threads: usize,
}

impl<'a> Queue<'a> {
    pub(super) fn new(plan: &'a Plan, finished: impl Fn(&Key) -> bool, options: &Options) -> Self {
        let mut states: Vec<JobState> =
            plan.jobs().map(|job| if finished(&job.key) { JobState::Cached } else { JobState::Unneeded }).collect();
        let todo = plan.todo(finished);
        for &job in &todo {
            states[job] = JobState::Waiting;
        }
        let limits = [options.jobs.get(), options.gpu_jobs.get()];
        let mut queue = Self {
            plan,
            pending: vec![0; plan.len()],
            classes: limits.map(|limit| Class { limit, ..Class::default() }),
            held: Vec::new(),
            polls: BTreeMap::new(),
            first_poll: options.poll,
            left: todo.len(),
            is_draining: false,
            max_failures: options.max_failures.map_or(usize::MAX, std::num::NonZero::get),
            failed: Vec::new(),
            environment: None,
            threads: 0,
            states,
        };
        for job in todo {
            let pending = plan.parents(job).filter(|&parent| queue.states[parent] == JobState::Waiting).count();
            queue.pending[job] = u32::try_from(pending).expect("fewer than 2^32 jobs");
            if pending == 0 {
                queue.make_ready(job);
            }
        }
        queue
    }

    /// Jobs to do that are not settled.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The first job in plan order whose class has a place, in O(log n).
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.is_draining || self.left == 0 {
            return Next::Done;
        }
        self.wake_held(now);
        let first = (0..CLASSES.len())
            .filter(|&class| self.classes[class].running < self.classes[class].limit)
            .filter_map(|class| self.classes[class].ready.peek().map(|&Reverse(job)| (job, class)))
            .min();
        if let Some((job, class)) = first {
            self.classes[class].ready.pop();
            self.classes[class].running += 1;
            self.states[job] = JobState::Running;
            return Next::Job(job);
        }
        Next::Sleep(self.held.iter().map(|held| held.due.saturating_duration_since(now)).min())
    }

    /// Enters what became of a running job; returns what there is to tell.
    pub(super) fn settle(&mut self, job: usize, settled: Settled, now: Instant) -> Vec<Event> {
        self.classes[self.class(job)].running -= 1;
        let mut events = Vec::new();
        match settled {
            Settled::Held(_) | Settled::TakenOver(_) => {
                self.hold(job, now);
                return events;
            }
            Settled::Finished { wall_s } => {
                self.states[job] = JobState::Finished;
                events.push(Event::Finished { job, wall_s });
                self.release_children(job);
            }
            Settled::Elsewhere => {
                self.states[job] = JobState::Elsewhere;
                events.push(Event::Elsewhere { job });
                self.release_children(job);
            }
            Settled::Interrupted => {
                self.states[job] = JobState::Interrupted;
                events.push(Event::Interrupted { job });
            }
            Settled::Failed { reason, hint, is_environment } => {
                self.states[job] = JobState::Failed;
                let told = hint.as_ref().map_or_else(|| reason.clone(), |hint| format!("{reason}\nhint: {hint}"));
                events.push(Event::Failed { job, reason: told, retrying: false });
                if is_environment && self.environment.is_none() {
                    self.environment = Some((reason.clone(), hint.clone()));
                }
                self.failed.push(Failure { job, reason, hint });
                self.block_children(job, &mut events);
                if !self.is_draining && (is_environment || self.failed.len() >= self.max_failures) {
                    self.is_draining = true;
                    events.push(Event::Draining);
                }
            }
        }
        self.left -= 1;
        events
    }

    /// Jobs that a report has to do without.
    pub(super) fn missing_for(&self, job: usize) -> Vec<(usize, String)> {
        let reason = |failed: usize| {
            self.failed.iter().find(|failure| failure.job == failed).map_or_else(String::new, |failure| failure.reason.clone())
        };
        let mut missing: Vec<(usize, String)> = self
            .plan
            .parents(job)
            .filter_map(|parent| match self.states[parent] {
                JobState::Failed => Some((parent, reason(parent))),
                JobState::Blocked { by } => {
                    let kind = self.plan.job(by).spec.kind().name();
                    Some((parent, format!("needs {kind} {}, which failed: {}", self.plan.label(by), reason(by))))
                }
                _ => None,
            })
            .collect();
        missing.sort_unstable();
        missing
    }

    pub(super) fn outcome(self, stage: Stage) -> Outcome {
        let count = |wanted: &[JobState]| self.states.iter().filter(|state| wanted.contains(state)).count();
        let all = |wanted: JobState| (0..self.states.len()).filter(|&job| self.states[job] == wanted).collect();
        Outcome {
            finished: count(&[JobState::Finished]),
            elsewhere: count(&[JobState::Elsewhere]),
            cached: count(&[JobState::Cached, JobState::Unneeded]),
            blocked: (0..self.states.len())
                .filter_map(|job| match self.states[job] {
                    JobState::Blocked { by } => Some((job, by)),
                    _ => None,
                })
                .collect(),
            interrupted: all(JobState::Interrupted),
            waiting: all(JobState::Waiting),
            failed: self.failed,
            stage,
            environment: self.environment,
            states: self.states,
        }
    }

    fn class(&self, job: usize) -> usize {
        self.plan.resource_class(job) as usize
    }

    fn make_ready(&mut self, job: usize) {
        let class = self.class(job);
        self.classes[class].ready.push(Reverse(job));
    }

    fn release_children(&mut self, job: usize) {
        let plan = self.plan;
        for child in plan.children(job) {
            self.release(child);
        }
    }

    /// One parent less to wait for.
    fn release(&mut self, job: usize) {
        if self.states[job] == JobState::Waiting {
            self.pending[job] -= 1;
            if self.pending[job] == 0 {
                self.make_ready(job);
            }
        }
    }

    /// Blocks all that stands on a failed job, but for a report: it is written without.
    fn block_children(&mut self, failed: usize, events: &mut Vec<Event>) {
        let plan = self.plan;
        let mut settled = vec![failed];
        while let Some(job) = settled.pop() {
            for child in plan.children(job) {
                if self.states[child] != JobState::Waiting {
                    continue;
                }
                if plan.job(child).spec.kind() == JobKind::Report {
                    self.release(child);
                } else {
                    self.states[child] = JobState::Blocked { by: failed };
                    self.left -= 1;
                    events.push(Event::Blocked { job: child, by: failed });
                    settled.push(child);
                }
            }
        }
    }

    fn hold(&mut self, job: usize, now: Instant) {
        self.states[job] = JobState::Waiting;
        let wait = self.polls.entry(job).or_insert(self.first_poll);
        self.held.push(Held { job, due: now + *wait });
        *wait = (*wait * 2).min(LONGEST_POLL);
    }

    fn wake_held(&mut self, now: Instant) {
        let mut index = 0;
        while index < self.held.len() {
            if self.held[index].due <= now {
                let job = self.held.swap_remove(index).job;
                self.make_ready(job);
            } else {
                index += 1;
            }
        }
    }
}
