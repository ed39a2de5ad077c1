//! HTML entities as characters: as Python's `html.unescape` takes them, and as ftfy does, which takes only the unambiguous ones.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Text of every entity by its name without `&`; most names end with `;`.
static ENTITIES: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let entity = |line: &'static str| {
        let (name, codes) = line.split_once('\t')?;
        let text: Option<String> = codes.split(' ').map(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)).collect();
        Some((name, text?))
    };
    include_str!("entities.txt").lines().filter_map(entity).collect()
});

/// Names in capitals that ftfy takes too: of entities that have no such name of their own.
static CAPITALS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let lower = ENTITIES.iter().filter(|(name, _)| name.ends_with(';') && **name == name.to_lowercase());
    let capital = |(name, text): (&&str, &String)| {
        let capitals = name.to_uppercase();
        let written = format!("&{capitals}");
        (unescape(&written) == written).then(|| (capitals, text.to_uppercase()))
    };
    lower.filter_map(capital).collect()
});

/// As `html.unescape`.
pub(in super::super) fn unescape(text: &str) -> String {
    replace(text, |rest| {
        if let Some((value, used)) = numeric(rest) {
            return Some((value, used));
        }
        let is_in_name = |c: &char| !matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
        let name: usize = rest.chars().take(32).take_while(is_in_name).map(char::len_utf8).sum();
        if name == 0 {
            return None;
        }
        let whole = name + usize::from(rest[name..].starts_with(';'));
        if let Some(value) = ENTITIES.get(&rest[..whole]) {
            return Some((value.clone(), whole));
        }
        // The longest beginning that is a name, of two letters at least.
        let ends = rest[..whole].char_indices().map(|(at, _)| at).skip(2).collect::<Vec<usize>>();
        ends.into_iter().rev().find_map(|end| Some((ENTITIES.get(&rest[..end])?.clone(), end)))
    })
}

/// As ftfy: entities with their semicolon, names in capitals included.
pub(super) fn unescape_plain(text: &str) -> String {
    replace(text, |rest| {
        let hash = usize::from(rest.starts_with('#'));
        let name = rest[hash..].bytes().take_while(u8::is_ascii_alphanumeric).count();
        let whole = hash + name + 1;
        if !(1..=24).contains(&name) || rest.as_bytes().get(whole - 1) != Some(&b';') {
            return None;
        }
        let written = &rest[..whole];
        if hash == 1 {
            let value = unescape(&format!("&{written}"));
            return (!value.contains(';')).then_some((value, whole));
        }
        let value = ENTITIES.get(written).or_else(|| CAPITALS.get(written))?;
        Some((value.clone(), whole))
    })
}

/// Replaces every `&` for which `entity` gives a text and the bytes after the `&` that it stands for.
fn replace(text: &str, entity: impl Fn(&str) -> Option<(String, usize)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match entity(rest) {
            Some((value, used)) => {
                out.push_str(&value);
                rest = &rest[used..];
            }
            None => out.push('&'),
        }
    }
    out + rest
}

/// The character of a numeric reference (after its `&`), and its bytes.
fn numeric(text: &str) -> Option<(String, usize)> {
    let number = text.strip_prefix('#')?;
    let (digits, radix, prefix) = match number.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16, 2),
        None => (number, 10, 1),
    };
    let length = digits.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count();
    if length == 0 {
        return None;
    }
    let used = prefix + length + usize::from(digits[length..].starts_with(';'));
    // A number too long to read is beyond Unicode.
    let code = u32::from_str_radix(&digits[..length], radix).unwrap_or(u32::MAX);
    Some((character(code), used))
}

/// What a code point stands for in HTML.
fn character(code: u32) -> String {
    match code {
        0 => "\u{fffd}".to_owned(),
        13 => "\r".to_owned(),
        0x80..=0x9f => super::encoding::c1_as_windows(char::from_u32(code).unwrap_or('\u{fffd}')).to_string(),
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => String::new(),
        code if code & 0xfffe == 0xfffe && code <= 0x10_ffff => String::new(),
        code => char::from_u32(code).unwrap_or('\u{fffd}').to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_taken_as_python_takes_them() {
        for (text, plain) in [
            ("caf&eacute; &#39;x&#x27; &copy2 &unknown; a&b", "café 'x' ©2 &unknown; a&b"),
            ("5 &lt 6 &ndash; &ndash", "5 < 6 – &ndash"),
            ("&notit; &notin; &AMP;", "¬it; ∉ &"),
            ("&#0; &#x110000; &#150; &#x81; &#1; &#", "\u{fffd} \u{fffd} – \u{81}  &#"),
            ("&#99999999999999999999;", "\u{fffd}"),
        ] {
            assert_eq!(unescape(text), plain, "{text}");
        }
    }

    #[test]
    fn ftfy_takes_the_unambiguous_ones_and_capitals() {
        assert_eq!(unescape_plain("&lt &copy2 P&EACUTE;REZ STRA&SZLIG;E &nTILDE; &#x27;"), "&lt &copy2 PÉREZ STRASSE &nTILDE; '");
    }
}
