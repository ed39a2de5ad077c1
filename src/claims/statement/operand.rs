//! The numbers that comparisons are made of.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::claims::selection::Selection;
use crate::tables::Label;

/// Columns (axis paths in tables of runs, column names in CSV files) to the values picked.
pub type Columns = BTreeMap<String, Selection>;

/// A number that is compared. A bare number may be written for `number`.
///
/// Where an operand picks several values (lists, ranges), it stands for several numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(transform = allow_bare_number)]
pub enum Operand {
    /// The cell with these values of these columns.
    Cell(Columns),
    /// What is gained between two values of a column.
    Gain(GainSpec),
    /// The first less the second.
    Minus(Box<(Operand, Operand)>),
    /// Without its sign.
    Abs(Box<Operand>),
    /// The average over values of columns.
    Mean(Box<MeanSpec>),
    /// A value read between cells.
    Interpolate(Box<InterpolateSpec>),
    /// A number.
    Number(f64),
}

/// The schema of [`Operand`] names its tagged forms; a bare number is one more.
fn allow_bare_number(schema: &mut schemars::Schema) {
    if let Some(serde_json::Value::Array(forms)) = schema.get_mut("oneOf") {
        forms.push(serde_json::json!({ "type": "number", "description": "A number." }));
    }
}

impl Default for Operand {
    fn default() -> Self {
        Self::Cell(Columns::new())
    }
}

impl Serialize for Operand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(value) => serializer.serialize_f64(*value),
            _ => Self::serialize(self, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Operand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OperandVisitor;
        impl<'de> Visitor<'de> for OperandVisitor {
            type Value = Operand;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, or one of `cell`, `gain`, `minus`, `abs`, `mean`, `interpolate`, `number`")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Operand, E> {
                Ok(Operand::Number(value))
            }
            #[expect(clippy::cast_precision_loss, reason = "a limit in points")]
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Operand, E> {
                Ok(Operand::Number(value as f64))
            }
            #[expect(clippy::cast_precision_loss, reason = "a limit in points")]
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Operand, E> {
                Ok(Operand::Number(value as f64))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Operand, A::Error> {
                Operand::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(OperandVisitor)
    }
}

/// The average over values of columns; a missing one leaves it missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanSpec {
    /// Averaged over the product of these columns' values.
    pub over: Columns,
    /// What is averaged (default: the cell).
    #[serde(default)]
    pub of: Operand,
}

/// The value at `to` less the value at `from`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GainSpec {
    /// The column.
    pub along: String,
    /// Where it starts; left out, the value that `each` gives the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Label>,
    /// Where it ends; left out, the value that `each` gives the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Label>,
    /// Other columns of both cells.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of: Columns,
}

/// A straight line between the two neighbouring points of a curve, never beyond its ends.
///
/// Points are taken in the order of their x. Only the spread of y enters the band; that of x does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterpolateSpec {
    /// The column along which the curve's points lie.
    pub along: String,
    /// Horizontal position of a point.
    pub x: XSpec,
    /// Vertical position of a point: the value read.
    pub y: Columns,
    /// Other columns of x and y.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of: Columns,
    /// The position on the x axis; left out, the claim's `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// Error of the value read, points, in place of the errors of the two cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

/// Horizontal position of a point on a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum XSpec {
    /// The value of another cell.
    Cell(Columns),
    /// The amount that stands in a column of the point's own row.
    Column(String),
}
