//! What a table is asked to show.
//!
//! Owns [`TableSpec`], which `spec` deserialises. Invariant: a statement as written; whether its axes and metrics exist is
//! asked in [`super::validate`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Label, OneOrMany};

/// One table of an experiment: which axes it is laid out by and which metrics it shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// File name without its ending: `tables/<name>.csv`.
    pub name: String,
    /// One line above the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Key path of the axis that runs down the table, or several of them.
    pub rows: OneOrMany<String>,
    /// Key path of the axis that runs across the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    /// Only points with these labels: key path of an axis to its label or labels.
    #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub filter: BTreeMap<String, OneOrMany<Label>>,
    /// Metrics, such as `zeroshot/scenes.acc1`.
    pub values: OneOrMany<String>,
}
