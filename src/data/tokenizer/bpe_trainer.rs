//! Training of byte-pair vocabularies.
//!
//! Input: captions. Output: a [`Bpe`]. Invariant: a pure function of the multiset of words: the most frequent pair is merged,
//! and of equally frequent ones that with the lowest ids.
//!
//! **Source**: Sennrich, Haddow and Birch 2016. **Differs**: bytes, not characters, as in CLIP.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use super::super::{DataError, DataResult};
use super::UNKNOWN;
use super::bpe::{Bpe, END_OF_WORD, byte_alphabet, merge_pair};
use super::clean::{count_words, words};

/// A pair met once teaches nothing that its halves do not.
const MIN_PAIR_COUNT: i64 = 2;

type Pair = (u32, u32);

/// Trains a vocabulary of at most `vocab_size` entries, two special tokens included.
pub(super) fn train<'a>(vocab_size: u32, captions: impl Iterator<Item = &'a str>) -> DataResult<Bpe> {
    let counts = count_words(captions, |caption, found| words(caption).for_each(found));
    let symbols = symbols(&counts);
    let needed = symbols.len() as u32 + 2;
    if vocab_size < needed {
        return Err(DataError::VocabTooSmall { asked: vocab_size, needed });
    }
    let ids: HashMap<&str, u32> = symbols.iter().zip(0..).map(|(symbol, id)| (symbol.as_str(), id)).collect();
    let alphabet = byte_alphabet();
    let spell = |word: &str| -> Vec<u32> {
        let last = word.len() - 1;
        let symbol = |(at, byte): (usize, u8)| format!("{}{}", alphabet[byte as usize], if at == last { END_OF_WORD } else { "" });
        word.bytes().enumerate().map(|place| ids[symbol(place).as_str()]).collect()
    };
    let corpus = counts.iter().map(|(word, count)| (spell(word), *count as i64)).collect();
    let merges = Merger::new(corpus, symbols.clone()).run(vocab_size as usize - 2);
    Ok(Bpe::new(symbols, &merges, vocab_size).expect("merges join known symbols and stop at the size"))
}

/// The unknown symbol, then every byte met, inside a word and at its end, in byte order.
fn symbols(counts: &[(String, u64)]) -> Vec<String> {
    let bytes: BTreeSet<u8> = counts.iter().flat_map(|(word, _)| word.bytes()).collect();
    let alphabet = byte_alphabet();
    let both = bytes.iter().flat_map(|&byte| {
        let inside = alphabet[byte as usize].to_string();
        let ending = format!("{inside}{END_OF_WORD}");
        [inside, ending]
    });
    std::iter::once(UNKNOWN.to_owned()).chain(both).collect()
}

/// The state of a training: words as ids, counts of pairs and where they occur.
struct Merger {
    corpus: Vec<(Vec<u32>, i64)>,
    texts: Vec<String>,
    ids: HashMap<String, u32>,
    counts: HashMap<Pair, i64>,
    /// Words that hold or once held a pair.
    places: HashMap<Pair, Vec<u32>>,
    /// Counts when pushed; stale ones are corrected when popped.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Merger {
    fn new(corpus: Vec<(Vec<u32>, i64)>, texts: Vec<String>) -> Self {
        let ids = texts.iter().cloned().zip(0..).collect();
        let (mut counts, mut places) = (HashMap::new(), HashMap::<Pair, Vec<u32>>::new());
        for (word, (symbols, count)) in corpus.iter().enumerate() {
            for pair in symbols.windows(2).map(|pair| (pair[0], pair[1])) {
                *counts.entry(pair).or_insert(0) += count;
                places.entry(pair).or_default().push(word as u32);
            }
        }
        let queue = counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        Self { corpus, texts, ids, counts, places, queue }
    }

    /// Merges until there are `entries` entries or no pair is frequent enough; "left right" of each.
    fn run(mut self, entries: usize) -> Vec<String> {
        let mut merges = Vec::new();
        while self.texts.len() < entries {
            let Some((count, Reverse(pair))) = self.queue.pop() else { break };
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now != count {
                if now > 0 {
                    self.queue.push((now, Reverse(pair)));
                }
                continue;
            }
            if count < MIN_PAIR_COUNT {
                break;
            }
            merges.push(format!("{} {}", self.texts[pair.0 as usize], self.texts[pair.1 as usize]));
            self.merge(pair);
        }
        merges
    }

    fn merge(&mut self, pair: Pair) {
        let text = format!("{}{}", self.texts[pair.0 as usize], self.texts[pair.1 as usize]);
        let whole = *self.ids.entry(text.clone()).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as u32 - 1
        });
        let mut words = self.places.remove(&pair).unwrap_or_default();
        words.sort_unstable();
        words.dedup();
        let mut raised: BTreeSet<Pair> = BTreeSet::new();
        for word in words {
            let (symbols, count) = &mut self.corpus[word as usize];
            for old in symbols.windows(2) {
                *self.counts.entry((old[0], old[1])).or_insert(0) -= *count;
            }
            merge_pair(symbols, 0, pair.0, pair.1, whole);
            for new in symbols.windows(2).map(|new| (new[0], new[1])) {
                *self.counts.entry(new).or_insert(0) += *count;
                if new.0 == whole || new.1 == whole {
                    self.places.entry(new).or_default().push(word);
                    raised.insert(new);
                }
            }
        }
        self.counts.remove(&pair);
        let counts = &self.counts;
        self.queue.extend(raised.into_iter().map(|pair| (counts[&pair], Reverse(pair))));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::{Tokenizer, TokenizerConfig};
    use super::*;

    #[test]
    fn the_textbook_corpus_gives_the_textbook_merges() {
        // Sennrich et al., figure 1, with counts low 5, lower 2, newest 6, widest 3.
        let captions: Vec<&str> =
            [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)].iter().flat_map(|&(w, n)| vec![w; n]).collect();
        let bpe = train(60, captions.into_iter()).unwrap();
        // Ties go to the lower ids (byte order, inner before ending): "e s" before "s t</w>", both 9 times.
        // Then "e w", "n e" and "w est</w>" 6 times each: "e w" has the lowest ids.
        assert_eq!(bpe.merges()[..4], ["e s", "es t</w>", "l o", "e w"]);
    }

    #[test]
    fn order_of_captions_does_not_matter_and_rare_pairs_are_left() {
        let (a, b) = (["a red box", "a red ball", "a box"], ["a box", "a red ball", "a red box"]);
        let config = TokenizerConfig::Bpe { vocab_size: 200 };
        let train = |captions: [&'static str; 3]| Tokenizer::train(&config, captions.into_iter()).unwrap();
        assert_eq!(train(a), train(b));
        assert!(train(a).used_entries() < 200);
        assert_eq!(train(a).ids("a red box").len(), 3);
        assert_eq!(train(a).ids("a ball").len(), 5, "`ball` occurs once: spelt out");
    }

    #[test]
    fn text_comes_back_and_unknown_bytes_become_the_unknown_id() {
        let tokenizer =
            Tokenizer::train(&TokenizerConfig::Bpe { vocab_size: 300 }, ["piñata of café, 3 cats", "don't"].into_iter()).unwrap();
        let text = "café cats don 't piñata , 3";
        assert_eq!(tokenizer.decode(&tokenizer.ids(text)), text);
        assert_eq!(tokenizer.ids("zzz"), [0, 0, 0]);
    }

    #[test]
    fn a_vocabulary_too_small_says_what_is_needed() {
        let error = train(10, ["abcdef"].into_iter()).unwrap_err();
        assert!(matches!(error, DataError::VocabTooSmall { asked: 10, needed: 15 }), "{error}");
    }

    #[test]
    fn a_pair_of_equal_symbols_keeps_its_counts() {
        // Three pairs (a, a) of which two can merge; then (aa, a</w>) before (aa, aa), equally often, by the lower ids.
        let bpe = train(40, ["aaaaa aaaaa aaaaa"].into_iter()).unwrap();
        assert_eq!(bpe.merges(), ["a a", "aa a</w>", "aa aaa</w>"]);
    }
}
