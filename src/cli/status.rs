//! `status`: where the runs of an experiment stand. Reads the store only.

use std::io::Write;

use super::args::{Experiment, Format, Global};
use super::experiment::Loaded;
use crate::error::Error;
use crate::run::counted;
use crate::store::Store;

pub(super) fn run(global: &Global, experiment: &Experiment, format: Format, out: &mut dyn Write) -> Result<(), Error> {
    let loaded = Loaded::new(global, experiment)?;
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    let overview = store.overview()?;
    let held = |key: &crate::plan::Key| overview.leases.iter().find(|lease| lease.key == *key);
    let failed = |key: &crate::plan::Key| overview.failures.iter().find(|failure| failure.key == *key);
    let mut rows = Vec::new();
    for run in loaded.plan.runs() {
        let jobs: Vec<usize> = std::iter::once(run.train).chain(run.evaluates.iter().copied()).collect();
        let keys = jobs.iter().map(|job| &loaded.plan.job(*job).key);
        let done = keys.clone().filter(|key| finished.contains(*key)).count();
        let state = if done == jobs.len() {
            "finished".to_string()
        } else if let Some(lease) = keys.clone().find_map(held) {
            format!("running on {}", lease.holder.host)
        } else if let Some(failure) = keys.clone().find_map(failed) {
            format!("failed: {}", failure.reason)
        } else if done > 0 {
            format!("{done} of {} finished", counted(jobs.len(), "job"))
        } else {
            "waiting".to_string()
        };
        rows.push((run.run_id.clone(), state));
    }
    if format == Format::Json {
        let runs: Vec<_> = rows.iter().map(|(run, state)| serde_json::json!({ "run_id": run, "state": state })).collect();
        writeln!(out, "{:#}", serde_json::json!({ "experiment": loaded.spec().experiment, "runs": runs }))?;
        return Ok(());
    }
    for (run, state) in &rows {
        writeln!(out, "{run}  {state}")?;
    }
    let count = |start: &str| rows.iter().filter(|(_, state)| state.starts_with(start)).count();
    let (done, running, failed) = (count("finished"), count("running"), count("failed"));
    writeln!(
        out,
        "{}: {done} finished, {running} running, {failed} failed, {} to do",
        counted(rows.len(), "run"),
        rows.len() - done - running - failed
    )?;
    Ok(())
}
