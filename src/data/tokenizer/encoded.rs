//! Encoded captions: one padded row, or a whole pack's captions end to end.
//!
//! Invariant: ids are kept without padding, so a long context costs memory only where captions fill it.

use rayon::prelude::*;

use super::{Tokenizer, WordCache};

/// Captions that a thread encodes at a time.
const CAPTIONS_PER_TASK: usize = 4096;

/// One caption as the text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Start, ids, end, then 0. **Shapes**: \[T\].
    pub ids: Vec<u32>,
    /// Place of the end token.
    pub end: usize,
}

/// Many captions, encoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedCaptions {
    context_length: usize,
    ids: Vec<u32>,
    /// Where each caption starts in `ids`, and the end of the last.
    starts: Vec<usize>,
    ends: Vec<u32>,
}

impl Tokenizer {
    /// Encodes captions in parallel; the result does not depend on threads.
    #[must_use]
    pub fn encode_all<S: AsRef<str> + Sync>(&self, captions: &[S], context_length: usize) -> EncodedCaptions {
        let parts: Vec<(Vec<u32>, Vec<usize>)> = captions
            .par_chunks(CAPTIONS_PER_TASK)
            .map(|chunk| {
                let (mut cache, mut ids) = (WordCache::default(), Vec::new());
                let mut lengths = Vec::with_capacity(chunk.len());
                for caption in chunk {
                    let from = ids.len();
                    self.ids_into(caption.as_ref(), context_length, &mut cache, &mut ids);
                    lengths.push(ids.len() - from);
                }
                (ids, lengths)
            })
            .collect();
        let mut all = EncodedCaptions { context_length, ids: Vec::new(), starts: vec![0], ends: Vec::new() };
        for (ids, lengths) in parts {
            let mut at = 0;
            for length in lengths {
                all.ends.push(self.end_of(&ids[at..at + length]) as u32);
                at += length;
                all.starts.push(all.ids.len() + at);
            }
            all.ids.extend_from_slice(&ids);
        }
        all
    }
}

impl EncodedCaptions {
    /// Captions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Tokens a caption is padded to (T).
    #[must_use]
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Ids of a caption without padding.
    #[must_use]
    pub fn ids(&self, caption: usize) -> &[u32] {
        &self.ids[self.starts[caption]..self.starts[caption + 1]]
    }

    /// Place of a caption's end token.
    #[must_use]
    pub fn end(&self, caption: usize) -> u32 {
        self.ends[caption]
    }

    /// Writes a caption into a row, padded with 0, and returns the place of its end token. **Shapes**: row \[T\].
    pub fn write(&self, caption: usize, row: &mut [u32]) -> u32 {
        let ids = self.ids(caption);
        row[..ids.len()].copy_from_slice(ids);
        row[ids.len()..].fill(0);
        self.ends[caption]
    }

    /// Longest caption, start and end included: a batch may be cut to it without changing a causal encoder's output.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}
