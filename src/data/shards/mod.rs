//! Tar shards in the webdataset / img2dataset layout.
//!
//! Input: shard lists and shard files. Output: samples as ranges of a mapped file. Invariants: a shard is walked once, header by
//! header, and every header is checked; members of one sample are joined by key wherever they lie in the shard; nothing is
//! skipped without a word; a shard that is named twice is refused, since its samples would count twice.
//! Must not know: pixels, packs.

mod group;
mod pattern;
mod tar;

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::SHOWN;
use super::mapped::Mapped;
use super::tally::Oddities;
use super::{DataError, DataResult};

pub(super) use group::{Group, IMAGE_SUFFIXES};
pub(super) use pattern::matching_files;
pub use pattern::matching_shards;

/// A mapped shard and its samples.
pub(super) struct Shard {
    path: PathBuf,
    bytes: Mapped,
    /// Samples in the order of their first members.
    pub groups: Vec<Group>,
    /// What was passed over.
    pub oddities: Oddities,
    /// Things a person should know.
    pub warnings: Vec<String>,
}

impl Shard {
    /// Maps a shard and walks its headers.
    pub fn open(path: &Path) -> DataResult<Self> {
        let bytes = Mapped::open(path)?;
        let tar::Walked { members, mut oddities, has_end } = tar::walk(path, &bytes)?;
        let mut warnings = Vec::new();
        let groups = group::group(path, members)?;
        oddities.dotted = group::dotted(&groups);
        if groups.is_empty() {
            warnings.push(format!("{}: empty shard", path.display()));
        } else if !has_end {
            warnings.push(format!(
                "{}: no end-of-archive marker at byte {}: perhaps cut between members",
                path.display(),
                bytes.len()
            ));
        }
        Ok(Self { path: path.to_path_buf(), bytes, groups, oddities, warnings })
    }

    /// The bytes of a sample's member with this suffix.
    pub fn member<'a>(&'a self, group: &Group, suffix: &str) -> Option<&'a [u8]> {
        group.member(suffix).map(|range| &self.bytes[range])
    }

    /// The bytes of a sample's image: of several the first suffix of [`IMAGE_SUFFIXES`].
    pub fn image<'a>(&'a self, group: &Group) -> Option<&'a [u8]> {
        IMAGE_SUFFIXES.iter().find_map(|suffix| self.member(group, suffix))
    }

    /// Where a sample is, for people.
    pub fn place(&self, group: &Group) -> String {
        format!("{}: {}", self.path.display(), group.key)
    }
}

/// Listed shards that exist, and what is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PresentShards {
    pub paths: Vec<PathBuf>,
    /// Gaps in numbered ranges, in the order listed.
    pub missing: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

/// Checks a shard list against the disk.
///
/// A gap in a numbered range (`00003.tar` where `00002.tar` of the same folder is listed and exists) is accepted and reported,
/// as is a shard without `_stats.json` beside one that has it (img2dataset writes it last).
///
/// **Errors**: any other missing shard; shards named twice, also under different paths; all of a kind at once.
pub(super) fn present(shards: &[String]) -> DataResult<PresentShards> {
    let listed = shards.len() as u64;
    let (mut paths, mut absent, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::with_capacity(shards.len());
    for path in shards.iter().map(PathBuf::from) {
        match std::fs::metadata(&path) {
            Ok(metadata) if seen.insert((metadata.dev(), metadata.ino())) => paths.push(path),
            Ok(_) => twice.push(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => absent.push(path),
            Err(error) => return Err(DataError::io("open", &path, error)),
        }
    }
    if !twice.is_empty() {
        return Err(DataError::RepeatedShards { count: twice.len() as u64, first: first(twice) });
    }
    let ranges: BTreeSet<(PathBuf, String, String)> = paths.iter().filter_map(|path| range_of(path)).collect();
    let is_gap = |path: &PathBuf| range_of(path).is_some_and(|range| ranges.contains(&range));
    let (gaps, missing): (Vec<PathBuf>, Vec<PathBuf>) = absent.into_iter().partition(is_gap);
    if !missing.is_empty() || paths.is_empty() {
        let count = (missing.len() + gaps.len()) as u64;
        return Err(DataError::MissingShards { count, first: first([missing, gaps].concat()), listed, most: None });
    }
    let mut warnings = Vec::new();
    if let (Some(first), Some(last)) = (gaps.first(), gaps.last()) {
        let count = gaps.len();
        warnings.push(format!("{count} of {listed} listed shards do not exist, from {} to {}", first.display(), last.display()));
    }
    let has_stats = |path: &PathBuf| path.with_file_name(format!("{}_stats.json", stem(path))).exists();
    if paths.iter().any(has_stats) {
        let unfinished = paths.iter().filter(|path| !has_stats(path));
        warnings.extend(unfinished.map(|path| format!("{}: no `_stats.json` beside it: an unfinished download", path.display())));
    }
    Ok(PresentShards { paths, missing: gaps, warnings })
}

/// As many of a list as an error shows.
pub(super) fn first(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.truncate(SHOWN);
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Folder, name before the number, and suffix of a numbered shard.
fn range_of(path: &Path) -> Option<(PathBuf, String, String)> {
    let stem = stem(path);
    let prefix = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let suffix = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    (prefix.len() < stem.len()).then(|| (path.parent().unwrap_or(Path::new("")).to_path_buf(), prefix.to_owned(), suffix))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn touch(dir: &Path, names: &[&str]) -> impl Fn(&[&str]) -> Vec<String> {
        names.iter().for_each(|name| std::fs::write(dir.join(name), []).unwrap());
        let dir = dir.to_path_buf();
        move |names| names.iter().map(|name| dir.join(name).to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_gap_in_a_range_is_reported_and_any_other_missing_shard_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let list = touch(dir.path(), &["00000.tar", "00002.tar"]);
        let present = present(&list(&["00000.tar", "00001.tar", "00002.tar"])).unwrap();
        assert_eq!(present.paths.len(), 2);
        assert!(present.warnings[0].contains("1 of 3 listed shards do not exist"), "{:?}", present.warnings);
        let error = super::present(&list(&["00000.tar", "other.tar", "x/00001.tar"])).unwrap_err().to_string();
        assert!(error.starts_with("2 of 3 listed shards are missing:") && error.contains("other.tar"), "{error}");
        assert!(super::present(&list(&["00007.tar"])).is_err(), "a range of which nothing exists");
    }

    #[test]
    fn a_shard_named_twice_is_refused_under_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let list = touch(dir.path(), &["00000.tar", "00001.tar"]);
        std::os::unix::fs::symlink(dir.path().join("00001.tar"), dir.path().join("link.tar")).unwrap();
        let mut around = list(&["00000.tar", "00001.tar"]);
        around.push(dir.path().join("../").join(dir.path().file_name().unwrap()).join("00000.tar").to_string_lossy().into_owned());
        for names in [list(&["00000.tar", "00001.tar", "00000.tar"]), list(&["00001.tar", "link.tar"]), around] {
            let error = super::present(&names).unwrap_err().to_string();
            assert!(error.starts_with("1 shards are named twice: ") && error.ends_with(names.last().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_shard_without_stats_beside_finished_ones_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let list = touch(dir.path(), &["00000.tar", "00001.tar"]);
        assert!(present(&list(&["00000.tar", "00001.tar"])).unwrap().warnings.is_empty(), "nobody has stats");
        _ = touch(dir.path(), &["00000_stats.json"]);
        let warnings = present(&list(&["00000.tar", "00001.tar"])).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("00001.tar: no `_stats.json`"), "{warnings:?}");
    }
}
