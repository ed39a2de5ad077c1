//! Numbers as text, and rows of CSV in memory.
//!
//! Invariant: a finite number written by [`number`] reads back as the same bits.

use std::cmp::Ordering;

use super::RecordError;

/// The shortest text that reads back as the same number; empty where it is not finite.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    match value {
        value if !value.is_finite() => String::new(),
        value if size != 0.0 && !(1e-5..1e16).contains(&size) => format!("{value:e}"),
        value => value.to_string(),
    }
}

/// Alphabetical order in which numbers inside the texts go by size: `@1`, `@5`, `@10`.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (number, other) = (digits(&mut left), digits(&mut right));
            number.len().cmp(&other.len()).then_with(|| number.cmp(other))
        } else {
            (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
            x.cmp(&y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Takes the number that a text begins with, without the zeros before it.
fn digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    number.trim_start_matches('0')
}

/// The number that a cell of a curve holds; an empty cell is one that was not finite.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    if text.is_empty() { Some(f64::NAN) } else { text.parse().ok() }
}

/// CSV of a header and rows.
pub(super) fn csv_bytes<R>(file: &'static str, header: &[String], rows: R) -> Result<Vec<u8>, RecordError>
where
    R: IntoIterator<Item = Vec<String>>,
{
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| RecordError::csv(file, &error);
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(row).map_err(failed)?;
    }
    Ok(writer.into_inner().expect("writing to memory does not fail"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_go_by_size() {
        let mut names = ["r@10", "r@1", "r@5", "q", "r@1x", "r@01", "r"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["q", "r", "r@01", "r@1", "r@1x", "r@5", "r@10"]);
    }

    #[test]
    fn every_number_reads_back_as_the_same_bits() {
        let mut state = 7_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(state);
            if value.is_finite() {
                let text = number(value);
                assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{text}");
            }
        }
        assert_eq!(number(-0.0), "-0");
        assert_eq!(number(0.1 + 0.2), "0.30000000000000004");
        assert_eq!(number(f64::MIN_POSITIVE), "2.2250738585072014e-308");
        assert_eq!((number(f64::NAN), number(f64::INFINITY)), (String::new(), String::new()));
    }
}
