//! Brings what a report says into the results folder, all at once, and never less than what stands there.
//!
//! Input: a report in the store, or what there is of an unfinished experiment. Output: a results folder that is either as
//! before or wholly new ([`Published`]). Invariant: files that the program did not write stay; numbers of a run give way only
//! to at least as many numbers of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::adopt::Adopted;
use super::report::{ReportInputs, all_files, assemble};
use crate::executor::JobError;
use crate::plan::Plan;
use crate::record::{self, Records};
use crate::run::{RunRecord, RunStatus, counted};
use crate::store::{Replacement, Store, StoreError, inside, replace_folder};

/// What became of a results folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It holds what was to be published.
    Written,
    /// It was left as it is, because it holds more.
    Left {
        /// In which way.
        why: String,
    },
}

/// Files of a results folder that are the program's whatever the experiment states, but for the clocks.
const FILES: [&str; 6] = ["runs.csv", "curves.csv", "provenance.json", record::MILESTONES, record::OUTCOMES, "claims.csv"];

/// Publishes what there is of an experiment that did not come to its report, or whose runs are partly taken from records: `missing` says why
/// jobs have no record.
///
/// # Errors
/// If the store cannot be read or the results folder not written.
pub fn publish_partial(
    inputs: &ReportInputs,
    plan: &Plan,
    store: &Store,
    missing: &HashMap<usize, String>,
    adopted: &Adopted,
) -> Result<Published, JobError> {
    let records = assemble(inputs, plan, store, missing, adopted)?;
    publish(&inputs.results, &records, &all_files(&records).map_err(JobError::failed)?)
}

/// Publishes the finished report of a plan from the store.
///
/// # Errors
/// If its files are not those of its record, or the results folder cannot be written.
pub fn sync(store: &Store, plan: &Plan, report: usize, results: &Path) -> Result<Published, JobError> {
    let key = plan.job(report).key;
    let Some(record) = store.record(&key)? else {
        return Err(JobError::failed(format!("the report of {} has no record in the store", plan.label(report))));
    };
    let mut files = Vec::new();
    for (name, digest) in &record.outputs {
        let path = inside(&store.output_dir(&key), name)?;
        let bytes = std::fs::read(&path).map_err(|error| JobError::io("read", &path, error))?;
        if blake3::hash(&bytes).to_hex().as_str() != digest.blake3 {
            return Err(StoreError::Record { path, reason: "its bytes are not those that were written".into() }.into());
        }
        files.push((name.clone(), bytes));
    }
    let is_there = |(name, bytes): &(String, Vec<u8>)| std::fs::read(results.join(name)).is_ok_and(|found| found == *bytes);
    if files.iter().all(is_there) {
        // Nothing is parsed where nothing changes: a finished sweep of thousands of runs is found so in a moment.
        return Ok(Published::Written);
    }
    let found = |name: &str| files.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice());
    let bytes = |name: &str| found(name).unwrap_or_default();
    let [runs, curves, provenance] = record::NAMES.map(bytes);
    let records = record::parse(runs, curves, provenance, bytes(record::MILESTONES), found(record::OUTCOMES))
        .map_err(|error| JobError::failed(format!("the report in the store does not read: {error}")))?;
    publish(results, &records, &files)
}

/// Makes a results folder hold these files, which say what `records` are, unless it holds more of them.
///
/// # Errors
/// If the folder cannot be written; it is as it was then.
pub fn publish(folder: &Path, records: &Records, files: &[(String, Vec<u8>)]) -> Result<Published, JobError> {
    if let Some(why) = would_lose(folder, records) {
        return Ok(Published::Left { why });
    }
    replace_folder(folder, Replacement { files, owned: &owned })?;
    Ok(Published::Written)
}

/// The files of a results folder that the program wrote, by what the folder itself states.
fn owned(folder: &Path) -> BTreeSet<String> {
    let text = std::fs::read(folder.join("provenance.json")).unwrap_or_default();
    let stated: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let tables = stated.pointer("/statements/tables").and_then(serde_json::Value::as_array).into_iter().flatten();
    let names = tables.filter_map(|table| table.get("name")?.as_str());
    let files = names.flat_map(|name| ["csv", "md"].map(|ending| format!("tables/{name}.{ending}")));
    FILES.map(str::to_owned).into_iter().chain(files.filter(|name| inside(folder, name).is_ok())).collect()
}

/// What a results folder holds that these records lack.
fn would_lose(folder: &Path, new: &Records) -> Option<String> {
    let is_complete = new.runs.iter().all(|run| is_ended(run.status));
    let old = match record::read(folder) {
        Ok(old) => old,
        Err(_) if is_complete || !FILES.iter().any(|name| folder.join(name).exists()) => return None,
        Err(error) => return Some(format!("its records cannot be read ({error}), and this run did not come to its end")),
    };
    let now: BTreeMap<&str, &RunRecord> = new.runs.iter().map(|run| (run.run_id.as_str(), run)).collect();
    let held: Vec<&RunRecord> = old.runs.iter().filter(|run| has_result(run)).collect();
    let poorer = held.iter().filter(|was| now.get(was.run_id.as_str()).is_some_and(|now| !holds_as_much(now, was))).count();
    if poorer > 0 {
        return Some(format!("it holds more of {poorer} of {} runs than this run came to", new.runs.len()));
    }
    let others = held.iter().filter(|was| !now.contains_key(was.run_id.as_str())).count();
    let num_new = new.runs.iter().filter(|run| has_result(run)).count();
    if others > 0 && !is_complete && num_new < held.len() {
        return Some(format!(
            "it holds results of {}, {others} of other settings, and this run came to {num_new} of {}",
            counted(held.len(), "run"),
            new.runs.len()
        ));
    }
    None
}

fn is_ended(status: RunStatus) -> bool {
    matches!(status, RunStatus::Finished | RunStatus::Diverged)
}

/// Whether a row says more than why there is nothing.
fn has_result(run: &RunRecord) -> bool {
    is_ended(run.status) || !run.metrics.is_empty()
}

fn holds_as_much(now: &RunRecord, was: &RunRecord) -> bool {
    has_result(now) && was.metrics.keys().all(|metric| now.metrics.contains_key(metric))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::record::tests::{point, provenance, run};

    fn records(runs: Vec<RunRecord>) -> Records {
        let ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
        let points = vec![point(&[("data.train.size", "8")], &ids)];
        let statements = serde_json::json!({ "tables": [{ "name": "t", "rows": ["data.train.size"], "values": ["zeroshot/scenes.acc1"] }], "claims": [] });
        let outcomes = crate::run::Outcomes::default();
        Records {
            provenance: provenance(),
            runs,
            axes: vec!["data.train.size".to_owned()],
            points,
            statements,
            outcomes,
            identities: BTreeMap::new(),
            stated: None,
        }
    }

    fn waiting(run_id: &str) -> RunRecord {
        let mut record = run(run_id, 8, 0, 0.0);
        record.metrics.clear();
        record.status = RunStatus::Interrupted;
        record
    }

    fn put(folder: &Path, records: &Records) -> Published {
        publish(folder, records, &all_files(records).unwrap()).unwrap()
    }

    #[test]
    fn numbers_give_way_only_to_at_least_as_many_of_the_same_runs() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("results");
        let whole = records(vec![run("a", 8, 0, 1.0), run("b", 8, 1, 2.0)]);
        assert_eq!(put(&folder, &whole), Published::Written);
        let before = std::fs::read(folder.join("runs.csv")).unwrap();
        for poorer in [vec![waiting("a"), waiting("b")], vec![run("a", 8, 0, 1.0), waiting("b")], vec![waiting("c")]] {
            let left = put(&folder, &records(poorer));
            assert!(matches!(left, Published::Left { .. }), "{left:?}");
            assert_eq!(std::fs::read(folder.join("runs.csv")).unwrap(), before);
        }
        let mut failed = run("a", 8, 0, 1.0);
        failed.metrics.clear();
        failed.status = RunStatus::Failed;
        assert!(matches!(put(&folder, &records(vec![failed, run("b", 8, 1, 2.0)])), Published::Left { .. }));
        let more = records(vec![run("a", 8, 0, 3.0), run("b", 8, 1, 2.0), waiting("c")]);
        assert_eq!(put(&folder, &more), Published::Written, "as much of the same runs, and one that is not done yet");
        assert_eq!(
            put(&folder, &records(vec![run("z", 8, 0, 1.0)])),
            Published::Written,
            "another experiment that came to its end"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_read_gives_way_to_whole_results_alone() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("provenance.json"), "{").unwrap();
        assert!(matches!(put(place.path(), &records(vec![waiting("a")])), Published::Left { .. }));
        assert_eq!(put(place.path(), &records(vec![run("a", 8, 0, 1.0)])), Published::Written);
    }

    #[test]
    fn tables_that_are_no_longer_stated_go_and_the_users_own_files_stay() {
        let place = tempfile::tempdir().unwrap();
        let mut whole = records(vec![run("a", 8, 0, 1.0)]);
        put(place.path(), &whole);
        std::fs::write(place.path().join("tables/mine.md"), "mine").unwrap();
        std::fs::write(place.path().join("paper.pdf"), "mine").unwrap();
        whole.statements["tables"][0]["name"] = "other".into();
        put(place.path(), &whole);
        let there = |name: &str| place.path().join(name).exists();
        assert!(there("tables/other.csv") && there("tables/mine.md") && there("paper.pdf"));
        assert!(!there("tables/t.csv") && !there("tables/t.md"));
    }

    #[test]
    fn a_table_that_leads_out_of_its_folder_is_not_written() {
        let mut records = records(vec![run("a", 8, 0, 1.0)]);
        records.statements["tables"][0]["name"] = "../../x".into();
        assert!(all_files(&records).unwrap_err().contains("`../../x` is not a file name"));
    }
}
