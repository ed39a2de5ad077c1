//! A source with bytes of its own: what identities take the content of in place of the path.

use super::{DataSource, EvalSource};

/// Files that a run reads and that no job wrote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source<'a> {
    /// Of a training pool.
    Data(&'a DataSource),
    /// Of an evaluation set.
    Eval(&'a EvalSource),
    /// A tokenizer's vocabulary file.
    Vocabulary(&'a str),
    /// A table of scores.
    Scores(&'a str),
    /// A list of uids.
    Uids(&'a str),
}

impl Source<'_> {
    /// Whether it has files at all: the procedural world and declared data have none, and are what their settings say.
    #[must_use]
    pub fn has_files(self) -> bool {
        match self {
            Self::Data(DataSource::Scenes(_) | DataSource::Declared { .. }) | Self::Eval(EvalSource::Scenes { .. }) => false,
            Self::Data(_) | Self::Eval(_) | Self::Vocabulary(_) | Self::Scores(_) | Self::Uids(_) => true,
        }
    }

    /// The same bytes for the same source and no other: its kind and all its settings.
    ///
    /// # Panics
    /// Never: sources are plain structs with text keys.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let bytes = match self {
            Self::Data(source) => serde_json::to_vec(&("data", source)),
            Self::Eval(source) => serde_json::to_vec(&("eval", source)),
            Self::Vocabulary(file) => serde_json::to_vec(&("vocabulary", file)),
            Self::Scores(file) => serde_json::to_vec(&("scores", file)),
            Self::Uids(file) => serde_json::to_vec(&("uids", file)),
        };
        bytes.expect("sources are plain structs with text keys")
    }
}
