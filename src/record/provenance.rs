//! `provenance.json`: where results come from, the resolved config of every run, and which runs make which point.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FORMAT, PointView, Provenance, RecordError, Records, patch};
use crate::run::{RunConfig, RunRecord};

pub(super) const NAME: &str = "provenance.json";

/// The file as read back, configs in the order of runs.
pub(super) struct File {
    pub provenance: Provenance,
    pub configs: Vec<(String, RunConfig)>,
    pub axes: Vec<String>,
    pub points: Vec<PointView>,
    pub statements: Value,
}

/// The file as it stands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    format: u32,
    provenance: Provenance,
    statements: Value,
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
    differs: Value,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

pub(super) fn write(records: &Records, configs: &[Value]) -> Result<Vec<u8>, RecordError> {
    let Records { provenance, runs, axes, points, statements, outcomes: _ } = records;
    let first = configs.first().cloned().unwrap_or(Value::Null);
    let entry = |(run, config): (&RunRecord, &Value)| RunEntry { run_id: run.run_id.clone(), differs: patch::diff(&first, config) };
    let entries = runs.iter().zip(configs).map(entry).collect();
    let layout = Layout {
        format: FORMAT,
        provenance: provenance.clone(),
        statements: statements.clone(),
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
    let Version { format } = serde_json::from_slice(text)?;
    if format != FORMAT {
        return Err(RecordError::Format { found: format, expected: FORMAT });
    }
    let Layout { format: _, provenance, statements, config, runs, axes, points } = serde_json::from_slice(text)?;
    let configs = runs
        .into_iter()
        .map(|RunEntry { run_id, differs }| Ok((run_id, serde_json::from_value(patch::apply(&config, &differs))?)))
        .collect::<Result<_, RecordError>>()?;
    Ok(File { provenance, configs, axes, points, statements })
}
