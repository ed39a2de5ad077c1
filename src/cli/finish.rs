//! Plans that are done for their own sake, without runs: packs and scores.

use std::io::Write;
use std::num::NonZero;

use super::args::Global;
use crate::error::{Error, exit};
use crate::executor::{Options, Shutdown, execute, signals};
use crate::jobs::{FeatureCache, LocalWorker};
use crate::plan::Plan;
use crate::store::Store;

/// Does the jobs of a plan that are not finished; the exit code says how it ended.
pub(super) fn finish(global: &Global, plan: &Plan, store: &Store, threads: Option<NonZero<usize>>) -> Result<u8, Error> {
    let shutdown = Shutdown::new();
    signals::install(&shutdown)?;
    let worker = LocalWorker { checkpoint_every: Box::new(|_| 0), report: None, features: FeatureCache::default() };
    let options = Options { threads: threads.unwrap_or(Options::default().threads), ..Options::default() };
    let progress = super::progress(global);
    let outcome = execute(plan, store, &worker, &options, &|event| progress.handle(&event), &shutdown)?;
    progress.finish();
    for failure in &outcome.failed {
        writeln!(std::io::stderr().lock(), "failed: {}: {}", plan.label(failure.job), failure.reason)?;
    }
    Ok(match (outcome.failed.is_empty(), outcome.is_complete()) {
        (false, _) => exit::FAILED,
        (true, true) => exit::OK,
        (true, false) => exit::INTERRUPTED,
    })
}
