//! Trains one run: packed pool, subset and tokenizer in; model and loss curve out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::{files, write};
use crate::data::{BatchSource, Pack, Tokenizer, Views, read_subset};
use crate::executor::{Control, JobContext, JobError, JobOutput, Spent, TrainSummary};
use crate::plan::{Key, TrainSpec};
use crate::store::write_atomic;
use crate::trainer::checkpoint::{Weights, save_model};
use crate::trainer::cost::gmacs_of_steps;
use crate::trainer::model::{Recipe, build_with};
use crate::trainer::step::{Command, Ending, StepDone, TrainOptions, TrainSetup, Watcher, train};

pub(super) fn run(spec: &TrainSpec, key: &Key, checkpoint_every: u64, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let pool = Pack::open(&ctx.checked_input(&spec.pool)?)?;
    let subset = match &spec.subset {
        Some(subset) => read_subset(&ctx.checked_input(subset)?.join(files::SUBSET), pool.len())?,
        None => (0..u32::try_from(pool.len()).map_err(|_| JobError::failed("a pool holds at most 2^32 samples"))?).collect(),
    };
    let subset_samples = subset.len() as u64;
    let tokenizer = Tokenizer::load(&ctx.checked_input(&spec.tokenizer)?)?;
    let captions: Vec<&str> = (0..pool.len()).map(|sample| pool.caption(sample)).collect();
    let captions = tokenizer.encode_all(&captions, spec.model.text_encoder.context_length);
    let views = Views::of(&spec.train.strategy, spec.model.image_size, spec.seed)?;
    let batches = BatchSource::with_views(Arc::new(pool), Arc::new(captions), subset, views, spec.seed)?;
    let kept = ctx.keep()?;
    let ledger = Ledger::open(&kept);
    let options = TrainOptions { run: key.to_string(), threads: ctx.threads(), checkpoints: Some(kept.clone()), checkpoint_every };
    let (device, precision) = (spec.device, spec.precision);
    let setup = TrainSetup { model: &spec.model, train: &spec.train, seed: spec.seed, init: spec.init, device, precision };
    let mut observer = Observer { ctx, steps: spec.train.steps, checkpoint_every, rate: Rate::default(), ledger };
    let trained = train(&setup, &batches, &options, &mut observer)?;
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
            let program = build_with(&spec.model, &Recipe::stored(&spec.train));
            let weights = Weights { parameters: trained.parameters, state: trained.state };
            save_model(&ctx.out().join(files::MODEL), &program, &weights.of_first(&program), trained.step)?;
            for step in spec.train.kept_steps() {
                let weights = Weights::load_kept(&kept, &options.run, step)?;
                save_model(&ctx.out().join(files::milestone(step)), &program, &weights.of_first(&program), step)?;
            }
            Ok(JobOutput::finished(&summary))
        }
    }
}

/// What it cost to come to each checkpoint, kept beside them, so that the timings of a run that was stopped are those of all
/// its steps. In no result.
struct Ledger {
    path: PathBuf,
    /// By steps done.
    known: BTreeMap<u64, Spent>,
    /// Pairs of this attempt.
    samples: u64,
    is_begun: bool,
}

impl Ledger {
    /// Entries kept: there are two checkpoints at most, and one that a kill may have cut off.
    const KEPT: usize = 4;

    /// A ledger that cannot be read is an empty one: the timings are then those of the last attempt alone.
    fn open(folder: &Path) -> Self {
        let path = folder.join("spent.json");
        let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { path, known, samples: 0, is_begun: false }
    }

    /// A step was done; the first one of an attempt tells which checkpoint it went on from.
    fn step(&mut self, step: u64, batch: u64, ctx: &JobContext<'_>) {
        if !self.is_begun {
            self.is_begun = true;
            if let Some(earlier) = self.known.get(&(step - 1)) {
                ctx.goes_on_from(*earlier);
            }
        }
        self.samples += batch;
        ctx.spent(self.samples);
    }

    /// A checkpoint after this step is about to be written.
    fn note(&mut self, step: u64, ctx: &JobContext<'_>) {
        self.known.insert(step, ctx.spent(self.samples));
        while self.known.len() > Self::KEPT {
            self.known.pop_first();
        }
        let text = serde_json::to_vec(&self.known).expect("numbers by numbers");
        if let Err(error) = write_atomic(&self.path, &text) {
            // The checkpoint itself is what matters, and says so if the disk is full.
            ctx.warn(format!("the time that this run took so far is not kept: {error}"));
        }
    }
}

/// Tells the job's context what the training does, and the training what the executor wants.
struct Observer<'a, 'c> {
    ctx: &'a JobContext<'c>,
    steps: u64,
    checkpoint_every: u64,
    rate: Rate,
    ledger: Ledger,
}

impl Watcher for Observer<'_, '_> {
    fn step(&mut self, done: StepDone) -> Command {
        self.ctx.step(done.step, self.steps, done.loss, self.rate.after(done.batch));
        self.ledger.step(done.step, done.batch, self.ctx);
        let command = match self.ctx.control() {
            Control::Continue => Command::Continue,
            Control::Stop => Command::Stop,
            Control::Abort => Command::Abandon,
        };
        if command == Command::Stop || self.checkpoint_every > 0 && done.step.is_multiple_of(self.checkpoint_every) {
            self.ledger.note(done.step, self.ctx);
        }
        command
    }

    fn warn(&mut self, message: String) {
        self.ctx.warn(message);
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
