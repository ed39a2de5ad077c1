//! What an experiment stated when its first run started: from its results, the store, or the file as it is now.

use std::collections::HashSet;
use std::path::Path;

use super::experiment::Loaded;
use crate::error::Error;
use crate::jobs::Adopted;
use crate::plan::{Key, PlanRun};
use crate::record::{self, Records, Stated};
use crate::run::{RunConfig, RunStatus};
use crate::store::Store;

const PROVENANCE: &str = record::NAMES[2];

/// What was stated first. As long as no run of the file has finished, that is what the file states now; afterwards what its results
/// or the store have noted, or at the latest what stood when its results were written. Where nothing was noted, it is said how many runs had
/// finished.
pub(super) fn first(loaded: &Loaded, store: &Store, finished: &HashSet<Key>, adopted: &Adopted, results: &Path) -> Stated {
    let is_there = |(idx, run): &(usize, &PlanRun)| adopted.run(*idx).is_some() || loaded.plan.is_finished(run, finished);
    let num_finished = loaded.plan.runs().iter().enumerate().filter(is_there).count();
    let own = record::read(results).ok().filter(|own| holds_any(own, loaded));
    if num_finished == 0 && own.is_none() {
        return now(loaded);
    }
    let noted = || serde_json::from_slice(&store.noted(&loaded.spec().experiment)?).ok();
    let as_written = |own: &Records| Stated::of(&own.statements, own.runs.iter().map(|run| &run.config));
    let of_own = own.as_ref().and_then(|own| own.stated.clone());
    let known = of_own.or_else(noted).or_else(|| own.as_ref().map(as_written));
    known.unwrap_or_else(|| Stated { finished: num_finished, ..now(loaded) })
}

/// Notes what was stated first before the first job starts, for a program that is killed before it has written results.
pub(super) fn note(loaded: &Loaded, store: &Store, stated: &Stated) -> Result<(), Error> {
    let text = serde_json::to_vec(stated).expect("plain structs with text keys always serialise");
    let experiment = &loaded.spec().experiment;
    if store.noted(experiment).is_some_and(|noted| noted == text) { Ok(()) } else { Ok(store.note(experiment, &text)?) }
}

/// Whether a report is finished in the store, and says the same of what was stated first as the results do.
pub(super) fn is_current(loaded: &Loaded, store: &Store, finished: &HashSet<Key>, report: usize, results: &Path) -> bool {
    let key = loaded.plan.job(report).key;
    if !finished.contains(&key) {
        return false;
    }
    let of_folder = |folder: &Path| record::stated(&std::fs::read(folder.join(PROVENANCE)).ok()?);
    of_folder(results).is_none_or(|stated| of_folder(&store.output_dir(&key)) == Some(stated))
}

fn now(loaded: &Loaded) -> Stated {
    let statements = serde_json::to_value(loaded.statements()).expect("statements are plain structs with text keys");
    let configs: Vec<RunConfig> = loaded.configs();
    Stated::of(&statements, &configs)
}

/// Whether records hold a run of the plan that came to its end.
fn holds_any(records: &Records, loaded: &Loaded) -> bool {
    let ended = records.runs.iter().filter(|run| matches!(run.status, RunStatus::Finished | RunStatus::Diverged));
    let ended: HashSet<&str> = ended.map(|run| run.run_id.as_str()).collect();
    loaded.plan.runs().iter().any(|run| ended.contains(run.run_id.as_str()))
}
