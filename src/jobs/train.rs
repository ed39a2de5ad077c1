//! Trains one run: packed pool, subset and tokenizer in; model and loss curve out.

use std::sync::Arc;
use std::time::Instant;

use super::{files, write};
use crate::data::{Augmenter, BatchSource, Pack, Tokenizer, read_subset};
use crate::executor::{Control, JobContext, JobError, JobOutput, TrainSummary};
use crate::plan::{Key, TrainSpec};
use crate::trainer::checkpoint::save_model;
use crate::trainer::cost::gmacs_of_steps;
use crate::trainer::model::build;
use crate::trainer::step::{Command, Ending, TrainOptions, TrainSetup, train};

pub(super) fn run(spec: &TrainSpec, key: &Key, checkpoint_every: u64, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let pool = Pack::open(&ctx.input(&spec.pool))?;
    let subset = match &spec.subset {
        Some(subset) => read_subset(&ctx.input(subset).join(files::SUBSET), pool.len())?,
        None => (0..u32::try_from(pool.len()).map_err(|_| JobError::failed("a pool holds at most 2^32 samples"))?).collect(),
    };
    let subset_samples = subset.len() as u64;
    let tokenizer = Tokenizer::load(&ctx.input(&spec.tokenizer))?;
    let captions: Vec<&str> = (0..pool.len()).map(|sample| pool.caption(sample)).collect();
    let captions = tokenizer.encode_all(&captions, spec.model.text_encoder.context_length);
    let augmenter = Augmenter::new(spec.train.strategy.augmentation, spec.model.image_size)?;
    let batches = BatchSource::new(Arc::new(pool), Arc::new(captions), subset, augmenter, spec.seed)?;
    let options = TrainOptions { run: key.to_string(), threads: ctx.threads(), checkpoints: Some(ctx.keep()?), checkpoint_every };
    let (device, precision) = (spec.device, spec.precision);
    let setup = TrainSetup { model: &spec.model, train: &spec.train, seed: spec.seed, device, precision };
    let mut rate = Rate::default();
    let trained = train(&setup, &batches, &options, &mut |done| {
        ctx.step(done.step, spec.train.steps, done.loss, rate.after(done.batch));
        match ctx.control() {
            Control::Continue => Command::Continue,
            Control::Stop => Command::Stop,
            Control::Abort => Command::Abandon,
        }
    })?;
    let samples_seen = trained.step * spec.train.effective_batch();
    let gmacs = gmacs_of_steps(&spec.model, &spec.train, trained.step);
    let summary = TrainSummary { subset_samples, steps: trained.step, samples_seen, gmacs };
    let curve = serde_json::to_vec(&trained.curve).expect("curve points are plain numbers");
    match trained.ending {
        Ending::Stopped => Err(JobError::Interrupted),
        Ending::Diverged { what } => {
            write(&ctx.out().join(files::CURVE), &curve)?;
            Ok(JobOutput::diverged(what, &summary))
        }
        Ending::Finished => {
            write(&ctx.out().join(files::CURVE), &curve)?;
            let program = build(&spec.model, 0.0);
            save_model(&ctx.out().join(files::MODEL), &program, &trained.parameters)?;
            Ok(JobOutput::finished(&summary))
        }
    }
}

/// Pairs a second over the recent past; for people only, in no result.
#[derive(Default)]
struct Rate {
    since: Option<Instant>,
    pairs: u64,
    last: f64,
}

impl Rate {
    /// Seconds that a rate is measured over.
    const WINDOW_S: f64 = 2.0;

    #[expect(clippy::cast_precision_loss, reason = "a display value")]
    fn after(&mut self, pairs: u64) -> f64 {
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return 0.0;
        };
        self.pairs += pairs;
        let elapsed = since.elapsed().as_secs_f64();
        let rate = self.pairs as f64 / elapsed.max(1e-9);
        if elapsed > Self::WINDOW_S || self.last == 0.0 {
            self.last = rate;
        }
        if elapsed > Self::WINDOW_S {
            (self.since, self.pairs) = (Some(Instant::now()), 0);
        }
        self.last
    }
}
