//! CLIP's cleaning of captions and its division into words.
//!
//! Input: a caption. Output: lower-case text with single spaces; words. Must not know: vocabularies.
//!
//! **Source**: `open_clip`'s `tokenizer.py` (`ftfy.fix_text`, `html.unescape` twice, white space, lower case).
//! **Differs**: of `ftfy` the character repairs are made (quotes, ligatures, widths, control characters, composed form), not
//! the repair of wrongly decoded text ("mojibake"); named HTML entities are the Latin-1 ones and common punctuation. Plain
//! ASCII without `&` and control characters comes out the same.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// CLIP's word pattern: special tokens, English clitics, runs of letters, single digits, runs of anything else.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";
    Regex::new(pattern).expect("a constant pattern")
});

/// Names of U+00A0 to U+00FF, in order.
const LATIN1: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 \
    acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig \
    Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave \
    Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave \
    iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml";

/// Entities that HTML also takes without their semicolon, beside the Latin-1 ones.
const BARE: [(&str, char); 4] = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"')];

/// Entities that need their semicolon.
const NAMED: [(&str, char); 19] = [
    ("apos", '\''),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("hellip", '…'),
    ("bull", '•'),
    ("trade", '™'),
    ("euro", '€'),
    ("ensp", '\u{2002}'),
    ("emsp", '\u{2003}'),
    ("thinsp", '\u{2009}'),
    ("zwj", '\u{200d}'),
    ("zwnj", '\u{200c}'),
    ("rarr", '→'),
];

/// A caption as the word rules take it.
#[must_use]
pub fn clean(caption: &str) -> String {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'&';
    let text = if caption.as_bytes().iter().all(is_plain) {
        caption.to_lowercase()
    } else {
        let repaired = fix_characters(&unescape(caption));
        unescape(&unescape(&repaired)).to_lowercase()
    };
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
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

/// Straight quotes, ligatures taken apart, full-width forms as ASCII, no control characters, composed form (NFC).
fn fix_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            '\u{fb00}' => out.push_str("ff"),
            '\u{fb01}' => out.push_str("fi"),
            '\u{fb02}' => out.push_str("fl"),
            '\u{fb03}' => out.push_str("ffi"),
            '\u{fb04}' => out.push_str("ffl"),
            '\u{fb05}' => out.push_str("ſt"),
            '\u{fb06}' => out.push_str("st"),
            'Ĳ' => out.push_str("IJ"),
            'ĳ' => out.push_str("ij"),
            'ŉ' => out.push_str("ʼn"),
            '\u{ff01}'..='\u{ff5e}' => out.extend(char::from_u32(c as u32 - 0xfee0)),
            '\u{3000}' => out.push(' '),
            '\u{1b}' if characters.peek() == Some(&'[') => {
                // A terminal escape, up to the letter that ends it.
                characters.by_ref().find(|c| c.is_ascii_alphabetic());
            }
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' => {}
            '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => {}
            c => out.push(c),
        }
    }
    if is_nfc(&out) { out } else { out.nfc().collect() }
}

/// HTML entities as characters, once.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match entity(rest) {
            Some((c, used)) => {
                out.push(c);
                rest = &rest[used..];
            }
            None => out.push('&'),
        }
    }
    out + rest
}

/// The character of the entity that `text` (after its `&`) starts with, and the bytes it takes.
fn entity(text: &str) -> Option<(char, usize)> {
    if let Some(number) = text.strip_prefix('#') {
        let (digits, radix, prefix) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16, 2),
            None => (number, 10, 1),
        };
        let length = digits.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count();
        let code = u32::from_str_radix(digits.get(..length)?, radix).ok()?;
        let c = char::from_u32(code).filter(|&c| c != '\0').unwrap_or('\u{fffd}');
        return Some((c, prefix + length + usize::from(digits[length..].starts_with(';'))));
    }
    let latin1 = LATIN1.split_ascii_whitespace().zip('\u{a0}'..='\u{ff}');
    let bare = BARE.into_iter().chain(latin1).filter(|(name, _)| text.starts_with(name)).max_by_key(|(name, _)| name.len());
    let name_length = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let named = || NAMED.into_iter().find(|(name, _)| *name == &text[..name_length] && text[name_length..].starts_with(';'));
    let (name, c) = named().or(bare)?;
    Some((c, name.len() + usize::from(text[name.len()..].starts_with(';'))))
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
