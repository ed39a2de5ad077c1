//! What a job leaves behind besides its outputs: `record.json`, `timings.json`, and the note of a failure.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;
use crate::plan::{JobSpec, Key};

/// Format version of `record.json`.
pub const RECORD_FORMAT: u32 = 1;
pub(super) const RECORD_FILE: &str = "record.json";
pub(super) const TIMINGS_FILE: &str = "timings.json";

/// How a finished job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It did what it was to do.
    Finished,
    /// The training it is about, or stands on, became NaN or infinite: data, not an error.
    Diverged,
}

/// A file that a job wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// BLAKE3 of its bytes, hexadecimal.
    pub blake3: String,
    /// Its size.
    pub bytes: u64,
}

/// `record.json`: the same bytes whenever, wherever and however fast the job is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// Identity of the job.
    pub key: Key,
    /// Version of the code that did it, as in its key.
    pub version: u32,
    /// What it was.
    pub job: JobSpec,
    /// How it ended.
    pub status: JobStatus,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// What it wrote, by path within its folder.
    pub outputs: BTreeMap<String, FileDigest>,
    /// What it found out, small enough to stand here: metrics, counts.
    pub summary: Value,
}

/// What the executor knows when a job ends; with the outputs it makes a [`JobRecord`].
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// How it ended.
    pub status: JobStatus,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// What it found out.
    pub summary: Value,
    /// How long it took.
    pub timings: Timings,
}

/// `timings.json`: what differs between two equal jobs, kept out of the record.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Wall time, seconds: of the attempt that succeeded, and of the earlier ones up to the checkpoints that were gone on from.
    pub wall_s: f64,
    /// CPU time of the process meanwhile, seconds: the job's own where it ran alone.
    pub cpu_s: f64,
    /// Threads that the attempt which succeeded was given.
    pub threads: usize,
    /// Pairs that a training saw in that time; `None` for other kinds. Fewer than the whole run's where the time of an earlier
    /// attempt is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
}

/// `failed/KEY.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureRecord {
    /// The job.
    pub key: Key,
    /// The tag of its kind.
    pub kind: String,
    /// What a person calls it.
    pub label: String,
    /// Why the last attempt failed.
    pub reason: String,
    /// Attempts made by the program that noted this.
    pub attempts: u32,
}

impl JobRecord {
    /// Whether a stand-in of an older program wrote it, which trained nothing: no job of this program writes such a file.
    #[must_use]
    pub fn is_stand_in(&self) -> bool {
        self.outputs.contains_key("output.txt")
    }
}

pub(super) fn read(path: &Path) -> Result<Option<JobRecord>, StoreError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path, error)),
    };
    let record: JobRecord =
        serde_json::from_slice(&text).map_err(|error| StoreError::Record { path: path.to_owned(), reason: error.to_string() })?;
    if record.format != RECORD_FORMAT {
        let reason = format!("format {}, expected {RECORD_FORMAT}", record.format);
        return Err(StoreError::Record { path: path.to_owned(), reason });
    }
    Ok(Some(record))
}

/// JSON for people, with a newline at its end.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("records are plain structs with text keys");
    text.push('\n');
    text
}
