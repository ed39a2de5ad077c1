//! Unigram segmentation: the most probable way to cut a word into pieces.
//!
//! Input: a word. Output: ids. Invariant: scores are whole numbers and equal sums go to the longer last piece, so a word is
//! cut the same way everywhere. A word starts with [`WORD_START`], as in `SentencePiece`.
//!
//! **Source**: Kudo 2018.

use std::collections::HashMap;

/// Marks where a word starts.
pub(super) const WORD_START: char = '▁';
/// How much less probable than the rarest piece an unknown character is, in millionths of a nat.
const UNKNOWN_PENALTY: i64 = 10_000_000;

/// A unigram vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unigram {
    /// Entries in id order with their scores; entry 0 is the unknown symbol.
    pieces: Vec<(String, i64)>,
    trie: Trie,
    unknown_score: i64,
}

impl Unigram {
    /// A vocabulary from its entries.
    pub fn new(pieces: Vec<(String, i64)>, vocab_size: u32) -> Result<Self, String> {
        if pieces.len() + 2 > vocab_size as usize {
            return Err(format!("{} entries and 2 special tokens exceed the vocabulary of {vocab_size}", pieces.len()));
        }
        let mut trie = Trie::default();
        for (id, (piece, _)) in pieces.iter().enumerate().skip(1) {
            if piece.is_empty() || !trie.insert(piece.chars(), id as u32) {
                return Err(format!("entry {id} `{piece}` is empty or listed twice"));
            }
        }
        let lowest = pieces.iter().skip(1).map(|&(_, score)| score).min().unwrap_or(0);
        Ok(Self { pieces, trie, unknown_score: lowest.saturating_sub(UNKNOWN_PENALTY) })
    }

    /// Entries in id order with their scores.
    pub fn pieces(&self) -> &[(String, i64)] {
        &self.pieces
    }

    /// Entries without the special tokens.
    pub fn entries(&self) -> u32 {
        self.pieces.len() as u32
    }

    /// Appends the ids of a word.
    pub fn push_word(&self, word: &str, ids: &mut Vec<u32>) {
        let characters: Vec<char> = std::iter::once(WORD_START).chain(word.chars()).collect();
        let from = ids.len();
        // Best score up to each place, with the piece that ends there and where it starts.
        let mut best: Vec<Option<(i64, usize, u32)>> = vec![None; characters.len() + 1];
        best[0] = Some((0, 0, 0));
        for start in 0..characters.len() {
            let (score, ..) = best[start].expect("single characters reach every place");
            let mut offer = |end: usize, piece_score: i64, id: u32| {
                let candidate = score.saturating_add(piece_score);
                if best[end].is_none_or(|(known, ..)| candidate > known) {
                    best[end] = Some((candidate, start, id));
                }
            };
            offer(start + 1, self.unknown_score, 0);
            self.trie.prefixes(&characters[start..], |length, id| offer(start + length, self.pieces[id as usize].1, id));
        }
        let mut end = characters.len();
        while end > 0 {
            let (_, start, id) = best[end].expect("single characters reach every place");
            ids.push(id);
            end = start;
        }
        ids[from..].reverse();
    }

    /// Text of ids: words apart by spaces.
    pub fn decode(&self, ids: &[u32]) -> String {
        let text: String = ids.iter().filter_map(|&id| self.pieces.get(id as usize)).map(|(piece, _)| piece.as_str()).collect();
        text.replace(WORD_START, " ").trim_start().to_owned()
    }
}

/// Strings by their characters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trie {
    edges: HashMap<(u32, char), u32>,
    /// Id of the string that ends at a node.
    ids: Vec<Option<u32>>,
}

impl Trie {
    /// Adds a string; false where it was there already.
    pub fn insert(&mut self, characters: impl Iterator<Item = char>, id: u32) -> bool {
        if self.ids.is_empty() {
            self.ids.push(None);
        }
        let mut node = 0;
        for c in characters {
            node = *self.edges.entry((node, c)).or_insert_with(|| {
                self.ids.push(None);
                self.ids.len() as u32 - 1
            });
        }
        self.ids[node as usize].replace(id).is_none()
    }

    /// Calls `found` with length and id of every string that `text` starts with, shortest first.
    pub fn prefixes(&self, text: &[char], mut found: impl FnMut(usize, u32)) {
        let mut node = 0;
        for (at, &c) in text.iter().enumerate() {
            let Some(&next) = self.edges.get(&(node, c)) else { return };
            node = next;
            if let Some(id) = self.ids[node as usize] {
                found(at + 1, id);
            }
        }
    }
}
