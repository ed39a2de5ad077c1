//! Finished jobs on disk: one folder a job under its key, written beside and renamed in.
//!
//! ```text
//! .scaledown/
//!   format                 version of this layout
//!   jobs/ab/cdef../        a finished job: its outputs, timings.json, record.json (written last, synced)
//!   running/@HOLDER        a program at work: an empty file whose name says which, whose mtime is its heartbeat
//!   running/KEY~HOLDER     its lease of a running job: a hard link to that file
//!   running/KEY~HOLDER~out what that job has written so far
//!   work/KEY/              checkpoints: they survive a kill, and go when the job is finished
//!   stated/DIGEST.json     what an experiment of that name stated when its first run started
//!   failed/KEY.json        why the last attempt failed; no obstacle to another one
//!   damaged/KEY-N/         a job whose files are no longer those of its record: it is done again; remove it when you like
//! ```
//!
//! **Owns**: every path of a job, atomic writes, leases. **In**: a [`Key`] and what the job is. **Out**: a [`JobDir`] to work
//! in, and [`JobRecord`]s of what is finished.
//!
//! **Invariant**: a folder under `jobs/` is complete, so finished is what stands there. Nothing is ever changed in place:
//! writers create uniquely named files and rename them. There is no lock on the store; readers lock nothing and write nothing.
//!
//! **Must not know**: what a job computes, YAML, tensors, the terminal.

mod atomic;
mod error;
mod folder;
mod gc;
mod holder;
mod integrity;
mod job_dir;
mod lease;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

pub use atomic::{inside, write_atomic};
pub use error::StoreError;
pub use folder::{Replacement, replace_folder, try_folder};
pub use gc::Swept;
pub use holder::Holder;
pub use job_dir::{Begin, JobDir};
pub use lease::LeaseInfo;
pub use record::{Completion, FailureRecord, FileDigest, JobRecord, JobStatus, RECORD_FORMAT, Timings};

use crate::plan::Key;
use error::Context;

/// Version of the layout of folders.
const LAYOUT: &str = "1\n";

/// A store at a path. Cheap to open; writes nothing before the first [`begin`](Self::begin).
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    holder: Holder,
    /// Leases that this handle holds, by file name.
    held: Mutex<HashSet<String>>,
    /// Whether the folders were made and the layout checked for writing.
    prepared: AtomicBool,
    /// Whether the file system was found to have no hard links.
    has_no_links: AtomicBool,
    counter: AtomicU64,
    stale_after: Duration,
}

/// What is going on in a store, without planning anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// Finished jobs.
    pub finished: usize,
    /// Jobs under a lease, whether or not its holder is alive.
    pub leases: Vec<LeaseInfo>,
    /// Failures that no later attempt has mended, by key.
    pub failures: Vec<FailureRecord>,
}

impl Store {
    /// Opens the store at `root`, which need not exist yet.
    ///
    /// # Errors
    /// The path holds something that is no store, or a store of another layout.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let format = root.join("format");
        match fs::read_to_string(&format) {
            Ok(text) if text == LAYOUT => {}
            Ok(text) => return Err(StoreError::Layout { path: root, found: text.trim().into(), expected: LAYOUT.trim() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if root.exists() && !root.is_dir() {
                    return Err(StoreError::NoFolder { what: "store", path: root });
                }
            }
            Err(error) => return Err(StoreError::io("read", &format, error)),
        }
        Ok(Self {
            root,
            holder: Holder::this_process(),
            held: Mutex::default(),
            prepared: AtomicBool::new(false),
            has_no_links: AtomicBool::new(false),
            counter: AtomicU64::new(0),
            stale_after: lease::STALE_AFTER,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Sets how long a holder on another machine may show no sign of life before its lease is broken.
    #[must_use]
    pub fn with_stale_after(mut self, limit: Duration) -> Self {
        self.stale_after = limit;
        self
    }

    /// Makes the folders of the store and tries whether something can be written there, before anything depends on it.
    ///
    /// # Errors
    /// Naming what cannot be made or written.
    pub fn try_writing(&self) -> Result<(), StoreError> {
        self.prepare()?;
        for folder in [self.running_dir(), self.root.join("jobs"), self.root.join("work")] {
            let made = tempfile::Builder::new().prefix("@try-").tempfile_in(&folder);
            made.and_then(|mut file| io::Write::write_all(&mut file, b"x")).at("write into", &folder)?;
        }
        Ok(())
    }

    /// Where the checkpoints of an unfinished job are kept, whether or not there are any.
    #[must_use]
    pub fn work_dir(&self, key: &Key) -> PathBuf {
        self.root.join("work").join(key.hex())
    }

    /// Folder of a finished job, whether or not it is there.
    #[must_use]
    pub fn output_dir(&self, key: &Key) -> PathBuf {
        let hex = key.hex();
        self.shard(&hex).join(&hex[2..])
    }

    /// Whether the job is finished: it has a record.
    #[must_use]
    pub fn is_finished(&self, key: &Key) -> bool {
        self.output_dir(key).join(record::RECORD_FILE).exists()
    }

    /// The record of a finished job; `None` where there is none.
    ///
    /// # Errors
    /// The record cannot be read or is of another format.
    pub fn record(&self, key: &Key) -> Result<Option<JobRecord>, StoreError> {
        record::read(&self.output_dir(key).join(record::RECORD_FILE))
    }

    /// How long a finished job took; `None` where that is not known.
    #[must_use]
    pub fn timings(&self, key: &Key) -> Option<Timings> {
        let text = fs::read(self.output_dir(key).join(record::TIMINGS_FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keys of all finished jobs: one folder listing a shard, nothing opened.
    ///
    /// # Errors
    /// A folder that cannot be listed; a store that does not exist holds nothing.
    pub fn finished(&self) -> Result<HashSet<Key>, StoreError> {
        let mut keys = HashSet::new();
        let jobs = self.root.join("jobs");
        for shard in list(&jobs)? {
            let mut key = [0; 32];
            if hex::decode_to_slice(shard.as_encoded_bytes(), &mut key[..1]).is_err() {
                continue;
            }
            let names = list(&jobs.join(shard))?;
            keys.reserve(names.len());
            for name in names {
                if hex::decode_to_slice(name.as_encoded_bytes(), &mut key[1..]).is_ok() {
                    keys.insert(Key::from_bytes(key));
                }
            }
        }
        Ok(keys)
    }

    /// Finished, running and failed jobs. Reads one small file for each failure and none for the others.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn overview(&self) -> Result<Overview, StoreError> {
        let mut failures = Vec::new();
        for name in list(&self.root.join("failed"))? {
            let path = self.root.join("failed").join(name);
            // One that is being replaced or removed just now is no failure to report, nor is one whose program was killed
            // between finishing the job and removing the note.
            if let Ok(text) = fs::read(&path)
                && let Ok(failure) = serde_json::from_slice::<FailureRecord>(&text)
                && !self.is_finished(&failure.key)
            {
                failures.push(failure);
            }
        }
        failures.sort_by_key(|failure| failure.key);
        Ok(Overview { finished: self.finished()?.len(), leases: self.leases()?, failures })
    }

    /// Why the last attempt at a job failed.
    #[must_use]
    pub fn failure(&self, key: &Key) -> Option<FailureRecord> {
        serde_json::from_slice(&fs::read(self.failure_path(key)).ok()?).ok()
    }

    /// Notes why a job failed. The note stops no later attempt and goes when one succeeds.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn record_failure(&self, failure: &FailureRecord) -> Result<(), StoreError> {
        self.prepare()?;
        let text = record::pretty(failure);
        write_atomic(&self.failure_path(&failure.key), text.as_bytes())
    }

    /// What was noted of an experiment; `None` where nothing was, or it cannot be read.
    #[must_use]
    pub fn noted(&self, experiment: &str) -> Option<Vec<u8>> {
        fs::read(self.note_path(experiment)).ok()
    }

    /// Notes something of an experiment, in place of what was noted.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note(&self, experiment: &str, text: &[u8]) -> Result<(), StoreError> {
        self.prepare()?;
        write_atomic(&self.note_path(experiment), text)
    }

    /// Experiments have names with slashes: their digests do not.
    fn note_path(&self, experiment: &str) -> PathBuf {
        self.root.join("stated").join(format!("{}.json", blake3::hash(experiment.as_bytes()).to_hex()))
    }

    fn shard(&self, hex: &str) -> PathBuf {
        self.root.join("jobs").join(&hex[..2])
    }

    fn running_dir(&self) -> PathBuf {
        self.root.join("running")
    }

    fn failure_path(&self, key: &Key) -> PathBuf {
        self.root.join("failed").join(format!("{key}.json"))
    }

    fn held(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set of names is whole between any two statements that change it.
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn unique(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes the folders, once a handle.
    fn prepare(&self) -> Result<(), StoreError> {
        if self.prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        for name in ["jobs", "running", "work", "failed"] {
            let path = self.root.join(name);
            fs::create_dir_all(&path).at("create", &path)?;
        }
        let format = self.root.join("format");
        if !format.exists() {
            write_atomic(&format, LAYOUT.as_bytes())?;
        }
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.prepared.load(Ordering::Acquire) {
            // What stays is swept when this process is gone.
            let _ = fs::remove_file(self.holder_path());
        }
    }
}

/// Names in a folder; none where it does not exist.
fn list(path: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("list", path, error)),
    };
    entries.map(|entry| entry.map(|entry| entry.file_name()).at("list", path)).collect()
}
