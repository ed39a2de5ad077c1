//! The texts that an experiment was read from, and places in them.
//!
//! Owns every text that a key or value can come from: files, and one pseudo-file named `--set` for each override. A
//! [`Span`] is two byte offsets into one of them, so it stays small enough to sit on every node.

use std::path::{Path, PathBuf};

/// Index of a text in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(super) u32);

/// A place: half-open byte range in one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Which text.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// One text and the name it is shown under.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path as given, or `--set`.
    pub name: String,
    /// The whole text.
    pub text: String,
    dir: PathBuf,
}

/// All texts of one experiment, in the order they were read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// Adds a file; relative paths that it states are relative to its folder.
    pub(super) fn add_file(&mut self, path: &Path, text: String) -> FileId {
        let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        self.push(SourceFile { name: path.display().to_string(), text, dir })
    }

    /// Adds the text of one override; relative paths in it are relative to the current directory.
    pub(super) fn add_override(&mut self, text: &str) -> FileId {
        self.push(SourceFile { name: "--set".to_owned(), text: text.to_owned(), dir: PathBuf::new() })
    }

    fn push(&mut self, file: SourceFile) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).expect("fewer than 2^32 files"));
        self.files.push(file);
        id
    }

    /// The text behind an id.
    #[must_use]
    pub fn file(&self, id: FileId) -> &SourceFile {
        &self.files[id.0 as usize]
    }

    /// Line and column of the first character of a place, both from 1, columns in characters.
    #[must_use]
    pub fn line_col(&self, span: Span) -> (usize, usize) {
        let text = &self.file(span.file).text;
        let before = &text.as_bytes()[..(span.start as usize).min(text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
    }

    /// `file:line:column` of a place.
    #[must_use]
    pub fn place(&self, span: Span) -> String {
        let (line, col) = self.line_col(span);
        format!("{}:{line}:{col}", self.file(span.file).name)
    }

    /// The text of a place, cut at the end of its first line.
    #[must_use]
    pub fn snippet(&self, span: Span) -> &str {
        let text = &self.file(span.file).text;
        let found = text.get(span.start as usize..(span.end as usize).min(text.len())).unwrap_or("");
        found.lines().next().unwrap_or("").trim_end()
    }

    /// A path stated in a text, made relative to the current directory (or absolute where it, or the way to the text, is
    /// absolute), `.` and `..` removed as far as the text alone allows. No link is followed.
    #[must_use]
    pub fn join(&self, file: FileId, path: &str) -> String {
        clean(&self.file(file).dir.join(path))
    }
}

impl Span {
    /// The first place of a text.
    pub(super) fn start_of(file: FileId) -> Self {
        Self { file, start: 0, end: 0 }
    }
}

fn clean(path: &Path) -> String {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    if out.as_os_str().is_empty() { ".".to_owned() } else { out.to_string_lossy().into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_not_bytes() {
        let mut sources = Sources::default();
        let file = sources.add_file(Path::new("a/b.yaml"), "é: 1\nxé: [é, no]\n".to_owned());
        let at = u32::try_from(sources.file(file).text.find("no").expect("it is there")).expect("short");
        assert_eq!(sources.place(Span { file, start: at, end: at + 2 }), "a/b.yaml:2:9");
    }

    #[test]
    fn paths_are_relative_to_the_text_that_states_them() {
        let mut sources = Sources::default();
        let file = sources.add_file(Path::new("experiments/small/a.yaml"), String::new());
        assert_eq!(sources.join(file, "../base/./b.yaml"), "experiments/base/b.yaml");
        assert_eq!(sources.join(file, "../../../x"), "../x");
        assert_eq!(sources.join(file, "/data/x"), "/data/x");
        let set = sources.add_override("base=x");
        assert_eq!(sources.join(set, "x/y"), "x/y");
    }
}
