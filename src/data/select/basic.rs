//! `basic`: captions of some length on pictures of some size, without any model.

use crate::run::Basic;

/// 1 for a sample that passes, 0 for one that does not, NaN for one whose size is asked for and unknown. `size` is width and
/// height of the original picture, pixels.
///
/// **Source**: `DataComp`'s basic filter. **Differs**: the language is not looked at; that needs a foreign model.
#[must_use]
pub fn basic(caption: &str, size: Option<(f64, f64)>, least: &Basic) -> f64 {
    let Basic { min_words, min_characters, min_side, max_aspect } = *least;
    if words(caption) < min_words || (caption.chars().count() as u64) < min_characters {
        return 0.0;
    }
    if !least.needs_size() {
        return 1.0;
    }
    let Some((width, height)) = size.filter(|(width, height)| *width > 0.0 && *height > 0.0) else { return f64::NAN };
    let (shorter, longer) = (width.min(height), width.max(height));
    let passes = shorter >= min_side as f64 && max_aspect.is_none_or(|most| longer / shorter <= most);
    f64::from(u8::from(passes))
}

/// Words as Python's `str.split()` parts them: at white space of Unicode and at the separators 0x1c to 0x1f.
fn words(caption: &str) -> u64 {
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    caption.split(is_space).filter(|word| !word.is_empty()).count() as u64
}
