//! Measures one trained model on one evaluation: metrics in the summary, the outcome of each item in files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::features::{FeatureCache, FeaturesOf};
use super::{files, in_pool, outcomes, train_spec, write};
use crate::data::{Pack, Tokenizer};
use crate::executor::{EvaluateSummary, JobContext, JobError, JobOutput};
use crate::plan::{EvaluateSpec, Key};
use crate::run::EvalTask;
use crate::store::JobStatus;
use crate::trainer::backend::Placement;
use crate::trainer::checkpoint::load_model;
use crate::trainer::eval::{Encoder, Fewshot, ImageFeatures, LabelledSet, Measured, Probe, measure_retrieval, measure_zeroshot};
use crate::trainer::model::build;

pub(super) fn run(spec: &EvaluateSpec, cache: &FeatureCache, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    if ctx.input_record(&spec.train)?.status == JobStatus::Diverged {
        // A diverged training left no model: its row says so, and it has no metrics.
        return Ok(JobOutput::finished(&EvaluateSummary { metrics: BTreeMap::new() }));
    }
    let mut subject = Subject { spec, cache, ctx, encoder: None };
    let classifier = Classifier::of(&mut subject)?;
    let mut by_set = Vec::with_capacity(spec.sets.len());
    let mut by_item = Vec::with_capacity(spec.sets.len());
    for (done, set) in spec.sets.iter().enumerate() {
        let (pack, features) = subject.set(&set.set)?;
        let measured = classifier.measure(&mut subject, &LabelledSet { pack: &pack, features: &features })?;
        by_set.push((set.name.as_str(), measured.metrics));
        by_item.push((set.clone(), measured.outcomes));
        ctx.progress(done as u64 + 1, spec.sets.len() as u64);
    }
    outcomes::store(ctx.out(), &by_item)?;
    let prefix = format!("{}/{}", spec.task.name(), spec.name);
    Ok(JobOutput::finished(&EvaluateSummary { metrics: named(&prefix, &by_set) }))
}

/// The model that is measured; it is loaded where features or texts are asked for that nobody has computed.
struct Subject<'a> {
    spec: &'a EvaluateSpec,
    cache: &'a FeatureCache,
    ctx: &'a JobContext<'a>,
    encoder: Option<Encoder>,
}

impl Subject<'_> {
    fn encoder(&mut self) -> Result<&mut Encoder, JobError> {
        if self.encoder.is_none() {
            let EvaluateSpec { train: train_key, at, device, precision, .. } = self.spec;
            let train = train_spec(self.ctx, train_key)?;
            let model = self.ctx.checked_input(train_key)?.join(at.map_or_else(|| files::MODEL.to_owned(), files::milestone));
            let parameters = load_model(&model, &build(&train.model, 0.0))?;
            let placement = Placement { device: *device, precision: *precision, threads: self.ctx.threads() };
            self.encoder = Some(Encoder::new(&train.model, parameters, placement)?);
        }
        Ok(self.encoder.as_mut().expect("it was made above"))
    }

    /// A packed set and its features.
    fn set(&mut self, set: &Key) -> Result<(Pack, Arc<ImageFeatures>), JobError> {
        let pack = Pack::open(&self.ctx.checked_input(set)?)?;
        let EvaluateSpec { train, at, device, precision, .. } = *self.spec;
        let of = FeaturesOf { train, at, set: *set, device, precision };
        let features = self.cache.of(of, || Ok(self.encoder()?.image_features(&pack)?))?;
        Ok((pack, features))
    }
}

/// What classifies or ranks.
enum Classifier {
    Zeroshot(Tokenizer),
    Retrieval(Tokenizer),
    Fewshot(Fewshot),
    Probe(Box<Probe>),
}

impl Classifier {
    /// That of an evaluation, fitted where it is.
    fn of(subject: &mut Subject<'_>) -> Result<Self, JobError> {
        let Subject { spec, ctx, .. } = *subject;
        let tokenizer = || -> Result<Tokenizer, JobError> { Ok(Tokenizer::load(&ctx.checked_input(&spec.tokenizer)?)?) };
        let mut train = || {
            let key = spec.fitted_on.ok_or_else(|| JobError::failed("nothing is stated that a classifier could be fitted on"))?;
            subject.set(&key)
        };
        match spec.task {
            EvalTask::Zeroshot => Ok(Self::Zeroshot(tokenizer()?)),
            EvalTask::Retrieval => Ok(Self::Retrieval(tokenizer()?)),
            EvalTask::Fewshot => {
                let (pack, features) = train()?;
                let train = LabelledSet { pack: &pack, features: &features };
                Ok(Self::Fewshot(in_pool(ctx, || Fewshot::fit(&train, &spec.shots))??))
            }
            EvalTask::LinearProbe => {
                let (pack, features) = train()?;
                let train = LabelledSet { pack: &pack, features: &features };
                let probe = in_pool(ctx, || Probe::fit(&train))??;
                let fit = serde_json::to_vec(probe.details()).expect("numbers serialise");
                write(&ctx.out().join(files::PROBE), &fit)?;
                Ok(Self::Probe(Box::new(probe)))
            }
        }
    }

    fn measure(&self, subject: &mut Subject<'_>, set: &LabelledSet<'_>) -> Result<Measured, JobError> {
        let ctx = subject.ctx;
        match self {
            Self::Zeroshot(tokenizer) => Ok(measure_zeroshot(subject.encoder()?, tokenizer, set)?),
            Self::Retrieval(tokenizer) => Ok(measure_retrieval(subject.encoder()?, tokenizer, set.pack, set.features)?),
            Self::Fewshot(fewshot) => in_pool(ctx, || fewshot.measure(set)?.checked())?.map_err(Into::into),
            Self::Probe(probe) => in_pool(ctx, || probe.measure(set)?.checked())?.map_err(Into::into),
        }
    }
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
