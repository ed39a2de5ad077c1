//! What the files that an experiment names turn out to be, asked of whoever can read them.
//!
//! Input: sources as they are stated. Output: counts, and faults by the key that states what is at fault; the place in the
//! experiment file is found by who asks. Must not know: formats, disks.

use crate::run::{DataSource, EvalSource, EvalTask, ScoreFile};

/// Something about a source, at one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// Key of the source.
    pub key: String,
    /// What was found and expected.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a source turns out to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundFiles {
    /// Samples that it lists, where that is known.
    pub samples: Option<u64>,
    /// Names of its classes, of an evaluation set that states them.
    pub classnames: Vec<String>,
    /// Samples of each class, of an evaluation set that states them.
    pub class_samples: Vec<u64>,
    /// What stands in the way of using it.
    pub faults: Vec<FileFault>,
    /// What a person should know.
    pub warnings: Vec<FileFault>,
}

/// Whoever can read files. What one does not override is not known, and nothing is wrong with it.
pub trait Files {
    /// The shards that a path names: itself, or what a pattern matches and a folder holds, sorted.
    ///
    /// # Errors
    /// A pattern that matches nothing, a folder without shards.
    fn shards(&self, path: &str) -> Result<Vec<String>, FileFault> {
        Ok(vec![path.to_owned()])
    }
    /// A training source, of whose files this share may be missing.
    fn pool(&self, _source: &DataSource, _max_missing: f64) -> FoundFiles {
        FoundFiles::default()
    }
    /// Whether a training source has a numeric field, in more than half of its samples.
    fn field(&self, _source: &DataSource, _field: &str) -> Option<FileFault> {
        None
    }
    /// Whether a table has scores for more than half of a training source.
    fn scores(&self, _source: &DataSource, _scores: &ScoreFile) -> Option<FileFault> {
        None
    }
    /// How a list of uids and a training source differ.
    fn uids(&self, _source: &DataSource, _file: &str) -> FoundFiles {
        FoundFiles::default()
    }
    /// Whether a vocabulary file can be read.
    fn vocabulary(&self, _file: &str) -> Option<FileFault> {
        None
    }
    /// An evaluation source, for a task.
    fn eval_set(&self, _source: &EvalSource, _task: EvalTask) -> FoundFiles {
        FoundFiles::default()
    }
}

/// No files at hand. Patterns stay as they are written.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl Files for NoFiles {}
