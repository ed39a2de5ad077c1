//! Content digests of sources, for keys.
//!
//! Input: a source and the path of a cache. Output: a digest of every byte that packing would read. Invariants: paths and names of
//! shards do not enter, their order does; a file is read again only when its size, time of change or inode differ from the
//! cache's; a lost or damaged cache costs time, never a wrong digest.
//! Must not know: keys, jobs, the store.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::run::{DataSource, EvalSource};

use super::{DataError, DataResult, benchmark, scenes, shards, table};

/// Digest of a training source.
///
/// **Errors**: files that cannot be read; missing shards; a declared source, which has no content.
pub fn fingerprint(source: &DataSource, cache: &Path) -> DataResult<String> {
    match source {
        DataSource::Scenes { world_seed } => Ok(labelled_digest(&[&format!("scenes {} {world_seed}", scenes::VERSION)])),
        DataSource::Webdataset { shards } => {
            let digests = file_digests(&shards::present(shards)?.paths, cache)?;
            Ok(labelled_digest(&prefixed("webdataset", &digests)))
        }
        DataSource::Table { file, image_column, caption_column } => {
            let table = table::Table::read(Path::new(file), image_column, caption_column)?;
            let images = table.rows.into_iter().map(|row| row.image).filter(|path| path.exists());
            let paths: Vec<PathBuf> = std::iter::once(PathBuf::from(file)).chain(images).collect();
            Ok(labelled_digest(&prefixed("table", &file_digests(&paths, cache)?)))
        }
        DataSource::Declared { samples } => {
            let what = format!("a declared data set of {samples} samples has no content to digest");
            Err(DataError::Unsupported { what })
        }
    }
}

/// Digest of an evaluation source.
///
/// **Errors**: as [`fingerprint`]; a folder that lacks the files of its layout.
pub fn fingerprint_eval(source: &EvalSource, cache: &Path) -> DataResult<String> {
    match source {
        EvalSource::Scenes { world_seed, variant, samples } => {
            let text = format!("scenes {} {world_seed} {variant} {samples}", scenes::VERSION);
            Ok(labelled_digest(&[&text]))
        }
        EvalSource::Folder { path, split } => {
            let folder = benchmark::Folder::open(Path::new(path), split)?;
            let digests = file_digests(&folder.shards, cache)?;
            let texts = serde_json::json!([folder.task, folder.classnames, folder.templates]).to_string();
            Ok(labelled_digest(&prefixed(&format!("folder {texts}"), &digests)))
        }
        EvalSource::Shards { shards, class_field: _, classnames, templates } => {
            let present = shards::present(shards)?.paths;
            let paths = [present, vec![PathBuf::from(classnames), PathBuf::from(templates)]].concat();
            Ok(labelled_digest(&prefixed("shards", &file_digests(&paths, cache)?)))
        }
    }
}

fn prefixed<'a>(label: &'a str, digests: &'a [String]) -> Vec<&'a str> {
    std::iter::once(label).chain(digests.iter().map(String::as_str)).collect()
}

/// Digest of parts that cannot run into each other.
fn labelled_digest(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// A file as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    size: u64,
    changed_ns: i128,
    inode: u64,
    digest: String,
}

/// Digests of files in order, from the cache where a file has not changed since.
fn file_digests(paths: &[PathBuf], cache: &Path) -> DataResult<Vec<String>> {
    // Under whole paths: the cache may be shared by programs started in different folders.
    let name = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).to_string_lossy().into_owned();
    let names: Vec<String> = paths.iter().map(name).collect();
    let known: BTreeMap<String, Seen> =
        std::fs::read(cache).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let seen: Vec<Seen> =
        paths.par_iter().zip(&names).map(|(path, name)| look(path, known.get(name))).collect::<DataResult<_>>()?;
    let is_new = |(name, seen): (&String, &Seen)| known.get(name) != Some(seen);
    if names.iter().zip(&seen).any(is_new) {
        let mut all = known;
        all.extend(names.into_iter().zip(seen.iter().cloned()));
        write_cache(cache, &all)?;
    }
    Ok(seen.into_iter().map(|seen| seen.digest).collect())
}

fn look(path: &Path, known: Option<&Seen>) -> DataResult<Seen> {
    let metadata = std::fs::metadata(path).map_err(|e| DataError::io("read", path, e))?;
    let (size, inode) = (metadata.size(), metadata.ino());
    let changed_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    if let Some(seen) = known.filter(|seen| (seen.size, seen.changed_ns, seen.inode) == (size, changed_ns, inode)) {
        return Ok(seen.clone());
    }
    let mut file = std::fs::File::open(path).map_err(|e| DataError::io("open", path, e))?;
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut file, &mut hasher).map_err(|e| DataError::io("read", path, e))?;
    Ok(Seen { size, changed_ns, inode, digest: hasher.finalize().to_hex().to_string() })
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

    fn shards(paths: &[&Path]) -> DataSource {
        DataSource::Webdataset { shards: paths.iter().map(|path| path.to_string_lossy().into_owned()).collect() }
    }

    #[test]
    fn content_and_order_decide_and_names_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache/digests.json");
        let [a, b, c] = ["a.tar", "b.tar", "c.tar"].map(|name| dir.path().join(name));
        for (path, text) in [(&a, "one"), (&b, "two"), (&c, "one")] {
            std::fs::write(path, text).unwrap();
        }
        let of = |paths: &[&Path]| fingerprint(&shards(paths), &cache).unwrap();
        assert_eq!(of(&[&a, &b]), of(&[&c, &b]));
        assert_ne!(of(&[&a, &b]), of(&[&b, &a]));
        assert_ne!(of(&[&a]), of(&[&a, &a]));
        let before = of(&[&a]);
        std::fs::write(&a, "three").unwrap();
        assert_ne!(of(&[&a]), before, "a changed file is read again");
    }

    #[test]
    fn an_unchanged_file_is_not_read_again_and_a_damaged_cache_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, shard) = (dir.path().join("digests.json"), dir.path().join("a.tar"));
        std::fs::write(&shard, "one").unwrap();
        let first = fingerprint(&shards(&[&shard]), &cache).unwrap();
        let text = std::fs::read_to_string(&cache).unwrap();
        let digest = blake3::hash(b"one").to_hex().to_string();
        std::fs::write(&cache, text.replace(&digest, &"0".repeat(64))).unwrap();
        assert_ne!(fingerprint(&shards(&[&shard]), &cache).unwrap(), first, "the cache is believed");
        std::fs::write(&cache, "{").unwrap();
        assert_eq!(fingerprint(&shards(&[&shard]), &cache).unwrap(), first);
    }
}
