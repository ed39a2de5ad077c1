//! Read-only mapped files: the one `unsafe` call of this room.
//!
//! Input: a path. Output: its bytes. Invariant: an empty file is an empty slice, not an error.

use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use super::{DataError, DataResult, open};

/// The bytes of a file, mapped into memory.
#[derive(Debug)]
pub struct Mapped(Option<Mmap>);

impl Mapped {
    /// Maps a regular file.
    pub fn open(path: &Path) -> DataResult<Self> {
        let file = open::regular(path)?;
        let metadata = file.metadata().map_err(|e| DataError::io("read", path, e))?;
        if metadata.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: shards are inputs that nobody rewrites while a job reads them, and packs are written beside and renamed in,
        // never changed afterwards; a file cut short by another program meanwhile would end this one, as with any mapping.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| DataError::io("map", path, e))?;
        Ok(Self(Some(map)))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
