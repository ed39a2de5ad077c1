//! Doing a job: a lease, a folder to write in, and the one rename that makes it finished.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::atomic::{create_new, sync_folder, write_synced};
use super::error::Context;
use super::lease::Acquired;
use super::record::{self, RECORD_FILE, RECORD_FORMAT, TIMINGS_FILE};
use super::{Completion, FileDigest, JobRecord, LeaseInfo, Store, StoreError};
use crate::plan::{JobSpec, Key};

/// A job that took this long, in seconds, is worth waiting until the disk holds it for good. Files are synced before the
/// rename whatever the job took, so that a loss of power never leaves a finished job with half its bytes; for a shorter job
/// it may undo the rename, and the job is done again.
const DEAR_S: f64 = 1.0;

/// What comes of wanting to do a job.
#[derive(Debug)]
pub enum Begin<'a> {
    /// It is finished already.
    Finished,
    /// Another program is at it.
    HeldBy(LeaseInfo),
    /// It is ours to do.
    Work(JobDir<'a>),
}

/// A job that this program does: its lease and its folders. Dropping it gives both up; checkpoints stay.
#[derive(Debug)]
pub struct JobDir<'a> {
    store: &'a Store,
    key: Key,
    spec: JobSpec,
    lease: String,
    out: PathBuf,
}

impl Store {
    /// Takes the lease of a job, unless it is finished or somebody else's. What dead holders left of it is removed.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn begin(&self, key: &Key, spec: &JobSpec) -> Result<Begin<'_>, StoreError> {
        if self.is_finished(key) {
            return Ok(Begin::Finished);
        }
        self.prepare()?;
        let lease = match self.acquire(key)? {
            Acquired::Ours(lease) => lease,
            Acquired::Theirs(info) => return Ok(Begin::HeldBy(info)),
        };
        let out = self.out_dir(&lease);
        let dir = JobDir { store: self, key: *key, spec: spec.clone(), lease, out };
        // Its last holder may have finished it between the first look and the lease.
        if self.is_finished(key) {
            return Ok(Begin::Finished);
        }
        fs::create_dir(&dir.out).at("create", &dir.out)?;
        Ok(Begin::Work(dir))
    }
}

impl JobDir<'_> {
    /// Which job.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where its outputs are written; they become the finished job by [`commit`](Self::commit) and are gone otherwise.
    #[must_use]
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Where checkpoints are kept: the folder outlives this program and goes when the job is finished. Made when first asked
    /// for.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn keep(&self) -> Result<PathBuf, StoreError> {
        let path = self.store.work_dir(&self.key);
        fs::create_dir_all(&path).at("create", &path)?;
        Ok(path)
    }

    /// Whether the lease is still ours: a program that slept for minutes may have been taken for dead, and another one does the
    /// job then.
    #[must_use]
    pub fn is_held(&self) -> bool {
        // A file system that cannot say so right now is no reason to give a job up.
        self.store.running_dir().join(&self.lease).try_exists().unwrap_or(true)
    }

    /// Forgets what was written so far, for another attempt.
    ///
    /// # Errors
    /// It cannot be removed or made anew.
    pub fn reset(&self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.out).at("remove", &self.out)?;
        fs::create_dir(&self.out).at("create", &self.out)
    }

    /// Makes the job finished: digests and syncs its outputs, writes the record, renames the folder in. After an error the
    /// job is as unfinished as before.
    ///
    /// # Errors
    /// Naming what could not be written.
    pub fn commit(self, completion: Completion) -> Result<JobRecord, StoreError> {
        let Completion { status, reason, summary, timings } = completion;
        let is_dear = timings.wall_s >= DEAR_S;
        let mut outputs = BTreeMap::new();
        seal(&self.out, "", is_dear, &mut outputs)?;
        for name in [RECORD_FILE, TIMINGS_FILE] {
            if outputs.contains_key(name) {
                return Err(StoreError::Reserved { path: self.out.join(name) });
            }
        }
        let record = JobRecord {
            format: RECORD_FORMAT,
            key: self.key,
            version: self.spec.version(),
            job: self.spec.clone(),
            status,
            reason,
            outputs,
            summary,
        };
        let timings_path = self.out.join(TIMINGS_FILE);
        create_new(&timings_path)
            .and_then(|mut file| file.write_all(record::pretty(&timings).as_bytes()))
            .at("write", &timings_path)?;
        write_synced(&self.out.join(RECORD_FILE), record::pretty(&record).as_bytes())?;
        if is_dear {
            sync_folder(&self.out)?;
        }
        self.rename_in(is_dear)?;
        // Leftovers cost space, not correctness: the sweep finds what cannot be removed now.
        let _ = fs::remove_dir_all(self.store.work_dir(&self.key));
        let _ = fs::remove_file(self.store.failure_path(&self.key));
        Ok(record)
    }

    /// Gives the job up; checkpoints stay. Dropping does the same.
    pub fn abandon(self) {
        drop(self);
    }

    fn rename_in(&self, is_dear: bool) -> Result<(), StoreError> {
        let target = self.store.output_dir(&self.key);
        let shard = self.store.shard(&self.key.hex());
        match fs::create_dir(&shard) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(StoreError::io("create", &shard, error)),
            _ => {}
        }
        match fs::rename(&self.out, &target) {
            Ok(()) => {}
            // Somebody took us for dead and was faster; equal keys hold equal outputs, so theirs will do.
            Err(_) if target.join(RECORD_FILE).exists() => return Ok(()),
            Err(error) if target.exists() => {
                // A loss of power undid part of an earlier one. It is put where leftovers are swept from.
                let aside = self.store.out_dir(&format!("{}-debris-{}", self.lease, self.store.unique()));
                fs::rename(&target, &aside).map_err(|_| StoreError::io("rename a finished job to", &target, error))?;
                fs::rename(&self.out, &target).at("rename a finished job to", &target)?;
            }
            Err(error) => return Err(StoreError::io("rename a finished job to", &target, error)),
        }
        if is_dear { sync_folder(&shard) } else { Ok(()) }
    }
}

impl Drop for JobDir<'_> {
    fn drop(&mut self) {
        // Renamed away after a commit; what cannot be removed now is removed by the next holder.
        let _ = fs::remove_dir_all(&self.out);
        self.store.release(&self.lease);
    }
}

/// Digests and syncs every file under `folder`, by path relative to the first one.
fn seal(folder: &Path, prefix: &str, is_dear: bool, outputs: &mut BTreeMap<String, FileDigest>) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().at("look at", &path)?.is_dir() {
            seal(&path, &format!("{name}/"), is_dear, outputs)?;
            if is_dear {
                sync_folder(&path)?;
            }
        } else {
            outputs.insert(name, seal_file(&path)?);
        }
    }
    Ok(())
}

fn seal_file(path: &Path) -> Result<FileDigest, StoreError> {
    let mut file = File::open(path).at("open", path)?;
    let mut digest = blake3::Hasher::new();
    let size = file.metadata().at("look at", path)?.len();
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).clamp(1, 1 << 20)];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).at("read", path)?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        bytes += read as u64;
    }
    file.sync_all().at("sync", path)?;
    Ok(FileDigest { blake3: digest.finalize().to_hex().to_string(), bytes })
}
