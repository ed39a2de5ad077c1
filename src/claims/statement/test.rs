//! The kinds of comparison that a claim may make.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operand::{Columns, Operand};
use crate::claims::selection::Selection;
use crate::tables::{Label, OneOrMany};

/// One kind of comparison. All kinds may repeat over an `each` of their own, inside the claim's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TestSpec {
    /// Every value on the left is greater than every value on the right.
    Greater(GreaterSpec),
    /// A value is at most a limit; the limit is the tolerance already, so there is no tie band.
    AtMost(AtMostSpec),
    /// Two values differ by less than a margin.
    Equal(EqualSpec),
    /// Each value along a column is greater than the one before it.
    Rises(RisesSpec),
    /// Values rise along a column as a whole.
    Trend(TrendSpec),
    /// One value along a column beats all the others.
    Best(BestSpec),
    /// One side leads at the lowest level and the other at the highest.
    Crossover(CrossoverSpec),
    /// A straight line through pairs of values.
    Fit(FitSpec),
}

/// Every value on the left is greater than every value on the right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GreaterSpec {
    /// What should be greater.
    pub left: OneOrMany<Operand>,
    /// What should be less.
    pub right: OneOrMany<Operand>,
    /// Greater by more than this many points, in place of the tie band.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<f64>,
    /// Counts instead: more than this share of the comparisons is true (`50%`: most of them). The count is one comparison; on runs
    /// it is a partial conjunction of their p values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_more_than: Option<Label>,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}

/// A value is at most a limit: readings plainly, runs with their whole interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AtMostSpec {
    /// What is limited.
    pub value: OneOrMany<Operand>,
    /// The limit.
    pub limit: Operand,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}

/// Every value on the left differs from every value on the right by less than a margin: two one-sided tests. Readings are compared
/// plainly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EqualSpec {
    /// One side.
    pub left: OneOrMany<Operand>,
    /// The other.
    pub right: OneOrMany<Operand>,
    /// The margin, points.
    pub within: f64,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}

/// Values rise along a column as a whole: the straight line through them by the place of their level (1, 2, 3, ..) ends above
/// where it begins. One comparison; a missing cell leaves it missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrendSpec {
    /// The column.
    pub along: String,
    /// Values of the column, as in `rises`.
    #[serde(default)]
    pub over: Selection,
    /// What rises (default: the cell).
    #[serde(default)]
    pub of: Operand,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}

/// Each value along a column is greater than the one before it; a missing cell is not stepped over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RisesSpec {
    /// The column; amounts are taken in ascending order, names in the order of the table.
    pub along: String,
    /// Values of the column; a list is taken in its own order, so a descending list tests a fall.
    #[serde(default)]
    pub over: Selection,
    /// What rises (default: the cell).
    #[serde(default)]
    pub of: Operand,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}

/// The word of [`BestSpec::is`] for any value but the first and the last.
pub const INTERIOR: &str = "interior";

/// One value along a column beats all the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestSpec {
    /// The column.
    pub along: String,
    /// The value that should be best; `interior`: one between the first and the last, whichever, beats both. That is one comparison.
    pub is: Label,
    /// The values it is compared with, or of `interior`, those along which it lies, as in `rises`.
    #[serde(default)]
    pub among: Selection,
    /// What is compared (default: the cell).
    #[serde(default)]
    pub of: Operand,
    /// The lowest value is the best.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lowest: bool,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}

/// One side leads at the lowest level and the other at the highest. Levels between do not decide, but a lead that clearly changes
/// more than once leaves it open; a level without a value leaves it missing. Where the levels are amounts, the verdict says between
/// which the lines meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossoverSpec {
    /// The column.
    pub along: String,
    /// Values of the column, as in `rises`.
    #[serde(default)]
    pub over: Selection,
    /// Leads at first.
    pub first: Operand,
    /// Leads later.
    pub later: Operand,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}

/// A straight line by least squares; each condition stated is one comparison.
///
/// Points are readings or means over seeds. On runs the band is a t interval over the lines of single seeds, which need three;
/// a point without a value leaves the comparison missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FitSpec {
    /// Horizontal values.
    pub x: Operand,
    /// Vertical values.
    pub y: Operand,
    /// The points: the product of these columns' values.
    pub over: Columns,
    /// The coefficient of determination is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r2_at_least: Option<f64>,
    /// The line through the points with x above this is steeper than the line through those below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steeper_above: Option<f64>,
    /// Repeats over these columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
}
