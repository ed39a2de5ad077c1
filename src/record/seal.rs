//! Digests by which it is seen that the record of a run is as it was written.
//!
//! Input: a run of records. Output: hexadecimal BLAKE3 of a canonical form: numbers as the files hold them, so that what is read back
//! has the digest of what was written. Not in it: the config, for which the key stands, and whatever else a table of the folder shows.
//! It guards against rows that were edited or files that do not belong together, not against somebody who computes it anew.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Identity, Origin, Records, number};
use crate::run::{CurvePoint, RunRecord, RunStatus};

/// What a run came to.
#[derive(Serialize)]
struct Content<'a> {
    status: RunStatus,
    reason: &'a str,
    subset_samples: u64,
    steps: u64,
    samples_seen: u64,
    gmacs: String,
    metrics: BTreeMap<&'a str, String>,
    curve: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a>(u64, u64, [String; 4], BTreeMap<&'a str, String>);

/// Name, hits of each item and hits that there could be of an evaluation set.
#[derive(Serialize)]
struct Items<'a>(&'a str, &'a [u8], u64);

/// All that a seal is of.
#[derive(Serialize)]
struct Statement<'a> {
    key: &'a str,
    origin: &'a Origin,
    content: Content<'a>,
    /// By metric.
    outcomes: BTreeMap<&'a str, Vec<Items<'a>>>,
}

/// The seal of a run among its records; `None` where it has no identity.
pub(super) fn of(records: &Records, run: &RunRecord) -> Option<String> {
    let Identity { key, adopted } = records.identities.get(&run.run_id)?;
    let own = records.provenance.origin();
    let of_run = records.outcomes.0.get(&run.run_id).into_iter().flatten();
    let outcomes =
        of_run.map(|(metric, sets)| (metric.as_str(), sets.iter().map(|set| Items(&set.set, &set.hits, set.of)).collect()));
    let origin = adopted.as_ref().unwrap_or(&own);
    Some(digest(&Statement { key, origin, content: content(run), outcomes: outcomes.collect() }))
}

/// The digest of what a run came to, alone.
pub(super) fn of_content(run: &RunRecord) -> String {
    digest(&content(run))
}

fn content(run: &RunRecord) -> Content<'_> {
    let RunRecord { run_id: _, config: _, status, reason, subset_samples, steps, samples_seen, gmacs, metrics, curve } = run;
    Content {
        status: *status,
        reason: reason.as_deref().unwrap_or_default(),
        subset_samples: *subset_samples,
        steps: *steps,
        samples_seen: *samples_seen,
        gmacs: number(*gmacs),
        metrics: finite(metrics),
        curve: curve.iter().map(step).collect(),
    }
}

fn step(point: &CurvePoint) -> Step<'_> {
    let CurvePoint { step, samples_seen, loss, terms, lr, logit_scale, grad_norm } = point;
    Step(*step, *samples_seen, [*loss, *lr, *logit_scale, *grad_norm].map(number), finite(terms))
}

/// Numbers that are not finite are not written.
fn finite(values: &BTreeMap<String, f64>) -> BTreeMap<&str, String> {
    values.iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| (name.as_str(), number(*value))).collect()
}

fn digest(statement: &impl Serialize) -> String {
    let text = serde_json::to_vec(statement).expect("plain structs with text keys always serialise");
    blake3::hash(&text).to_hex().to_string()
}
