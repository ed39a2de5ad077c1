//! Everything that can end the program, one variant a room, and its exit code.

use std::path::PathBuf;

use crate::data::DataError;
use crate::executor::{ExecutorError, JobError};
use crate::plan::PlanError;
use crate::record::RecordError;
use crate::spec::SpecErrors;
use crate::store::StoreError;
use crate::tables::TablesError;
use crate::trainer::TrainerError;

/// What ends the program early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The experiment file.
    #[error(transparent)]
    Spec(#[from] SpecErrors),
    /// The job graph.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The executor.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The trainer.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    /// A results folder.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A table.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// A job done outside the executor.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A file of the command line.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Standard output or error.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
    /// Something asked for cannot be done as asked.
    #[error("{message}")]
    Usage {
        /// What.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
}

impl Error {
    /// What a user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Trainer(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Tables(error) => error.hint(),
            Self::Job(JobError::Failed { hint, .. } | JobError::Environment { hint, .. }) | Self::Usage { hint, .. } => {
                hint.clone()
            }
            // A spec prints the hints of each of its problems itself.
            Self::Spec(_) | Self::Plan(_) | Self::Executor(_) | Self::Job(_) | Self::File { .. } | Self::Print(_) => None,
        }
    }

    /// The program's exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Spec(_) => exit::SPEC,
            Self::Usage { .. } => exit::USAGE,
            Self::Store(_) | Self::Data(_) | Self::Record(_) | Self::File { .. } | Self::Trainer(_) => exit::ENVIRONMENT,
            Self::Job(JobError::Environment { .. }) => exit::ENVIRONMENT,
            // A file that cannot be read, though it was there when the experiment was loaded.
            Self::Plan(PlanError::Fingerprint { .. }) => exit::ENVIRONMENT,
            Self::Executor(_) | Self::Plan(_) | Self::Tables(_) | Self::Job(_) | Self::Print(_) => exit::INTERNAL,
        }
    }
}

/// Exit codes.
pub mod exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// A bug, or something nothing else covers.
    pub const INTERNAL: u8 = 1;
    /// The command line.
    pub const USAGE: u8 = 2;
    /// The experiment file.
    pub const SPEC: u8 = 3;
    /// Some runs failed (a diverged run has not failed).
    pub const FAILED: u8 = 4;
    /// A verdict is not the expected one, or a table drifted.
    pub const CHECK: u8 = 5;
    /// The machine: no CUDA, disk full, unreadable data.
    pub const ENVIRONMENT: u8 = 6;
    /// Stopped at a checkpoint, to be queued again.
    pub const REQUEUE: u8 = 75;
    /// Interrupted.
    pub const INTERRUPTED: u8 = 130;
}
