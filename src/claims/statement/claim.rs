//! A claim: its sentence, the cells it speaks of, its tests, and what their answers say together.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operand::Columns;
use super::test::TestSpec;
use crate::claims::selection::Confidence;
use crate::tables::{Label, OneOrMany};

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

/// What the comparisons say of a claim, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum VerdictKind {
    /// Every comparison true.
    #[default]
    #[serde(rename = "supported")]
    Supported,
    /// None false or missing, at least half true and one of them beyond doubt, and every other on the claimed side.
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
