//! How wide a text is, without a font.
//!
//! Invariant: the width is at least that in the common sans-serif fonts at the same size, so that what is placed by it does not overlap.

/// Size of the letters of a figure, in its own units.
pub(super) const SIZE: f64 = 11.0;

/// Width of a text in letters of [`SIZE`].
pub(super) fn width(text: &str) -> f64 {
    let of = |letter: char| match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.36,
        'f' | 'r' | 't' | ' ' | '(' | ')' | '[' | ']' | '/' | '-' => 0.44,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '=' | '+' | '±' | '→' => 1.0,
        'A'..='Z' => 0.78,
        _ => 0.65,
    };
    SIZE * text.chars().map(of).sum::<f64>()
}

/// The text, cut with `…` where it is wider than there is room.
pub(super) fn cut(text: &str, room: f64) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        kept.push(letter);
        if width(&kept) + SIZE > room {
            kept.pop();
            break;
        }
    }
    format!("{kept}…")
}

/// As it stands in XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
