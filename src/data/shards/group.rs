//! Joining members to samples.
//!
//! Input: members of one shard. Output: samples by key, in the order of their first members. Invariant: a suffix occurs once a
//! sample; a repeated one is an error, not a second sample that lacks its other half.
//!
//! **Source**: webdataset: the key is the path up to the first dot of its last part, the suffix is the rest in lower case.
//! **Differs**: members of a sample need not be neighbours.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::super::{DataError, DataResult};
use super::tar::Member;

/// Suffixes of images, in the order of preference of `open_clip`.
pub(crate) const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "png", "jpeg", "webp"];
/// Suffixes of what else a sample may hold.
const TEXT_SUFFIXES: [&str; 3] = ["txt", "json", "cls"];

/// One sample: its key and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub key: String,
    members: Vec<(String, Range<usize>)>,
}

impl Group {
    /// Bytes of the member with this suffix.
    pub fn member(&self, suffix: &str) -> Option<Range<usize>> {
        self.members.iter().find(|(known, _)| known == suffix).map(|(_, range)| range.clone())
    }

    /// Suffixes of its members, in order.
    pub fn suffixes(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(suffix, _)| suffix.as_str())
    }
}

/// Members that would be an image or a text of a sample but for a further dot in their name.
pub(super) fn dotted(groups: &[Group]) -> u64 {
    let known = || IMAGE_SUFFIXES.iter().chain(&TEXT_SUFFIXES);
    let is_dotted = |suffix: &&str| suffix.rsplit_once('.').is_some_and(|(_, last)| known().any(|known| *known == last));
    groups.iter().map(|group| group.suffixes().filter(is_dotted).count() as u64).sum()
}

/// Samples of a shard.
pub(super) fn group(path: &Path, members: Vec<Member>) -> DataResult<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for Member { name, data } in members {
        let Some((key, suffix)) = split_name(&name) else { continue };
        // Members of a sample are nearly always neighbours; the map is for those that are not.
        let at = match groups.last() {
            Some(last) if last.key == key => groups.len() - 1,
            _ => *places.entry(key.to_owned()).or_insert_with(|| {
                groups.push(Group { key: key.to_owned(), members: Vec::with_capacity(3) });
                groups.len() - 1
            }),
        };
        let group = &mut groups[at];
        if let Some(first) = group.member(&suffix) {
            let (key, first, second) = (group.key.clone(), first.start as u64, data.start as u64);
            return Err(DataError::RepeatedSuffix { path: path.to_path_buf(), key, suffix, first, second });
        }
        group.members.push((suffix, data));
    }
    Ok(groups)
}

/// Key and lower-case suffix of a member; `None` for names without a suffix and for metadata (`__name__`).
fn split_name(name: &str) -> Option<(&str, String)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    let is_metadata = name[base..dot].starts_with("__") && name[base..dot].ends_with("__") && dot - base >= 4;
    (dot > base && !is_metadata).then(|| (&name[..dot], name[dot + 1..].to_lowercase()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn grouped(names: &[&str]) -> DataResult<Vec<Group>> {
        let members = names.iter().enumerate().map(|(at, name)| Member { name: (*name).to_owned(), data: at..at + 1 });
        group(Path::new("x.tar"), members.collect())
    }

    #[test]
    fn the_key_ends_at_the_first_dot_of_the_last_part() {
        assert_eq!(split_name("a.b/c.d/000.left.PNG"), Some(("a.b/c.d/000", "left.png".to_owned())));
        assert_eq!(split_name("000.jpg"), Some(("000", "jpg".to_owned())));
        assert_eq!(split_name("./000.jpg"), Some(("./000", "jpg".to_owned())));
        for skipped in ["noext", "dir/.hidden", "__len__.txt", "a/__meta__.json"] {
            assert_eq!(split_name(skipped), None, "{skipped}");
        }
    }

    #[test]
    fn members_out_of_order_are_joined() {
        let groups = grouped(&["a.jpg", "b.jpg", "a.txt", "c.jpg", "b.txt"]).unwrap();
        let keys: Vec<&str> = groups.iter().map(|group| group.key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!((groups[0].member("txt"), groups[1].member("txt"), groups[2].member("txt")), (Some(2..3), Some(4..5), None));
    }

    #[test]
    fn names_with_a_further_dot_are_counted() {
        let groups = grouped(&["1.5.jpg", "1.5.txt", "2.jpg", "2.left.png", "2.left.exr"]).unwrap();
        assert_eq!((groups.len(), dotted(&groups)), (2, 3));
        assert_eq!(groups[0].suffixes().collect::<Vec<_>>(), ["5.jpg", "5.txt"]);
    }

    #[test]
    fn a_repeated_suffix_names_shard_key_and_bytes() {
        let error = grouped(&["a.jpg", "a.txt", "b.jpg", "a.JPG"]).unwrap_err().to_string();
        assert_eq!(error, "x.tar: sample `a` has more than one member with suffix `jpg` (bytes 0 and 3)");
    }
}
