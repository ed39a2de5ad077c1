//! What the samples of a pack are called: a key and, where their metadata have one, a `uid`.
//!
//! Written beside the columns of a pack that is made of files; the procedural world has no names. Invariant: two texts a sample.
//! Must not know: what names are joined with.
//!
//! | file | holds |
//! |---|---|
//! | `names.bin` | UTF-8 texts end to end: key and uid of each sample, an empty uid for none |
//! | `names.offsets` | 2 x samples + 1 byte offsets (u64, little-endian) |

use std::path::Path;

use super::mapped::Mapped;
use super::{DataError, DataResult};

/// File of the texts.
pub(super) const TEXTS: &str = "names.bin";
/// File of their offsets.
pub(super) const OFFSETS: &str = "names.offsets";

/// What a sample is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SampleName {
    /// Key in its shard, or the path of its image as a table states it.
    pub key: String,
    /// The `uid` of its metadata; empty for none.
    pub uid: String,
}

impl SampleName {
    /// What a sample is joined by.
    pub(super) fn joined_by(&self) -> &str {
        joined_by(&self.key, &self.uid)
    }
}

/// What a sample is joined by: its uid or, where it has none, its key.
pub(super) fn joined_by<'a>(key: &'a str, uid: &'a str) -> &'a str {
    if uid.is_empty() { key } else { uid }
}

/// The number that 32 lower-case hexadecimal digits write, as `DataComp`'s uids do; `None` for another text.
pub(super) fn hex_uid(name: &str) -> Option<u128> {
    let is_hex = name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u128::from_str_radix(name, 16).ok() } else { None }
}

/// The names of a pack.
#[derive(Debug)]
pub(super) struct Names {
    texts: Mapped,
    offsets: Mapped,
}

impl Names {
    /// Opens the names of so many samples.
    ///
    /// **Errors**: files that are not as their table says.
    pub fn open(dir: &Path, samples: usize) -> DataResult<Self> {
        let (texts, offsets) = (Mapped::open(&dir.join(TEXTS))?, Mapped::open(&dir.join(OFFSETS))?);
        let bad = |file: &str, what: String| DataError::BadPack { path: dir.join(file), what };
        let expected = (2 * samples + 1) * 8;
        if offsets.len() != expected {
            return Err(bad(OFFSETS, format!("holds {} bytes, the header says {expected}", offsets.len())));
        }
        let names = Self { texts, offsets };
        let text = std::str::from_utf8(&names.texts).map_err(|e| bad(TEXTS, e.to_string()))?;
        let mut previous = 0;
        for place in 0..=2 * samples {
            let offset = names.offset(place);
            if offset < previous || !text.is_char_boundary(offset) {
                return Err(bad(OFFSETS, format!("offset {offset} of text {place} is out of order or inside a character")));
            }
            previous = offset;
        }
        if previous != text.len() {
            return Err(bad(TEXTS, format!("holds {} bytes, its offsets say {previous}", text.len())));
        }
        Ok(names)
    }

    /// Key and uid of a sample.
    pub fn of(&self, sample: usize) -> (&str, &str) {
        (self.text(2 * sample), self.text(2 * sample + 1))
    }

    fn text(&self, place: usize) -> &str {
        let bytes = &self.texts[self.offset(place)..self.offset(place + 1)];
        std::str::from_utf8(bytes).expect("checked when it was opened")
    }

    fn offset(&self, place: usize) -> usize {
        u64::from_le_bytes(self.offsets[place * 8..][..8].try_into().expect("eight bytes")) as usize
    }
}
