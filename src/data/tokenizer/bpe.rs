//! Byte-pair encoding with CLIP's word rules: bytes as printable characters, `</w>` on the last one of a word.
//!
//! Input: a cleaned word. Output: ids. Invariant: the lowest-ranked merge is made first, all its places from left to right.
//!
//! **Source**: `open_clip`'s `tokenizer.py`; GPT-2's byte alphabet.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::super::{DataError, DataResult, open};
use super::UNKNOWN;

/// Most bytes of a vocabulary file that are read, and of its text (CLIP's has 1.4 and 3.2 MB).
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Longest word, bytes, that is merged without a queue.
const SHORT: usize = 64;
/// Suffix of the symbols that end a word.
pub(super) const END_OF_WORD: &str = "</w>";
/// Merges of CLIP's vocabulary: 49,408 less 2 x 256 bytes and 2 special tokens.
const CLIP_MERGES: usize = 49_408 - 512 - 2;

/// A byte-pair vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bpe {
    symbols: Vec<String>,
    /// Halves of each merge and the id of the whole, in the order learnt.
    merges: Vec<(u32, u32, u32)>,
    /// Text of each id.
    texts: Vec<String>,
    /// Rank and whole of a pair.
    ranks: HashMap<(u32, u32), (u32, u32)>,
    /// Id of a byte inside a word, and of one that ends it.
    bytes: Vec<[u32; 2]>,
}

impl Bpe {
    /// A vocabulary from its single symbols and its merges ("left right").
    pub fn new(symbols: Vec<String>, merges: &[String], vocab_size: u32) -> Result<Self, String> {
        let mut ids: HashMap<String, u32> = HashMap::new();
        for (id, symbol) in symbols.iter().enumerate() {
            if ids.insert(symbol.clone(), id as u32).is_some() {
                return Err(format!("symbol `{symbol}` is listed twice"));
            }
        }
        let mut texts = symbols.clone();
        let mut triples = Vec::with_capacity(merges.len());
        let mut ranks = HashMap::with_capacity(merges.len());
        for (rank, merge) in merges.iter().enumerate() {
            let halves = merge.split_once(' ').and_then(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?)));
            let (left, right) = halves.ok_or_else(|| format!("merge {} `{merge}` is no pair of known symbols", rank + 1))?;
            let whole = format!("{}{}", texts[left as usize], texts[right as usize]);
            let id = *ids.entry(whole.clone()).or_insert_with(|| {
                texts.push(whole);
                texts.len() as u32 - 1
            });
            triples.push((left, right, id));
            ranks.entry((left, right)).or_insert((rank as u32, id));
        }
        if texts.len() + 2 > vocab_size as usize {
            return Err(format!("{} entries and 2 special tokens exceed the vocabulary of {vocab_size}", texts.len()));
        }
        let unknown = ids.get(UNKNOWN).copied().unwrap_or(0);
        let id_of = |text: &str| ids.get(text).copied().unwrap_or(unknown);
        let bytes = byte_alphabet().iter().map(|c| [id_of(&c.to_string()), id_of(&format!("{c}{END_OF_WORD}"))]).collect();
        Ok(Self { symbols, merges: triples, texts, ranks, bytes })
    }

    /// Single symbols in id order.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// Merges in the order learnt, "left right".
    pub fn merges(&self) -> Vec<String> {
        let text = |id: u32| &self.texts[id as usize];
        self.merges.iter().map(|&(left, right, _)| format!("{} {}", text(left), text(right))).collect()
    }

    /// Entries without the special tokens.
    pub fn entries(&self) -> u32 {
        self.texts.len() as u32
    }

    /// Appends the ids of a word.
    pub fn push_word(&self, word: &str, ids: &mut Vec<u32>) {
        let from = ids.len();
        let last = word.len().saturating_sub(1);
        ids.extend(word.bytes().enumerate().map(|(at, byte)| self.bytes[byte as usize][usize::from(at == last)]));
        if word.len() > SHORT {
            let merged = merge_long(&ids[from..], |pair| self.ranks.get(&pair).copied());
            ids.truncate(from);
            ids.extend(merged);
            return;
        }
        self.merge_short(from, ids);
    }

    /// Merges pair by pair, each time over the whole word.
    fn merge_short(&self, from: usize, ids: &mut Vec<u32>) {
        loop {
            let pairs = ids[from..].windows(2).filter_map(|pair| Some((*self.ranks.get(&(pair[0], pair[1]))?, pair[0], pair[1])));
            let Some(((_, whole), left, right)) = pairs.min() else { return };
            merge_pair(ids, from, left, right, whole);
        }
    }

    /// Text of ids: words apart by spaces.
    pub fn decode(&self, ids: &[u32]) -> String {
        let text: String = ids.iter().filter_map(|&id| self.texts.get(id as usize)).map(String::as_str).collect();
        let byte_of: HashMap<char, u8> = byte_alphabet().iter().zip(0..=255).map(|(&c, byte)| (c, byte)).collect();
        let words = text.split(END_OF_WORD).map(|word| word.chars().filter_map(|c| byte_of.get(&c).copied()).collect::<Vec<u8>>());
        words.map(|word| String::from_utf8_lossy(&word).into_owned()).collect::<Vec<_>>().join(" ").trim_end().to_owned()
    }
}

/// Replaces every (left, right) from `from` on by `whole`, from left to right.
pub(super) fn merge_pair(ids: &mut Vec<u32>, from: usize, left: u32, right: u32, whole: u32) {
    let (mut read, mut write) = (from, from);
    while read < ids.len() {
        let is_pair = ids[read] == left && ids.get(read + 1) == Some(&right);
        ids[write] = if is_pair { whole } else { ids[read] };
        read += 1 + usize::from(is_pair);
        write += 1;
    }
    ids.truncate(write);
}

/// The same as merging pair by pair over the whole word, in a time that grows with its length and not with its square: places of
/// pairs wait in a queue by rank, and those of one rank are merged together from left to right before any that they make.
fn merge_long(word: &[u32], rank: impl Fn((u32, u32)) -> Option<(u32, u32)>) -> Vec<u32> {
    const NONE: usize = usize::MAX;
    let mut ids: Vec<Option<u32>> = word.iter().copied().map(Some).collect();
    let mut next: Vec<usize> = (1..=word.len()).map(|at| if at == word.len() { NONE } else { at }).collect();
    let mut before: Vec<usize> = (0..word.len()).map(|at| at.wrapping_sub(1)).collect();
    let pair_at = |ids: &[Option<u32>], next: &[usize], at: usize| Some((ids[at]?, ids[*next.get(at).filter(|n| **n != NONE)?]?));
    let mut queue: BinaryHeap<Reverse<(u32, u32, u32, usize)>> = BinaryHeap::new();
    let mut made: Vec<usize> = (0..word.len()).collect();
    loop {
        for at in made.drain(..) {
            if let Some((left, right)) = pair_at(&ids, &next, at)
                && let Some((rank, _)) = rank((left, right))
            {
                queue.push(Reverse((rank, left, right, at)));
            }
        }
        let Some(&Reverse((lowest, left, right, _))) = queue.peek() else { break };
        while let Some(&Reverse((other, _, _, at))) = queue.peek()
            && other == lowest
        {
            queue.pop();
            let Some((_, whole)) = rank((left, right)).filter(|_| pair_at(&ids, &next, at) == Some((left, right))) else {
                continue;
            };
            let (second, previous) = (next[at], before[at]);
            (ids[at], ids[second]) = (Some(whole), None);
            next[at] = next[second];
            if next[at] != NONE {
                before[next[at]] = at;
            }
            made.push(at);
            made.extend((previous != NONE).then_some(previous));
        }
    }
    ids.into_iter().flatten().collect()
}

/// GPT-2's alphabet: the printable character that stands for each byte.
pub(super) fn byte_alphabet() -> [char; 256] {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut spare = (256..).filter_map(char::from_u32);
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if is_printable(byte) { char::from(byte) } else { spare.next().expect("68 characters follow U+0100") }
    })
}

/// CLIP's vocabulary from `bpe_simple_vocab_16e6.txt.gz` (or the same text unpacked): a header line, then merges, of which
/// only as many as the vocabulary holds are taken. The single symbols are the printable bytes in order, then the others.
pub(super) fn read_clip(path: &Path, vocab_size: u32) -> DataResult<Bpe> {
    let file = open::regular(path)?.take(MAX_FILE_BYTES);
    let reader: Box<dyn BufRead> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(flate2::read::GzDecoder::new(file).take(MAX_FILE_BYTES)))
    } else {
        Box::new(BufReader::new(file))
    };
    let limit = CLIP_MERGES.min((vocab_size as usize).saturating_sub(514));
    let merges: Vec<String> =
        reader.lines().skip(1).take(limit).collect::<Result<_, _>>().map_err(|e| DataError::io("read", path, e))?;
    if merges.len() < limit {
        let what = format!("{} merges, a vocabulary of {vocab_size} needs {limit}", merges.len());
        return Err(DataError::Malformed { path: path.to_path_buf(), line: merges.len() as u64 + 1, what });
    }
    let what = |what| DataError::Malformed { path: path.to_path_buf(), line: 1, what };
    Bpe::new(clip_symbols(), &merges, vocab_size).map_err(what)
}

/// The 512 single symbols of CLIP's vocabulary in id order.
fn clip_symbols() -> Vec<String> {
    let alphabet = byte_alphabet();
    let (printable, others): (Vec<char>, Vec<char>) = alphabet.iter().partition(|&&c| (c as u32) < 256);
    let characters: Vec<String> = printable.into_iter().chain(others).map(String::from).collect();
    let ends = characters.iter().map(|c| format!("{c}{END_OF_WORD}"));
    characters.iter().cloned().chain(ends).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::super::{Tokenizer, TokenizerConfig};
    use super::*;

    #[test]
    fn the_byte_alphabet_is_gpt2s() {
        let alphabet = byte_alphabet();
        assert_eq!((alphabet[b'!' as usize], alphabet[b' ' as usize], alphabet[0]), ('!', 'Ġ', 'Ā'));
        assert_eq!((alphabet[0xAD], alphabet[0x7F], alphabet[0xFF]), ('Ń', 'ġ', 'ÿ'));
    }

    #[test]
    fn clips_single_symbols_have_clips_ids() {
        let symbols = clip_symbols();
        assert_eq!((symbols[0].as_str(), symbols[64].as_str(), symbols[320].as_str()), ("!", "a", "a</w>"));
        assert_eq!((symbols.len(), symbols[188].as_str(), symbols[255].as_str()), (512, "Ā", "Ń"));
    }

    #[test]
    fn the_lowest_ranked_merge_is_made_first() {
        let symbols = clip_symbols();
        let merges = ["b c</w>", "a b", "a bc</w>"].map(String::from);
        let bpe = Bpe::new(symbols, &merges, 600).unwrap();
        let mut ids = Vec::new();
        bpe.push_word("abc", &mut ids);
        assert_eq!(ids, [514], "bc first, then abc");
        ids.clear();
        bpe.push_word("ababc", &mut ids);
        assert_eq!(ids, [513, 514]);
        assert_eq!(bpe.decode(&ids), "ababc");
    }

    #[test]
    fn long_words_are_merged_as_short_ones_and_in_time() {
        let merges = ["a b", "b a", "ab a", "a ba", "aba aba", "a a", "aa b", "b b", "aba b", "b c</w>", "ab ab", "abab abab"];
        let bpe = Bpe::new(clip_symbols(), &merges.map(String::from), 600).unwrap();
        let mut state = 9u32;
        for length in (1..300).chain([70, 4000]) {
            let letters = (0..length).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 30 == 0 { 'b' } else { 'a' }
            });
            let word = letters.collect::<String>() + "c";
            let mut simple: Vec<u32> = word.bytes().map(|byte| bpe.bytes[byte as usize][usize::from(byte == b'c')]).collect();
            let long = merge_long(&simple, |pair| bpe.ranks.get(&pair).copied());
            bpe.merge_short(0, &mut simple);
            assert_eq!(long, simple, "{word}");
        }
        let mut ids = Vec::new();
        bpe.push_word(&"ab".repeat(1 << 17), &mut ids);
        assert_eq!(bpe.decode(&ids).len(), 1 << 18);
    }

    #[test]
    fn a_vocabulary_file_in_clips_form_encodes_as_clip_does() {
        // A synthetic vocabulary of the published length: real first merges, then fillers over unused byte pairs.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vocab.txt.gz");
        let mut file = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        let alphabet = clip_symbols();
        let (mut lines, mut texts) =
            (vec!["i n".to_owned(), "t h".into(), "a n".into(), "c at</w>".into(), "a t</w>".into()], alphabet[188..256].to_vec());
        lines.swap(3, 4);
        let mut at = 0;
        while lines.len() < CLIP_MERGES + 7 {
            for right in 0..68 {
                lines.push(format!("{} {}", texts[at], alphabet[188 + right]));
                texts.push(format!("{}{}", texts[at], alphabet[188 + right]));
            }
            at += 1;
        }
        writeln!(file, "#version: 0.2\n{}", lines.join("\n")).unwrap();
        file.finish().unwrap();

        let config = TokenizerConfig::ClipBpe { file: path.to_string_lossy().into_owned() };
        let tokenizer = Tokenizer::train(&config, std::iter::empty()).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.used_entries(), tokenizer.end()), (49_408, 49_408, 49_407));
        // "A cat!": a</w> = 64 + 256, cat</w> = 512 + 4, !</w> = 256.
        assert_eq!(tokenizer.encode("  A  Cat!", 8).ids, [49_406, 320, 516, 256, 49_407, 0, 0, 0]);
        assert_eq!(tokenizer.encode("", 4).ids, [49_406, 49_407, 0, 0]);
        assert_eq!(tokenizer.encode("a a a a", 4).ids, [49_406, 320, 320, 49_407]);
        let injected = tokenizer.encode("a <end_of_text> a", 8);
        assert_eq!((injected.ids[2], injected.end), (49_407, 2));
    }

    #[test]
    fn a_vocabulary_file_that_is_too_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vocab.txt");
        std::fs::write(&path, "#version: 0.2\ni n\n").unwrap();
        let config = TokenizerConfig::ClipBpe { file: path.to_string_lossy().into_owned() };
        let error = Tokenizer::train(&config, std::iter::empty()).unwrap_err();
        assert!(error.to_string().contains("1 merges"), "{error}");
    }
}
