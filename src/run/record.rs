//! What a run left behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RunConfig;

/// What a run costs as the paper counts it, among a record's metrics where that is another figure than [`RunRecord::gmacs`]: SLIP.
pub const GMACS_AS_STATED: &str = "gmacs_as_stated";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Trained to its last step and evaluated.
    Finished,
    /// The loss or a gradient became NaN or infinite: data, not an error.
    Diverged,
    /// An error; `reason` says which.
    Failed,
    /// Stopped before its end; a rerun goes on from the checkpoint.
    Interrupted,
}

impl RunStatus {
    /// Name as written in `runs.csv`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Diverged => "diverged",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One run's outcome: one row of `runs.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Short content digest of the config (the same in every experiment that holds this run).
    pub run_id: String,
    /// The resolved config.
    pub config: RunConfig,
    /// How it ended.
    pub status: RunStatus,
    /// Why, where it did not finish.
    pub reason: Option<String>,
    /// Distinct samples in the subset it was trained on (after size and quality), as achieved.
    pub subset_samples: u64,
    /// Steps done.
    pub steps: u64,
    /// Pairs seen, repeats counted.
    pub samples_seen: u64,
    /// Forward multiply-accumulates of both encoders times samples seen, in units of 1e9.
    pub gmacs: f64,
    /// Metric name (`zeroshot/scenes.acc1`) to value, percent where the metric is a rate.
    pub metrics: BTreeMap<String, f64>,
    /// The loss curve.
    pub curve: Vec<CurvePoint>,
}

/// One logged training step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// Steps done, 1-based.
    pub step: u64,
    /// Pairs seen after this step.
    pub samples_seen: u64,
    /// Loss of this step's batch, nats: the sum of its terms, each times its weight.
    pub loss: f64,
    /// The terms by name, without their weights; empty where there is one alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
    /// Learning rate of this step.
    pub lr: f64,
    /// Logit scale (the multiplier) before the update.
    pub logit_scale: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
}
