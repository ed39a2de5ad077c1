//! Captions to token ids.
//!
//! Input: captions (to train on, or to encode). Output: a vocabulary on disk; ids with start, end and padding. Invariants:
//! training on the same captions gives the same vocabulary, byte for byte, on any machine and with any number of threads;
//! the end token has the highest id of a vocabulary, so pooling by the highest id (as `open_clip` does) finds it.
//! Must not know: embeddings, batches.
//!
//! Ids, for a vocabulary of V entries: single symbols, then learnt entries in the order they were learnt (some may stay
//! unused where the captions have nothing more to learn), `<start_of_text>` = V - 2, `<end_of_text>` = V - 1. Padding is 0, as
//! in CLIP; in trained vocabularies 0 is also the unknown symbol.
//!
//! Training is our own, not the `tokenizers` crate's: there the ids of end-of-word symbols (BPE) and the scores of rare
//! characters (unigram) follow the order of a randomly keyed hash map, and unigram's sums are cut by the number of threads,
//! so two trainings on the same captions differ. Sharing CLIP's word rules with its published vocabulary is the other gain.

mod bpe;
mod bpe_trainer;
mod clean;
mod encoded;
mod lengths;
mod repair;
mod unigram;
mod unigram_trainer;

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::TokenizerConfig;

use self::bpe::Bpe;
use self::unigram::Unigram;
use super::{DataError, DataResult};

pub use self::clean::clean;
pub use self::encoded::{Encoded, EncodedCaptions};
pub use self::lengths::{Lengths, equal_classes};

/// Longest word, bytes, whose ids are remembered while a text is encoded.
const MAX_CACHED_WORD: usize = 256;
/// Name of the file in a tokenizer's folder.
const FILE: &str = "tokenizer.json";
/// Version of that file.
const FORMAT: u32 = 1;
/// Text of the start token.
const START_OF_TEXT: &str = "<start_of_text>";
/// Text of the end token.
const END_OF_TEXT: &str = "<end_of_text>";
/// Text of the unknown symbol of trained vocabularies.
const UNKNOWN: &str = "<unk>";

/// A vocabulary and the rules that cut captions into its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenizer {
    vocab_size: u32,
    model: Model,
}

#[derive(Debug, Clone, PartialEq)]
enum Model {
    Bpe(Bpe),
    Unigram(Unigram),
}

/// The file of a tokenizer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenizerFile {
    format: u32,
    vocab_size: u32,
    model: ModelFile,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ModelFile {
    Bpe {
        /// Single symbols in id order; bytes in GPT-2's printable alphabet, `</w>` at the end of a word.
        symbols: Vec<String>,
        /// Merges in the order learnt, both halves apart by a space.
        merges: Vec<String>,
    },
    Unigram {
        /// Entries in id order with their log-probability in millionths of a nat: whole numbers, so that texts cut the same
        /// everywhere.
        pieces: Vec<(String, i64)>,
    },
}

impl Tokenizer {
    /// Trains a vocabulary on captions, or reads CLIP's from its file.
    ///
    /// **Errors**: a vocabulary too small for the symbols of the captions; an unreadable vocabulary file.
    pub fn train<'a>(config: &TokenizerConfig, captions: impl Iterator<Item = &'a str>) -> DataResult<Self> {
        let vocab_size = config.vocab_size();
        let model = match config {
            TokenizerConfig::Bpe { vocab_size } => Model::Bpe(bpe_trainer::train(*vocab_size, captions)?),
            TokenizerConfig::Unigram { vocab_size } => Model::Unigram(unigram_trainer::train(*vocab_size, captions)?),
            TokenizerConfig::ClipBpe { file } => Model::Bpe(bpe::read_clip(Path::new(file), vocab_size)?),
        };
        Ok(Self { vocab_size, model })
    }

    /// Writes the vocabulary into a folder, which is made where it does not exist.
    pub fn save(&self, dir: &Path) -> DataResult<()> {
        std::fs::create_dir_all(dir).map_err(|e| DataError::io("create", dir, e))?;
        let model = match &self.model {
            Model::Bpe(bpe) => ModelFile::Bpe { symbols: bpe.symbols().to_vec(), merges: bpe.merges() },
            Model::Unigram(unigram) => ModelFile::Unigram { pieces: unigram.pieces().to_vec() },
        };
        let file = TokenizerFile { format: FORMAT, vocab_size: self.vocab_size, model };
        let mut text = serde_json::to_vec_pretty(&file).expect("strings and numbers serialise");
        text.push(b'\n');
        let path = dir.join(FILE);
        std::fs::write(&path, text).map_err(|e| DataError::io("write", &path, e))
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(dir: &Path) -> DataResult<Self> {
        let path = dir.join(FILE);
        let bad = |what: String| DataError::BadPack { path: path.clone(), what };
        let text = std::fs::read_to_string(&path).map_err(|e| DataError::io("read", &path, e))?;
        let file: TokenizerFile = serde_json::from_str(&text).map_err(|e| bad(format!("not a tokenizer: {e}")))?;
        if file.format != FORMAT {
            return Err(bad(format!("tokenizer format {}, this program reads {FORMAT}", file.format)));
        }
        let model = match file.model {
            ModelFile::Bpe { symbols, merges } => Model::Bpe(Bpe::new(symbols, &merges, file.vocab_size).map_err(bad)?),
            ModelFile::Unigram { pieces } => Model::Unigram(Unigram::new(pieces, file.vocab_size).map_err(bad)?),
        };
        Ok(Self { vocab_size: file.vocab_size, model })
    }

    /// Entries of the vocabulary, which is the height of the token embedding (V), as configured.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Entries that are really used: fewer than V where the captions had nothing more to learn.
    #[must_use]
    pub fn used_entries(&self) -> u32 {
        2 + match &self.model {
            Model::Bpe(bpe) => bpe.entries(),
            Model::Unigram(unigram) => unigram.entries(),
        }
    }

    /// Id of the start token.
    #[must_use]
    pub fn start(&self) -> u32 {
        self.vocab_size - 2
    }

    /// Id of the end token: the highest.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.vocab_size - 1
    }

    /// Start, the caption's ids, end, padding with 0; a caption too long is cut so that the last id is the end.
    #[must_use]
    pub fn encode(&self, text: &str, context_length: usize) -> Encoded {
        let mut ids = Vec::with_capacity(context_length);
        self.ids_into(text, context_length, &mut WordCache::default(), &mut ids);
        let end = self.end_of(&ids);
        ids.resize(context_length, 0);
        Encoded { ids, end }
    }

    /// The ids of a text alone, without start, end, cutting or padding.
    #[must_use]
    pub fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.push_text(text, usize::MAX, &mut WordCache::default(), &mut ids);
        ids
    }

    /// Text of ids, for people: the reverse of [`Self::ids`] up to cleaning.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let inner: Vec<u32> = ids.iter().copied().filter(|&id| id < self.start()).collect();
        match &self.model {
            Model::Bpe(bpe) => bpe.decode(&inner),
            Model::Unigram(unigram) => unigram.decode(&inner),
        }
    }

    /// Start, ids and end of a caption, without padding.
    fn ids_into(&self, text: &str, context_length: usize, cache: &mut WordCache, ids: &mut Vec<u32>) {
        let from = ids.len();
        ids.push(self.start());
        self.push_text(text, context_length, cache, ids);
        ids.push(self.end());
        if ids.len() - from > context_length {
            ids.truncate(from + context_length);
            if let Some(last) = ids[from..].last_mut() {
                *last = self.end();
            }
        }
    }

    /// Appends the ids of a text; may stop once there are more than `enough`.
    fn push_text(&self, text: &str, enough: usize, cache: &mut WordCache, ids: &mut Vec<u32>) {
        let from = ids.len();
        let text = clean(text);
        let mut word = |word: &str, ids: &mut Vec<u32>| {
            if ids.len() - from > enough {
                return;
            }
            if let Some(known) = cache.get(word) {
                return ids.extend_from_slice(known);
            }
            let start = ids.len();
            match (&self.model, word) {
                (Model::Bpe(_), START_OF_TEXT) => ids.push(self.start()),
                (Model::Bpe(_), END_OF_TEXT) => ids.push(self.end()),
                (Model::Bpe(bpe), _) => bpe.push_word(word, ids),
                (Model::Unigram(unigram), _) => unigram.push_word(word, ids),
            }
            if word.len() <= MAX_CACHED_WORD {
                cache.insert(word.to_owned(), ids[start..].to_vec());
            }
        };
        match &self.model {
            Model::Bpe(_) => clean::words(&text).for_each(|w| word(w, ids)),
            Model::Unigram(_) => text.split(' ').filter(|w| !w.is_empty()).for_each(|w| word(w, ids)),
        }
    }

    /// Place of the first end token (a caption may hold one of its own, which CLIP's rules honour).
    fn end_of(&self, ids: &[u32]) -> usize {
        ids.iter().position(|&id| id == self.end()).unwrap_or(0)
    }
}

/// Ids of words already met.
type WordCache = HashMap<String, Vec<u32>>;
