//! Amounts as people write them: `64k`, `3.4B`, `40%`, `1e-3`.
//!
//! Owns the one parser of numbers with units, and the table of units. Decimal notation is read exactly, so `0.1M` is 100000.
//! Labels and claims take every unit; an experiment file takes fewer, which `spec` decides.

/// Units and the power of ten that each stands for.
const UNITS: [(char, i32); 7] = [('k', 3), ('K', 3), ('M', 6), ('B', 9), ('G', 9), ('T', 12), ('%', -2)];

/// A decimal number as written: digits without the point, a power of ten to multiply them with, and a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    /// Whether a minus stands before it.
    pub negative: bool,
    /// Its digits without the point; one at least.
    pub digits: String,
    /// Power of ten, the unit's included.
    pub exponent: i32,
    /// Its unit, if it has one.
    pub unit: Option<char>,
    /// Whether it begins with a zero before another digit.
    pub has_leading_zero: bool,
}

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AmountError {
    /// It does not read as a number.
    NotANumber,
    /// A number with something after it that is no unit.
    UnknownUnit {
        /// The number.
        number: String,
        /// What follows it.
        unit: String,
    },
}

impl Decimal {
    /// Reads a text.
    ///
    /// # Errors
    /// If it is no number with a known unit.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let number = text.trim_end_matches(|c: char| c.is_alphabetic() || c == '%');
        let unit = &text[number.len()..];
        let known = UNITS.iter().find(|(name, _)| unit.chars().eq([*name]));
        // A share may stand apart from its sign, as in `40 %`.
        let number = if unit == "%" { number.trim_end() } else { number };
        let (unit, scale) = match (unit, known) {
            ("", _) => (None, 0),
            (_, Some((name, scale))) if is_number(number) => (Some(*name), *scale),
            (unit, _) if is_number(number.trim_end()) => {
                let number = number.trim_end().to_owned();
                return Err(AmountError::UnknownUnit { number, unit: unit.to_owned() });
            }
            _ => return Err(AmountError::NotANumber),
        };
        Self::number(number, scale, unit).ok_or(AmountError::NotANumber)
    }

    fn number(text: &str, scale: i32, unit: Option<char>) -> Option<Self> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let places = i32::try_from(fraction.len()).ok()?;
        let exponent = exponent.saturating_add(scale).saturating_sub(places);
        Some(Self { negative, digits, exponent, unit, has_leading_zero: whole.len() > 1 && whole.starts_with('0') })
    }

    /// The nearest f64; `None` where it is too large for one.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        let sign = if self.negative { "-" } else { "" };
        let value = format!("{sign}{}e{}", self.digits, self.exponent).parse::<f64>().ok()?;
        value.is_finite().then_some(value)
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.digits.bytes().all(|b| b == b'0')
    }
}

/// Whether a text without a unit is a number.
fn is_number(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit() || c == '.') && Decimal::number(text, 0, None).is_some()
}

/// The amount that a text states, if it states one: a number, with `k`, `M`, `B` or `T` (powers of 1000), `%` (hundredths), or
/// grouped by `_`.
#[must_use]
pub fn amount(text: &str) -> Option<f64> {
    if text.contains('_') && text.starts_with(|c: char| c.is_ascii_digit()) {
        return Decimal::parse(&text.replace('_', "")).ok()?.value();
    }
    Decimal::parse(text).ok()?.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_unit() {
        for (text, value) in [
            ("25M", 25e6),
            ("3.4B", 3.4e9),
            ("512k", 512e3),
            ("512K", 512e3),
            ("2T", 2e12),
            ("40%", 0.4),
            ("40 %", 0.4),
            ("1e-3", 1e-3),
            ("64_000", 64e3),
            ("007", 7.0),
            ("-.5", -0.5),
            ("1e3k", 1e6),
        ] {
            assert_eq!(amount(text), Some(value), "{text}");
        }
        for text in ["", "vit-s/8", "k", "inf", "nan", "M", "x4", "4x", "%", "1e", "e3", "--1", "1e999", "4 k"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }

    #[test]
    fn what_follows_a_number_is_named() {
        let unknown = |number: &str, unit: &str| Err(AmountError::UnknownUnit { number: number.to_owned(), unit: unit.to_owned() });
        assert_eq!(Decimal::parse("32px"), unknown("32", "px"));
        assert_eq!(Decimal::parse("10 epochs"), unknown("10", "epochs"));
        assert_eq!(Decimal::parse("4 k"), unknown("4", "k"));
        assert_eq!(Decimal::parse("px"), Err(AmountError::NotANumber));
    }
}
