//! What the user wrote; the only room that knows YAML.
//!
//! Input: a path (or a text), and what must be known from outside ([`LoadOptions`]). Output: a [`ValidSpec`], or every problem of
//! the file, its bases and overrides at once ([`SpecErrors`]), each at its place in its own file.
//!
//! A file is read twice: first as a tree with places, on which everything is checked against the JSON Schema of the typed
//! structs ([`types`]); then, known to be clean, into those structs. Sections that axes touch are resolved once for every
//! distinct value, and every point of the sweep is checked for what must fit together.
//!
//! Invariants: nothing here depends on the clock or on randomness; files and the environment are reached only through
//! [`LoadOptions`]. Must not know: how runs are named, planned or done.

mod brace;
mod build;
mod check;
mod compose;
mod diagnostic;
mod encoders;
mod files;
mod headline;
mod label;
mod load;
mod naming;
mod parse;
mod parts;
mod problem;
mod resolve;
mod scalar;
mod schema;
mod source;
mod statements;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;
pub mod types;
mod valid;
mod written;

use std::path::Path;

pub use diagnostic::{Code, Diagnostic, SpecErrors, SpecReport};
pub use encoders::encoder_names;
pub use files::{FileFault, Files, FoundFiles, NoFiles};
pub use headline::Headline;
pub use load::{load, load_claims, load_str};
pub use resolve::{image_encoder, slip_loss};
pub use scalar::{Count, FilePath, Interval, Quantity, Shards, Share};
pub use schema::schema;
pub use source::{FileId, SourceFile, Sources, Span};
pub use sweep::{ABSENT, Axis, AxisValue, SubGrid, Sweep};
pub use valid::{Execution, Resolved, SectionIds, ValidSpec};
pub use written::Written;

use crate::run::{DeviceKind, ModelConfig, Precision, StrategyConfig};

/// What loading an experiment must know from outside.
pub struct LoadOptions<'a> {
    /// Overrides, as `key.path=value`, in order.
    pub set: Vec<String>,
    /// Value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Text of a file.
    pub read: &'a dyn Fn(&Path) -> std::io::Result<String>,
    /// Kind of device of every run.
    pub device: DeviceKind,
    /// Arithmetic of every run.
    pub precision: Precision,
    /// Forward multiply-accumulates of one pair under a strategy, in units of 1e9; not a number where it is not known.
    pub cost: &'a dyn Fn(&ModelConfig, &StrategyConfig) -> f64,
    /// Whoever can read the data that the experiment names.
    pub files: &'a dyn Files,
}

impl Default for LoadOptions<'_> {
    /// The machine's files and environment, CPU, f32; no cost and no data are known.
    fn default() -> Self {
        Self {
            set: Vec::new(),
            env: &|name| std::env::var(name).ok(),
            read: &|path| std::fs::read_to_string(path),
            device: DeviceKind::Cpu,
            precision: Precision::F32,
            cost: &|_, _| f64::NAN,
            files: &NoFiles,
        }
    }
}
