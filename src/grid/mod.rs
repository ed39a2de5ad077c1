//! `ValidSpec` to ordered runs: points, seeds, run ids.
//!
//! Input: a checked experiment. Output: [`Expansion`]: the points in the order written, and the distinct runs that they need. A
//! run's identity is its content: the BLAKE3 of its config's canonical JSON with the digest of each source in place of its paths
//! ([`Digests`]); never its place. Equal configs are one run, which then belongs to several points.
//!
//! Invariant: pure; the same experiment gives the same runs in the same order. A config is built when it is asked for, so a
//! million runs cost their ids. Must not know: YAML, files, what is finished already.

mod expand;
mod identity;
#[cfg(test)]
mod tests;

pub use expand::{Expansion, Run, RunParts, expand};
pub use identity::{Digests, RunId, run_id, sources};
