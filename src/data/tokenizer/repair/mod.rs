//! Text as `ftfy.fix_text` leaves it, and HTML entities as characters.
//!
//! Input: a caption. Output: repaired text. Invariant: nothing but the text decides. Must not know: words, vocabularies.
//!
//! **Source**: ftfy 6.3.1 (Apache License 2.0), whose steps, order and tables (`ftfy.txt`) these are, and Python's
//! `html.unescape` with its table (`entities.txt`); `tests/fixtures/open_clip/ftfy_tables.py` writes both tables.
//! **Differs**: `\w` and `\s` of the tables are the `regex` crate's, which count combining marks as word characters and U+001C to
//! U+001F as no space.

mod encoding;
mod entities;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use self::encoding::fix_encoding;
pub(super) use self::entities::unescape;

/// Longest piece of a line that is repaired at once, characters.
const MAX_PIECE: usize = 1_000_000;

/// The text as `ftfy.fix_text` leaves it: line by line; entities are taken as characters until a `<` was met.
pub(super) fn fix_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut has_tag = false;
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while !rest.is_empty() {
            let end = rest.char_indices().nth(MAX_PIECE).map_or(rest.len(), |(at, _)| at);
            let (piece, after) = rest.split_at(end);
            has_tag |= piece.contains('<');
            out.push_str(&fix_piece(piece, !has_tag));
            rest = after;
        }
    }
    out
}

/// Repairs until nothing changes.
fn fix_piece(text: &str, is_unescaped: bool) -> String {
    let mut text = text.to_owned();
    loop {
        let before = text.clone();
        if is_unescaped {
            text = entities::unescape_plain(&text);
        }
        text = fix_encoding(text);
        text = fix_characters(&text);
        if !is_nfc(&text) {
            text = text.nfc().collect();
        }
        if text == before {
            return text;
        }
    }
}

/// C1 controls as Windows-1252, Latin ligatures taken apart, common widths, straight quotes, `\n` between lines, no terminal
/// escapes, no control characters.
fn fix_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().map(encoding::c1_as_windows) {
        match c {
            '\u{02bc}' | '\u{2018}'..='\u{201b}' => out.push('\''),
            '\u{201c}'..='\u{201f}' => out.push('"'),
            'ŉ' => out.push_str("'n"),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc().map(straight)),
            '\u{2028}' | '\u{2029}' | '\u{85}' => out.push('\n'),
            c => match ligature(c) {
                Some(letters) => out.push_str(letters),
                None => out.push(c),
            },
        }
    }
    let out = if out.contains('\r') { out.replace("\r\n", "\n").replace('\r', "\n") } else { out };
    let out = if out.contains("\u{1b}[") { without_terminal_escapes(&out) } else { out };
    let is_control = |c: char| {
        matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}')
            || matches!(c, '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
    };
    if out.contains(is_control) { out.replace(is_control, "") } else { out }
}

/// Quotes that come of wide forms are made straight, too.
fn straight(c: char) -> char {
    match c {
        '\u{02bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        c => c,
    }
}

fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        '\u{fb00}' => "ff",
        '\u{fb01}' => "fi",
        '\u{fb02}' => "fl",
        '\u{fb03}' => "ffi",
        '\u{fb04}' => "ffl",
        '\u{fb05}' => "ſt",
        '\u{fb06}' => "st",
        _ => return None,
    })
}

/// Without `ESC [ digits and semicolons, letter`.
fn without_terminal_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let (head, tail) = (&rest[..at], &rest[at + 2..]);
        let digits = tail.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
        out.push_str(head);
        if tail[digits..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            rest = &tail[digits + 1..];
        } else {
            out.push_str("\u{1b}[");
            rest = tail;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_repaired_as_ftfy_does() {
        for (text, fixed) in [
            ("the “king’s” ﬁsh", "the \"king's\" fish"),
            ("ＬＯＵＤ\u{feff} pin\u{303}ata", "LOUD piñata"),
            ("Ｕﾀｰﾝ", "Uターン"),
            ("\u{1b}[31;1mred\u{1b}[0m \u{7}bell \u{1b}[x1", "red bell 1"),
            ("ŉ ǅ", "'n Dž"),
            ("a\r\nb\rc\u{2028}d", "a\nb\nc\nd"),
            ("&lt;b&gt; &amp;amp;", "<b> &"),
            ("<b> &amp;", "<b> &amp;"),
        ] {
            assert_eq!(fix_text(text), fixed, "{text}");
        }
    }
}
