//! What a claim states, as written.
//!
//! Owns [`ClaimSpec`] and the language of its comparisons, which `spec` deserialises. Invariant: data only; a statement is
//! complete before any number is looked at. What a claim names is checked in [`super::validate`] and judged in
//! [`super::judge`].
//!
//! A comparison stands in a context of columns: those that `cells` restricts, those that `each` and a test's `along` bind,
//! those that an operand fixes itself, and last the `defaults`. An operand wins over `each`, `each` over `defaults`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use super::selection::{AmountRange, Confidence, Selection};
use crate::tables::{Label, OneOrMany};

/// Columns (axis paths in tables of runs, column names in CSV files) to the values picked.
pub type Columns = BTreeMap<String, Selection>;

/// One claim: a sentence, the cells it speaks of, and the comparisons that test it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimSpec {
    /// Short name, unique in its file.
    pub id: String,
    /// The sentence.
    pub says: String,
    /// The cells that it speaks of.
    pub cells: CellsSpec,
    /// Values of columns that the comparisons leave open.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, Label>,
    /// Repeats every comparison over the product of these columns' values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub each: Columns,
    /// Repeats every comparison over these positions on the x axis of its `interpolate` operands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<f64>,
    /// The comparisons; several tests are all part of the one claim.
    pub test: OneOrMany<TestSpec>,
    /// The tests stand or fall together: where one of them finds no cells, the claim has no data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requires_every_test: bool,
    /// The verdict that is expected.
    #[serde(default)]
    pub expect: VerdictKind,
    /// How sure a comparison of runs must be (default 95%).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Differences up to this many points are ties (default 0.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_band: Option<f64>,
    /// Values, gains and differences are rounded to a multiple of this before they are compared (default: not rounded).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<f64>,
    /// What ties and missing cells do to the verdict (default `count`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ties: Option<Ties>,
    /// Where the claim is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What a reader of the verdict should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// The tie band where a claim states none, points.
pub const DEFAULT_TIE_BAND: f64 = 0.5;

impl ClaimSpec {
    /// Its tie band, points.
    #[must_use]
    pub fn tie_band(&self) -> f64 {
        self.tie_band.unwrap_or(DEFAULT_TIE_BAND)
    }

    /// Its confidence.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        self.confidence.unwrap_or_default()
    }

    /// What ties and missing cells do to its verdict.
    #[must_use]
    pub fn ties(&self) -> Ties {
        self.ties.unwrap_or_default()
    }
}

/// What ties and missing cells do to a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// A claim is supported only if every comparison is true.
    #[default]
    Count,
    /// Ties, and comparisons whose cells have no value, do not stand against it. For readings without seeds alone: on runs it is
    /// an error.
    Allowed,
}

/// A file of claims on tables that the engine did not make (`check CLAIMS.yaml --values A.csv`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimsFile {
    /// Where the claims are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What every claim of the file takes unless it says otherwise.
    #[serde(default)]
    pub defaults: FileDefaults,
    /// The claims.
    pub claims: Vec<ClaimSpec>,
}

/// What every claim of a file takes unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDefaults {
    /// Values of columns that comparisons leave open; a claim's own `defaults` are added to them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Label>,
    /// As in a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// As in a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie_band: Option<f64>,
    /// As in a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<f64>,
    /// As in a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ties: Option<Ties>,
}

impl ClaimsFile {
    /// Its claims, with the file's defaults filled in.
    #[must_use]
    pub fn into_claims(self) -> Vec<ClaimSpec> {
        let Self { source, defaults: FileDefaults { columns, confidence, tie_band, rounding, ties }, mut claims } = self;
        for claim in &mut claims {
            for (column, label) in &columns {
                claim.defaults.entry(column.clone()).or_insert_with(|| label.clone());
            }
            claim.confidence = claim.confidence.or(confidence);
            claim.tie_band = claim.tie_band.or(tie_band);
            claim.rounding = claim.rounding.or(rounding);
            claim.ties = claim.ties.or(ties);
            if claim.source.is_none() {
                claim.source.clone_from(&source);
            }
        }
        claims
    }
}

/// The cells that a claim speaks of: tables of runs by name, or else rows of tidy CSV files.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellsSpec {
    /// Tables of this experiment. Their columns are the axes of the table, `metric` and `table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<OneOrMany<String>>,
    /// Only rows with these values.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Columns>,
}

/// One kind of comparison. All kinds may repeat over an `each` of their own, inside the claim's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TestSpec {
    /// Every value on the left is greater than every value on the right.
    Greater(GreaterSpec),
    /// A value is at most a limit; the limit is the tolerance already, so there is no tie band.
    AtMost(AtMostSpec),
    /// Each value along a column is greater than the one before it.
    Rises(RisesSpec),
    /// One value along a column beats all the others.
    Best(BestSpec),
    /// One side leads at first and the other later: the difference changes sign once.
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
    /// Counts instead: more than this share of the comparisons is true (`50%`: most of them). The count is one comparison.
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

/// One value along a column beats all the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestSpec {
    /// The column.
    pub along: String,
    /// The value that should be best.
    pub is: Label,
    /// The values it is compared with.
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

/// One side leads at the lowest level and the other at the highest, with one change between; a level without a value leaves the
/// comparison missing.
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
                f.write_str("a number, or one of `cell`, `gain`, `minus`, `abs`, `interpolate`, `number`")
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

/// What the comparisons say of a claim, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum VerdictKind {
    /// Every comparison true.
    #[default]
    #[serde(rename = "supported")]
    Supported,
    /// None false, at least half true, none missing, and every tie on the claimed side.
    #[serde(rename = "leaning")]
    Leaning,
    /// Some true, some false.
    #[serde(rename = "mixed")]
    Mixed,
    /// Some false, none true.
    #[serde(rename = "refuted")]
    Refuted,
    /// None false, and too few true to lean.
    #[serde(rename = "undecided")]
    Undecided,
    /// No comparison could be made.
    #[serde(rename = "no data")]
    NoData,
}

impl VerdictKind {
    /// The word as written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Leaning => "leaning",
            Self::Mixed => "mixed",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
            Self::NoData => "no data",
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn claim(text: &str) -> Result<ClaimSpec, serde_yaml::Error> {
        serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(text))
    }

    const WHOLE: &str = "
id: X1
says: everything at once
cells: { table: [a, b], where: { metric: acc1 } }
defaults: { model: small, size: 64000 }
each: { size: all, keep: [40%, 20%], epochs: { at_least: 4 }, seed: 3 }
at: [40, 45.5]
test:
  - greater: { left: { cell: { keep: 40% } }, right: [{ number: 3 }, 0.5, { gain: { along: size, from: 1k, to: 2k } }] }
  - at_most: { value: { abs: { minus: [{ cell: {} }, { cell: { size: 2k } }] } }, limit: 2, each: { keep: all } }
  - rises: { along: size }
  - best: { along: keep, is: 40%, lowest: true }
  - crossover: { along: size, first: { cell: { model: a } }, later: { cell: { model: b } } }
  - fit: { x: { cell: {} }, y: { cell: { metric: b } }, over: { size: all }, r2_at_least: 0.95 }
  - greater:
      left: { interpolate: { along: size, x: { column: gmacs }, y: {}, error: 0.5 } }
      right: { interpolate: { along: size, x: { cell: { metric: b } }, y: { metric: a }, at: 40 } }
expect: no data
confidence: 99%
tie_band: 1
ties: allowed
";

    #[test]
    fn every_form_of_the_language_is_read_and_written_back_unchanged() {
        let spec = claim(WHOLE).unwrap();
        assert_eq!(spec.test.0.len(), 7);
        assert_eq!(spec.confidence(), Confidence::Interval(0.99));
        assert_eq!(spec.expect, VerdictKind::NoData);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ClaimSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn one_test_needs_no_list_and_expects_support() {
        let spec =
            claim("{id: Q1, says: s, cells: {table: fig5b}, test: {best: {along: data.quality.keep, is: 40%}}, confidence: none}")
                .unwrap();
        let [TestSpec::Best(best)] = spec.test.0.as_slice() else { panic!("{:?}", spec.test) };
        assert_eq!((best.is.as_str(), spec.expect, spec.tie_band()), ("40%", VerdictKind::Supported, 0.5));
        assert_eq!(spec.confidence(), Confidence::NotAsked);
    }

    #[test]
    fn unknown_words_are_refused_at_every_depth() {
        let with = |test: &str, rest: &str| claim(&format!("{{id: a, says: b, cells: {{table: t}}, test: {test}{rest}}}"));
        assert!(with("{best: {along: a, is: b}}", "").is_ok());
        for (test, rest) in [
            ("{best: {along: a, is: b, wher: c}}", ""),
            ("{bets: {along: a, is: b}}", ""),
            ("{best: {along: a, is: b, of: {cel: {}}}}", ""),
            ("{best: {along: a, is: b, among: {at_leats: 4}}}", ""),
            ("{best: {along: a, is: b}}", ", confidence: 95"),
            ("{best: {along: a, is: b}}", ", expect: holds"),
            ("[]", ""),
        ] {
            assert!(with(test, rest).is_err(), "{test}{rest}");
        }
    }

    #[test]
    fn a_file_fills_in_what_its_claims_leave_open() {
        let text = "{defaults: {columns: {n: 3.4B, s: CLIP}, rounding: 0.1, tie_band: 2}, claims: [
            {id: a, says: b, cells: {where: {}}, defaults: {n: 1B}, tie_band: 1, test: {rises: {along: x}}}]}";
        let file: ClaimsFile =
            serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(text)).unwrap();
        let [claim] = file.into_claims().try_into().unwrap();
        assert_eq!(claim.defaults["n"].as_str(), "1B");
        assert_eq!(claim.defaults["s"].as_str(), "CLIP");
        assert_eq!((claim.rounding, claim.tie_band()), (Some(0.1), 1.0));
    }

    #[test]
    fn the_schema_can_be_made() {
        let schema = schemars::schema_for!(ClaimsFile);
        let text = serde_json::to_string(&schema).unwrap();
        assert!(text.contains("\"at_most\"") && text.contains("\"no data\""), "{text}");
        let operand = &schema.as_value()["$defs"]["Operand"]["oneOf"];
        assert!(operand.as_array().unwrap().iter().any(|form| form["type"] == "number"), "{operand}");
    }
}
