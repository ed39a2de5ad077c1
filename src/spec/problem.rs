//! A problem of meaning: found where sections are resolved, placed by whoever has the tree.

use super::diagnostic::Code;
use super::files::FileFault;

/// A problem of meaning, at a key path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub code: Code,
    /// Dotted key path from the top of the file.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, path: path.into(), message: message.into(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A fault of a file, under the path of the section that names it.
    pub fn of_file(code: Code, section: &str, fault: FileFault) -> Self {
        let FileFault { key, message, hint } = fault;
        let path = format!("{section}.{key}");
        Self { code, message: format!("`{path}`: {message}"), path, hint }
    }
}
