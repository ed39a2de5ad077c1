//! What the typed sections mean: defaults filled in, sizes looked up, units converted.
//!
//! Pure: a typed section in, its part of the `RunConfig` or its problems out. A problem names a key path; whoever has the tree
//! finds the place.

mod budget;
mod data;
mod evaluate;
mod milestones;
mod model;
mod quality;
mod train;

pub(super) use budget::{Budget, Steps, Warmup, steps_of};
pub(super) use data::{DataPart, data, pack_side};
pub(super) use evaluate::{evaluate, metrics};
pub(super) use milestones::{MilestoneAt, milestones, stated_milestones};
pub use model::image_encoder;
pub(super) use model::{SIGMOID_LOGIT_SCALE_INIT, model};
pub use train::slip_loss;
pub(super) use train::{Strategy, doubts, grad_clip, loss, optimizer, strategy, unmaskable, unusual_lr, weight_decay};

pub(super) use super::problem::Problem;
pub(super) use super::scalar::size;

use super::files::{FileFault, Files};
use super::scalar::Shards;
use crate::run::RunConfig;

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
