//! Scalars with units: what `64k`, `3.4B`, `40%` and `1e-3` mean.
//!
//! Owns what an experiment file takes of `tables`' amounts, and one newtype for each kind of scalar with its `serde` and JSON
//! Schema form. The schema names the kind in `x-scalar`, so that the check with places and the typed reading use one parser.
//! Units: k = 1,000, M = 1,000,000, B = 1,000,000,000. Decimal notation is read exactly, so `0.1M` is 100000.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::tables::{AmountError, Decimal};

/// A kind of scalar: how it is described, and what refuses a text.
pub(super) struct Kind {
    /// As in "expected a whole number".
    pub expected: &'static str,
    /// Why a text is not of this kind; an empty reason means that the description says it all.
    pub check: fn(&str) -> Result<(), String>,
}

/// The kind that a schema names.
pub(super) fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "count" => Kind { expected: "a whole number such as `64000`, `64k` or `3.4B`", check: |t| parse_count(t).map(drop) },
        "quantity" => Kind { expected: "a number such as `0.5`, `1e6` or `3.4B`", check: |t| parse_quantity(t).map(drop) },
        "share" => Kind { expected: "a share such as `40%` or `0.4`", check: |t| parse_share(t).map(drop) },
        "interval" => {
            Kind { expected: "steps such as `100`, or a share of them such as `5%`", check: |t| parse_interval(t).map(drop) }
        }
        "path" => Kind { expected: "a path", check: |t| if t.is_empty() { Err(String::new()) } else { Ok(()) } },
        "shards" => {
            Kind { expected: "shard paths such as \"a/{00000..00009}.tar\"", check: |t| super::brace::expand(t, 0).map(drop) }
        }
        _ => return None,
    })
}

/// Units that an experiment file takes.
const UNITS: [char; 3] = ['k', 'M', 'B'];

fn parse_decimal(text: &str) -> Result<Decimal, String> {
    let decimal = match Decimal::parse(text) {
        Ok(decimal) => decimal,
        Err(AmountError::NotANumber) => return Err(String::new()),
        Err(AmountError::UnknownUnit { number, unit }) => return Err(unknown_unit(&number, &unit)),
    };
    match decimal.unit {
        Some(unit) if unit != '%' && !UNITS.contains(&unit) => {
            let number = text.trim_end_matches(unit);
            return Err(unknown_unit(number, &unit.to_string()));
        }
        _ => {}
    }
    if decimal.has_leading_zero {
        return Err("it begins with a zero, which some readers take for octal; leave the zero out".to_owned());
    }
    Ok(decimal)
}

const UNKNOWN_UNIT: &str = "unknown unit";

fn unknown_unit(number: &str, unit: &str) -> String {
    let meant = match unit {
        "K" => "k",
        "m" | "mio" => "M",
        "G" | "b" | "g" => "B",
        _ if unit.chars().eq(unit.chars().filter(|c| UNITS.contains(c)).take(1)) => unit,
        _ => "",
    };
    if meant.is_empty() {
        format!("{UNKNOWN_UNIT} `{unit}`, expected one of `k`, `M`, `B`")
    } else {
        format!("{UNKNOWN_UNIT} `{unit}`, expected one of `k`, `M`, `B`: did you mean `{number}{meant}`?")
    }
}

/// What a number counts, by the last key of its path, and whether it is ever so large that it takes a unit.
const COUNTED: [(&str, &[&str], bool); 14] = [
    ("pixels", &["image_size", "patch_size", "stem_stride", "stem_kernel"], false),
    ("tokens", &["context_length"], false),
    ("channels", &["width", "embed_dim", "ssl_hidden", "ssl_out"], false),
    ("blocks", &["depths"], false),
    ("layers", &["layers"], false),
    ("heads", &["heads"], false),
    ("chunks", &["accumulate"], false),
    ("lanes", &["lanes"], false),
    ("epochs", &["epochs"], false),
    ("seeds", &["seeds"], false),
    ("steps", &["steps", "warmup", "checkpoint_every"], true),
    ("entries", &["vocab_size"], true),
    ("pairs", &["batch_size", "samples_seen"], true),
    ("samples", &["size", "samples", "count", "ssl_bn_group"], true),
];

/// Why a text is not of a kind, in words that fit what the key counts.
pub(super) fn reworded(why: String, text: &str, kind: &str, key: &str) -> String {
    let Err(AmountError::UnknownUnit { number, unit }) = Decimal::parse(text) else { return why };
    if !why.starts_with(UNKNOWN_UNIT) || why.contains("did you mean") {
        return why;
    }
    let guess = format!("did you mean `{number}`?");
    let is_noun = |noun: &str| noun.starts_with(&unit) && unit.len() > 1 || (noun, unit.as_str()) == ("pixels", "px");
    if kind == "share" {
        return format!("{UNKNOWN_UNIT} `{unit}`, expected `%` or none: did you mean `{number}%`?");
    }
    match COUNTED.iter().find(|(_, keys, _)| keys.contains(&key)) {
        Some((noun, _, _)) if is_noun(noun) => {
            format!("{UNKNOWN_UNIT} `{unit}`, expected the number of {noun} alone: {guess}")
        }
        Some((noun, _, false)) => format!("{UNKNOWN_UNIT} `{unit}`, expected a number of {noun} without a unit: {guess}"),
        Some((_, _, true)) if kind == "interval" => format!("{UNKNOWN_UNIT} `{unit}`, expected one of `k`, `M`, `B`, `%`"),
        Some((noun, _, true)) => format!("{UNKNOWN_UNIT} `{unit}`, expected a number of {noun} with one of `k`, `M`, `B` or none"),
        None if kind == "quantity" && key != "gmacs" => {
            format!("{UNKNOWN_UNIT} `{unit}`, expected a number without a unit: {guess}")
        }
        None => why,
    }
}

/// A whole number, units allowed; exact.
pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    if text.ends_with('%') {
        return Err("a share cannot stand for a number here".to_owned());
    }
    let decimal = parse_decimal(text)?;
    if decimal.negative && !decimal.is_zero() {
        return Err("it is negative".to_owned());
    }
    let digits = decimal.digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let dropped = i32::try_from(digits.len() - significant.len()).unwrap_or(i32::MAX);
    let exponent = decimal.exponent.saturating_add(dropped);
    if exponent < 0 {
        return Err("it is not whole".to_owned());
    }
    let power = 10_u128.checked_pow(exponent.unsigned_abs());
    let digits = significant.parse::<u128>().ok();
    let value = power.zip(digits).and_then(|(p, d)| d.checked_mul(p)).and_then(|v| u64::try_from(v).ok());
    value.filter(|v| *v <= 1 << 53).ok_or_else(|| "it is larger than 2^53".to_owned())
}

/// A number, units allowed.
pub(super) fn parse_quantity(text: &str) -> Result<f64, String> {
    if text.ends_with('%') {
        return Err("a share cannot stand for a number here".to_owned());
    }
    parse_decimal(text)?.value().ok_or_else(|| "it is too large".to_owned())
}

/// A share in [0, 1], as percent or as a fraction.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let decimal = parse_decimal(text)?;
    let percent = decimal.unit == Some('%');
    let value = decimal.value().ok_or_else(String::new)?;
    match (decimal.negative && !decimal.is_zero(), percent) {
        (true, _) => Err("it is negative".to_owned()),
        (false, true) if value > 1.0 => Err("it is more than 100%".to_owned()),
        (false, false) if value > 1.0 => Err(format!("it is more than 1: did you mean `{text}%`?")),
        (false, _) => Ok(value.abs()),
    }
}

/// Steps, or a share of them.
pub(super) fn parse_interval(text: &str) -> Result<Interval, String> {
    if text.ends_with('%') { parse_share(text).map(Interval::Share) } else { parse_count(text).map(Interval::Steps) }
}

/// The number behind a scalar in any of the notations, to compare labels with.
pub(super) fn parse_any(text: &str) -> Option<f64> {
    if text.ends_with('%') { parse_share(text).ok() } else { parse_quantity(text).ok() }
}

/// A whole number such as `64000`, `64k` or `3.4B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// A number such as `0.5`, `1e6` or `3.4B`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Quantity(pub f64);

/// A share in [0, 1], written as `40%` or `0.4`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// A number of steps, or a share of all steps of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interval {
    /// So many steps.
    Steps(u64),
    /// This share of the run's steps.
    Share(f64),
}

impl Interval {
    /// In steps of a run that has `steps`; a share is rounded to the nearest.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a step count"
    )]
    pub fn steps_of(self, steps: u64) -> u64 {
        match self {
            Self::Steps(n) => n,
            Self::Share(share) => (steps as f64 * share).round() as u64,
        }
    }
}

/// A path; relative ones are relative to the file that states them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(pub String);

/// Paths of shards, with brace ranges (`{00000..00006}`), alternatives (`{x,y}`) and `::` between patterns expanded; a path with
/// `*`, `?` or `[..]`, and a folder, are looked up by who can read files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards(pub Vec<String>);

/// Reads any scalar as its text.
struct Text;
impl Visitor<'_> for Text {
    type Value = String;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a scalar")
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<String, E> {
        Ok(v.to_owned())
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<String, E> {
        Ok(v.to_string())
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<String, E> {
        Ok(v.to_string())
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<String, E> {
        Ok(format!("{v:e}"))
    }
}

macro_rules! scalar {
    ($type:ident, $kind:literal, $parse:expr, $schema:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_any(Text)?;
                let parse: fn(&str) -> Result<Self, String> = $parse;
                parse(&text).map_err(|why| de::Error::custom(format!("`{text}` is no {}: {why}", $kind)))
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

const NUMBER_PATTERN: &str = r"^[+]?[0-9]*\.?[0-9]*([eE][+-]?[0-9]+)?[kMB]?$";
const SHARE_PATTERN: &str = r"^[0-9]*\.?[0-9]*([eE][+-]?[0-9]+)?\s*%?$";

scalar!(
    Count,
    "count",
    |t| parse_count(t).map(Count),
    json_schema!({
        "description": "a whole number; k, M and B are thousands, millions and billions",
        "type": ["integer", "number", "string"], "minimum": 0, "pattern": NUMBER_PATTERN, "x-scalar": "count"
    })
);
scalar!(
    Quantity,
    "quantity",
    |t| parse_quantity(t).map(Quantity),
    json_schema!({
        "description": "a number; k, M and B are thousands, millions and billions",
        "type": ["number", "string"], "pattern": NUMBER_PATTERN, "x-scalar": "quantity"
    })
);
scalar!(
    Share,
    "share",
    |t| parse_share(t).map(Share),
    json_schema!({
        "description": "a share, as `40%` or `0.4`",
        "type": ["number", "string"], "minimum": 0, "maximum": 1, "pattern": SHARE_PATTERN, "x-scalar": "share"
    })
);
scalar!(
    Interval,
    "interval",
    parse_interval,
    json_schema!({
        "description": "steps, or a share of a run's steps as `5%`",
        "type": ["integer", "string"], "minimum": 0, "pattern": SHARE_PATTERN, "x-scalar": "interval"
    })
);
scalar!(
    FilePath,
    "path",
    |t| Ok(FilePath(t.to_owned())),
    json_schema!({
        "description": "a path, relative to the file that states it", "type": "string", "minLength": 1, "x-scalar": "path"
    })
);
scalar!(
    Shards,
    "shards",
    |t| super::brace::expand(t, super::brace::MAX_PATHS).map(Shards),
    json_schema!({
        "description": "shard paths with brace ranges {00000..00009}, alternatives {x,y}, wildcards (*, ?, [a-c]), folders, and :: between them",
        "type": "string", "minLength": 1, "x-scalar": "shards"
    })
);

/// A count as the size of something in memory.
pub(super) fn size(count: Count) -> usize {
    usize::try_from(count.0).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_in_every_notation() {
        for (text, value) in [
            ("64k", 64_000),
            ("3.4B", 3_400_000_000),
            ("0.1M", 100_000),
            ("1e6", 1_000_000),
            ("1.5e3", 1500),
            ("0", 0),
            ("12", 12),
            ("1e3k", 1_000_000),
        ] {
            assert_eq!(parse_count(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn counts_that_are_not_whole_or_not_numbers_say_why() {
        for (text, why) in [
            ("1.5", "not whole"),
            ("64K", "did you mean `64k`"),
            ("64q", "unknown unit `q`"),
            ("-3", "negative"),
            ("010", "octal"),
            ("40%", "share"),
            ("1e40", "larger"),
            ("64 kilo", ""),
            ("", ""),
            ("12:30", ""),
            ("64kB", ""),
        ] {
            let error = parse_count(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn shares_are_the_same_in_percent_and_as_fractions() {
        for percent in 0..=1000 {
            let (text, fraction) = (format!("{}.{}%", percent / 10, percent % 10), format!("{percent}e-3"));
            assert_eq!(parse_share(&text).map(f64::to_bits), parse_share(&fraction).map(f64::to_bits), "{text}");
        }
        assert_eq!(parse_share("40%"), Ok(0.4));
        assert!(parse_share("40").expect_err("over one").contains("did you mean `40%`"));
        assert!(parse_share("140%").is_err());
        assert!(parse_share("-1%").is_err());
    }

    #[test]
    fn numbers_in_scientific_notation_are_numbers() {
        assert_eq!(parse_quantity("1e-3"), Ok(1e-3));
        assert_eq!(parse_quantity("3.4B"), Ok(3.4e9));
        assert_eq!(parse_quantity(".5"), Ok(0.5));
        assert_eq!(parse_quantity("-0.5"), Ok(-0.5));
        for text in ["nan", "inf", "0x10", "1_000", "e", "1e", "1e999", "--1"] {
            assert!(parse_quantity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_convert_shares_to_the_nearest_step() {
        assert_eq!(parse_interval("5%").map(|i| i.steps_of(2000)), Ok(100));
        assert_eq!(parse_interval("50").map(|i| i.steps_of(10)), Ok(50));
    }
}
