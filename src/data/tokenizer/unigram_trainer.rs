//! Training of unigram vocabularies by expectation maximisation and pruning.
//!
//! Input: captions. Output: a [`Unigram`]. Invariants: a pure function of the multiset of words: sums run in a fixed order on
//! one thread, logarithms come from `libm`, ties go to the lesser string; every character met stays an entry of its own.
//!
//! **Source**: Kudo 2018, as `SentencePiece` does it. **Differs**: seeds are all frequent substrings of words (no suffix array;
//! words are short), and sums over a word run in the linear domain, for which words are cut to [`MAX_WORD`] characters.

use std::collections::{BTreeMap, HashMap};

use super::super::{DataError, DataResult};
use super::UNKNOWN;
use super::clean::count_words;
use super::unigram::{Trie, Unigram, WORD_START};

/// Longest piece, characters.
const MAX_PIECE: usize = 16;
/// Longest word that is trained on, characters: e^-700 is the smallest probability an f64 holds.
const MAX_WORD: usize = 40;
/// Words that seeds are taken from: the most frequent ones.
const MAX_SEED_WORDS: usize = 200_000;
/// Seeds for each entry of the vocabulary.
const SEEDS_PER_ENTRY: usize = 20;
/// Share of the pieces that a round of pruning keeps.
const SHRINKING: f64 = 0.75;
/// Rounds of expectation maximisation between prunings.
const SUB_ITERATIONS: usize = 2;
/// A piece expected less often than this is dropped.
const MIN_EXPECTED: f64 = 0.5;

type Word = (Vec<char>, f64);
/// A piece and its log-probability.
type Piece = (String, f64);

/// Trains a vocabulary of at most `vocab_size` entries, two special tokens and the unknown symbol included.
pub(super) fn train<'a>(vocab_size: u32, captions: impl Iterator<Item = &'a str>) -> DataResult<Unigram> {
    let words = words_of(captions);
    let mut pieces = seeds(&words, vocab_size as usize);
    let characters = pieces.iter().filter(|(piece, _)| is_single(piece)).count();
    let needed = characters as u32 + 3;
    if vocab_size < needed {
        return Err(DataError::VocabTooSmall { asked: vocab_size, needed });
    }
    let wanted = vocab_size as usize - 3;
    let enough = wanted + wanted / 10;
    loop {
        for _ in 0..SUB_ITERATIONS {
            pieces = maximise(&pieces, &expect(&pieces, &words));
        }
        if pieces.len() <= enough {
            break;
        }
        let keep = enough.max((pieces.len() as f64 * SHRINKING) as usize);
        pieces = prune(pieces, &words, keep);
    }
    Ok(finish(pieces, wanted, vocab_size))
}

fn is_single(piece: &str) -> bool {
    piece.chars().nth(1).is_none()
}

/// Words with their counts, the most frequent first.
fn words_of<'a>(captions: impl Iterator<Item = &'a str>) -> Vec<Word> {
    let mut words = count_words(captions, |caption, found| caption.split(' ').filter(|word| !word.is_empty()).for_each(found));
    words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let spell = |word: &str| std::iter::once(WORD_START).chain(word.chars()).take(MAX_WORD).collect();
    words.into_iter().map(|(word, count)| (spell(&word), count as f64)).collect()
}

/// Single characters and the substrings with the highest count x length, as log-probabilities of those.
fn seeds(words: &[Word], vocab_size: usize) -> Vec<Piece> {
    let mut singles: BTreeMap<char, f64> = BTreeMap::new();
    let mut substrings: HashMap<&[char], f64> = HashMap::new();
    for (at, (word, count)) in words.iter().enumerate() {
        word.iter().for_each(|&c| *singles.entry(c).or_insert(0.0) += count);
        if at < MAX_SEED_WORDS {
            for start in 0..word.len() {
                for end in start + 2..=word.len().min(start + MAX_PIECE) {
                    *substrings.entry(&word[start..end]).or_insert(0.0) += count;
                }
            }
        }
    }
    let mut scored: Vec<(f64, &[char])> = substrings
        .into_iter()
        .filter(|&(_, count)| count >= 2.0)
        .map(|(piece, count)| (count * piece.len() as f64, piece))
        .collect();
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.truncate(vocab_size.saturating_mul(SEEDS_PER_ENTRY));
    let longer = scored.into_iter().map(|(score, piece)| (piece.iter().collect(), score));
    let mut pieces: Vec<Piece> = singles.into_iter().map(|(c, count)| (c.to_string(), count)).chain(longer).collect();
    let log_total = libm::log(pieces.iter().map(|(_, score)| score).sum());
    pieces.iter_mut().for_each(|(_, score)| *score = libm::log(*score) - log_total);
    pieces
}

fn trie_of(pieces: &[Piece]) -> Trie {
    let mut trie = Trie::default();
    for (id, (piece, _)) in pieces.iter().enumerate() {
        trie.insert(piece.chars(), id as u32);
    }
    trie
}

/// How often each piece is expected over all ways to cut the words.
fn expect(pieces: &[Piece], words: &[Word]) -> Vec<f64> {
    let trie = trie_of(pieces);
    let probabilities: Vec<f64> = pieces.iter().map(|&(_, score)| libm::exp(score)).collect();
    let mut expected = vec![0.0; pieces.len()];
    let mut spans: Vec<(usize, usize, u32)> = Vec::new();
    for (word, count) in words {
        spans.clear();
        (0..word.len()).for_each(|start| trie.prefixes(&word[start..], |length, id| spans.push((start, start + length, id))));
        let mut before = vec![0.0; word.len() + 1];
        before[0] = 1.0;
        for &(start, end, id) in &spans {
            before[end] += before[start] * probabilities[id as usize];
        }
        let mut after = vec![0.0; word.len() + 1];
        after[word.len()] = 1.0;
        for &(start, end, id) in spans.iter().rev() {
            after[start] += after[end] * probabilities[id as usize];
        }
        let total = before[word.len()];
        if total > 0.0 {
            for &(start, end, id) in &spans {
                expected[id as usize] += count * before[start] * probabilities[id as usize] * after[end] / total;
            }
        }
    }
    expected
}

/// New log-probabilities from expected counts (the digamma form drives rare pieces down); rare pieces go, characters stay.
fn maximise(pieces: &[Piece], expected: &[f64]) -> Vec<Piece> {
    let kept: Vec<(&str, f64)> = pieces
        .iter()
        .zip(expected)
        .filter(|((piece, _), count)| **count >= MIN_EXPECTED || is_single(piece))
        .map(|((piece, _), &count)| (piece.as_str(), count.max(MIN_EXPECTED)))
        .collect();
    let log_total = digamma(kept.iter().map(|(_, count)| count).sum());
    kept.into_iter().map(|(piece, count)| (piece.to_owned(), digamma(count) - log_total)).collect()
}

/// Keeps the pieces whose loss would cost the most likelihood, each replaced by the best cut without it; characters stay.
fn prune(pieces: Vec<Piece>, words: &[Word], keep: usize) -> Vec<Piece> {
    let trie = trie_of(&pieces);
    let mut counts = vec![0.0; pieces.len()];
    for (word, count) in words {
        best_cut(&pieces, &trie, word, None).into_iter().for_each(|id| counts[id as usize] += count);
    }
    let total: f64 = counts.iter().sum();
    let mut losses: Vec<(f64, usize)> = Vec::new();
    let mut is_kept: Vec<bool> = pieces.iter().map(|(piece, _)| is_single(piece)).collect();
    for (id, (piece, _)) in pieces.iter().enumerate() {
        if is_kept[id] || counts[id] == 0.0 {
            continue;
        }
        let alternative = best_cut(&pieces, &trie, &piece.chars().collect::<Vec<_>>(), Some(id as u32));
        let new_total = libm::log(total + counts[id] * (alternative.len() as f64 - 1.0));
        let replaced: f64 = alternative.iter().map(|&part| libm::log(counts[part as usize] + counts[id]) - new_total).sum();
        losses.push((counts[id] / total * (libm::log(counts[id] / total) - replaced), id));
    }
    losses.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then_with(|| pieces[a.1].0.cmp(&pieces[b.1].0)));
    let room = keep.saturating_sub(is_kept.iter().filter(|&&kept| kept).count());
    losses.into_iter().take(room).for_each(|(_, id)| is_kept[id] = true);
    pieces.into_iter().zip(is_kept).filter(|(_, kept)| *kept).map(|(piece, _)| piece).collect()
}

/// The most probable cut of a text, with one piece left out where asked.
fn best_cut(pieces: &[Piece], trie: &Trie, text: &[char], without: Option<u32>) -> Vec<u32> {
    let mut best = vec![(f64::NEG_INFINITY, 0usize, 0u32); text.len() + 1];
    best[0].0 = 0.0;
    for start in 0..text.len() {
        let score = best[start].0;
        trie.prefixes(&text[start..], |length, id| {
            let candidate = score + pieces[id as usize].1;
            if Some(id) != without && candidate > best[start + length].0 {
                best[start + length] = (candidate, start, id);
            }
        });
    }
    let (mut cut, mut end) = (Vec::new(), text.len());
    while end > 0 && best[end].0 > f64::NEG_INFINITY {
        cut.push(best[end].2);
        end = best[end].1;
    }
    cut
}

/// All characters and the most probable other pieces, most probable first, after the unknown symbol.
fn finish(mut pieces: Vec<Piece>, wanted: usize, vocab_size: u32) -> Unigram {
    let by_score = |a: &Piece, b: &Piece| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    pieces.sort_unstable_by(|a, b| is_single(&b.0).cmp(&is_single(&a.0)).then_with(|| by_score(a, b)));
    pieces.truncate(wanted);
    pieces.sort_unstable_by(by_score);
    let whole = |(piece, score): Piece| (piece, (score * 1e6).round() as i64);
    let entries = std::iter::once((UNKNOWN.to_owned(), 0)).chain(pieces.into_iter().map(whole)).collect();
    Unigram::new(entries, vocab_size).expect("distinct pieces, cut to the size")
}

/// The logarithmic derivative of the gamma function, by recurrence and its asymptotic series.
fn digamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 7.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    sum + libm::log(x) - 0.5 / x - inverse * (1.0 / 12.0 - inverse * (1.0 / 120.0 - inverse / 252.0))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::{Tokenizer, TokenizerConfig};
    use super::*;

    fn captions() -> Vec<String> {
        let (colours, shapes) = (["red", "green", "yellowish"], ["square", "triangle", "pentagon", "hexagon"]);
        colours.iter().flat_map(|c| shapes.iter().map(move |s| format!("a photo of a {c} {s}"))).collect()
    }

    #[test]
    fn frequent_words_become_pieces_and_text_comes_back() {
        let config = TokenizerConfig::Unigram { vocab_size: 48 };
        let tokenizer = Tokenizer::train(&config, captions().iter().map(String::as_str)).unwrap();
        let text = "a photo of a red hexagon";
        let ids = tokenizer.ids(text);
        assert_eq!(tokenizer.decode(&ids), text);
        assert!(ids.len() <= 9, "{ids:?}");
        assert!(tokenizer.used_entries() <= 48);
        assert!(tokenizer.ids("zebra").contains(&0), "z and b are unknown");
    }

    #[test]
    fn order_of_captions_does_not_matter() {
        let config = TokenizerConfig::Unigram { vocab_size: 60 };
        let forwards = Tokenizer::train(&config, captions().iter().map(String::as_str)).unwrap();
        let backwards = Tokenizer::train(&config, captions().iter().rev().map(String::as_str)).unwrap();
        assert_eq!(forwards, backwards);
    }

    #[test]
    fn digamma_has_its_known_values() {
        // psi(1) = -gamma, psi(1/2) = -gamma - 2 ln 2, psi(10) = 2.251752589066721.
        let gamma = 0.577_215_664_901_532_9;
        for (x, value) in [(1.0, -gamma), (0.5, -gamma - 2.0 * std::f64::consts::LN_2), (10.0, 2.251_752_589_066_721)] {
            assert!((digamma(x) - value).abs() < 1e-8, "{x}: {}", digamma(x));
        }
    }

    #[test]
    fn a_vocabulary_too_small_says_what_is_needed() {
        assert!(matches!(train(5, ["abc"].into_iter()), Err(DataError::VocabTooSmall { asked: 5, needed: 7 })));
    }
}
