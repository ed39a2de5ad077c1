//! The `.json` member of a sample.
//!
//! Input: bytes. Output: a map, numbers that are not finite as null. Invariants: a byte order mark, and the bare `NaN` and
//! `Infinity` that Python's `json` writes, do not cost a sample; nothing else is read that JSON does not allow; a member larger
//! than [`MAX_BYTES`] is not read. Must not know: which fields are asked for.

use serde_json::{Map, Value};

/// Largest `.json` read, bytes: a tree in memory takes several times as much.
const MAX_BYTES: usize = 1 << 20;

/// A sample's metadata.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// Values by name.
    pub values: Map<String, Value>,
    /// Whether a number was not finite, so that it is null here.
    pub has_lost_numbers: bool,
}

/// Reads a `.json` member.
///
/// **Errors**: what is no JSON object, in words.
pub(super) fn read(bytes: &[u8]) -> Result<Metadata, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("`.json` of {} bytes, expected at most {MAX_BYTES}", bytes.len()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let strict: Result<Value, serde_json::Error> = serde_json::from_slice(bytes);
    let (value, has_lost_numbers) = match strict {
        Ok(value) => (value, false),
        Err(error) => {
            let (finite, has_lost_numbers) = with_finite_numbers(bytes);
            let value = serde_json::from_slice(&finite).map_err(|_| format!("`.json` is no object: {error}"))?;
            (value, has_lost_numbers)
        }
    };
    match value {
        Value::Object(values) => Ok(Metadata { values, has_lost_numbers }),
        Value::Array(_) => Err("`.json` is no object: found a list".to_owned()),
        _ => Err("`.json` is no object: found a single value".to_owned()),
    }
}

/// The text with null in the place of `NaN`, `Infinity`, `-Infinity` and numbers beyond f64, and whether there were any.
fn with_finite_numbers(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut has_lost) = (0, false);
    while at < bytes.len() {
        let length = match bytes[at] {
            b'"' => string_length(&bytes[at..]),
            byte if is_word(byte) => bytes[at..].iter().take_while(|&&byte| is_word(byte)).count(),
            _ => 1,
        };
        let token = &bytes[at..at + length];
        if is_lost(token) {
            out.extend_from_slice(b"null");
            has_lost = true;
        } else {
            out.extend_from_slice(token);
        }
        at += length;
    }
    (out, has_lost)
}

/// Bytes of numbers and of bare words.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// Bytes of the string that a text starts with, both marks included.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn is_lost(token: &[u8]) -> bool {
    if matches!(token, b"NaN" | b"-NaN" | b"Infinity" | b"-Infinity") {
        return true;
    }
    let is_number = token.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
    is_number && std::str::from_utf8(token).is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_infinite))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_missing_and_cost_nothing_else() {
        let text = br#"{"a": NaN, "b": -Infinity, "c": 1e999, "d": 0.5, "e": "NaN, \"Infinity\" 1e999", "f": [NaN, 1]}"#;
        let Metadata { values, has_lost_numbers } = read(text).unwrap();
        assert!(has_lost_numbers && ["a", "b", "c"].iter().all(|name| values[*name].is_null()));
        assert_eq!((values["d"].as_f64(), values["e"].as_str()), (Some(0.5), Some("NaN, \"Infinity\" 1e999")));
        assert_eq!(values["f"].to_string(), "[null,1]");
        let marked = read(b"\xef\xbb\xbf{\"a\": 1}").unwrap();
        assert!(!marked.has_lost_numbers && marked.values["a"] == 1);
    }

    #[test]
    fn what_is_no_object_says_what_it_is() {
        let wrong = |text: &[u8]| read(text).unwrap_err();
        assert_eq!(wrong(b"[{\"a\": 1}]"), "`.json` is no object: found a list");
        assert_eq!(wrong(b"NaN"), "`.json` is no object: found a single value");
        for broken in ["{", "{\"a\": nan}", "{\"a\": NaNs}", "{'a': 1}", "\"", "\"\\", ""] {
            assert!(wrong(broken.as_bytes()).starts_with("`.json` is no object: "), "{broken}");
        }
        assert!(wrong(&vec![b' '; MAX_BYTES + 1]).contains("1048577 bytes"));
        assert!(wrong("[".repeat(100_000).as_bytes()).contains("no object"));
    }
}
