//! What can go wrong while one run is trained or measured.

use std::path::PathBuf;

/// An error of the trainer; divergence is not one (it is a status).
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The thread pool could not start.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// Asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// dfdx could not allocate.
    #[error("out of memory while making an activation")]
    OutOfMemory,
    /// A parameter buffer of another model.
    #[error("found {found} parameters, the model has {expected}")]
    ParameterCount {
        /// Found.
        found: usize,
        /// Expected.
        expected: usize,
    },
    /// An update was asked of a step that was prepared for encoding.
    #[error("this step was prepared without an optimiser")]
    NoOptimizer,
    /// A checkpoint's optimiser state does not fit.
    #[error("the optimiser state `{buffer}` is missing or of another length")]
    OptimizerState {
        /// Which.
        buffer: String,
    },
    /// A part of the config that no backend here can train.
    #[error("{what} cannot be trained yet on {device}")]
    Unsupported {
        /// What.
        what: String,
        /// Device.
        device: &'static str,
        /// What to do instead.
        hint: String,
    },
    /// A checkpoint or model file could not be read.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data does not fit the model or the evaluation.
    #[error("{0}")]
    Input(String),
}

impl TrainerError {
    /// What a user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OutOfMemory => Some("use a smaller batch, or cut it with `train.accumulate`".into()),
            Self::Unsupported { hint, .. } => Some(hint.clone()),
            Self::Checkpoint { .. } => Some("remove the file; the run starts again from the checkpoint before it, or anew".into()),
            _ => None,
        }
    }
}

impl From<dfdx::tensor::CpuError> for TrainerError {
    fn from(_: dfdx::tensor::CpuError) -> Self {
        Self::OutOfMemory
    }
}
