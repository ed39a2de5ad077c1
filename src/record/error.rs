//! What can be wrong with a results folder.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A results folder that cannot be written or read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of a file does not read as it should.
    #[error("{file}:{line}: {what}")]
    Malformed {
        /// The file.
        file: &'static str,
        /// Its line, from 1.
        line: u64,
        /// Found and expected.
        what: String,
    },
    /// Written by another version of the program in another layout.
    #[error("provenance.json: format version {found}, expected {expected}")]
    Format {
        /// The version found.
        found: u32,
        /// The version that this program reads.
        expected: u32,
    },
    /// Two runs share an id.
    #[error("run {run_id} is there twice")]
    Duplicate {
        /// The id.
        run_id: String,
    },
    /// A file names a run that another does not.
    #[error("{file}: run {run_id} is not in the other files of the folder")]
    UnknownRun {
        /// The file.
        file: &'static str,
        /// The id.
        run_id: String,
    },
    /// A value that JSON cannot hold.
    #[error("provenance.json: {0}")]
    Json(#[from] serde_json::Error),
}

impl RecordError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("a results folder holds runs.csv, curves.csv and provenance.json; `scaledown run` writes them".to_owned())
            }
            Self::Malformed { .. } | Self::UnknownRun { .. } => {
                Some("the records are written by the program only; restore them, or run the experiment again".to_owned())
            }
            Self::Format { .. } => Some("read it with the version of the program that wrote it, or run it again".to_owned()),
            Self::Io { .. } | Self::Duplicate { .. } | Self::Json(_) => None,
        }
    }

    pub(super) fn csv(file: &'static str, error: &csv::Error) -> Self {
        let line = error.position().map_or(0, csv::Position::line);
        Self::Malformed { file, line, what: error.to_string() }
    }
}
