//! Whether records are those of a file's plan, and if not, what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cli::experiment::Loaded;
use crate::plan::{self, FieldDiff};
use crate::record::Records;
use crate::run::RunConfig;

/// Fields that are named; the rest is counted.
const NAMED: usize = 4;

/// How records differ from the runs of a plan; `None` where they are the same runs of the same data.
pub(super) fn difference(loaded: &Loaded, records: &Records) -> Option<String> {
    let planned: BTreeSet<&str> = loaded.plan.runs().iter().map(|run| run.run_id.as_str()).collect();
    let there: BTreeSet<&str> = records.runs.iter().map(|run| run.run_id.as_str()).collect();
    let missing: Vec<&str> = loaded.plan.runs().iter().map(|run| run.run_id.as_str()).filter(|id| !there.contains(id)).collect();
    let extra: Vec<&str> = records.runs.iter().map(|run| run.run_id.as_str()).filter(|id| !planned.contains(id)).collect();
    let data = other_data(&loaded.fingerprints, &records.provenance.data);
    if missing.is_empty() && extra.is_empty() {
        return data.map(|names| format!("its runs were made from other data: {names}"));
    }
    let mut parts = Vec::new();
    if let Some(first) = missing.first() {
        let what = match nearest(first, loaded, records) {
            Some((id, fields)) if !fields.is_empty() => format!("the nearest record, {id}, differs from run {first} in {fields}"),
            Some((id, _)) => match &data {
                Some(names) => format!("record {id} is run {first} on other data: {names}"),
                None => format!("record {id} has the config of run {first} and another id: it is of another version"),
            },
            None => "there are no records".to_owned(),
        };
        parts.push(what);
    }
    parts.extend(counted(&missing, planned.len(), "runs of the file are not in it"));
    parts.extend(counted(&extra, there.len(), "of its runs are not in the file"));
    Some(parts.join("; "))
}

/// `2 of 4 WHAT (ids)`.
fn counted(ids: &[&str], of: usize, what: &str) -> Option<String> {
    let more = if ids.len() > NAMED { ", .." } else { "" };
    let listed = ids.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    (!ids.is_empty()).then(|| format!("{} of {of} {what} ({listed}{more})", ids.len()))
}

/// The record nearest to a planned run, and the fields in which they differ; records of other planned runs come last.
fn nearest(run_id: &str, loaded: &Loaded, records: &Records) -> Option<(String, String)> {
    let idx = loaded.plan.runs().iter().position(|run| run.run_id == run_id)?;
    let json = |config: &RunConfig| serde_json::to_value(config).expect("a config is plain structs with text keys");
    let planned: BTreeSet<&str> = loaded.plan.runs().iter().map(|run| run.run_id.as_str()).collect();
    let (known, strange): (Vec<_>, Vec<_>) = records.runs.iter().partition(|run| planned.contains(run.run_id.as_str()));
    let candidates = if strange.is_empty() { known } else { strange };
    let candidates: Vec<(&str, Value)> = candidates.iter().map(|run| (run.run_id.as_str(), json(&run.config))).collect();
    let (id, fields) = plan::nearest(&json(&loaded.written_config(idx)), candidates.iter().map(|(id, config)| (*id, config)))?;
    Some((id.to_owned(), words(&fields)))
}

fn words(fields: &[FieldDiff]) -> String {
    let text = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
    let named = fields
        .iter()
        .take(NAMED)
        .map(|FieldDiff { path, old, new }| format!("`{path}`: {} in the record, {} in the file", text(old), text(new)));
    let mut words = named.collect::<Vec<_>>().join(", ");
    if fields.len() > NAMED {
        words.push_str(&format!(" and {} more", fields.len() - NAMED));
    }
    words
}

/// Names of the data that both know with other contents.
fn other_data(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) -> Option<String> {
    let names: Vec<&str> = ours
        .iter()
        .filter(|(name, digest)| theirs.get(*name).is_some_and(|other| other != *digest))
        .map(|(name, _)| name.as_str())
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}
