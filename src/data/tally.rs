//! Counts of what samples and members were like, taken by many threads at once.
//!
//! Output: [`Oddities`], the part of a pack's header that says what was packed all the same or was no sample. Invariant: sums,
//! so that they are the same whatever the thread count. Must not know: packs.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What a person should know of a source besides the samples left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oddities {
    /// Images whose EXIF data ask for another orientation than the stored one, which is the one packed (as `open_clip` does).
    pub rotated: u64,
    /// Samples whose `.json` could not be read, kept for the caption in their `.txt`; their fields are missing.
    pub unread_metadata: u64,
    /// Samples with a number in their `.json` that is not finite, which counts as missing.
    pub numbers_not_finite: u64,
    /// Members of tars that are links: what they point to is not looked for.
    pub links: u64,
    /// Sparse members of tars, which are not read.
    pub sparse: u64,
    /// Members of tars that are devices, pipes or of an unknown kind.
    pub special: u64,
    /// Members such as `1.5.jpg`: their name has a further dot, so that neither key (`1`) nor suffix (`5.jpg`) is what was meant.
    pub dotted: u64,
}

impl Oddities {
    /// Adds another count to this one.
    pub(super) fn add(&mut self, other: &Self) {
        let Self { rotated, unread_metadata, numbers_not_finite, links, sparse, special, dotted } = other;
        self.rotated += rotated;
        self.unread_metadata += unread_metadata;
        self.numbers_not_finite += numbers_not_finite;
        self.links += links;
        self.sparse += sparse;
        self.special += special;
        self.dotted += dotted;
    }

    /// Every count that is not 0, in words.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        let Self { rotated, unread_metadata, numbers_not_finite, links, sparse, special, dotted } = *self;
        let said = [
            (rotated, "images whose EXIF orientation was not applied, as open_clip does not"),
            (unread_metadata, "samples whose `.json` could not be read, kept for the caption in their `.txt`"),
            (numbers_not_finite, "samples with a number in their `.json` that is not finite, read as missing"),
            (links, "links in tars, which are not followed"),
            (sparse, "sparse members of tars, which are not read"),
            (special, "members of tars that are no files"),
            (dotted, "members with a further dot in their name (the key ends at the first), no image or caption by their suffix"),
        ];
        said.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// A count that threads share.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What decoding and reading samples count.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub rotated: Count,
    pub unread_metadata: Count,
    pub numbers_not_finite: Count,
}

impl Tally {
    /// The counts so far.
    pub fn oddities(&self) -> Oddities {
        Oddities {
            rotated: self.rotated.get(),
            unread_metadata: self.unread_metadata.get(),
            numbers_not_finite: self.numbers_not_finite.get(),
            ..Oddities::default()
        }
    }
}
