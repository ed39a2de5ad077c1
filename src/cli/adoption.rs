//! Which runs of an experiment are taken from committed records, and a look whether training them anew gives the same.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use super::args::Global;
use super::experiment::Loaded;
use super::losses::{first_moved, limit};
use super::reuse::{Adoption, Verify};
use crate::error::{Error, exit};
use crate::executor::Outcome;
use crate::jobs::{Adopted, AdoptedRun, results_folders, run_records};
use crate::plan::{Key, Plan};
use crate::run::{RunRecord, counted};
use crate::store::Store;
use crate::tables::{Drift, DriftKind, Tolerance};

/// The runs that are taken from records: those of the experiment's own results, of the other results beside it, and of the folders that
/// are named, where they are not in the store. Says what was not taken and why.
pub(super) fn find(global: &Global, loaded: &Loaded, finished: &HashSet<Key>, options: &Adoption) -> Result<Adopted, Error> {
    let Adoption { adopt, no_adopt } = options;
    if *no_adopt {
        return Ok(Adopted::default());
    }
    let mut others = Vec::new();
    for named in adopt {
        let folders = results_folders(named);
        if folders.is_empty() {
            let message = format!("--adopt {}: there is no results folder at or below it", named.display());
            return Err(Error::Usage { message, hint: Some("a results folder holds a provenance.json".into()) });
        }
        others.extend(folders);
    }
    // The folders beside are listed only where they may be needed.
    let own = loaded.results(global);
    let is_all_there = loaded.plan.runs().iter().all(|run| loaded.plan.is_finished(run, finished));
    if !is_all_there {
        others.extend(results_folders(&global.results));
    }
    let adopted = Adopted::find(&loaded.plan, finished, &own, &others);
    super::warn(global, &adopted.warnings(&loaded.statements().shown()));
    Ok(adopted)
}

/// Where an adopted run comes from, in words.
pub(super) fn source(run: &AdoptedRun) -> String {
    let AdoptedRun { origin, folder, .. } = run;
    let commit = origin.commit.as_ref().map_or(String::new(), |commit| format!(", commit {:.12}", commit));
    let cpu = origin.cpu.as_ref().map_or(String::new(), |cpu| format!(", on {cpu}"));
    format!("{} (trained by scaledown {}{commit}{cpu})", folder.display(), origin.version)
}

/// One line for each folder that runs are adopted from.
pub(super) fn folders(adopted: &Adopted) -> String {
    let named: BTreeSet<&Path> = adopted.runs().map(|(_, run)| run.folder.as_path()).collect();
    let count = |folder: &Path| adopted.runs().filter(|(_, run)| run.folder == folder).count();
    named.iter().map(|folder| format!("{} from {}", count(folder), folder.display())).collect::<Vec<_>>().join(", ")
}

/// How a look at adopted runs came out.
pub(super) enum Verified {
    /// As they were, or nothing was to be looked at.
    Same,
    /// The exit code that says why not.
    Failed(u8),
}

/// Trains a sample of the adopted runs anew in a store of its own, and compares what comes of it with the records.
///
/// The sample is the runs whose digests of seed and key are smallest. Neither result is kept: the records stay as they are, and the store
/// goes.
pub(super) fn verify(
    global: &Global,
    loaded: &Loaded,
    adopted: &Adopted,
    options: &Verify,
    execute: &dyn Fn(&Plan, &Store) -> Result<Outcome, Error>,
) -> Result<Verified, Error> {
    let Verify { verify: Some(count), verify_seed, tolerance } = options else { return Ok(Verified::Same) };
    let tolerance = Tolerance::parse(tolerance.iter().map(String::as_str))
        .map_err(|message| Error::Usage { message: format!("--tolerance: {message}"), hint: None })?;
    let plan = &loaded.plan;
    let order = |idx: usize| blake3::hash(format!("{verify_seed} {}", plan.run_key(&plan.runs()[idx])).as_bytes());
    let mut chosen: Vec<usize> = adopted.runs().map(|(idx, _)| idx).collect();
    chosen.sort_by_key(|idx| *order(*idx).as_bytes());
    chosen.truncate(*count);
    chosen.sort_unstable();
    if chosen.is_empty() {
        super::warn(global, &["--verify: no run is adopted, so there is nothing to look at".to_owned()]);
        return Ok(Verified::Same);
    }
    let ids: Vec<&str> = chosen.iter().map(|idx| plan.runs()[*idx].run_id.as_str()).collect();
    say(global, &format!("training {} of {} adopted runs anew (seed {verify_seed}): {}", ids.len(), adopted.len(), ids.join(", ")));
    let scratch = tempfile::Builder::new().prefix("scaledown-verify-").tempdir().map_err(|source| Error::File {
        operation: "create a scratch folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let store = Store::open(scratch.path())?;
    let sample = loaded.plan_of(&|idx| chosen.contains(&idx))?;
    let outcome = execute(&sample, &store)?;
    if !outcome.is_complete() {
        for failure in &outcome.failed {
            error(&format!("failed: {}: {}", sample.label(failure.job), failure.reason));
        }
        error("the adopted runs were not verified; nothing else was done");
        return Ok(Verified::Failed(if outcome.failed.is_empty() { exit::INTERRUPTED } else { exit::FAILED }));
    }
    let configs: Vec<_> = chosen.iter().map(|idx| loaded.written_config(*idx)).collect();
    let trained = run_records(&sample, &configs, &store, &HashMap::new())?;
    let records = chosen.iter().filter_map(|idx| adopted.run(*idx));
    let mut differing = 0;
    for (now, then) in trained.iter().zip(records) {
        let found = differences(now, &then.record, &tolerance);
        differing += usize::from(!found.is_empty());
        for line in found {
            error(&format!("differs: run {} of {}: {line}", now.run_id, then.folder.display()));
        }
    }
    if differing > 0 {
        error(&format!(
            "{differing} of {} are not what training them here gives; nothing was changed",
            counted(ids.len(), "adopted run")
        ));
        error("hint: `--no-adopt` trains all of them anew; `--tolerance loss=0.01%` allows for another processor");
        return Ok(Verified::Failed(exit::CHECK));
    }
    say(global, &format!("verified: {} as recorded (tolerance {tolerance})", counted(ids.len(), "adopted run")));
    Ok(Verified::Same)
}

/// How a run that was trained anew differs from its record: how it ended, the first loss that moved, every value that moved.
fn differences(now: &RunRecord, then: &RunRecord, tolerance: &Tolerance) -> Vec<String> {
    if now.status != then.status {
        return vec![format!("it is {} now, {} in the record", now.status.name(), then.status.name())];
    }
    let drift = |table: &str, kind| Drift { table: table.to_owned(), cell: Vec::new(), kind }.to_string();
    let moved = first_moved(&now.curve, &then.curve, limit(tolerance));
    let mut found: Vec<String> = moved.map(|kind| drift("curve", kind)).into_iter().collect();
    let metrics: BTreeSet<&String> = now.metrics.keys().chain(then.metrics.keys()).collect();
    for metric in metrics {
        let finite = |run: &RunRecord| run.metrics.get(metric).copied().filter(|value| value.is_finite());
        let (ours, committed, allowed) = (finite(now), finite(then), tolerance.of(metric));
        if allowed.is_left(ours, committed) {
            found.push(drift(metric, DriftKind::Mean { ours, committed, allowed: Some(allowed) }));
        }
    }
    found
}

fn say(global: &Global, line: &str) {
    if !global.quiet {
        error(line);
    }
}

fn error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
