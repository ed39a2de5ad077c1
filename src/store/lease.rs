//! Leases: who is doing which job.
//!
//! A lease is a file `KEY~HOLDER`, a name that no other holder ever uses; all leases of a handle are hard links to its one
//! file `@HOLDER`, so that taking one makes no inode and one touch renews them all. To take one: make the link, then list
//! the folder; whoever sees another living lease of the same key takes its own away again. Of two that come together at least
//! the later one sees the earlier one, so never do two hold a key; where both saw each other, both retreat and look again
//! after different times. To break a dead one: remove that very name, which two breakers can do at once without harm and
//! which can never hit the living lease of a third. That is why names are unique and nothing is renamed over.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use super::atomic::create_new;
use super::error::Context;
use super::{Holder, Store, StoreError, list};
use crate::plan::Key;

/// Default silence after which a holder on another machine counts as gone.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(180);
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
        touch(&self.holder_path());
        if self.has_no_links.load(Ordering::Relaxed) {
            for name in self.held().iter() {
                touch(&self.running_dir().join(name));
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
            self.make(&path)?;
            if self.living_other(key, name)?.is_none() {
                return Ok(None);
            }
            fs::remove_file(&path).at("remove", &path)?;
            let random = RandomState::new().hash_one(name);
            std::thread::sleep(Duration::from_micros(200 + random % 3000));
            if let Some(other) = self.living_other(key, name)? {
                return Ok(Some(other));
            }
        }
        let holder = self.holder.clone();
        Ok(Some(LeaseInfo { key: *key, holder, silent_s: 0.0, is_alive: true }))
    }

    /// Another holder's living lease of the key; dead ones are removed.
    fn living_other(&self, key: &Key, own: &str) -> Result<Option<LeaseInfo>, StoreError> {
        let mut living = None;
        let hex = key.hex();
        for name in list(&self.running_dir())? {
            let Some(name) = name.to_str().filter(|name| name.starts_with(&hex) && *name != own) else { continue };
            let Some(info) = self.lease_info(name, self.now()) else { continue };
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
        let silence = silence(&self.running_dir().join(name), now)?;
        let is_alive = self.is_believed_alive(&holder, silence);
        Some(LeaseInfo { key, holder, silent_s: silence.as_secs_f64(), is_alive })
    }

    /// Whether the holder whose file is at `path` is believed to be alive.
    pub(super) fn is_alive(&self, holder: &Holder, path: &Path, now: SystemTime) -> bool {
        silence(path, now).is_some_and(|silence| self.is_believed_alive(holder, silence))
    }

    fn is_believed_alive(&self, holder: &Holder, silence: Duration) -> bool {
        if holder.is_local() { holder.is_running() } else { !holder.is_before_boot() && silence <= self.stale_after }
    }

    /// The file that this handle's leases are links to.
    pub(super) fn holder_path(&self) -> PathBuf {
        self.running_dir().join(format!("@{}", self.holder.to_name()))
    }

    /// Reads the name of such a file.
    pub(super) fn holder_of_file(name: &str) -> Option<Holder> {
        name.strip_prefix('@').and_then(Holder::from_name)
    }

    /// Now, by the clock of the file system: clocks of machines differ.
    pub(super) fn now(&self) -> SystemTime {
        let path = self.holder_path();
        touch(&path);
        fs::metadata(&path).and_then(|file| file.modified()).unwrap_or_else(|_| SystemTime::now())
    }

    fn make(&self, lease: &Path) -> Result<(), StoreError> {
        let holder = self.holder_path();
        if !self.has_no_links.load(Ordering::Relaxed) {
            let mut linked = fs::hard_link(&holder, lease);
            if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                // Not made yet, or swept by somebody who took us for dead.
                make_empty(&holder)?;
                linked = fs::hard_link(&holder, lease);
            }
            match linked {
                // Ours alone by its name: left by a release that could not remove it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                Err(error) if has_no_links(&error) => self.has_no_links.store(true, Ordering::Relaxed),
                other => return other.at("create", lease),
            }
        }
        make_empty(lease)
    }

    /// The living lease of a job, whoever holds it.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn holder_of(&self, key: &Key) -> Result<Option<LeaseInfo>, StoreError> {
        Ok(self.leases()?.into_iter().find(|lease| lease.key == *key && lease.is_alive))
    }

    /// The lease that an output folder in `running/` belongs to.
    pub(super) fn lease_of_out(name: &str) -> Option<&str> {
        name.strip_suffix(OUT_SUFFIX)
    }
}

/// Makes an empty file; that it is there already is no error: names of holders and leases are one holder's alone.
fn make_empty(path: &Path) -> Result<(), StoreError> {
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop).at("create", path),
    }
}

/// Time since a file was touched; `None` where it is gone.
fn silence(path: &Path, now: SystemTime) -> Option<Duration> {
    let beat = fs::metadata(path).ok()?.modified().ok()?;
    Some(now.duration_since(beat).unwrap_or_default())
}

/// Sets a file's time to now by the clock of its file system. One that is gone was removed by somebody who took us for dead;
/// the commit finds out.
fn touch(path: &Path) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::SYMLINK_NOFOLLOW);
}

/// Whether a file system refuses hard links as such.
fn has_no_links(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}
