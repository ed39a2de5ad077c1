//! `explain RUN`: why a run is to be done, or why it is not.

use std::io::Write;

use super::adoption;
use super::args::{Experiment, Global};
use super::experiment::Loaded;
use super::reuse::Adoption;
use crate::error::Error;
use crate::plan::{FieldDiff, JobSpec, explain};
use crate::store::{JobRecord, Store};

/// Finished jobs of a kind that are compared at most.
const COMPARED: usize = 5000;

pub(super) fn run(
    global: &Global,
    experiment: &Experiment,
    adoption: &Adoption,
    run: &str,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let loaded = Loaded::new(global, experiment)?;
    let planned = loaded.find_run(run)?;
    let store = Store::open(&global.store)?;
    let finished = store.finished()?;
    writeln!(out, "run {}", planned.run_id)?;
    let index = loaded.plan.runs().iter().position(|run| run.run_id == planned.run_id).expect("it was found there");
    if let Some(point) = loaded.expansion.owners()[index].first() {
        for (path, label) in loaded.expansion.labels(*point as usize) {
            writeln!(out, "  {path} = {label}")?;
        }
    }
    if let Some(known) = adoption::find(global, &loaded, &finished, adoption)?.run(index) {
        writeln!(out, "{}, adopted from {}: will not run", known.record.status.name(), adoption::source(known))?;
        writeln!(
            out,
            "its model is in no store; `--no-adopt` trains it, `run --verify N` trains N of the adopted runs and compares"
        )?;
        return Ok(());
    }
    // What it stands on first: a new data set is why everything after it runs.
    let mut jobs: Vec<usize> = loaded.plan.ancestors(planned.train);
    jobs.push(planned.train);
    jobs.extend(&planned.evaluates);
    for job in jobs {
        let node = loaded.plan.job(job);
        let name = format!("{} {}", node.spec.tag(), loaded.plan.label(job));
        if finished.contains(&node.key) {
            writeln!(out, "{name}: finished, will not run ({})", node.key.short())?;
            if job == planned.train {
                writeln!(out, "  in {}", store.output_dir(&node.key).display())?;
            }
            continue;
        }
        writeln!(out, "{name}: will run ({})", node.key.short())?;
        match nearest(&store, &finished, &node.spec)? {
            None => writeln!(out, "  nothing of its kind is finished in {}", global.store.display())?,
            Some((record, differences)) => {
                writeln!(out, "  nearest finished: {}, which differs in", record.key.short())?;
                for FieldDiff { path, old, new } in &differences {
                    let text = |value: &Option<serde_json::Value>| value.as_ref().map_or("nothing".into(), ToString::to_string);
                    writeln!(out, "    {path}: {} there, {} here", text(old), text(new))?;
                }
            }
        }
    }
    Ok(())
}

/// The finished job of the same kind with the fewest differing fields.
fn nearest(
    store: &Store,
    finished: &std::collections::HashSet<crate::plan::Key>,
    spec: &JobSpec,
) -> Result<Option<(JobRecord, Vec<FieldDiff>)>, Error> {
    let mut keys: Vec<_> = finished.iter().collect();
    keys.sort_unstable();
    let mut best: Option<(JobRecord, Vec<FieldDiff>)> = None;
    let mut compared = 0;
    for key in keys {
        let Some(record) = store.record(key)? else { continue };
        if record.job.tag() != spec.tag() || record.is_stand_in() {
            continue;
        }
        let differences = explain(&record.job, spec);
        if best.as_ref().is_none_or(|(_, least)| differences.len() < least.len()) {
            best = Some((record, differences));
        }
        compared += 1;
        if compared == COMPARED {
            break;
        }
    }
    Ok(best)
}
