//! Leases: who is doing which job.
//!
//! A lease is an empty file `KEY~HOLDER`, a name that no other holder ever uses. To take one: make the file, then list the
//! folder; whoever sees another living lease of the same key takes its own away again. Of two that come together at least
//! the later one sees the earlier one, so never do two hold a key; where both saw each other, both retreat and try again
//! after different times. To break a dead one: remove that very name, which two breakers can do at once without harm and
//! which can never hit the living lease of a third. That is why names are unique and nothing is renamed over.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::error::Context;
use super::{Holder, Store, StoreError, list};
use crate::plan::Key;

/// Default silence after which a holder on another machine counts as gone.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(180);
/// Leases made within this of each other may not have seen one another.
const SIMULTANEOUS: Duration = Duration::from_millis(100);
/// Retreats before a key is left to others.
const ROUNDS: u32 = 20;
const OUT_SUFFIX: &str = "~out";

/// A lease as others see it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseInfo {
    /// The job.
    pub key: Key,
    /// Who does it.
    pub holder: Holder,
    /// Seconds since its last sign of life.
    pub silent_s: f64,
    /// Whether the holder is believed to be alive.
    pub is_alive: bool,
}

impl std::fmt::Display for LeaseInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.holder.pid, self.holder.host)
    }
}

/// Outcome of asking for a lease.
pub(super) enum Acquired {
    /// It is ours, under this file name.
    Ours(String),
    /// Somebody else has it.
    Theirs(LeaseInfo),
}

impl Store {
    /// All leases, by key.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn leases(&self) -> Result<Vec<LeaseInfo>, StoreError> {
        let now = SystemTime::now();
        let mut leases: Vec<LeaseInfo> = Vec::new();
        for name in list(&self.running_dir())? {
            leases.extend(name.to_str().and_then(|name| self.lease_info(name, now)));
        }
        leases.sort_by_key(|lease| lease.key);
        Ok(leases)
    }

    /// Says that the holders of this handle's leases are alive. To be called every few seconds while jobs run.
    pub fn heartbeat(&self) {
        for name in self.held().iter() {
            // A lease that is gone was broken by somebody who took us for dead; the commit will find out.
            if let Ok(file) = File::open(self.running_dir().join(name)) {
                let _ = file.set_modified(SystemTime::now());
            }
        }
    }

    pub(super) fn acquire(&self, key: &Key) -> Result<Acquired, StoreError> {
        let name = format!("{key}~{}", self.holder.to_name());
        if !self.held().insert(name.clone()) {
            let holder = self.holder.clone();
            return Ok(Acquired::Theirs(LeaseInfo { key: *key, holder, silent_s: 0.0, is_alive: true }));
        }
        let outcome = self.contend(key, &name);
        if !matches!(outcome, Ok(None)) {
            self.release(&name);
        }
        Ok(match outcome? {
            None => Acquired::Ours(name),
            Some(other) => Acquired::Theirs(other),
        })
    }

    /// Gives a lease back.
    pub(super) fn release(&self, name: &str) {
        // The file is gone where somebody took us for dead; on a read-only disk it stays until its holder is gone.
        let _ = fs::remove_file(self.running_dir().join(name));
        self.held().remove(name);
    }

    /// Where the holder of a lease writes.
    pub(super) fn out_dir(&self, lease: &str) -> PathBuf {
        self.running_dir().join(format!("{lease}{OUT_SUFFIX}"))
    }

    /// `None` once the lease `name` is the only living one of its key, else another one.
    fn contend(&self, key: &Key, name: &str) -> Result<Option<LeaseInfo>, StoreError> {
        let path = self.running_dir().join(name);
        for _ in 0..ROUNDS {
            let ours = make(&path)?;
            let Some(other) = self.living_other(key, name, ours)? else { return Ok(None) };
            if Duration::from_secs_f64(other.silent_s) > SIMULTANEOUS {
                return Ok(Some(other));
            }
            fs::remove_file(&path).at("remove", &path)?;
            let random = RandomState::new().hash_one(name);
            std::thread::sleep(Duration::from_micros(500 + random % 4000));
            if let Some(other) = self.living_other(key, name, SystemTime::now())? {
                return Ok(Some(other));
            }
        }
        let holder = self.holder.clone();
        Ok(Some(LeaseInfo { key: *key, holder, silent_s: 0.0, is_alive: true }))
    }

    /// Another holder's living lease of the key; dead ones are removed.
    fn living_other(&self, key: &Key, own: &str, now: SystemTime) -> Result<Option<LeaseInfo>, StoreError> {
        let mut living = None;
        let hex = key.hex();
        for name in list(&self.running_dir())? {
            let Some(name) = name.to_str().filter(|name| name.starts_with(&hex) && *name != own) else { continue };
            let Some(info) = self.lease_info(name, now) else { continue };
            if info.is_alive {
                living = Some(info);
            } else {
                self.break_lease(name);
            }
        }
        Ok(living)
    }

    /// Removes a dead holder's lease and what it had half written. Removing what another breaker removed is no error, and
    /// what cannot be removed is out of the way of everybody but the sweep.
    pub(super) fn break_lease(&self, name: &str) {
        let _ = fs::remove_dir_all(self.out_dir(name));
        let _ = fs::remove_file(self.running_dir().join(name));
    }

    /// Reads a file name in `running/`; `None` for what is no lease or vanished. `now` is the time on the file system's clock.
    pub(super) fn lease_info(&self, name: &str, now: SystemTime) -> Option<LeaseInfo> {
        if name.ends_with(OUT_SUFFIX) {
            return None;
        }
        let (key, holder) = name.split_once('~')?;
        let (key, holder) = (key.parse().ok()?, Holder::from_name(holder)?);
        let beat = fs::metadata(self.running_dir().join(name)).ok()?.modified().ok()?;
        let silence = now.duration_since(beat).unwrap_or_default();
        let is_alive =
            if holder.is_local() { holder.is_running() } else { !holder.is_before_boot() && silence <= self.stale_after };
        Some(LeaseInfo { key, holder, silent_s: silence.as_secs_f64(), is_alive })
    }

    /// The lease that an output folder in `running/` belongs to.
    pub(super) fn lease_of_out(name: &str) -> Option<&str> {
        name.strip_suffix(OUT_SUFFIX)
    }
}

/// Makes the lease file and returns its time, which is the file system's idea of now: clocks of machines differ.
fn make(path: &Path) -> Result<SystemTime, StoreError> {
    let file = match OpenOptions::new().write(true).create_new(true).open(path) {
        // Ours alone by its name: left by a release that could not remove it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::create(path),
        other => other,
    };
    let file = file.at("create", path)?;
    file.metadata().and_then(|metadata| metadata.modified()).at("read the time of", path)
}
