//! What the typed sections mean: defaults filled in, sizes looked up, units converted.
//!
//! Pure: a typed section in, its part of the `RunConfig` or its problems out. A problem names a key path; whoever has the tree
//! finds the place.

mod budget;
mod data;
mod evaluate;
mod model;
mod quality;
mod train;

pub(super) use budget::{Budget, Steps, Warmup, steps_of};
pub(super) use data::{DataPart, data, pack_side};
pub(super) use evaluate::{evaluate, metrics};
pub use model::encoder_names;
pub(super) use model::{SIGMOID_LOGIT_SCALE_INIT, model};
pub(super) use train::{doubts, grad_clip, loss, optimizer, strategy, unusual_lr, weight_decay, whole_patches};

use super::diagnostic::Code;
use super::files::{FileFault, Files};
use super::scalar::Shards;
use crate::run::RunConfig;

/// A problem of meaning, at a key path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: Code,
    /// Dotted key path from the top of the file.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, path: path.into(), message: message.into(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Problem {
    /// A fault of a file, under the path of the section that names it.
    pub fn of_file(code: Code, section: &str, fault: FileFault) -> Self {
        let FileFault { key, message, hint } = fault;
        let path = format!("{section}.{key}");
        Self { code, message: format!("`{path}`: {message}"), path, hint }
    }
}

/// What resolving data must ask from outside.
pub(super) struct Outside<'a> {
    /// Whoever can read the files.
    pub files: &'a dyn Files,
    /// The run that a scorer file states, at a seed; `None` where its problems were reported.
    pub scorer: &'a mut dyn FnMut(&str, u64) -> Option<RunConfig>,
}

/// The shards that a list names, patterns and folders looked up.
pub(super) fn shards_of(files: &dyn Files, shards: Shards) -> Result<Vec<String>, FileFault> {
    let found: Result<Vec<Vec<String>>, FileFault> = shards.0.iter().map(|path| files.shards(path)).collect();
    found.map(|found| found.concat())
}

/// A count as the size of something in memory.
pub(super) fn size(count: super::scalar::Count) -> usize {
    usize::try_from(count.0).unwrap_or(usize::MAX)
}
