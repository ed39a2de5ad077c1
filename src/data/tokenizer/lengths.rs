//! How long captions are in tokens, and which prompts a context makes equal.
//!
//! Input: a tokenizer with captions or class names. Output: counts. Must not know: where texts come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::benchmark::prompt;
use super::Tokenizer;

/// Captions by their length in tokens, start and end included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths(BTreeMap<usize, u64>);

impl Lengths {
    /// Of captions as they are, not cut.
    #[must_use]
    pub fn of<S: AsRef<str> + Sync>(tokenizer: &Tokenizer, captions: &[S]) -> Self {
        let encoded = tokenizer.encode_all(captions, usize::MAX);
        let mut lengths = BTreeMap::new();
        for caption in 0..encoded.len() {
            *lengths.entry(encoded.ids(caption).len()).or_default() += 1;
        }
        Self(lengths)
    }

    /// Captions in all.
    #[must_use]
    pub fn captions(&self) -> u64 {
        self.0.values().sum()
    }

    /// Captions that a context of so many tokens cuts.
    #[must_use]
    pub fn cut_by(&self, context_length: usize) -> u64 {
        self.0.range(context_length.saturating_add(1)..).map(|(_, count)| count).sum()
    }

    /// Tokens of the longest.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.keys().next_back().copied().unwrap_or(0)
    }
}

/// Groups of classes whose prompts are the same tokens under every template, by class: of equal names, or of names that the
/// context cuts to the same. No model can tell them apart.
#[must_use]
pub fn equal_classes(tokenizer: &Tokenizer, names: &[String], templates: &[String], context_length: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![(0..names.len()).collect()];
    for template in templates {
        // Only classes that are still together are encoded: after the first template that is few of them.
        let split = |group: Vec<usize>| {
            let prompts: Vec<String> = group.iter().map(|class| prompt(template, &names[*class])).collect();
            let encoded = tokenizer.encode_all(&prompts, context_length);
            let mut by_ids: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
            for (at, class) in group.iter().enumerate() {
                by_ids.entry(encoded.ids(at)).or_default().push(*class);
            }
            by_ids.into_values().filter(|group| group.len() > 1).collect::<Vec<_>>()
        };
        groups = groups.into_iter().flat_map(split).collect();
    }
    groups.retain(|group| group.len() > 1);
    groups.sort_unstable();
    groups
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::run::TokenizerConfig;

    #[test]
    fn captions_that_a_context_cuts_and_classes_that_it_makes_equal_are_found() {
        let captions = ["a b c", "a", "a b c d e f"];
        let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe { vocab_size: 258 }, captions.into_iter()).unwrap();
        let lengths = Lengths::of(&tokenizer, &captions);
        assert_eq!((lengths.captions(), lengths.longest()), (3, 8));
        assert_eq!([3, 4, 5, 7, 8].map(|context| lengths.cut_by(context)), [2, 2, 1, 1, 0]);
        let names = ["a b c d", "a b c e", "f", "F", "a b"].map(str::to_owned);
        let templates = ["{c}", "a {c}"].map(str::to_owned);
        let equal = |templates: &[String], context| equal_classes(&tokenizer, &names, templates, context);
        assert_eq!(equal(&templates, 16), [[2, 3]]);
        assert_eq!(equal(&templates[..1], 5), [[0, 1], [2, 3]]);
        // With a longer prompt in front, less of the name is left.
        assert_eq!(equal(&templates[1..], 5), [vec![0, 1, 4], vec![2, 3]]);
        assert_eq!(equal(&templates, 5), [[0, 1], [2, 3]], "one template that tells them apart is enough");
    }
}
