//! How a statement picks values of a column, and how sure it wants to be.
//!
//! Owns [`Selection`] and [`Confidence`] with their written forms. Must not know: which values exist.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tables::{Label, amount};

/// Values of one column: one, a list, `all`, or those in a range.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Selection {
    /// Every value that occurs.
    #[default]
    All,
    /// These, in this order.
    Values(Vec<Label>),
    /// Those whose amount lies in a range, in ascending order.
    Range(AmountRange),
}

/// Bounds on the amount that a label states; a label that states none lies outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmountRange {
    /// This amount or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Label>,
    /// More than this amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Label>,
    /// This amount or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Label>,
    /// Less than this amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Label>,
}

impl AmountRange {
    /// Whether the amount that `text` states lies in the range.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let Some(value) = amount(text) else { return false };
        let slack = 1e-12 * value.abs();
        let holds = |bound: &Option<Label>, test: fn(f64, f64, f64) -> bool| {
            bound.as_ref().is_none_or(|label| label.number().is_some_and(|limit| test(value, limit, slack)))
        };
        holds(&self.at_least, |v, limit, slack| v >= limit - slack)
            && holds(&self.above, |v, limit, slack| v > limit + slack)
            && holds(&self.at_most, |v, limit, slack| v <= limit + slack)
            && holds(&self.below, |v, limit, slack| v < limit - slack)
    }
}

impl Selection {
    /// Whether a value of the column is picked.
    #[must_use]
    pub fn picks(&self, text: &str) -> bool {
        match self {
            Self::All => true,
            Self::Values(labels) => labels.iter().any(|label| label.names(text)),
            Self::Range(range) => range.contains(text),
        }
    }

    /// The one value that it fixes, if it fixes one.
    #[must_use]
    pub fn single(&self) -> Option<&Label> {
        match self {
            Self::Values(labels) if labels.len() == 1 => labels.first(),
            _ => None,
        }
    }
}

impl Serialize for Selection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Values(labels) => labels.serialize(serializer),
            Self::Range(range) => range.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Selection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SelectionVisitor)
    }
}

struct SelectionVisitor;

impl SelectionVisitor {
    fn one(text: impl Into<String>) -> Selection {
        Selection::Values(vec![Label::new(text)])
    }
}

impl<'de> Visitor<'de> for SelectionVisitor {
    type Value = Selection;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list of values, `all`, or a range such as `{ at_least: 400M }`")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Selection, E> {
        Ok(if text == "all" { Selection::All } else { Self::one(text) })
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Selection, E> {
        Ok(Self::one(value.to_string()))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Selection, E> {
        Ok(Self::one(value.to_string()))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Selection, E> {
        Ok(Self::one(value.to_string()))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Selection, E> {
        Ok(Self::one(value.to_string()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Selection, A::Error> {
        let mut labels = Vec::new();
        while let Some(label) = seq.next_element()? {
            labels.push(label);
        }
        if labels.is_empty() {
            return Err(de::Error::invalid_length(0, &"at least one value"));
        }
        Ok(Selection::Values(labels))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selection, A::Error> {
        AmountRange::deserialize(MapAccessDeserializer::new(map)).map(Selection::Range)
    }
}

impl JsonSchema for Selection {
    fn schema_name() -> Cow<'static, str> {
        "Selection".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let label = generator.subschema_for::<Label>();
        let range = generator.subschema_for::<AmountRange>();
        json_schema!({
            "description": "Values of a column: one, a list, `all`, or a range such as `{ at_least: 400M }`.",
            "anyOf": [label, { "type": "array", "items": label, "minItems": 1 }, range]
        })
    }
}

/// How sure a comparison of runs must be: a two-sided t interval over seeds, or `none` (the tie band alone decides).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Confidence {
    /// A share strictly between 0 and 1, written as percent.
    Interval(f64),
    /// Nothing is said of other seeds: one is enough.
    NotAsked,
}

impl Default for Confidence {
    fn default() -> Self {
        Self::Interval(0.95)
    }
}

impl Confidence {
    /// The share, if an interval is asked for.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        match self {
            Self::Interval(share) => Some(share),
            Self::NotAsked => None,
        }
    }
}

impl Serialize for Confidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Interval(share) => serializer.collect_str(&format_args!("{}%", (share * 1e10).round() / 1e8)),
            Self::NotAsked => serializer.serialize_str("none"),
        }
    }
}

impl<'de> Deserialize<'de> for Confidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ConfidenceVisitor;
        impl Visitor<'_> for ConfidenceVisitor {
            type Value = Confidence;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none` or a percentage between 0% and 100%, such as `95%`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Confidence, E> {
                if text == "none" {
                    return Ok(Confidence::NotAsked);
                }
                match amount(text) {
                    Some(share) if text.ends_with('%') && share > 0.0 && share < 1.0 => Ok(Confidence::Interval(share)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(ConfidenceVisitor)
    }
}

impl JsonSchema for Confidence {
    fn schema_name() -> Cow<'static, str> {
        "Confidence".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How sure a comparison must be: `none`, or a percentage such as `95%` (a t interval over seeds).",
            "type": "string",
            "pattern": "^(none|[0-9]+(\\.[0-9]+)?%)$"
        })
    }
}
