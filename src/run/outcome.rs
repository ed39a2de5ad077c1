//! What the items of evaluation sets came to, run by run.
//!
//! Owns [`Outcomes`]. Input: hits that evaluations counted. Invariant: `100 * sum of hits / of`, averaged over a metric's sets,
//! is the metric's value; items of two runs stand in one order where their sets have one name. Must not know: how anything was
//! ranked, what is compared.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Hits of every item of one evaluation set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetOutcomes {
    /// Name of the items: the same for the same items in the same order, whoever measured them.
    pub set: String,
    /// Hits of each item: 0 or 1 for an image that is classified once, up to its number of captions or of repetitions else.
    pub hits: Vec<u8>,
    /// Hits that there could be over all items together.
    pub of: u64,
}

impl SetOutcomes {
    /// The share of hits, percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        let hits: u64 = self.hits.iter().map(|hits| u64::from(*hits)).sum();
        self.scale() * to_float(hits) / to_float(self.hits.len() as u64)
    }

    /// What one hit adds to the value of its item, percent: the mean of the items' values is the share of hits.
    #[must_use]
    pub fn scale(&self) -> f64 {
        100.0 * to_float(self.hits.len() as u64) / to_float(self.of)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of items stay far below 2^53")]
fn to_float(count: u64) -> f64 {
    count as f64
}

/// Outcomes by run id and metric; a metric that is the mean over several sets has several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcomes(pub BTreeMap<String, BTreeMap<String, Arc<[SetOutcomes]>>>);

impl Outcomes {
    /// The sets behind a metric of a run, where they are known.
    #[must_use]
    pub fn of(&self, run_id: &str, metric: &str) -> Option<&Arc<[SetOutcomes]>> {
        self.0.get(run_id)?.get(metric)
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
