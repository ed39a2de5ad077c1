//! Writing a file so that a reader sees the old one or the new one, never a part, whatever dies in between.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;
use super::error::Context;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Replaces the file at `path` by one with these bytes: written beside it, synced, renamed in. Its folder is made where it
/// is missing. Nothing is left beside it on failure.
///
/// # Errors
/// Naming the operation and the path that failed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).at("create", folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let beside = folder.join(format!(".{name}.{}-{count}.tmp", process::id()));
    let written = write_synced(&beside, bytes).and_then(|()| fs::rename(&beside, path).at("write", path));
    if written.is_err() {
        // Gone already, or on a disk that takes nothing more: the first error is the one to report.
        let _ = fs::remove_file(&beside);
    }
    written?;
    sync_folder(folder)
}

/// Writes a new file and syncs it.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(path).at("create", path)?;
    file.write_all(bytes).at("write", path)?;
    file.sync_all().at("sync", path)
}

/// Makes renames within a folder last.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = File::open(path).at("open", path)?;
    match rustix::fs::fsync(&folder) {
        // Some network file systems cannot sync a folder; the rename is as durable there as it gets.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP) => Ok(()),
        other => other.at("sync", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_replaced_whole_and_nothing_stays_beside() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("deep/er/runs.csv");
        write_atomic(&path, b"a longer first version")?;
        write_atomic(&path, b"second")?;
        assert_eq!(fs::read(&path)?, b"second");
        assert_eq!(fs::read_dir(folder.path().join("deep/er"))?.count(), 1);
        Ok(())
    }

    #[test]
    fn a_folder_in_the_way_is_named_and_leaves_nothing_beside() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("runs.csv");
        fs::create_dir(&path)?;
        let error = write_atomic(&path, b"x").expect_err("a folder is in the way");
        assert!(error.to_string().contains("runs.csv"), "{error}");
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }
}
