//! Sweeping: what dead programs left behind, and on request finished jobs that the given plans do not name.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::error::Context;
use super::{Store, StoreError, list};
use crate::plan::Key;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leases of holders that are gone.
    pub leases: usize,
    /// Half-written outputs and checkpoints of finished jobs.
    pub leftovers: usize,
    /// Finished jobs that were not to be kept.
    pub jobs: usize,
    /// Bytes of files removed.
    pub bytes: u64,
}

impl Store {
    /// Removes what dead programs left: their leases, half-written outputs, checkpoints and failures of jobs that are finished
    /// since. With
    /// `keep`, also every finished job that is not in it. Safe beside running programs.
    ///
    /// # Errors
    /// Something cannot be listed or removed.
    pub fn gc(&self, keep: Option<&HashSet<Key>>) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        self.sweep_running(&mut swept)?;
        for name in list(&self.path().join("work"))? {
            let is_finished = name.to_str().and_then(|name| name.parse().ok()).is_some_and(|key| self.is_finished(&key));
            if is_finished {
                remove(&self.path().join("work").join(name), &mut swept.bytes)?;
                swept.leftovers += 1;
            }
        }
        for name in list(&self.path().join("failed"))? {
            let key = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| name.parse().ok());
            if key.is_some_and(|key| self.is_finished(&key)) {
                let path = self.path().join("failed").join(name);
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        if let Some(keep) = keep {
            let leased: HashSet<Key> = self.leases()?.into_iter().map(|lease| lease.key).collect();
            for key in self.finished()? {
                if !keep.contains(&key) && !leased.contains(&key) {
                    self.remove_job(&key, &mut swept)?;
                }
            }
        }
        Ok(swept)
    }

    fn sweep_running(&self, swept: &mut Swept) -> Result<(), StoreError> {
        let now = SystemTime::now();
        for name in list(&self.running_dir())? {
            let Some(name) = name.to_str() else { continue };
            let path = self.running_dir().join(name);
            if let Some(holder) = Self::holder_of_file(name) {
                if !self.is_alive(&holder, &path, now) {
                    // Its leases are links of their own; removing what another sweep removed is no error.
                    let _ = fs::remove_file(&path);
                }
            } else if let Some(lease) = Self::lease_of_out(name) {
                // Leases are made before their folder and removed after it, so one without a lease has no living holder.
                if !self.running_dir().join(lease).exists() && path.exists() {
                    remove(&path, &mut swept.bytes)?;
                    swept.leftovers += 1;
                }
            } else if self.lease_info(name, now).is_some_and(|info| !info.is_alive) {
                swept.bytes += size(&self.out_dir(name));
                self.break_lease(name);
                swept.leases += 1;
            }
        }
        Ok(())
    }

    /// Takes a finished job out by one rename, so that nobody sees half of it, then removes it.
    fn remove_job(&self, key: &Key, swept: &mut Swept) -> Result<(), StoreError> {
        let from = self.output_dir(key);
        let aside = self.running_dir().join(format!("{key}~gc-{}-{}~out", std::process::id(), self.unique()));
        fs::create_dir_all(self.running_dir()).at("create", &self.running_dir())?;
        fs::rename(&from, &aside).at("remove", &from)?;
        remove(&aside, &mut swept.bytes)?;
        swept.jobs += 1;
        Ok(())
    }
}

fn remove(path: &Path, bytes: &mut u64) -> Result<(), StoreError> {
    *bytes += size(path);
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Bytes of all files under a folder, as far as they can be seen.
fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
