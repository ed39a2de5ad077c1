//! Content digests of sources, for keys.
//!
//! Input: a source and the path of a cache. Output: a digest of every byte that packing would read. Invariants: paths and names of
//! shards do not enter, their order does; a file is read again only where the look at it differs from the cache's ([`seen`]).
//! Must not know: keys, jobs, the store.

use std::path::{Path, PathBuf};

use crate::run::{DataSource, EvalSource, ScenesConfig};

use super::{DataError, DataResult, benchmark, open, scenes, seen, shards, table};

/// Digest of a training source.
///
/// **Errors**: files that cannot be read; missing shards; a declared source, which has no content.
pub fn fingerprint(source: &DataSource, cache: &Path) -> DataResult<String> {
    match source {
        DataSource::Scenes(world) => {
            let ScenesConfig { world_seed, faults, long_tail, shifts: _ } = world; // shifts are of evaluation sets
            Ok(labelled_digest(&[&format!("scenes {} {world_seed} {faults} {long_tail}", scenes::VERSION)]))
        }
        DataSource::Webdataset { shards } => {
            let digests = file_digests(&shards::present(shards)?.paths, cache)?;
            Ok(labelled_digest(&prefixed("webdataset", &digests)))
        }
        DataSource::Table { file, image_column, caption_column } => {
            let table = table::Table::read(Path::new(file), image_column, caption_column)?;
            let images = table.images();
            let (there, absent): (Vec<PathBuf>, Vec<PathBuf>) = images.into_iter().partition(|path| path.is_file());
            let digests = file_digests(&[vec![PathBuf::from(file)], there].concat(), cache)?;
            Ok(labelled_digest(&prefixed(&format!("table, {} images absent", absent.len()), &digests)))
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
        EvalSource::Scenes { world_seed, variant, samples, shifts } => {
            let text = format!("scenes {} {world_seed} {variant} {samples} {shifts}", scenes::VERSION);
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

/// Digest of files that are read one after another: of one file, its own.
///
/// **Errors**: files that cannot be read.
pub fn fingerprint_files(paths: &[PathBuf], cache: &Path) -> DataResult<String> {
    let digests = file_digests(paths, cache)?;
    match digests.as_slice() {
        [one] => Ok(one.clone()),
        several => Ok(labelled_digest(&prefixed("files", several))),
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

/// Digests of files in order, from the cache where a file has not changed since.
fn file_digests(paths: &[PathBuf], cache: &Path) -> DataResult<Vec<String>> {
    seen::facts(paths, cache, |path| {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut open::regular(path)?, &mut hasher).map_err(|e| DataError::io("read", path, e))?;
        Ok(hasher.finalize().to_hex().to_string())
    })
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
        assert_ne!(of(&[&a]), of(&[&a, &c]));
        let before = of(&[&a]);
        std::fs::write(&a, "three").unwrap();
        assert_ne!(of(&[&a]), before, "a changed file is read again");
    }

    #[test]
    fn one_file_is_its_own_digest_and_several_are_what_they_are_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("digests.json");
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        std::fs::write(&a, "one").unwrap();
        std::fs::write(&b, "two").unwrap();
        let of =
            |paths: &[&PathBuf]| fingerprint_files(&paths.iter().map(|path| (*path).clone()).collect::<Vec<_>>(), &cache).unwrap();
        assert_eq!(of(&[&a]), blake3::hash(b"one").to_hex().to_string());
        assert_ne!(of(&[&a, &b]), of(&[&b, &a]));
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
