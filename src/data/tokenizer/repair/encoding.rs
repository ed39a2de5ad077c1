//! Text that was decoded wrongly ("mojibake"), decoded anew.
//!
//! A text that looks like it is encoded in each one-byte encoding that could have given it, and where the bytes are UTF-8, or
//! nearly so, that is what it was. What looks like it is said by ftfy's expressions over classes of characters.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use regex::bytes::Regex as BytesRegex;

/// ftfy's tables.
struct Tables {
    /// Sequences of characters that hardly stand in text.
    badness: Regex,
    /// What UTF-8 sequences look like in one-byte encodings.
    sequence: Regex,
    /// What must not stand before one.
    continuation: Regex,
    encodings: Vec<Charmap>,
}

/// A one-byte encoding: the byte of each character beyond ASCII.
struct Charmap {
    name: &'static str,
    bytes: HashMap<char, u8>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut lines = include_str!("ftfy.txt").lines().filter_map(|line| line.split_once('\t'));
    let mut expression = || Regex::new(lines.next().expect("three expressions").1).expect("an expression of the table");
    let (badness, sequence, continuation) = (expression(), expression(), expression());
    let encoding = |(name, codes): (&'static str, &str)| {
        let character = |code| char::from_u32(u32::from_str_radix(code, 16).ok()?);
        let bytes = codes.split(' ').filter_map(character).zip(std::iter::once(0x1a).chain(0x80..=0xff)).collect();
        Charmap { name, bytes }
    };
    Tables { badness, sequence, continuation, encodings: lines.map(encoding).collect() }
});

fn bytes_regex(pattern: &str) -> BytesRegex {
    BytesRegex::new(pattern).expect("a constant expression")
}

/// UTF-8 but for a space in the place of byte 0xa0.
static ALTERED: LazyLock<BytesRegex> = LazyLock::new(|| {
    bytes_regex(
        r"(?-u)[\xc2\xc3\xc5\xce\xd0\xd9] |[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]|[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] |\xf0 [\x80-\xbf][\x80-\xbf]|\xf0[\x80-\xbf] [\x80-\xbf]|\xf0[\x80-\xbf][\x80-\xbf] ",
    )
});

/// UTF-8 with bytes that were lost.
static LOSSY: LazyLock<BytesRegex> = LazyLock::new(|| {
    bytes_regex(
        r"(?-u)[\xc2-\xdf]\x1a|[\xc2-\xc3]\?|\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]|[\xe0-\xef][\x1a?][\x1a\x80-\xbf]|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]|[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]|\x1a",
    )
});

/// Java's zero, pairs of surrogates, and surrogates alone.
static VARIANTS: LazyLock<BytesRegex> =
    LazyLock::new(|| bytes_regex(r"(?-u)\xc0\x80|\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]|\xed[\xa0-\xbf][\x80-\xbf]"));

/// The text decoded as it should have been, as often as it was decoded wrongly.
pub(super) fn fix_encoding(mut text: String) -> String {
    while let Some(fixed) = fix_once(&text) {
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// One step of it; `None` where nothing looks wrong.
fn fix_once(text: &str) -> Option<String> {
    if text.is_ascii() || !TABLES.badness.is_match(text) {
        return None;
    }
    if let Some(fixed) = TABLES.encodings.iter().find_map(|encoding| encoding.decoded_anew(text)) {
        return Some(fixed);
    }
    let embedded = fix_embedded(text);
    if embedded != text {
        return Some(embedded);
    }
    let is_latin1 = text.chars().all(|c| (c as u32) < 256);
    let has_c1 = text.contains(|c| matches!(c, '\u{80}'..='\u{9f}'));
    let is_windows = !text.contains(['\u{81}', '\u{8d}', '\u{8f}', '\u{90}', '\u{9d}']);
    ((is_latin1 && is_windows) || has_c1).then(|| text.chars().map(c1_as_windows).collect())
}

/// A C1 control as the character that Windows-1252 has in its place, where it has one.
pub(super) fn c1_as_windows(c: char) -> char {
    const WINDOWS: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’', '“',
        '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    if matches!(c, '\u{80}'..='\u{9f}') { WINDOWS[c as usize - 0x80] } else { c }
}

impl Charmap {
    /// The bytes of a text that this encoding could have given.
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let byte = |c: char| if c.is_ascii() && c != '\u{1a}' { Some(c as u8) } else { self.bytes.get(&c).copied() };
        text.chars().map(byte).collect()
    }

    /// The text that the bytes are in UTF-8.
    fn decoded_anew(&self, text: &str) -> Option<String> {
        let mut bytes = self.encode(text)?;
        // In Mac Roman the pattern would take an en dash before a space for a part of it.
        if self.name != "macroman" && ALTERED.is_match(&bytes) {
            bytes = restore_a0(&bytes);
        }
        if self.name.starts_with("sloppy") {
            bytes = LOSSY.replace_all(&bytes, "\u{fffd}".as_bytes()).into_owned();
        }
        if bytes.contains(&0xed) || bytes.contains(&0xc0) {
            bytes = VARIANTS.replace_all(&bytes, |found: &regex::bytes::Captures<'_>| variant(&found[0])).into_owned();
        }
        String::from_utf8(bytes).ok()
    }
}

/// The plain UTF-8 of a variant of it.
fn variant(bytes: &[u8]) -> Vec<u8> {
    let bits = |byte: u8, mask: u8| u32::from(byte & mask);
    match *bytes {
        [0xc0, _] => vec![0],
        [_, high, high_low, _, low, low_low] => {
            let (high, low) = (bits(high, 0xf) << 6 | bits(high_low, 0x3f), bits(low, 0xf) << 6 | bits(low_low, 0x3f));
            let c = char::from_u32(0x1_0000 + (high << 10) + low).unwrap_or('\u{fffd}');
            c.to_string().into_bytes()
        }
        _ => "\u{fffd}".as_bytes().to_vec(),
    }
}

/// Byte 0xa0 where a space stands for it.
fn restore_a0(bytes: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let is_a_grave = bytes[at..].starts_with(b"\xc3 ") && !WORDS.iter().any(|word| bytes[at + 2..].starts_with(word));
        if is_a_grave {
            out.extend_from_slice(b"\xc3\xa0 ");
            at += 2;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    let restored = |found: &regex::bytes::Captures<'_>| -> Vec<u8> {
        found[0].iter().map(|&byte| if byte == b' ' { 0xa0 } else { byte }).collect()
    };
    ALTERED.replace_all(&out, restored).into_owned()
}

/// Sequences within a text that look decoded wrongly by themselves, fixed alone.
fn fix_embedded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut copied, mut from) = (0, 0);
    while let Some(found) = TABLES.sequence.find_at(text, from) {
        let before = text[..found.start()].chars().next_back();
        if before.is_some_and(|c| TABLES.continuation.is_match(c.encode_utf8(&mut [0; 4]))) {
            // Not at the start of a sequence: looked for from the next character on.
            from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        out.push_str(&text[copied..found.start()]);
        let part = found.as_str();
        if part.len() < text.len() && TABLES.badness.is_match(part) {
            out.push_str(&fix_encoding(part.to_owned()));
        } else {
            out.push_str(part);
        }
        (copied, from) = (found.end(), found.end());
    }
    out + &text[copied..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(text: &str) -> String {
        fix_encoding(text.to_owned())
    }

    #[test]
    fn wrongly_decoded_text_is_decoded_anew_and_good_text_is_left() {
        for (bad, good) in [
            ("âœ” No problems", "✔ No problems"),
            ("lâ€™humanitÃ©", "l’humanité"),
            ("voilÃ le travail", "voilà le travail"),
            ("The Mona Lisa doesnÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢t", "The Mona Lisa doesn’t"),
            ("ð\u{178}\u{2dc}\u{20ac} ok", "😀 ok"),
            ("\u{93}quoted\u{94} \u{85}", "“quoted” …"),
            ("(-1/2)! = √π", "(-1/2)! = √π"),
            ("HUHLÃO", "HUHLÃO"),
            ("AHÅ™, the new sofa", "AHÅ™, the new sofa"),
            ("größe café naïve", "größe café naïve"),
        ] {
            assert_eq!(fixed(bad), good, "{bad}");
        }
    }
}
