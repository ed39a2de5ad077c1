//! Replacing a folder as a whole: a reader sees all of the old files or all of the new ones, whatever dies in between.
//!
//! The new files are written into a folder beside, synced, and the two folders change places by one call of the system. What
//! stood in the old folder and was not the program's is moved into the new one afterwards; a program that is killed before
//! that leaves the old folder beside under its own name, and the next replacement finishes the move.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::atomic::{BESIDE, create_new, folder_of, inside, sync_folder, write_synced};
use super::error::Context;
use super::{Holder, StoreError, write_atomic};

/// Stands in a folder that is not written to its end.
const UNFINISHED: &str = ".scaledown-unfinished";

/// What a folder is to hold.
#[derive(Clone, Copy)]
pub struct Replacement<'a> {
    /// Files by their path within the folder.
    pub files: &'a [(String, Vec<u8>)],
    /// Paths of the files in a folder that the program wrote: those that are not among `files` go. Whatever else stands in the
    /// folder stays.
    pub owned: &'a dyn Fn(&Path) -> BTreeSet<String>,
}

/// Makes a folder hold these files, all at once. It is made where it is missing.
///
/// # Errors
/// Naming what could not be written; the folder is as it was then.
pub fn replace_folder(folder: &Path, replacement: Replacement<'_>) -> Result<(), StoreError> {
    // A link to a folder stays a link: what it leads to is replaced.
    let folder = &fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let parent = folder_of(folder);
    fs::create_dir_all(parent).at("create", parent)?;
    recover(folder, replacement.owned)?;
    let mut owned = (replacement.owned)(folder);
    owned.extend(replacement.files.iter().map(|(name, _)| name.clone()));
    if is_same(folder, replacement.files, &owned) {
        return Ok(());
    }
    let beside = write_beside(folder, replacement.files)?;
    put_in_place(&beside, folder, replacement.files, &owned)?;
    sync_folder(parent)
}

/// Whether a folder can be made or replaced there: nothing but a folder stands in its way and something can be written beside
/// it. Writes nothing that stays, but for the folders above it.
///
/// # Errors
/// Naming what stands in the way.
pub fn try_folder(folder: &Path) -> Result<(), StoreError> {
    if let Ok(found) = fs::metadata(folder)
        && !found.is_dir()
    {
        return Err(StoreError::NoFolder { what: "results folder", path: folder.to_owned() });
    }
    let place = &fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let parent = folder_of(place);
    fs::create_dir_all(parent).at("create", parent)?;
    // Files go into the folder itself where it is there, and a folder beside it otherwise.
    for place in [place.as_path(), parent].into_iter().filter(|place| place.is_dir()) {
        tempfile::Builder::new().prefix(BESIDE).tempdir_in(place).map(drop).at("write into", place)?;
    }
    // The name itself: too long for the file system, for one.
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("look at", place, error)),
        _ => Ok(()),
    }
}

fn is_same(folder: &Path, files: &[(String, Vec<u8>)], owned: &BTreeSet<String>) -> bool {
    let holds = |(name, bytes): &(String, Vec<u8>)| fs::read(folder.join(name)).is_ok_and(|found| found == *bytes);
    files.iter().all(holds) && !stale(files, owned).any(|name| folder.join(name).exists())
}

/// The program's files that are not to be there any more.
fn stale<'a>(files: &'a [(String, Vec<u8>)], owned: &'a BTreeSet<String>) -> impl Iterator<Item = &'a String> {
    owned.iter().filter(|name| !files.iter().any(|(kept, _)| kept == *name))
}

/// How the name of a folder beside begins: it tells which folder it is for, whatever the length of that folder's own name.
/// The holder that made it and a random part follow.
fn beside_of(folder: &Path) -> String {
    let name = blake3::hash(folder.file_name().unwrap_or_default().as_encoded_bytes()).to_hex();
    format!("{BESIDE}{}-", &name[..16])
}

fn write_beside(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<PathBuf, StoreError> {
    let parent = folder_of(folder);
    let prefix = format!("{}{}-", beside_of(folder), Holder::this_process().to_name());
    let made = tempfile::Builder::new().prefix(&prefix).permissions(of_new_folder(folder)).tempdir_in(parent);
    let made = made.at("write into", parent)?;
    let unfinished = made.path().join(UNFINISHED);
    create_new(&unfinished).at("create", &unfinished)?;
    for (name, bytes) in files {
        inside(folder, name)?;
        let path = made.path().join(name);
        fs::create_dir_all(folder_of(&path)).at("create", folder_of(&path))?;
        write_synced(&path, bytes).map_err(|error| error.about(&folder.join(name)))?;
    }
    fs::remove_file(&unfinished).at("remove", &unfinished)?;
    sync_folder(made.path())?;
    Ok(made.keep())
}

/// Who may read a folder stays the owner's choice; a new one is as any program makes it.
fn of_new_folder(folder: &Path) -> fs::Permissions {
    let as_any = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::metadata(folder).map_or(as_any, |found| found.permissions())
}

fn put_in_place(beside: &Path, folder: &Path, files: &[(String, Vec<u8>)], owned: &BTreeSet<String>) -> Result<(), StoreError> {
    let is_new = !folder.exists() && fs::rename(beside, folder).is_ok();
    if is_new {
        return Ok(());
    }
    if renameat_with(CWD, beside, CWD, folder, RenameFlags::EXCHANGE).is_ok() {
        return merge_rest(beside, folder, owned);
    }
    // A mount point, or a file system that cannot exchange: everything has been written once, so there is room.
    let moved = move_files(folder, files, owned);
    let _ = fs::remove_dir_all(beside);
    moved
}

/// Moves what is not the program's from the old folder, which stands beside now, into the new one; removes the rest.
fn merge_rest(old: &Path, folder: &Path, owned: &BTreeSet<String>) -> Result<(), StoreError> {
    merge(old, folder, "", owned)?;
    match fs::remove_dir_all(old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", old, error)),
        _ => Ok(()),
    }
}

fn merge(old: &Path, new: &Path, prefix: &str, owned: &BTreeSet<String>) -> Result<(), StoreError> {
    for entry in fs::read_dir(old).at("list", old)? {
        let entry = entry.at("list", old)?;
        let (from, to) = (entry.path(), new.join(entry.file_name()));
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let is_folder = entry.file_type().at("look at", &from)?.is_dir();
        if is_folder && (fs::symlink_metadata(&to).is_ok() || owned.iter().any(|path| path.starts_with(&format!("{name}/")))) {
            if has_foreign(&from, &format!("{name}/"), owned)? {
                fs::create_dir_all(&to).at("create", &to)?;
                merge(&from, &to, &format!("{name}/"), owned)?;
            }
        } else if !is_folder && (owned.contains(&name) || fs::symlink_metadata(&to).is_ok()) {
            fs::remove_file(&from).at("remove", &from)?;
        } else {
            fs::rename(&from, &to).at("move back", &from)?;
        }
    }
    Ok(())
}

/// Whether a folder holds anything that is not the program's.
fn has_foreign(folder: &Path, prefix: &str, owned: &BTreeSet<String>) -> Result<bool, StoreError> {
    for entry in fs::read_dir(folder).at("list", folder)? {
        let name = format!("{prefix}{}", entry.at("list", folder)?.file_name().to_string_lossy());
        if !owned.contains(&name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// File by file, each by one rename; then what is stale goes.
fn move_files(folder: &Path, files: &[(String, Vec<u8>)], owned: &BTreeSet<String>) -> Result<(), StoreError> {
    for (name, bytes) in files {
        write_atomic(&inside(folder, name)?, bytes)?;
    }
    for name in stale(files, owned) {
        let path = inside(folder, name)?;
        if path.exists() {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

/// Finishes what a program began that was killed between changing places and moving the rest, and removes what one had half
/// written.
fn recover(folder: &Path, owned: &dyn Fn(&Path) -> BTreeSet<String>) -> Result<(), StoreError> {
    let (parent, prefix) = (folder_of(folder), beside_of(folder));
    for name in super::list(parent)? {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) else { continue };
        let holder = rest.rsplit_once('-').and_then(|(holder, _random)| Holder::from_name(holder));
        let is_dead = |holder: Holder| holder.is_before_boot() || holder.is_local() && !holder.is_running();
        if !holder.is_some_and(is_dead) {
            continue;
        }
        let left = parent.join(&name);
        if left.join(UNFINISHED).exists() {
            fs::remove_dir_all(&left).at("remove", &left)?;
        } else if folder.exists() {
            merge_rest(&left, folder, &owned(&left))?;
        } else {
            fs::rename(&left, folder).at("create", folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
    }

    /// The program's files are `runs.csv` and what begins with `t` in `tables/`.
    fn owned(folder: &Path) -> BTreeSet<String> {
        let tables = super::super::list(&folder.join("tables")).unwrap_or_default();
        let tables = tables.iter().map(|name| format!("tables/{}", name.to_string_lossy())).filter(|n| n.starts_with("tables/t"));
        tables.chain(["runs.csv".to_owned()]).collect()
    }

    fn replace(folder: &Path, pairs: &[(&str, &str)]) -> Result<(), StoreError> {
        replace_folder(folder, Replacement { files: &files(pairs), owned: &owned })
    }

    /// Every file below a folder with its text, sorted.
    fn all(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for name in super::super::list(folder).unwrap() {
            let path = folder.join(&name);
            let name = name.to_string_lossy().into_owned();
            if path.is_dir() {
                found.extend(all(&path).iter().map(|inner| format!("{name}/{inner}")));
            } else {
                found.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_the_program_wrote_is_replaced_and_what_the_user_put_there_stays() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("deep/results");
        replace(&folder, &[("runs.csv", "1"), ("tables/t1.csv", "a"), ("tables/t2.csv", "b")]).unwrap();
        fs::write(folder.join("notes.txt"), "mine").unwrap();
        fs::write(folder.join("tables/mine.csv"), "mine").unwrap();
        fs::create_dir_all(folder.join("nested/results")).unwrap();
        fs::write(folder.join("nested/results/runs.csv"), "another experiment").unwrap();
        replace(&folder, &[("runs.csv", "2"), ("tables/t3.csv", "c")]).unwrap();
        let expected = ["nested/results/runs.csv=another experiment", "notes.txt=mine", "runs.csv=2", "tables/mine.csv=mine"];
        assert_eq!(all(&folder), [&expected[..], &["tables/t3.csv=c"]].concat());
        assert_eq!(fs::read_dir(place.path().join("deep")).unwrap().count(), 1, "nothing stays beside");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_everything_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("results");
        replace(&folder, &[("runs.csv", "1"), ("tables/t1.csv", "a")]).unwrap();
        // `runs.csv` cannot be a file and a folder at once.
        assert!(replace(&folder, &[("runs.csv", "2"), ("runs.csv/x", "3")]).is_err());
        assert!(replace(&folder, &[("runs.csv", "2"), ("../x", "3")]).unwrap_err().to_string().contains("`../x`"));
        assert_eq!(all(place.path()), ["results/runs.csv=1", "results/tables/t1.csv=a"]);
    }

    #[test]
    fn what_a_killed_program_left_is_put_right_by_the_next() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("results");
        replace(&folder, &[("runs.csv", "2")]).unwrap();
        let dead = Holder { start: Holder::this_process().start + 1, ..Holder::this_process() };
        let beside = |random: &str| place.path().join(format!("{}{}-{random}", beside_of(&folder), dead.to_name()));
        // Killed after the folders had changed places: the old one is beside, with what is the user's.
        fs::create_dir(beside("aaaaaa")).unwrap();
        fs::write(beside("aaaaaa").join("runs.csv"), "1").unwrap();
        fs::write(beside("aaaaaa").join("notes.txt"), "mine").unwrap();
        // Killed while it wrote.
        fs::create_dir_all(beside("bbbbbb").join("tables")).unwrap();
        fs::write(beside("bbbbbb").join(UNFINISHED), "").unwrap();
        fs::write(beside("bbbbbb").join("tables/half.csv"), "ha").unwrap();
        replace(&folder, &[("runs.csv", "2")]).unwrap();
        assert_eq!(all(place.path()), ["results/notes.txt=mine", "results/runs.csv=2"]);
    }

    #[test]
    fn a_link_to_a_folder_stays_a_link() {
        let place = tempfile::tempdir().unwrap();
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        replace(&real, &[("runs.csv", "1")]).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, &[("runs.csv", "2")]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(all(&real), ["runs.csv=2"]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_found_out_without_leaving_anything() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(try_folder(&file), Err(StoreError::NoFolder { .. })));
        assert!(try_folder(&file.join("below")).is_err());
        assert!(try_folder(&place.path().join("x".repeat(300))).is_err());
        try_folder(&place.path().join("new")).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
