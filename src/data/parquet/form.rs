//! What a column holds, and the value that bytes of it are.
//!
//! Input: the bytes of one value. Output: a name or a number. Invariant: any bytes are a value or an error. Must not know: pages.

use std::borrow::Cow;

use super::Flaw;

/// Most bytes of a name: what file systems take for a path.
const MAX_NAME_BYTES: usize = 4096;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Texts, or bytes that may be text.
    Text,
    /// Whole numbers.
    Signed,
    /// Whole numbers from 0 on.
    Unsigned,
    /// 16-bit floating point.
    Half,
    /// 32-bit floating point.
    Single,
    /// 64-bit floating point.
    Double,
    /// Anything else, in words.
    Other(&'static str),
}

impl Form {
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Signed | Self::Unsigned)
    }

    pub fn is_name(&self) -> bool {
        matches!(self, Self::Text | Self::Signed | Self::Unsigned)
    }

    pub fn is_number(&self) -> bool {
        !matches!(self, Self::Text | Self::Other(_))
    }

    pub fn in_words(&self) -> &'static str {
        match self {
            Self::Text => "texts",
            Self::Signed | Self::Unsigned => "whole numbers",
            Self::Half | Self::Single | Self::Double => "numbers with a fraction",
            Self::Other(what) => what,
        }
    }

    /// A text, or a whole number in decimal.
    pub fn name<'a>(&self, bytes: &'a [u8]) -> Result<Cow<'a, str>, Flaw> {
        match self {
            Self::Text if bytes.len() > MAX_NAME_BYTES => {
                let what = format!("a name of {} bytes, expected at most {MAX_NAME_BYTES}", bytes.len());
                Err(Flaw::hinted(what, "name the column of uids as `id_column`"))
            }
            Self::Text => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| {
                Flaw::hinted("a name that is not UTF-8", "write names as texts, such as the 32 hexadecimal digits of a uid")
            }),
            Self::Unsigned => Ok(Cow::Owned(whole(bytes, 0).to_string())),
            _ => Ok(Cow::Owned(signed(bytes).to_string())),
        }
    }

    /// A number of any width; what is not finite is missing.
    #[expect(clippy::cast_precision_loss, reason = "a score has the precision of f64")]
    pub fn number(&self, bytes: &[u8]) -> f64 {
        let number = match self {
            Self::Half => f64::from(half(whole(bytes, 0) as u16)),
            Self::Single => f64::from(f32::from_bits(whole(bytes, 0) as u32)),
            Self::Double => f64::from_bits(whole(bytes, 0)),
            Self::Unsigned => whole(bytes, 0) as f64,
            _ => signed(bytes) as f64,
        };
        if number.is_finite() { number } else { f64::NAN }
    }
}

/// Up to eight bytes, the lowest first, with what stands above them.
fn whole(bytes: &[u8], above: u64) -> u64 {
    bytes.iter().take(8).rev().fold(above, |value, byte| value << 8 | u64::from(*byte))
}

fn signed(bytes: &[u8]) -> i64 {
    let is_negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    whole(bytes, if is_negative { u64::MAX } else { 0 }).cast_signed()
}

/// The value of a 16-bit floating-point number.
pub(super) fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let value = match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        31 => f32::INFINITY * if fraction == 0.0 { 1.0 } else { f32::NAN },
        _ => (1024.0 + fraction) * 2.0_f32.powi(exponent - 25),
    };
    if bits >> 15 == 0 { value } else { -value }
}
