//! YAML with places: maps in written order, scalars as written.
//!
//! Nothing is typed here: `1e-3`, `no` and `1.10` are the texts that the user wrote, and become numbers only where a number
//! is expected.

use super::source::Span;

/// One value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What.
    pub value: Tree,
    /// Where.
    pub span: Span,
}

/// A value without its place.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// Text of a scalar.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map; keys are unique.
    Map(Vec<Entry>),
}

/// A scalar as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Its text, escapes resolved and `${ENV}` substituted.
    pub text: String,
    /// Quoted or a block: always text.
    pub quoted: bool,
    /// The text before `${ENV}` was substituted, where it was.
    pub template: Option<String>,
    /// It could not be substituted, which was reported: nothing more is said about it.
    pub is_broken: bool,
}

impl Scalar {
    /// The text as a label: as written where a variable is the folder of a path (`${DATA}/a.tar`), because a label must not
    /// change with the folder that data lie in; with its variables replaced otherwise.
    #[must_use]
    pub fn label(&self) -> &str {
        self.template.as_deref().filter(|template| template.contains("}/")).unwrap_or(&self.text)
    }
}

/// One key of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// A plain scalar.
    pub(super) fn plain(text: impl Into<String>, span: Span) -> Self {
        Self { value: Tree::Scalar(Scalar { text: text.into(), quoted: false, template: None, is_broken: false }), span }
    }

    /// A map of one key.
    pub(super) fn singleton(key: &str, key_span: Span, value: Self) -> Self {
        let span = value.span;
        Self { value: Tree::Map(vec![Entry { key: key.to_owned(), key_span, value }]), span }
    }

    /// Whether it is `null`, `~` or nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Tree::Scalar(s) if !s.quoted && matches!(s.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Its text, if it is a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Tree::Scalar(s) => Some(&s.text),
            _ => None,
        }
    }

    /// Its entries, if it is a map.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Tree::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Its items, if it is a list.
    #[must_use]
    pub fn items(&self) -> Option<&[Self]> {
        match &self.value {
            Tree::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entry of a key, if it is a map that has it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|e| e.key == key)
    }

    /// The value of a key, if it is a map that has it.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|e| &e.value)
    }

    /// The value at a path of keys.
    #[must_use]
    pub fn at<S: AsRef<str>>(&self, path: &[S]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.child(key.as_ref()))
    }

    /// The value at a path, or the deepest one above it that is there.
    pub(super) fn nearest<S: AsRef<str>>(&self, path: &[S]) -> &Self {
        let mut node = self;
        for key in path {
            match node.child(key.as_ref()) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }

    /// What kind of value it is, with its text where that is short: for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.value {
            Tree::Scalar(_) if self.is_null() => "nothing".to_owned(),
            Tree::Scalar(s) if s.text.chars().count() > 60 => format!("`{}...`", s.text.chars().take(57).collect::<String>()),
            Tree::Scalar(s) => format!("`{}`", s.text),
            Tree::List(_) => "a list".to_owned(),
            Tree::Map(_) => "a map".to_owned(),
        }
    }
}
