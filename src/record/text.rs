//! Numbers as text, and rows of CSV in memory.
//!
//! Invariant: a finite number written by [`number`] reads back as the same bits.

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
