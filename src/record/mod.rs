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
mod seal;
mod stated;
mod text;
mod timings;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::{DeviceKind, Outcomes, Precision, RunRecord};

pub use error::RecordError;
pub use runs::{labels_on, owners};
pub use stated::{Marks, Stated};
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
    /// Processor of the machine that wrote them and the widest instructions that it used, where runs were computed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
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

impl Provenance {
    /// Which program trained the runs that have no mark of their own, and where.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let Self { experiment, version, commit, cpu, .. } = self.clone();
        Origin { experiment, version, commit, cpu }
    }
}

/// Which program trained a run, where, and for which experiment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The experiment into whose results the run was first written.
    pub experiment: String,
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Processor, and the widest instructions used, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
}

/// By what the record of a run is taken as that of a planned run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Digest of the keys of its training and its evaluations.
    pub key: String,
    /// Where it was trained, if it was taken over from committed records and not trained by the program that wrote these.
    pub adopted: Option<Origin>,
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
    /// By run id, of the runs that came to an end; of none in records of programs that wrote no keys.
    pub identities: BTreeMap<String, Identity>,
    /// What was stated when the first run started; `None` in records of programs that did not note it.
    pub stated: Option<Stated>,
}

/// Records, with those of their runs that are not as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    /// The records.
    pub records: Records,
    /// Ids of runs with an identity whose numbers, curve, outcomes or origin were changed since.
    pub altered: BTreeSet<String>,
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

/// The times of jobs that stand in a results folder; none where it holds no `timings.csv`.
///
/// # Errors
/// Where it is there and does not read.
pub fn read_timings(folder: &Path) -> Result<Vec<Timing>, RecordError> {
    let path = folder.join(timings::NAME);
    match std::fs::read(&path) {
        Ok(text) => timings::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RecordError::Io { path, source }),
    }
}

/// Reads a results folder back.
///
/// # Errors
/// Where a file is missing, of another format version, or does not fit the others.
pub fn read(folder: &Path) -> Result<Records, RecordError> {
    read_with_seals(folder).map(|(records, _)| records)
}

/// Reads a results folder back, and tells which of its runs are not as they were written.
///
/// # Errors
/// As [`read`].
pub fn read_sealed(folder: &Path) -> Result<Sealed, RecordError> {
    let (records, seals) = read_with_seals(folder)?;
    let is_altered = |run: &&RunRecord| {
        records.identities.contains_key(&run.run_id) && seal::of(&records, run).as_ref() != seals.get(&run.run_id)
    };
    let altered = records.runs.iter().filter(is_altered).map(|run| run.run_id.clone()).collect();
    Ok(Sealed { records, altered })
}

/// Run ids and keys that a `provenance.json` states, without its configs; the key is `None` where the program that wrote it wrote none.
///
/// # Errors
/// Where it does not read, or is of another format version.
pub fn keys(provenance_json: &[u8]) -> Result<Vec<(String, Option<String>)>, RecordError> {
    provenance::keys(provenance_json)
}

/// What a `provenance.json` says was stated when the first run started; `None` where it does not say, or does not read.
#[must_use]
pub fn stated(provenance_json: &[u8]) -> Option<Stated> {
    provenance::stated(provenance_json)
}

/// Digest of what a run came to: equal for equal numbers and curves, whoever trained it.
#[must_use]
pub fn content_digest(run: &RunRecord) -> String {
    seal::of_content(run)
}

fn read_with_seals(folder: &Path) -> Result<(Records, Seals), RecordError> {
    let text = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|source| RecordError::Io { path, source })
    };
    let optional = |name: &str| match text(name) {
        Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    };
    let (milestones, outcomes) = (optional(milestones::NAME)?.unwrap_or_default(), optional(outcomes::NAME)?);
    parse_with_seals(&text(runs::NAME)?, &text(curves::NAME)?, &text(provenance::NAME)?, &milestones, outcomes.as_deref())
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
    parse_with_seals(runs_csv, curves_csv, provenance_json, milestones_csv, outcomes_csv).map(|(records, _)| records)
}

/// Seals by run id.
type Seals = BTreeMap<String, String>;

fn parse_with_seals(
    runs_csv: &[u8],
    curves_csv: &[u8],
    provenance_json: &[u8],
    milestones_csv: &[u8],
    outcomes_csv: Option<&[u8]>,
) -> Result<(Records, Seals), RecordError> {
    let provenance::File { provenance, configs, identities, seals, axes, points, statements, stated } =
        provenance::parse(provenance_json)?;
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
    let ids: BTreeSet<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
    if let Some(run_id) = outcomes.0.keys().find(|run_id| !ids.contains(run_id.as_str())) {
        return Err(RecordError::UnknownRun { file: outcomes::NAME, run_id: run_id.clone() });
    }
    Ok((Records { provenance, runs, axes, points, statements, outcomes, identities, stated }, seals))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod tests;
