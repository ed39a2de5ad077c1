//! A list of the samples to keep, by name.
//!
//! Input: a `.npy` of uids, as `DataComp`'s tools write and read them, or a text with a name a line. Output: 1 for a sample of the
//! list, 0 for another, and how the list and the pool differ. Invariants: what is said twice counts once; names are joined as those
//! of scores are. Must not know: how much is kept.

use std::path::Path;

use super::mapped::Mapped;
use super::names::{SampleName, hex_uid, joined_by};
use super::pack::Pack;
use super::score_file::no_names;
use super::{DataError, DataResult, npy};

/// Longest name, bytes: what file systems take for a path.
const MAX_NAME_BYTES: usize = 4096;

/// Distinct names, in order.
#[derive(Debug, Default)]
pub struct UidList {
    /// Those of 32 hexadecimal digits.
    uids: Vec<u128>,
    /// The others.
    names: Vec<String>,
    /// Names that stand in the file once more than needed.
    repeated: u64,
}

/// How a list and a pool differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Distinct names of the list.
    pub named: u64,
    /// Those of them that are in the pool.
    pub found: u64,
    /// The first of the others, in the order of names.
    pub first_absent: Option<String>,
    /// Names that stand in the list once more than needed.
    pub repeated: u64,
}

impl UidList {
    /// Reads a list. Files called `.npy`, and others that begin as such, are NumPy arrays; others are texts.
    ///
    /// **Errors**: a file that cannot be read; an array of something else than uids; a text that is not UTF-8, or with a line that is
    /// too long to be a name; a list of nothing.
    pub fn read(file: &str) -> DataResult<Self> {
        let path = Path::new(file);
        let bytes = Mapped::open(path)?;
        let mut list = Self::default();
        if path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("npy")) || bytes.starts_with(npy::MAGIC) {
            let hint = "write uids as DataComp does, or as `numpy.array(uids, \"U32\")`, or as a text with one a line";
            let fail = |what| DataError::BadFile { path: path.to_path_buf(), what, hint };
            npy::items(&bytes, |item| {
                match item {
                    npy::Item::Uid(uid) => list.uids.push(uid),
                    npy::Item::Name(name) => list.add(&name)?,
                }
                Ok(())
            })
            .map_err(fail)?;
        } else {
            let text: &[u8] = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            for (line, name) in (1..).zip(text.split(|byte| *byte == b'\n')) {
                let fail = |what| DataError::Malformed { path: path.to_path_buf(), line, what };
                let name =
                    std::str::from_utf8(name).map_err(|_| fail("found bytes that are not UTF-8, expected a uid".to_owned()))?;
                list.add(name.trim()).map_err(fail)?;
            }
        }
        list.sort();
        if list.named() == 0 {
            let hint = "write one uid a line";
            return Err(DataError::BadFile { path: path.to_path_buf(), what: "it names no sample".to_owned(), hint });
        }
        Ok(list)
    }

    fn add(&mut self, name: &str) -> Result<(), String> {
        match hex_uid(name) {
            Some(uid) => self.uids.push(uid),
            None if name.is_empty() => {}
            None if name.len() > MAX_NAME_BYTES => {
                return Err(format!("a name of {} bytes, expected at most {MAX_NAME_BYTES}", name.len()));
            }
            None => self.names.push(name.to_owned()),
        }
        Ok(())
    }

    fn sort(&mut self) {
        let all = self.named();
        self.uids.sort_unstable();
        self.uids.dedup();
        self.names.sort_unstable();
        self.names.dedup();
        self.repeated = (all - self.named()) as u64;
    }

    fn named(&self) -> usize {
        self.uids.len() + self.names.len()
    }

    /// The place of a name.
    fn place(&self, name: &str) -> Option<usize> {
        match hex_uid(name) {
            Some(uid) => self.uids.binary_search(&uid).ok(),
            None => self.names.binary_search_by(|known| known.as_str().cmp(name)).ok().map(|place| self.uids.len() + place),
        }
    }

    /// 1 for every sample of a pack that is in the list, 0 for the others, and how the two differ.
    ///
    /// **Errors**: a pack without names.
    pub fn scores(&self, pack: &Pack) -> DataResult<(Vec<f64>, Listed)> {
        let names = (0..pack.len()).map(|sample| pack.name(sample).map(|(key, uid)| joined_by(key, uid)));
        let names = names.collect::<Option<Vec<&str>>>().ok_or_else(|| no_names(pack))?;
        let is_named = |name: &&str| if self.place(name).is_some() { 1.0 } else { 0.0 };
        Ok((names.iter().map(is_named).collect(), self.compare(names.iter().copied())))
    }

    /// How the list and the samples of a pool differ.
    pub(super) fn listed<'a>(&self, names: impl Iterator<Item = &'a SampleName>) -> Listed {
        self.compare(names.map(SampleName::joined_by))
    }

    fn compare<'a>(&self, names: impl Iterator<Item = &'a str>) -> Listed {
        let mut is_found = vec![false; self.named()];
        names.filter_map(|name| self.place(name)).for_each(|place| is_found[place] = true);
        let name = |place: usize| match self.uids.get(place) {
            Some(uid) => format!("{uid:032x}"),
            None => self.names[place - self.uids.len()].clone(),
        };
        Listed {
            named: self.named() as u64,
            found: is_found.iter().filter(|is_found| **is_found).count() as u64,
            first_absent: is_found.iter().position(|is_found| !is_found).map(name),
            repeated: self.repeated,
        }
    }
}

impl Listed {
    /// What a person should know: names that are not in the pool, and names that are said twice.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let Self { named, found, first_absent, repeated } = self;
        let absent = first_absent
            .as_ref()
            .map(|first| format!("not in the pool: {} of {named} listed uids, the first `{first}`", named - found));
        let twice =
            (*repeated > 0).then(|| format!("{repeated} of {} entries repeat another: a sample is kept once", named + repeated));
        absent.into_iter().chain(twice).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> DataResult<UidList> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        UidList::read(&path.display().to_string())
    }

    #[test]
    fn lists_are_compared_with_pools_by_uid_and_else_by_key() {
        let uid = |uid: u128| format!("{uid:032x}");
        let text = format!("\u{feff}{}\r\nkey-1\n\n{}\n{}\nabsent\n", uid(7), uid(9), uid(7));
        let list = read("l.txt", text.as_bytes()).unwrap();
        let name = |key: &str, uid: String| SampleName { key: key.into(), uid };
        let names = [name("a", uid(7)), name("key-1", String::new()), name("key-1", uid(8)), name("b", uid(7))];
        let listed = list.listed(names.iter());
        assert_eq!(listed, Listed { named: 4, found: 2, first_absent: Some(uid(9)), repeated: 1 });
        let remarks = listed.remarks();
        assert_eq!(remarks[0], format!("not in the pool: 2 of 4 listed uids, the first `{}`", uid(9)));
        assert_eq!(remarks[1], "1 of 5 entries repeat another: a sample is kept once");
        assert_eq!(Listed { found: 4, first_absent: None, repeated: 0, ..listed }.remarks(), Vec::<String>::new());
    }

    #[test]
    fn files_that_are_no_lists_say_where() {
        let says = |name: &str, bytes: &[u8]| read(name, bytes).unwrap_err().to_string();
        assert!(says("l.txt", b"\n \n").ends_with("l.txt: it names no sample"));
        assert!(says("l.txt", b"one\n\xff\n").ends_with("l.txt:2: found bytes that are not UTF-8, expected a uid"));
        assert!(says("l.txt", &[b'a'; 5000]).ends_with("l.txt:1: a name of 5000 bytes, expected at most 4096"));
        assert!(says("l.npy", b"one\n").contains("l.npy: found no NumPy array"));
    }
}
