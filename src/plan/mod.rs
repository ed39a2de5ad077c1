//! Runs and what they need, to a graph of jobs, each under the digest of all that decides its bytes.
//!
//! **Owns**: what a job is ([`JobSpec`]), its identity ([`Key`]), the graph ([`Plan`]), and the questions one can ask it
//! before anything runs: what is shared, what is left to do, why two jobs differ.
//!
//! **In**: [`PlannedRun`]s in order, and a callback that gives the content digest of source files. **Out**: [`Plan`].
//!
//! **Invariant**: pure. No I/O, clock, randomness or environment; the same runs and digests give the same plan, byte for
//! byte. A parent stands before its children, so the order of jobs is a topological one.
//!
//! **Must not know**: YAML, paths of finished jobs, tensors.

mod build;
mod canonical;
mod explain;
mod graph;
mod job;
mod key;
mod render;
#[cfg(test)]
mod tests;

pub use build::{FingerprintError, PlannedRun, ReportInput, build, datasets, selection};
pub use explain::{FieldDiff, difference, expanded, explain, nearest};
pub use graph::{Job, Plan, PlanRun, ResourceClass, pool_label, set_label};
pub use job::{
    DatasetSpec, EvalSetSpec, EvaluateSpec, JobSpec, NamedSet, ReportSpec, RuleSpec, ScoreBy, ScoresSpec, SubsetBy, SubsetSpec,
    TokenizerSpec, TrainSpec,
};
pub use key::{Key, KeyError};
pub use render::{dot, json};

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A source file could not be digested.
    #[error("run {run_id}: cannot digest {what}: {source}")]
    Fingerprint {
        /// First run that needs it.
        run_id: String,
        /// The source, in words.
        what: String,
        /// Why not.
        source: FingerprintError,
    },
    /// Two runs carry one id and differ.
    #[error("two different runs are both called {run_id}")]
    RunIdTwice {
        /// The id.
        run_id: String,
    },
}

impl PlanError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fingerprint { .. } => Some("every file that a run reads must exist and be readable before planning".into()),
            Self::RunIdTwice { .. } => Some("a run id is the digest of its config; please report this as a bug".into()),
        }
    }
}
