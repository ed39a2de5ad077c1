//! Whether a finished job's files are still the ones that it wrote.
//!
//! Input: a key. Output: nothing, or which file differs and how. Invariant: a job that was found damaged is not finished any
//! more: its folder is set aside, so that the next run does it again. Must not know what the files hold.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::Context;
use super::{FileDigest, Store, StoreError};
use crate::plan::Key;
use crate::run::JobKind;

/// Files of data sets up to this size are digested, larger ones only measured: they are mapped, and reading all of a pool before
/// each of many trainings would cost more than the trainings of a small study. Files of all other jobs are always digested.
const DIGESTED_BYTES: u64 = 64 << 20;

impl Store {
    /// Checks every output of a finished job against its record; a job that fails the check is set aside.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first file that differs; a job without a record; a file that cannot be read.
    pub fn check_outputs(&self, key: &Key) -> Result<(), StoreError> {
        let folder = self.output_dir(key);
        let Some(record) = self.record(key)? else {
            return Err(StoreError::Record { path: folder, reason: "there is none".into() });
        };
        let is_pack = record.job.kind() == JobKind::Dataset;
        for (name, expected) in &record.outputs {
            let path = folder.join(name);
            if let Some(reason) = difference(&path, expected, is_pack)? {
                let aside = self.set_aside(key)?;
                return Err(StoreError::Damaged { path, reason, aside });
            }
        }
        Ok(())
    }

    /// Takes a damaged job out by one rename; another program may have done so just now.
    fn set_aside(&self, key: &Key) -> Result<PathBuf, StoreError> {
        let (from, damaged) = (self.output_dir(key), self.path().join("damaged"));
        fs::create_dir_all(&damaged).at("create", &damaged)?;
        let free = (0..).map(|number| damaged.join(format!("{key}-{number}"))).find(|path| !path.exists());
        let aside = free.expect("numbers do not end");
        match fs::rename(&from, &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("set aside", &from, error)),
            _ => Ok(aside),
        }
    }
}

/// How a file differs from what a record says of it; `None` where it does not.
fn difference(path: &Path, expected: &FileDigest, is_pack: bool) -> Result<Option<String>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some("it is missing".into())),
        Err(error) => return Err(StoreError::io("open", path, error)),
    };
    let bytes = file.metadata().at("look at", path)?.len();
    if bytes != expected.bytes {
        return Ok(Some(format!("it has {bytes} bytes, the record says {}", expected.bytes)));
    }
    if is_pack && bytes > DIGESTED_BYTES {
        return Ok(None);
    }
    let mut digest = blake3::Hasher::new();
    digest.update_reader(&mut file).at("read", path)?;
    let found = digest.finalize().to_hex();
    let is_same = found.as_str() == expected.blake3;
    Ok((!is_same).then(|| format!("its digest is {}.., the record says {:.12}..", &found[..12], expected.blake3)))
}
