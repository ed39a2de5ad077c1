//! Labels: the text that names a value on an axis, and how such text compares.
//!
//! Owns [`Label`] and [`OneOrMany`], which table and claim statements are written in. Input: scalars as a person writes them
//! (`40%`, `25M`, `vit-s/8`, `samples_seen=512k`). Invariant: the text is kept as written; only comparison knows that `512k`
//! and `512000` are the same amount. Must not know: where the text came from.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::amount::amount;

/// The text that names one value on an axis or in a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// A label of this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The amount that the text states, if it states one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        amount(&self.0)
    }

    /// Whether both name the same value: equal text or equal amounts, also inside `key=value,key=value`.
    #[must_use]
    pub fn names(&self, text: &str) -> bool {
        same_label(&self.0, text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What selects the points that do not have an axis, whose cells are empty. Where a value of the axis is itself called so, that
/// value is meant, and the empty text selects the points without the axis.
pub const NONE: &str = "none";

/// What names the points without an axis, beside these labels of those that have it.
#[must_use]
pub fn absent_name<'a>(labels: impl IntoIterator<Item = &'a str>) -> &'static str {
    if labels.into_iter().any(|label| label == NONE) { "" } else { NONE }
}

/// Whether two texts name the same value.
#[must_use]
pub fn same_label(a: &str, b: &str) -> bool {
    a == b || canonical(a) == canonical(b)
}

/// The same text for every way to write one value: amounts to twelve digits, also inside `key=value,key=value`.
#[must_use]
pub fn canonical(text: &str) -> Cow<'_, str> {
    if let Some(value) = amount(text) {
        return format!("{:.11e}", value + 0.0).into();
    }
    if !text.contains('=') {
        return text.into();
    }
    let pairs = text.split(',').map(|pair| match pair.split_once('=') {
        Some((key, value)) => format!("{key}={}", if amount(value).is_some() { canonical(value) } else { value.into() }),
        None => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join(",").into()
}

/// Sorts labels by amount where every one states an amount; otherwise leaves them in the order given.
pub fn sort_labels(labels: &mut [String]) {
    if labels.iter().all(|label| amount(label).is_some()) {
        labels.sort_by(|a, b| amount(a).partial_cmp(&amount(b)).unwrap_or(Ordering::Equal));
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelVisitor;
        impl Visitor<'_> for LabelVisitor {
            type Value = Label;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label (text or a number)")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Label, E> {
                Ok(Label::new(text))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Label, E> {
                Ok(Label::new(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Label, E> {
                Ok(Label::new(value.to_string()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Label, E> {
                Ok(Label::new(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Label, E> {
                Ok(Label::new(value.to_string()))
            }
        }
        deserializer.deserialize_any(LabelVisitor)
    }
}

impl JsonSchema for Label {
    fn schema_name() -> Cow<'static, str> {
        "Label".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The text that names a value on an axis: `40%`, `25M`, `vit-s/8`, `samples_seen=512k`.",
            "type": ["string", "number", "boolean"]
        })
    }
}

/// One value, or a list of them; one value is a list of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> OneOrMany<T> {
    /// The values in the order written.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, T> IntoIterator for &'a OneOrMany<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value or a list of values")
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut many = Vec::new();
        while let Some(item) = seq.next_element()? {
            many.push(item);
        }
        if many.is_empty() {
            return Err(de::Error::invalid_length(0, &"at least one value"));
        }
        Ok(OneOrMany(many))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_name_the_same_value_also_inside_pairs() {
        assert!(Label::new("25M").names("25000000"));
        assert!(Label::new("samples_seen=512k").names("samples_seen=512000"));
        assert!(Label::new("name=flip,masked=50%").names("name=flip,masked=0.5"));
        assert!(!Label::new("epochs=1").names("steps=1"));
        assert!(!Label::new("40%").names("40"));
        assert!(!Label::new("a=1").names("a=1,b=2"));
    }

    #[test]
    fn labels_sort_by_amount_only_when_all_are_amounts() {
        let mut amounts = ["400M".to_owned(), "3.4B".to_owned(), "50000000".to_owned()];
        sort_labels(&mut amounts);
        assert_eq!(amounts, ["50000000", "400M", "3.4B"]);
        let mut names = ["small".to_owned(), "10".to_owned(), "base".to_owned()];
        sort_labels(&mut names);
        assert_eq!(names, ["small", "10", "base"]);
    }
}
