//! CLIP's cleaning of captions and its division into words.
//!
//! Input: a caption. Output: lower-case text with single spaces; words. Must not know: vocabularies.
//!
//! **Source**: `open_clip`'s `tokenizer.py` (`ftfy.fix_text`, `html.unescape` twice, white space, lower case); its own ids of hard
//! strings are in `tests/fixtures/open_clip/tokens.json`.
//! **Differs** in one of them: a U+0345 that stands alone is a word here, and nothing there, where case is ignored by Python's
//! `regex`, to which it is a form of iota.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::repair::{fix_text, unescape};

/// CLIP's word pattern: special tokens, English clitics, runs of letters, single digits, runs of anything else.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";
    Regex::new(pattern).expect("a constant pattern")
});

/// A caption as the word rules take it.
#[must_use]
pub fn clean(caption: &str) -> String {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'&';
    let text = if caption.as_bytes().iter().all(is_plain) {
        caption.to_lowercase()
    } else {
        unescape(&unescape(&fix_text(caption))).to_lowercase()
    };
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// The words of a cleaned caption.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    WORD.find_iter(text).map(|found| found.as_str())
}

/// Hands every word of a text to a closure.
pub(super) type EachWord = fn(&str, &mut dyn FnMut(&str));

/// Counts words over captions, in the order of the words; `each` calls its second argument with every word of a clean caption.
pub(super) fn count_words<'a>(captions: impl Iterator<Item = &'a str>, each: EachWord) -> Vec<(String, u64)> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for caption in captions {
        each(&clean(caption), &mut |word| match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => _ = counts.insert(word.to_owned(), 1),
        });
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_unstable();
    counts
}

/// White space as Python's `str.split` takes it: Unicode's, and four separators among the control characters.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        words(text).collect()
    }

    #[test]
    fn white_space_is_squeezed_and_letters_lowered() {
        assert_eq!(clean("  A Photo\tof\n a  DOG "), "a photo of a dog");
        assert_eq!(clean("A\u{a0}Dog\u{3000}Ä"), "a dog ä");
    }

    #[test]
    fn entities_are_taken_twice_and_numbers_too() {
        assert_eq!(clean("salt &amp;amp; pepper"), "salt & pepper");
        assert_eq!(clean("caf&eacute; &#39;x&#x27; &copy2 &unknown; a&b"), "café 'x' ©2 &unknown; a&b");
        assert_eq!(clean("5 &lt 6 &ndash; &ndash"), "5 < 6 – &ndash");
    }

    #[test]
    fn characters_are_repaired_as_ftfy_does() {
        assert_eq!(clean("the “king’s” ﬁsh"), "the \"king's\" fish");
        assert_eq!(clean("ＬＯＵＤ\u{feff} pin\u{303}ata"), "loud piñata");
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m \u{7}bell"), "red bell");
    }

    #[test]
    fn words_follow_clips_pattern() {
        assert_eq!(
            split("a dog's 42nd bone, isn't it?!"),
            ["a", "dog", "'s", "4", "2", "nd", "bone", ",", "isn", "'t", "it", "?!"]
        );
        assert_eq!(split("x<end_of_text>y"), ["x", "<end_of_text>", "y"]);
        assert_eq!(split("größe 狗"), ["größe", "狗"]);
    }
}
