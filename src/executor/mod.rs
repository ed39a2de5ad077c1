//! Walks the job graph: what runs when, what is tried again, when to stop.
//!
//! **Owns**: clock, retries, time limits, signals; the [`Worker`] trait that jobs are done through. **In**: a plan, a store, a
//! worker. **Out**: [`Event`](crate::run::Event)s while it runs and an [`Outcome`] at the end.
//!
//! **Invariant**: a job runs when all its parents are finished, and only under its lease; a failure blocks what needs it and
//! nothing else. Whatever stops the program, the store stays one that the next invocation goes on from.
//!
//! **Must not know**: what a job computes, the terminal, CSV.

pub mod local;
mod shutdown;
pub mod signals;
mod worker;

pub use local::{ExecutorError, JobState, Options, Outcome, execute};
pub use shutdown::{Shutdown, Stage};
pub use worker::{Control, EvaluateSummary, JobContext, JobError, JobOutput, Spent, TrainSummary, Worker};
