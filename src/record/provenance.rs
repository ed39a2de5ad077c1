//! `provenance.json`: where results come from, the resolved config of every run, and which runs make which point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FORMAT, Identity, Origin, PointView, Provenance, RecordError, Records, Stated, patch, seal};
use crate::run::{RunConfig, RunRecord};

pub(super) const NAME: &str = "provenance.json";

/// The file as read back, configs in the order of runs.
pub(super) struct File {
    pub provenance: Provenance,
    pub configs: Vec<(String, RunConfig)>,
    pub identities: BTreeMap<String, Identity>,
    /// By run id.
    pub seals: BTreeMap<String, String>,
    pub axes: Vec<String>,
    pub points: Vec<PointView>,
    pub statements: Value,
    pub stated: Option<Stated>,
}

/// The file as it stands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    format: u32,
    provenance: Provenance,
    statements: Value,
    /// What was stated when the first run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stated: Option<Stated>,
    /// Config of the first run.
    config: Value,
    /// Every run and, as a merge patch, where its config differs from the first.
    runs: Vec<RunEntry>,
    /// Axes in the order written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    axes: Vec<String>,
    points: Vec<PointView>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunEntry {
    run_id: String,
    /// Digest of the keys of its jobs, where it came to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Digest of what its rows in the other files say, and of where it was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<String>,
    /// Where it was trained, if not by the program that wrote these records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted: Option<Origin>,
    differs: Value,
}

/// What [`keys`] reads of the file.
#[derive(Deserialize)]
struct Keys {
    runs: Vec<KeyEntry>,
}

#[derive(Deserialize)]
struct KeyEntry {
    run_id: String,
    #[serde(default)]
    key: Option<String>,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

pub(super) fn write(records: &Records, configs: &[Value]) -> Result<Vec<u8>, RecordError> {
    let Records { provenance, runs, axes, points, statements, outcomes: _, identities, stated } = records;
    let first = configs.first().cloned().unwrap_or(Value::Null);
    let entry = |(run, config): (&RunRecord, &Value)| {
        let identity = identities.get(&run.run_id);
        RunEntry {
            run_id: run.run_id.clone(),
            key: identity.map(|identity| identity.key.clone()),
            seal: seal::of(records, run),
            adopted: identity.and_then(|identity| identity.adopted.clone()),
            differs: patch::diff(&first, config),
        }
    };
    let entries = runs.iter().zip(configs).map(entry).collect();
    let layout = Layout {
        format: FORMAT,
        provenance: provenance.clone(),
        statements: statements.clone(),
        stated: stated.clone(),
        config: first,
        runs: entries,
        axes: axes.clone(),
        points: points.clone(),
    };
    let mut bytes = serde_json::to_vec_pretty(&layout)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn parse(text: &[u8]) -> Result<File, RecordError> {
    check_format(text)?;
    let Layout { format: _, provenance, statements, stated, config, runs, axes, points } = serde_json::from_slice(text)?;
    let (mut configs, mut identities, mut seals) = (Vec::with_capacity(runs.len()), BTreeMap::new(), BTreeMap::new());
    for RunEntry { run_id, key, seal, adopted, differs } in runs {
        identities.extend(key.map(|key| (run_id.clone(), Identity { key, adopted })));
        seals.extend(seal.map(|seal| (run_id.clone(), seal)));
        configs.push((run_id, serde_json::from_value(patch::apply(&config, &differs))?));
    }
    Ok(File { provenance, configs, identities, seals, axes, points, statements, stated })
}

/// Run ids and keys alone.
pub(super) fn keys(text: &[u8]) -> Result<Vec<(String, Option<String>)>, RecordError> {
    check_format(text)?;
    let Keys { runs } = serde_json::from_slice(text)?;
    Ok(runs.into_iter().map(|KeyEntry { run_id, key }| (run_id, key)).collect())
}

/// What was stated first, alone.
pub(super) fn stated(text: &[u8]) -> Option<Stated> {
    #[derive(Deserialize)]
    struct Alone {
        stated: Option<Stated>,
    }
    serde_json::from_slice::<Alone>(text).ok()?.stated
}

fn check_format(text: &[u8]) -> Result<(), RecordError> {
    let Version { format } = serde_json::from_slice(text)?;
    if format == FORMAT { Ok(()) } else { Err(RecordError::Format { found: format, expected: FORMAT }) }
}
