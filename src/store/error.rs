//! What can go wrong on a disk, with the path, the operation and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation on a file or folder failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried: `create`, `write`, `rename`, ...
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record cannot be understood.
    #[error("cannot read the record {}: {reason}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store has another layout.
    #[error("the store {} has layout {found}, expected {expected}", path.display())]
    Layout {
        /// The store.
        path: PathBuf,
        /// Its layout.
        found: String,
        /// The layout of this program.
        expected: &'static str,
    },
    /// A file stands where the store or a results folder is to be.
    #[error("the {what} {} is a file, expected a folder", path.display())]
    NoFolder {
        /// Which folder: `store`, `results folder`.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A name that was read from a file leads out of its folder.
    #[error("`{name}` is no name of a file in {}", folder.display())]
    Outside {
        /// The folder that it was to stand in.
        folder: PathBuf,
        /// The name.
        name: String,
    },
    /// A file of a finished job is not the one that it wrote.
    #[error("{} is not what its job wrote: {reason}; the job was set aside in {}", path.display(), aside.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it differs.
        reason: String,
        /// Where the job's folder is now.
        aside: PathBuf,
    },
    /// A worker wrote a file under a name that the store keeps for itself.
    #[error("a job wrote {}, a name that the store keeps for itself", path.display())]
    Reserved {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// `operation` on `path` failed with `source`.
    #[must_use]
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// The same error about another path: the one that the user knows, where it happened on the way there.
    #[must_use]
    pub(super) fn about(self, known: &Path) -> Self {
        match self {
            Self::Io { operation, path: _, source } => Self::Io { operation, path: known.to_owned(), source },
            other => other,
        }
    }

    /// Whether the machine is at fault (disk full, read-only, no permission), so that the next job would fail likewise.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_environment(source),
            Self::Layout { .. } | Self::NoFolder { .. } => true,
            Self::Record { .. } | Self::Reserved { .. } | Self::Outside { .. } | Self::Damaged { .. } => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { operation, source, .. } => match (hint_for(source), *operation) {
                (Some(hint), _) => hint,
                (None, "create" | "write into") => "nothing can be made there: give other folders with `--store` and `--results`",
                (None, _) => return None,
            },
            Self::Record { .. } => "remove the folder of that job: it is done again by the next run",
            Self::Layout { .. } => "give another folder with `--store`, or use the version of the program that made this one",
            Self::NoFolder { what: "store", .. } => "give another folder with `--store`",
            Self::NoFolder { .. } => "give another folder with `--results`, or move the file away",
            Self::Outside { .. } => "the file that states it was not written by this program; do not use it",
            Self::Damaged { .. } => "run the same command again: that job is done anew, and what stands on it goes on",
            Self::Reserved { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

fn is_environment(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied
    )
}

fn hint_for(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::StorageFull => {
            "the disk is full: free some space, or put the store elsewhere with `--store`; what is finished is kept"
        }
        io::ErrorKind::QuotaExceeded => {
            "your quota is used up: free some space, or put the store elsewhere with `--store`; what is finished is kept"
        }
        io::ErrorKind::FileTooLarge => {
            "the file is over the limit on file sizes (`ulimit -f`, or of the file system): raise it, or put the store elsewhere with `--store`"
        }
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: put the store elsewhere with `--store`",
        io::ErrorKind::PermissionDenied => "no permission: check the owner of the store, or put it elsewhere with `--store`",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "a file stands where a folder is expected",
        _ => return None,
    })
}

/// Adds operation and path to an I/O error.
pub(super) trait Context<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for io::Result<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::io(operation, path, source))
    }
}

impl<T> Context<T> for Result<T, rustix::io::Errno> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|errno| StoreError::io(operation, path, errno.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_names_path_operation_and_way_out() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = StoreError::io("write", Path::new("store/jobs/x"), full);
        assert!(error.to_string().starts_with("cannot write store/jobs/x: "), "{error}");
        assert!(error.is_environment());
        assert!(error.hint().is_some_and(|hint| hint.contains("disk is full")));
    }

    #[test]
    fn a_missing_file_is_not_the_environments_fault() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let error = StoreError::io("read", Path::new("x"), missing);
        assert!(!error.is_environment());
        assert_eq!(error.hint(), None);
    }
}
