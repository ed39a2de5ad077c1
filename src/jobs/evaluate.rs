//! Measures one trained model on one evaluation: metrics in the summary, no files.

use std::collections::BTreeMap;

use super::{files, train_spec};
use crate::data::{Pack, Tokenizer};
use crate::executor::{EvaluateSummary, JobContext, JobError, JobOutput};
use crate::plan::EvaluateSpec;
use crate::store::JobStatus;
use crate::trainer::backend::Placement;
use crate::trainer::checkpoint::load_model;
use crate::trainer::eval::{Encoder, measure};
use crate::trainer::model::build;

pub(super) fn run(spec: &EvaluateSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    if ctx.input_record(&spec.train)?.status == JobStatus::Diverged {
        // A diverged training left no model: its row says so, and it has no metrics.
        return Ok(JobOutput::finished(&EvaluateSummary { metrics: BTreeMap::new() }));
    }
    let train = train_spec(ctx, &spec.train)?;
    let weights = load_model(&ctx.checked_input(&spec.train)?.join(files::MODEL), &build(&train.model, 0.0))?;
    let tokenizer = Tokenizer::load(&ctx.checked_input(&spec.tokenizer)?)?;
    let placement = Placement { device: spec.device, precision: spec.precision, threads: ctx.threads() };
    let mut encoder = Encoder::new(&train.model, weights, placement)?;
    let mut by_set = Vec::with_capacity(spec.sets.len());
    for (done, set) in spec.sets.iter().enumerate() {
        let pack = Pack::open(&ctx.checked_input(&set.set)?)?;
        by_set.push((set.name.as_str(), measure(spec.task, &mut encoder, &tokenizer, &pack)?));
        ctx.progress(done as u64 + 1, spec.sets.len() as u64);
    }
    let prefix = format!("{}/{}", spec.task.name(), spec.name);
    Ok(JobOutput::finished(&EvaluateSummary { metrics: named(&prefix, &by_set) }))
}

/// Full names: `<prefix>.<metric>` for one set or the mean over several, `<prefix>/<set>.<metric>` for each of several.
fn named(prefix: &str, by_set: &[(&str, BTreeMap<String, f64>)]) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    if let [(_, only)] = by_set {
        metrics.extend(only.iter().map(|(metric, value)| (format!("{prefix}.{metric}"), *value)));
        return metrics;
    }
    for (set, values) in by_set {
        metrics.extend(values.iter().map(|(metric, value)| (format!("{prefix}/{set}.{metric}"), *value)));
    }
    // Only a metric that every set has is averaged, so a mean always names the same sets.
    let common = by_set.first().map(|(_, values)| values.keys()).into_iter().flatten();
    for metric in common.filter(|metric| by_set.iter().all(|(_, values)| values.contains_key(*metric))) {
        #[expect(clippy::cast_precision_loss, reason = "a count of sets")]
        let mean = by_set.iter().map(|(_, values)| values[metric]).sum::<f64>() / by_set.len() as f64;
        metrics.insert(format!("{prefix}.{metric}"), mean);
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(values: &[(&str, f64)]) -> BTreeMap<String, f64> {
        values.iter().map(|(name, value)| ((*name).to_string(), *value)).collect()
    }

    #[test]
    fn several_sets_are_named_each_and_averaged_over_what_all_have() {
        let found = named("zeroshot/x", &[("a", metrics(&[("acc1", 10.0), ("acc5", 50.0)])), ("b", metrics(&[("acc1", 30.0)]))]);
        let expected =
            [("zeroshot/x.acc1", 20.0), ("zeroshot/x/a.acc1", 10.0), ("zeroshot/x/a.acc5", 50.0), ("zeroshot/x/b.acc1", 30.0)];
        assert_eq!(found, metrics(&expected));
        assert_eq!(named("zeroshot/x", &[("a", metrics(&[("acc1", 10.0)]))]), metrics(&[("zeroshot/x.acc1", 10.0)]));
    }
}
