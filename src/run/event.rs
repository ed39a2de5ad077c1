//! What is happening now: the executor sends these, `progress` shows them.

use serde::{Deserialize, Serialize};

/// Kind of a job, in pipeline order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Decode and pack images and captions once.
    Dataset,
    /// Train or load a tokenizer.
    Tokenizer,
    /// Score every sample of a pool.
    Scores,
    /// Choose samples: a list of indices.
    Subset,
    /// Train one run.
    Train,
    /// Measure one trained run on one evaluation.
    Evaluate,
    /// Write records, tables and verdicts of an experiment.
    Report,
}

impl JobKind {
    /// Name as shown and stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dataset => "dataset",
            Self::Tokenizer => "tokenizer",
            Self::Scores => "scores",
            Self::Subset => "subset",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Report => "report",
        }
    }
}

/// Something happened to a job or to the whole execution. `job` is the index of the job in its plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The plan is known: total jobs and how many of them are finished already.
    Planned {
        /// All jobs.
        jobs: usize,
        /// Found finished in the store.
        cached: usize,
    },
    /// A job began.
    Started {
        /// Its index.
        job: usize,
        /// Its kind.
        kind: JobKind,
        /// What a person calls it.
        label: String,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// A training job did a step (sent a few times a second at most).
    Step {
        /// Its index.
        job: usize,
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Loss of the last step.
        loss: f64,
        /// Pairs a second.
        samples_per_s: f64,
    },
    /// Another kind of job moved on.
    Progress {
        /// Its index.
        job: usize,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// A job ended well.
    Finished {
        /// Its index.
        job: usize,
        /// Wall time, seconds.
        wall_s: f64,
    },
    /// Another program finished the job meanwhile.
    Elsewhere {
        /// Its index.
        job: usize,
    },
    /// A job ended in an error; `retrying` says whether it is tried again.
    Failed {
        /// Its index.
        job: usize,
        /// Why.
        reason: String,
        /// Whether another attempt follows.
        retrying: bool,
    },
    /// A job was stopped before its end and can go on later.
    Interrupted {
        /// Its index.
        job: usize,
    },
    /// A job cannot run because one it needs failed.
    Blocked {
        /// Its index.
        job: usize,
        /// The job that failed.
        by: usize,
    },
    /// Nothing new is started any more; running jobs finish.
    Draining,
    /// Running jobs stop at their next checkpoint.
    Stopping,
    /// Something a person should know that stops nothing.
    Warning {
        /// What.
        message: String,
    },
}
