//! Compiled kernels on disk, by content.
//!
//! Input and output: bytes under a name that is a digest of everything they depend on. Invariants: an entry is written whole
//! and never changed (the first writer wins, so that all readers agree); a damaged entry reads as missing; a cache that cannot be
//! written only costs time. Must not know what the bytes mean.

use std::io::Write;
use std::path::PathBuf;

/// A folder of entries, or none.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
}

const DIGEST: usize = blake3::OUT_LEN;

impl Cache {
    /// The user's: `$XDG_CACHE_HOME` or `~/.cache`, `scaledown/kernels` in it.
    #[must_use]
    pub fn of_user() -> Self {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        Self { folder: base.map(|base| base.join("scaledown/kernels")) }
    }

    /// One in a folder, which is made when needed.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// None: nothing is found, nothing is kept.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// An entry.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(self.folder.as_ref()?.join(name)).ok()?;
        let content = bytes.len().checked_sub(DIGEST)?;
        if blake3::hash(&bytes[..content]).as_bytes() != &bytes[content..] {
            return None;
        }
        bytes.truncate(content);
        Some(bytes)
    }

    /// Keeps an entry where that is possible and there is none yet.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        // A full disk or a read-only home is no reason to fail a training.
        let _ = self.try_write(name, bytes);
    }

    fn try_write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        if self.read(name).is_none() {
            // A damaged entry makes room.
            let _ = std::fs::remove_file(folder.join(name));
        }
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.write_all(blake3::hash(bytes).as_bytes())?;
        file.persist_noclobber(folder.join(name)).map(|_| ()).map_err(|error| error.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_stays_and_a_damaged_one_is_replaced() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let cache = Cache::at(folder.path().join("deep"));
        assert_eq!(cache.read("a"), None);
        cache.write("a", b"first");
        cache.write("a", b"second");
        assert_eq!(cache.read("a").as_deref(), Some(b"first".as_slice()));
        std::fs::write(folder.path().join("deep/a"), b"torn")?;
        assert_eq!(cache.read("a"), None);
        cache.write("a", b"third");
        assert_eq!(cache.read("a").as_deref(), Some(b"third".as_slice()));
        assert_eq!(std::fs::read_dir(folder.path().join("deep"))?.count(), 1, "nothing stays beside it");
        Ok(())
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_silent() {
        let cache = Cache::at(PathBuf::from("/proc/no/such/folder"));
        cache.write("a", b"lost");
        assert_eq!(cache.read("a"), None);
        assert_eq!(Cache::none().read("a"), None);
    }
}
