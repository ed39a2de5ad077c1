//! Shards by pattern or folder: `train/*.tar`, `train/`.
//!
//! Input: one path as written, braces expanded. Output: the files that it names, in the byte order of their paths. Invariant: a
//! path without `*`, `?` and `[..]`, or one that exists as it is written, names itself. Must not know: what the files hold.

use std::path::{Component, Path, PathBuf};

use super::super::{DataError, DataResult};

/// Most files that one pattern may match.
const MAX_MATCHES: usize = 1_000_000;

/// The shards that a path names: the tars of a folder, the files that match a pattern, or the path alone.
///
/// `*` stands for any letters of a name, `?` for one, `[a-c]` and `[!a-c]` for one of a set; none of them crosses a `/`, and only
/// a written `.` matches the first of a hidden name.
///
/// **Errors**: a folder without a `.tar`, a pattern that matches nothing, a folder that cannot be read.
pub fn matching_shards(path: &str) -> DataResult<Vec<String>> {
    matching_files(path, "tar")
}

/// As [`matching_shards`], of files with this suffix in a folder.
pub(in crate::data) fn matching_files(path: &str, suffix: &str) -> DataResult<Vec<String>> {
    let place = Path::new(path);
    let found = if place.is_dir() {
        matches(vec![place.to_path_buf()], &format!("*.{suffix}"))?
    } else if place.exists() || !is_pattern(path) {
        return Ok(vec![path.to_owned()]);
    } else {
        by_pattern(place)?
    };
    if found.is_empty() {
        let what = if place.is_dir() { format!("no `.{suffix}` in folder {path}") } else { format!("nothing matches `{path}`") };
        return Err(if suffix == "tar" { DataError::NoShards { what } } else { DataError::NoFiles { what } });
    }
    let mut found: Vec<String> = found.into_iter().map(|path| path.to_string_lossy().into_owned()).collect();
    found.sort_unstable();
    Ok(found)
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn by_pattern(pattern: &Path) -> DataResult<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str().to_string_lossy();
        found = match component {
            Component::Normal(_) if is_pattern(&name) => matches(found, &name)?,
            _ => found.into_iter().map(|path| path.join(component)).filter(|path| path.exists()).collect(),
        };
    }
    Ok(found)
}

/// The entries of folders whose name matches; what is no folder has none.
fn matches(folders: Vec<PathBuf>, pattern: &str) -> DataResult<Vec<PathBuf>> {
    let (pattern, mut found) = (pattern.chars().collect::<Vec<char>>(), Vec::new());
    for folder in folders {
        let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder.as_path() };
        if !shown.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(shown).map_err(|e| DataError::io("read folder", shown, e))? {
            let entry = entry.map_err(|e| DataError::io("read folder", shown, e))?;
            let name: Vec<char> = entry.file_name().to_string_lossy().chars().collect();
            if is_match(&pattern, &name) && (name[0] != '.' || pattern[0] == '.') {
                found.push(folder.join(entry.file_name()));
            }
            if found.len() > MAX_MATCHES {
                return Err(DataError::NoShards { what: format!("more than {MAX_MATCHES} files match") });
            }
        }
    }
    Ok(found)
}

/// Whether a name matches. A star that fails is tried again one letter further on, so the time is the product of the lengths.
fn is_match(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = pattern.get(p).and_then(|_| one(&pattern[p..], name[n])) {
            p += next;
            n += 1;
        } else if let Some((after, from)) = star {
            (p, n, star) = (after, from + 1, Some((after, from + 1)));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Letters of the pattern that match one letter of the name, if they do.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    let set = || {
        let is_negated = pattern.get(1) == Some(&'!');
        let from = 1 + usize::from(is_negated);
        // A `]` in the first place is a member of the set.
        let end = from + 1 + pattern.get(from + 1..)?.iter().position(|&c| c == ']')?;
        let (mut at, mut is_in) = (from, false);
        while at < end {
            let is_range = at + 2 < end && pattern[at + 1] == '-';
            let last = if is_range { pattern[at + 2] } else { pattern[at] };
            is_in |= (pattern[at]..=last).contains(&letter);
            at += if is_range { 3 } else { 1 };
        }
        Some((is_in != is_negated, end + 1))
    };
    match pattern[0] {
        '?' => Some(1),
        '[' => match set() {
            Some((is_in, length)) => is_in.then_some(length),
            None => (letter == '[').then_some(1),
        },
        c => (c == letter).then_some(1),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn folders_and_patterns_name_their_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.tar", "a.tar", "10.tar", ".hidden.tar", "notes.txt", "x/c.tar", "y/c.tar", "[0].tar"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let root = dir.path().to_string_lossy().into_owned();
        let named = |pattern: &str| -> String {
            let found = matching_shards(&format!("{root}/{pattern}")).unwrap();
            found.iter().map(|path| path[root.len() + 1..].to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named(""), "10.tar [0].tar a.tar b.tar");
        assert_eq!(named("*.tar"), "10.tar [0].tar a.tar b.tar");
        assert_eq!(named("?.tar"), "a.tar b.tar");
        assert_eq!(named("[b-z].tar"), "b.tar");
        assert_eq!(named("[!b]*r"), "10.tar [0].tar a.tar");
        assert_eq!(named("*/c.tar"), "x/c.tar y/c.tar");
        assert_eq!(named("[0].tar"), "[0].tar", "a file of that very name");
        assert_eq!(named("gone.tar"), "gone.tar", "no pattern: whoever reads it finds it missing");
        let error = |pattern: &str| matching_shards(&format!("{root}/{pattern}")).unwrap_err().to_string();
        assert_eq!(error("z*.tar"), format!("no shard: nothing matches `{root}/z*.tar`"));
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(error("empty"), format!("no shard: no `.tar` in folder {root}/empty"));
    }

    #[test]
    fn stars_are_tried_again_further_on() {
        let is = |pattern: &str, name: &str| is_match(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
        assert!(is("*ab*b", "xabaabyb") && is("**", "") && is("a*", "a") && is("[]]", "]") && is("[", "["));
        assert!(!is("*ab", "abc") && !is("?", "") && !is("[!a]", "a"));
        assert!(!is(&"*a".repeat(50), &"a".repeat(49)));
    }
}
