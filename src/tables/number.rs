//! Numbers as people read them.
//!
//! Owns the one way in which a table, a verdict and a drift round a number for printing. Invariant: the same number at the same
//! decimals is the same text everywhere. Must not know: what the number measures. CSV and JSON hold the exact number.

/// A number at so many decimals: the decimal nearest to it; of two equally near ones the even one. Never `-0`.
#[must_use]
pub fn rounded(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| matches!(byte, b'0' | b'.')) => digits.to_owned(),
        _ => text,
    }
}

/// A number to two decimals, without trailing zeros.
#[must_use]
pub fn short(value: f64) -> String {
    let text = rounded(value, 2);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_round_alike() {
        for (value, two, bare) in [
            (3.625, "3.62", "3.62"),
            (3.635, "3.63", "3.63"),
            (-3.625, "-3.62", "-3.62"),
            (2.5, "2.50", "2.5"),
            (100.0, "100.00", "100"),
            (-0.001, "0.00", "0"),
            (1e21, "1000000000000000000000.00", "1000000000000000000000"),
        ] {
            assert_eq!((rounded(value, 2).as_str(), short(value).as_str()), (two, bare), "{value}");
        }
        assert_eq!((rounded(5.25, 1), rounded(-0.2, 0), rounded(-12.0, 0)), ("5.2".to_owned(), "0".to_owned(), "-12".to_owned()));
    }
}
