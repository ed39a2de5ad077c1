//! Facts about files that take long to find out, remembered while the files stay as they are.
//!
//! Input: paths, the path of a cache, and how to find a fact. Output: a fact a path. Invariants: a file is looked into again
//! when its size, inode, time of modification or time of change differ from the cache's (a program may set the time of
//! modification, and some do; the time of change is the kernel's own); a fact about a file that changed meanwhile is not kept;
//! a lost or damaged cache costs time, never a wrong fact.
//! Must not know: what the facts mean.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DataError, DataResult};

/// A file as it was when looked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
    fact: String,
}

impl Seen {
    /// A file as it is now, with a fact about it.
    fn now(path: &Path, fact: String) -> DataResult<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| DataError::io("read", path, e))?;
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        let modified_ns = ns(metadata.mtime(), metadata.mtime_nsec());
        let changed_ns = ns(metadata.ctime(), metadata.ctime_nsec());
        Ok(Self { size: metadata.size(), inode: metadata.ino(), modified_ns, changed_ns, fact })
    }
}

/// A fact about each path, in order: from the cache, or by `find`.
pub(super) fn facts(paths: &[PathBuf], cache: &Path, find: impl Fn(&Path) -> DataResult<String> + Sync) -> DataResult<Vec<String>> {
    // Under whole paths: the cache may be shared by programs started in different folders.
    let name = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).to_string_lossy().into_owned();
    let names: Vec<String> = paths.iter().map(name).collect();
    let known: BTreeMap<String, Seen> =
        std::fs::read(cache).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let seen: Vec<Seen> =
        paths.par_iter().zip(&names).map(|(path, name)| look(path, known.get(name), &find)).collect::<DataResult<_>>()?;
    let is_new = |(name, seen): (&String, &Seen)| known.get(name) != Some(seen);
    if names.iter().zip(&seen).any(is_new) {
        let mut all = known;
        all.extend(names.into_iter().zip(seen.iter().cloned()));
        write_cache(cache, &all)?;
    }
    Ok(seen.into_iter().map(|seen| seen.fact).collect())
}

fn look(path: &Path, known: Option<&Seen>, find: &impl Fn(&Path) -> DataResult<String>) -> DataResult<Seen> {
    let before = Seen::now(path, known.map_or(String::new(), |seen| seen.fact.clone()))?;
    if known == Some(&before) {
        return Ok(before);
    }
    let found = Seen { fact: find(path)?, ..before };
    if found != Seen::now(path, found.fact.clone())? {
        return Err(DataError::io("read", path, std::io::Error::other("it changed while it was read")));
    }
    Ok(found)
}

/// Written beside and renamed in, so that a reader sees an old cache or a new one.
fn write_cache(cache: &Path, all: &BTreeMap<String, Seen>) -> DataResult<()> {
    let fail = |e| DataError::io("write", cache, e);
    let dir = cache.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(fail)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(fail)?;
    let text = serde_json::to_vec(all).map_err(|e| fail(e.into()))?;
    file.write_all(&text).map_err(fail)?;
    file.persist(cache).map_err(|e| fail(e.error))?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_changed_in_place_is_looked_into_again_whatever_its_time_of_modification() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, path) = (dir.path().join("cache.json"), dir.path().join("a.tar"));
        let text = || facts(std::slice::from_ref(&path), &cache, |path| Ok(std::fs::read_to_string(path).unwrap())).unwrap();
        std::fs::write(&path, "right").unwrap();
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(text(), ["right"]);
        // The kernel's clock for times of change may tick only every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        (&file).write_all(b"wrong").unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
        assert_eq!(text(), ["wrong"]);
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, path) = (dir.path().join("cache.json"), dir.path().join("a.tar"));
        std::fs::write(&path, "one").unwrap();
        let error = facts(std::slice::from_ref(&path), &cache, |path| {
            std::fs::write(path, "longer").unwrap();
            Ok(String::new())
        });
        assert!(error.unwrap_err().to_string().ends_with("it changed while it was read"));
        assert!(!cache.exists());
    }
}
