//! Amounts as people say them.
//!
//! Owns how a report writes compute, counts and times. Invariant: compute and times are rounded to two decimals without trailing zeros,
//! as tables are, counts are whole, and a unit is singular for one alone.

use crate::tables::short;

/// Multiply-accumulates from billions of them: `8.4 TMACs`.
pub(super) fn macs(gmacs: f64) -> String {
    const UNITS: [(f64, &str); 5] = [(1e9, "EMAC"), (1e6, "PMAC"), (1e3, "TMAC"), (1.0, "GMAC"), (1e-3, "MMAC")];
    let (of, unit) = UNITS.into_iter().find(|(of, _)| gmacs >= *of).unwrap_or(UNITS[UNITS.len() - 1]);
    with_unit(&short(gmacs / of), unit)
}

/// A time from seconds: `64.2 minutes`.
pub(super) fn time(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "day"), (3600.0, "hour"), (60.0, "minute")];
    let (of, unit) = UNITS.into_iter().find(|(of, _)| seconds >= 2.0 * of).unwrap_or((1.0, "second"));
    with_unit(&short(seconds / of), unit)
}

fn with_unit(number: &str, unit: &str) -> String {
    format!("{number} {unit}{}", if number == "1" { "" } else { "s" })
}

/// A whole number with its thousands apart: `32,000`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An amount as short as a label of an axis: `10M`, `3.4B`, `500`.
pub(super) fn brief(amount: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")];
    let size = amount.abs();
    match UNITS.into_iter().find(|(of, _)| size >= *of * 0.9999) {
        Some((of, unit)) => format!("{}{unit}", short(amount / of)),
        None if size == 0.0 || size >= 0.1 => short(amount),
        None => format!("{amount:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units_that_a_person_knows() {
        assert_eq!([8445.0, 1.0, 0.02, 1000.0, 2.5e9].map(macs), ["8.45 TMACs", "1 GMAC", "20 MMACs", "1 TMAC", "2.5 EMACs"]);
        assert_eq!(
            [1.0, 90.0, 120.0, 7199.0, 7200.0, 172_800.0].map(time),
            ["1 second", "90 seconds", "2 minutes", "119.98 minutes", "2 hours", "2 days"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([500.0, 3.4e9, 1e7, 0.25, 0.0, 3e-4].map(brief), ["500", "3.4B", "10M", "0.25", "0", "3e-4"]);
    }
}
