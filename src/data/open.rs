//! Opening what users name: regular files, or links to them.
//!
//! Input: a path. Output: an open file, or its text. Invariant: a pipe, device, socket or folder is an error before a byte of it
//! is read, so that nothing is waited for and nothing endless is read. Must not know: formats.

use std::fs::{File, FileType, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::{DataError, DataResult};

/// Longest text file of class names, templates and the like, bytes.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Opens a regular file to read.
///
/// **Errors**: anything else under this path, with its kind.
pub(super) fn regular(path: &Path) -> DataResult<File> {
    let io = |e| DataError::io("open", path, e);
    check(path, std::fs::metadata(path).map_err(io)?.file_type())?;
    // What lies under the path may have changed since the look at it; opening a pipe without this flag waits for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
    check(path, file.metadata().map_err(io)?.file_type())?;
    Ok(file)
}

/// The text of a small file, without a byte order mark.
///
/// **Errors**: as [`regular`]; more than 64 MiB; bytes that are not UTF-8.
pub(super) fn text(path: &Path) -> DataResult<String> {
    let mut bytes = Vec::new();
    let file = regular(path)?;
    file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(|e| DataError::io("read", path, e))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let what = format!("more than {} MiB of text", MAX_TEXT_BYTES >> 20);
        return Err(DataError::Malformed { path: path.to_path_buf(), line: 1, what });
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1;
        let what = format!("byte {:#04x} is not UTF-8", e.as_bytes()[valid.len()]);
        DataError::Malformed { path: path.to_path_buf(), line, what }
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

fn check(path: &Path, kind: FileType) -> DataResult<()> {
    let found = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    };
    Err(DataError::NotAFile { path: path.to_path_buf(), found })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn pipes_devices_sockets_and_folders_are_refused_at_once_and_links_to_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let [pipe, socket, file, link] = ["pipe", "socket", "file", "link"].map(|name| dir.path().join(name));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&file, "\u{feff}one\n").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for (path, found) in
            [(pipe.as_path(), "a pipe"), (&socket, "a socket"), (dir.path(), "a folder"), (Path::new("/dev/zero"), "a device")]
        {
            let error = regular(path).unwrap_err().to_string();
            assert_eq!(error, format!("{}: found {found}, expected a regular file", path.display()));
            assert!(text(path).is_err());
        }
        assert_eq!(text(&link).unwrap(), "one\n");
        std::fs::write(&file, b"one\ncaf\xe9\n").unwrap();
        assert!(text(&file).unwrap_err().to_string().ends_with("file:2: byte 0xe9 is not UTF-8"));
    }
}
