//! `RunRecord` to and from CSV and provenance.
//!
//! Owns the columns of `runs.csv`, `curves.csv`, `outcomes.csv` and `timings.csv`, the content of `provenance.json` and the format
//! version of all five. Input and output: [`Records`]. Invariant: [`read`] gives back exactly what [`files`] was given (floats are
//! written in the shortest form that reads back the same; a metric that is not finite is not written), the same records give
//! the same bytes, and only `timings.csv` knows a clock. Must not know: how runs were made, what tables or claims say of them,
//! how a file is made durable.

mod columns;
mod curves;
mod error;
mod milestones;
mod outcomes;
mod patch;
mod provenance;
mod runs;
mod text;
mod timings;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::{DeviceKind, Outcomes, Precision, RunRecord};

pub use error::RecordError;
pub use text::number;
pub use timings::Timing;

/// The commit that this program was built from, with `-modified` where its sources had local changes; `None` where it was not
/// built from a repository. `build.rs` sets it.
pub const COMMIT: Option<&str> = option_env!("SCALEDOWN_COMMIT");

/// Name of the file of metrics at milestones, which a results folder has where runs have milestones.
pub const MILESTONES: &str = milestones::NAME;

/// Name of the file of items' outcomes, which a results folder has where outcomes are known.
pub const OUTCOMES: &str = outcomes::NAME;

/// Names of the committed files of every results folder.
pub const NAMES: [&str; 3] = [runs::NAME, curves::NAME, provenance::NAME];

/// Version of the layout of a results folder; another version is refused, not guessed at.
pub const FORMAT: u32 = 1;

/// One point of the sweep, as tables see it: its labels and its runs, one a seed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointView {
    /// Key path of each axis to the label of the point on it; an axis that the point does not have is left out.
    pub labels: BTreeMap<String, String>,
    /// Key path to labels of tables' `where` that name the point's value in other words: a default, another form of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub also: BTreeMap<String, Vec<String>>,
    /// Run ids in the order of seeds.
    pub run_ids: Vec<String>,
}

/// Where results come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the program.
    pub version: String,
    /// Commit that the program which wrote them was built from, where known, with `-modified` where its sources were changed.
    pub commit: Option<String>,
    /// Name of the experiment, which is its folder under `results/`.
    pub experiment: String,
    /// Digest of what the experiment states: its runs, points, tables and claims.
    pub experiment_digest: String,
    /// Kind of device that computed the runs.
    pub device: DeviceKind,
    /// Arithmetic of its products; f32 where nothing is said.
    #[serde(default = "full_precision", skip_serializing_if = "is_full_precision")]
    pub precision: Precision,
    /// The command that reruns it.
    pub command: String,
    /// Data set to the fingerprint of its samples.
    pub data: BTreeMap<String, String>,
    /// Packed set to what of it was there and was good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub samples: BTreeMap<String, SampleCounts>,
}

/// What of a data set was there, and what of that was good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleCounts {
    /// Samples packed.
    pub packed: u64,
    /// Samples left out.
    pub skipped: u64,
    /// Samples left out, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped_by_kind: BTreeMap<String, u64>,
    /// Shards listed, where there are shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_listed: Option<u64>,
    /// Shards listed that do not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards_missing: Option<u64>,
}

fn full_precision() -> Precision {
    Precision::F32
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_full_precision(precision: &Precision) -> bool {
    *precision == Precision::F32
}

/// Everything that a results folder holds of an experiment's runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// Where they come from.
    pub provenance: Provenance,
    /// The runs in plan order.
    pub runs: Vec<RunRecord>,
    /// Key paths of the axes, in the order written.
    pub axes: Vec<String>,
    /// The points in plan order; a point may name runs that are not there.
    pub points: Vec<PointView>,
    /// What the experiment asks of its records (tables and claims), carried so that it can be rebuilt; not read here.
    pub statements: serde_json::Value,
    /// What the items behind the metrics of its tables came to, where that is known.
    pub outcomes: Outcomes,
}

/// One file of a results folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFile {
    /// Name inside the folder.
    pub name: &'static str,
    /// Its whole content.
    pub bytes: Vec<u8>,
}

/// The committed files of a results folder: `runs.csv`, `curves.csv`, `provenance.json`, `milestones.csv` where runs have milestones, and
/// `outcomes.csv` where there are any.
///
/// # Errors
/// Where two runs share an id, or a config cannot be written as JSON.
pub fn files(records: &Records) -> Result<Vec<RecordFile>, RecordError> {
    let mut ids = BTreeMap::new();
    for (row_idx, run) in records.runs.iter().enumerate() {
        if ids.insert(&run.run_id, row_idx).is_some() {
            return Err(RecordError::Duplicate { run_id: run.run_id.clone() });
        }
    }
    let configs = records.runs.iter().map(|run| serde_json::to_value(&run.config)).collect::<Result<Vec<_>, _>>()?;
    let mut files = vec![
        RecordFile { name: runs::NAME, bytes: runs::write(records, &configs)? },
        RecordFile { name: curves::NAME, bytes: curves::write(&records.runs)? },
        RecordFile { name: provenance::NAME, bytes: provenance::write(records, &configs)? },
    ];
    if let Some(bytes) = milestones::write(&records.runs)? {
        files.push(RecordFile { name: milestones::NAME, bytes });
    }
    if !records.outcomes.is_empty() {
        let run_ids = records.runs.iter().map(|run| run.run_id.as_str());
        files.push(RecordFile { name: outcomes::NAME, bytes: outcomes::write(&records.outcomes, run_ids)? });
    }
    Ok(files)
}

/// Hands every committed file to `save`, which makes it durable (the store's atomic write).
///
/// # Errors
/// As [`files`], and whatever `save` reports.
pub fn write(folder: &Path, records: &Records, save: &mut dyn FnMut(&Path, &[u8]) -> io::Result<()>) -> Result<(), RecordError> {
    for RecordFile { name, bytes } in files(records)? {
        let path = folder.join(name);
        save(&path, &bytes).map_err(|source| RecordError::Io { path, source })?;
    }
    Ok(())
}

/// `timings.csv`: the only file with clocks, not part of the committed records' bytes.
///
/// # Errors
/// Never for timings that can be written as CSV.
pub fn timings_file(timings: &[Timing]) -> Result<RecordFile, RecordError> {
    Ok(RecordFile { name: timings::NAME, bytes: timings::write(timings)? })
}

/// Reads a results folder back.
///
/// # Errors
/// Where a file is missing, of another format version, or does not fit the others.
pub fn read(folder: &Path) -> Result<Records, RecordError> {
    let text = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|source| RecordError::Io { path, source })
    };
    let optional = |name: &str| match text(name) {
        Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    };
    let (milestones, outcomes) = (optional(milestones::NAME)?.unwrap_or_default(), optional(outcomes::NAME)?);
    parse(&text(runs::NAME)?, &text(curves::NAME)?, &text(provenance::NAME)?, &milestones, outcomes.as_deref())
}

/// Reads the contents of `runs.csv`, `curves.csv`, `provenance.json`, `milestones.csv` (empty where there is none) and, where there is one,
/// `outcomes.csv` back.
///
/// # Errors
/// As [`read`].
pub fn parse(
    runs_csv: &[u8],
    curves_csv: &[u8],
    provenance_json: &[u8],
    milestones_csv: &[u8],
    outcomes_csv: Option<&[u8]>,
) -> Result<Records, RecordError> {
    let provenance::File { provenance, configs, axes, points, statements } = provenance::parse(provenance_json)?;
    let mut curves = curves::parse(curves_csv)?;
    let mut runs = runs::parse(runs_csv, configs)?;
    for run in &mut runs {
        run.curve = curves.remove(&run.run_id).unwrap_or_default();
    }
    milestones::read_into(milestones_csv, &mut runs)?;
    if let Some(run_id) = curves.into_keys().next() {
        return Err(RecordError::UnknownRun { file: curves::NAME, run_id });
    }
    let outcomes = outcomes_csv.map(outcomes::parse).transpose()?.unwrap_or_default();
    if let Some(run_id) = outcomes.0.keys().find(|run_id| !runs.iter().any(|run| run.run_id == **run_id)) {
        return Err(RecordError::UnknownRun { file: outcomes::NAME, run_id: run_id.clone() });
    }
    Ok(Records { provenance, runs, axes, points, statements, outcomes })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests;
