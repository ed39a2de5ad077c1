//! `sweep:`, which settings vary. Read by hand where places matter (`sweep`); these types give its schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::super::scalar::Count;
use crate::run::SeedPart;

/// Which settings vary, and over how many seeds: `grid` and `zip` (both: every combination of them), or one of `union` and
/// `product`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SweepSpec {
    /// A number of seeds (0, 1, ..), or a list of them. Default 1.
    pub seeds: Option<SeedsSpec>,
    /// What seeds draw; the rest is that of seed 0. Default `[init, order]`.
    pub seeds_draw: Option<Vec<SeedPart>>,
    /// Axes by dotted path, every combination.
    pub grid: Option<AxesSpec>,
    /// Axes by dotted path and of equal length, taken side by side.
    pub zip: Option<AxesSpec>,
    /// Several members one after another.
    pub union: Option<Vec<SubGridSpec>>,
    /// Several members in every combination.
    pub product: Option<Vec<SubGridSpec>>,
    /// Points left out: maps of axis path to value or list of values, all of which must match.
    pub exclude: Option<Vec<serde_json::Value>>,
}

/// One member of a `union` or `product`: `grid` and `zip` (both: every combination of them), or one of `union` and `product`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SubGridSpec {
    /// Axes by dotted path, every combination.
    pub grid: Option<AxesSpec>,
    /// Axes by dotted path and of equal length, taken side by side.
    pub zip: Option<AxesSpec>,
    /// Several members one after another.
    pub union: Option<Vec<SubGridSpec>>,
    /// Several members in every combination.
    pub product: Option<Vec<SubGridSpec>>,
    /// Points left out: maps of axis path to value or list of values, all of which must match.
    pub exclude: Option<Vec<serde_json::Value>>,
}

/// Seeds.
#[derive(Debug, Clone, Deserialize)]
pub struct SeedsSpec(pub serde_json::Value);

impl JsonSchema for SeedsSpec {
    fn schema_name() -> Cow<'static, str> {
        "SeedsSpec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let count = generator.subschema_for::<Count>();
        json_schema!({ "anyOf": [count, { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 }] })
    }
}

/// Axes by dotted path.
#[derive(Debug, Clone, Deserialize)]
pub struct AxesSpec(pub serde_json::Value);

impl JsonSchema for AxesSpec {
    fn schema_name() -> Cow<'static, str> {
        "AxesSpec".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let range = generator.subschema_for::<RangeSpec>();
        json_schema!({
            "type": "object",
            "description": "axes by dotted path such as train.lr: a list of values, a range, or {values, when}",
            "x-axes": true,
            "additionalProperties": { "anyOf": [
                { "type": "array", "minItems": 1 },
                range,
                { "type": "object", "properties": {
                    "values": { "anyOf": [{ "type": "array", "minItems": 1 }, range] },
                    "when": { "type": "object", "description": "the axis exists only where the other axis has one of these values" }
                }, "required": ["values"] },
                { "type": "object", "description": "an axis path may be written as nested maps" }
            ]}
        })
    }
}

/// A counted range of values, both ends included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeSpec {
    /// First value.
    pub from: serde_json::Value,
    /// Last value.
    pub to: serde_json::Value,
    /// How many values, 2 or more.
    pub num: Count,
    /// Equal steps, or equal ratios. Default `linear`.
    pub scale: Option<RangeScale>,
    /// The axis exists only where another axis has one of these values.
    pub when: Option<serde_json::Value>,
}

/// Spacing of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RangeScale {
    /// Equal steps.
    Linear,
    /// Equal ratios.
    Log,
}
