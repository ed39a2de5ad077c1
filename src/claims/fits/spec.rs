//! What a fit is asked to show.
//!
//! Owns [`ScalingSpec`], which `spec` deserialises. Invariant: a statement as written; whether its axes and metrics exist is asked in
//! [`super::validate`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tables::{COUNTS, Label, OneOrMany, TableSpec};

/// What begins the names of files of fits, so that no table has one of them.
pub const FILE_PREFIX: &str = "fit-";

/// What begins the names of files of frontiers.
pub const FRONTIER_PREFIX: &str = "frontier-";

/// Whether a name of a file in `tables/` is one that fits and frontiers have.
#[must_use]
pub fn is_of_fit(name: &str) -> bool {
    name.starts_with(FILE_PREFIX) || name.starts_with(FRONTIER_PREFIX)
}

/// The label in `hold_out` that stands for the largest amount.
pub const LARGEST: &str = "largest";

/// Saturating power laws through cells of runs: the error, 100 - metric in percent or else the loss, is e_inf + a x^-b of one amount
/// and e_inf + a x^-b + a' x'^-b' of two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScalingSpec {
    /// File name behind `fit-`, without its ending: `tables/fit-<name>.csv`.
    pub name: String,
    /// One line above the fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// The metric, such as `zeroshot/scenes.acc1`, whose error is 100 - metric; or `loss`: the training loss, mean of the last tenth
    /// of the points of its curve, which is its own error.
    pub of: String,
    /// The amount x, or two for the joint form: `gmacs`, `samples_seen`, `subset_samples`, `steps`, or an axis whose labels are amounts,
    /// such as `data.train.size`.
    pub against: OneOrMany<String>,
    /// Axes of whose labels each has a curve of its own. Default none: one curve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OneOrMany<String>>,
    /// Axes along which the cells of a curve lie. Default: the axes of `against`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub along: Option<OneOrMany<String>>,
    /// Only points with these labels: key path of an axis to its label or labels.
    #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, OneOrMany<Label>>,
    /// Whether `tables/frontier-<name>.csv` is written as well: of all the cells the best at each amount, and the next best that costs
    /// no more. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frontier: bool,
    /// Cells that are left out of the fit and then predicted: an axis or an amount of `against` to its label or labels; `largest` is
    /// the largest amount of a curve. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hold_out: BTreeMap<String, OneOrMany<Label>>,
}

impl ScalingSpec {
    /// Axes of whose labels each has a curve.
    pub fn by(&self) -> impl Iterator<Item = &String> {
        self.by.iter().flatten()
    }

    /// Axes along which the cells of a curve lie.
    #[must_use]
    pub fn along(&self) -> Vec<String> {
        match &self.along {
            Some(along) => along.0.clone(),
            None => self.against.iter().filter(|amount| !COUNTS.contains(&amount.as_str())).cloned().collect(),
        }
    }

    /// The table of its cells: axes of `by`, then those along which cells lie.
    #[must_use]
    pub fn table(&self) -> TableSpec {
        let counts = self.against.iter().filter(|amount| COUNTS.contains(&amount.as_str()));
        TableSpec {
            name: format!("{FILE_PREFIX}{}", self.name),
            caption: self.caption.clone(),
            rows: OneOrMany(self.by().cloned().chain(self.along()).collect()),
            columns: None,
            filter: self.filter.clone(),
            values: OneOrMany(std::iter::once(&self.of).chain(counts).cloned().collect()),
        }
    }
}
