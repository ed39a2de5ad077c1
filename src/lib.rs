//! scaledown: which data, which encoder, which training strategy, for the compute I have?
//!
//! A YAML file states a question about CLIP models as a grid over dataset size, data quality, image encoder and training
//! strategy. The program expands it into a graph of jobs, does each piece of work once, and says which of the stated claims
//! the resulting tables support.
//!
//! The crate is a pipeline; its modules are the stages, in reading order:
//!
//! ```text
//! Spec -> ValidSpec -> [RunConfig] -> Plan -> events -> [RunRecord] -> Table -> Verdict -> report
//! ```
//!
//! Shape letters in the docs: B batch, T tokens, C width, H heads, D head dim, E embed_dim, V vocab, S image size, P patch
//! size.

#[cfg(target_endian = "big")]
compile_error!("files hold little-endian numbers, which are read and written as they lie in memory");

pub mod machine;

pub mod run;

pub mod spec;

pub mod grid;

pub mod plan;

pub mod store;

pub mod executor;

pub mod jobs;

pub mod data;

pub mod trainer;

pub mod record;

pub mod tables;

pub mod claims;

pub mod report;

pub mod progress;

pub mod cli;

pub mod error;
