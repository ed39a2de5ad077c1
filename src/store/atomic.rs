//! Writing a file so that a reader sees the old one or the new one, never a part, whatever dies in between.
//!
//! Invariant: what is written beside has a random name and is made new, so no link that somebody planted is followed.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use super::StoreError;
use super::error::Context;

/// How names of files and folders that are on their way begin.
pub(super) const BESIDE: &str = ".scaledown-";

/// Replaces the file at `path` by one with these bytes: written beside it, synced, renamed in. Its folder is made where it
/// is missing. Nothing is left beside it on failure.
///
/// # Errors
/// Naming the operation and the path that failed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).at("create", folder)?;
    // As any program makes a file: what the umask takes away is not given.
    let permissions = Permissions::from_mode(0o666);
    let made = tempfile::Builder::new().prefix(BESIDE).permissions(permissions).tempfile_in(folder);
    // Removed when dropped, so nothing stays after an error.
    let mut beside = made.at("create a file in", folder)?;
    beside.write_all(bytes).at("write", path)?;
    beside.as_file().sync_all().at("sync", path)?;
    beside.persist(path).map_err(|error| error.error).at("write", path)?;
    sync_folder(folder)
}

/// The folder that a path stands in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file that is not there yet, and syncs it.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = create_new(path).at("create", path)?;
    file.write_all(bytes).at("write", path)?;
    file.sync_all().at("sync", path)
}

/// Makes a file that is not there yet; a link at its name is an error and is not followed.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
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

/// Refuses a name that was read from a file and would lead out of the folder that it is to stand in: an absolute path, one
/// with `..`, or none at all.
///
/// # Errors
/// Naming the path.
pub fn inside(folder: &Path, name: &str) -> Result<std::path::PathBuf, StoreError> {
    let is_plain = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain { Ok(folder.join(name)) } else { Err(StoreError::Outside { folder: folder.to_owned(), name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
    fn a_file_is_as_readable_as_any_other_that_this_user_makes() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomic(&ours, b"x")?;
        fs::write(&plain, b"x")?;
        assert_eq!(fs::metadata(ours)?.permissions().mode(), fs::metadata(plain)?.permissions().mode());
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

    #[test]
    fn a_link_in_place_of_a_new_file_is_not_followed() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        fs::write(&victim, b"precious")?;
        std::os::unix::fs::symlink(&victim, &link)?;
        assert!(write_synced(&link, b"x").is_err());
        // A file that is replaced: the link goes, what it led to stays.
        write_atomic(&link, b"x")?;
        assert_eq!(fs::read(&victim)?, b"precious");
        assert!(!fs::symlink_metadata(&link)?.is_symlink());
        Ok(())
    }

    #[test]
    fn a_name_that_leads_out_of_its_folder_is_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "", ".", "./x/.."] {
            assert!(inside(Path::new("results"), name).is_err(), "{name}");
        }
        assert_eq!(inside(Path::new("results"), "tables/t.csv").ok().as_deref(), Some(Path::new("results/tables/t.csv")));
    }
}
