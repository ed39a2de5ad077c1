//! A program prepared for a device: parameters and optimiser state there, recordings made on first use and replayed.
//!
//! Generic over [`Device`], so that the whole of it runs in tests without a GPU. A step is: the host writes the batch and eight
//! numbers, the device replays one recording. Nothing is read back but on [`Step::found`]. A step whose loss or gradient norm is
//! not finite changes no parameter, nor does any step after it, and the device keeps the number of the first such step: asked any
//! number of steps later, `found` names it, and the parameters are those before it.

use std::collections::HashMap;
use std::sync::Arc;

use super::buffers::Arena;
use super::device::{Address, Device};
use super::feed::{self, Feed};
use super::layout::PaddedLayout;
use super::optimizer::CudaOptimizer;
use super::record::{self, Encode, Images, Masking, Pool, Recording, Session, StepShape, Training};
use crate::run::TrainConfig;
use crate::trainer::TrainerError;
use crate::trainer::backend::{LossReport, Step, StepAt, StepBatch, StepFound, Unfit, UpdateReport};
use crate::trainer::ops::flat::{control, report};
use crate::trainer::ops::launch::{Real, View};
use crate::trainer::ops::recorder::{Array, Buffers, Life};
use crate::trainer::program::{Input, InputKind, Output, Program, SlotIdx, Tower};

/// Bytes of the controls with the number of the step behind them: both are written at once.
const CONTROL_BYTES: usize = 4 * control::LEN + 8;

/// A program prepared for a device.
pub struct CudaStep<D: Device> {
    device: D,
    program: Arc<Program>,
    layout: PaddedLayout,
    real: Real,
    session: Session,
    /// Address of every session buffer.
    kept: Vec<Address>,
    optimizer: Option<CudaOptimizer>,
    mask_key: Option<[u32; 2]>,
    towers: Towers,
    pool: Option<Pool>,
    steps: HashMap<StepShape, Prepared<D::Graph>>,
    encoders: Encoders<D::Graph>,
    refresh: Option<Prepared<D::Graph>>,
}

/// How the towers of a step run: the same numbers in every way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towers {
    /// Side by side where the model is small.
    BySize,
    /// One after the other.
    InTurn,
    /// Side by side.
    SideBySide,
}

impl Towers {
    /// `SCALEDOWN_CUDA_TOWERS`, by size where it is not set.
    fn from_environment() -> Result<Self, TrainerError> {
        let choices = [("by-size", Self::BySize), ("in-turn", Self::InTurn), ("side-by-side", Self::SideBySide)];
        super::environment_choice("SCALEDOWN_CUDA_TOWERS", choices)
    }

    fn are_side_by_side(self, program: &Program, samples: usize, chunks: usize) -> bool {
        match self {
            Self::BySize => record::runs_side_by_side(program, samples, chunks),
            Self::InTurn => false,
            Self::SideBySide => true,
        }
    }
}

/// Encoders by the slots that they are asked for and samples, each with the places of what it gives.
type Encoders<G> = HashMap<(Vec<SlotIdx>, usize), (Prepared<G>, Vec<Array>)>;

/// A recording on the device, with its inputs.
struct Prepared<G> {
    graph: G,
    feed: Option<Feed>,
    addresses: Vec<Address>,
}

/// The kept buffers of a program in a compute type.
pub(super) fn session(layout: &PaddedLayout, real: Real, optimizer: Option<&CudaOptimizer>) -> Session {
    let mut buffers = Buffers::default();
    let mut add = |name: &str, bytes: usize| buffers.add(name, bytes, Life::Kept);
    let flat = 4 * layout.len();
    let params = add("parameters", flat);
    let shadow = if real == Real::F32 { params } else { add("parameters in the compute type", real.bytes() * layout.len()) };
    let training = optimizer.map(|optimizer| {
        let controls = add("controls", CONTROL_BYTES);
        Training {
            grads: add("gradients", flat),
            first: add("first moment", flat),
            second: add("second moment", 4 * optimizer.second.len()),
            table: add("optimiser table", 4 * optimizer.table().len()),
            controls,
            report: add("report", 4 * report::LEN),
            step: controls.floats(control::LEN),
        }
    });
    Session { buffers, params, shadow, training }
}

/// The recording of a training step of a program as a run makes it: batch and chunks of its configuration, images written.
///
/// # Errors
/// [`TrainerError::Unsupported`] if a call of the program cannot be recorded, [`TrainerError::TooLarge`] for a batch that is.
pub(super) fn planned_step(program: &Program, train: &TrainConfig, real: Real) -> Result<Recording, TrainerError> {
    record::check(program)?;
    let layout = PaddedLayout::new(program);
    let optimizer = CudaOptimizer::new(program, &layout, train);
    let session = session(&layout, real, Some(&optimizer));
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let shape = StepShape {
        samples: count(train.effective_batch()),
        chunks: count(train.accumulate),
        images: Images::Written,
        masking: if program.kept_patches().is_some() { Masking::Drawn([0; 2]) } else { Masking::None },
        has_gradient: true,
        has_update: true,
        side_by_side: record::runs_side_by_side(program, count(train.effective_batch()), count(train.accumulate)),
    };
    let (recording, _) = record::training_step(program, &layout, &session, real, &shape, None, &optimizer.update());
    recording.check_counts(shape.chunks)?;
    Ok(recording)
}

/// Bytes of device memory that a training step of a program plans for: kept buffers and the arena of its recording.
///
/// # Errors
/// As a recorded step: a call that cannot be recorded, a batch that is too large.
pub fn planned_bytes(program: &Program, train: &TrainConfig, real: Real) -> Result<u64, TrainerError> {
    let recording = planned_step(program, train, real)?;
    let kept: usize = recording.buffers.all().iter().filter(|buffer| buffer.life == Life::Kept).map(|buffer| buffer.bytes).sum();
    Ok((kept + recording.arena.bytes) as u64)
}

/// A lack of memory, with what a training step takes in all.
fn with_plan(error: TrainerError, program: &Program, train: Option<&TrainConfig>, real: Real) -> TrainerError {
    match (error, train) {
        (TrainerError::DeviceMemory { asked, held, available, planned: None }, Some(train)) => {
            TrainerError::DeviceMemory { asked, held, available, planned: planned_bytes(program, train, real).ok() }
        }
        (error, _) => error,
    }
}

impl<D: Device> CudaStep<D> {
    /// Prepares a program; `train` gives the optimiser, `None` is for encoding alone. `mask_key` is the Philox key that masked
    /// patches are drawn with.
    ///
    /// # Errors
    /// If a call of the program cannot be recorded, memory is short, or `parameters` has another length than the program.
    pub fn new(
        device: D,
        program: Arc<Program>,
        parameters: &[f32],
        train: Option<&TrainConfig>,
        mask_key: Option<[u32; 2]>,
    ) -> Result<Self, TrainerError> {
        let real = device.real();
        Self::with(device, program.clone(), parameters, train, mask_key).map_err(|error| with_plan(error, &program, train, real))
    }

    fn with(
        mut device: D,
        program: Arc<Program>,
        parameters: &[f32],
        train: Option<&TrainConfig>,
        mask_key: Option<[u32; 2]>,
    ) -> Result<Self, TrainerError> {
        record::check(&program)?;
        let layout = PaddedLayout::new(&program);
        let real = device.real();
        let optimizer = train.map(|train| CudaOptimizer::new(&program, &layout, train));
        let session = session(&layout, real, optimizer.as_ref());
        let kept = (session.buffers.all().iter()).map(|buffer| device.allocate(buffer.bytes)).collect::<Result<Vec<_>, _>>()?;
        let mut step = Self {
            device,
            program,
            layout,
            real,
            session,
            kept,
            optimizer,
            mask_key,
            towers: Towers::from_environment()?,
            pool: None,
            steps: HashMap::new(),
            encoders: HashMap::new(),
            refresh: None,
        };
        if let (Some(training), Some(optimizer)) = (&step.session.training, &step.optimizer) {
            let (table, words) = (step.address(training.table), optimizer.table());
            step.device.write(table, bytemuck::cast_slice(&words))?;
        }
        if let Some(recording) = record::refresh(&step.program, &step.layout, &step.session, real) {
            step.refresh = Some(step.prepare(&recording, None)?);
        }
        step.set_parameters(parameters)?;
        Ok(step)
    }

    /// Says how towers run in the steps that are recorded from now on.
    pub fn set_towers(&mut self, towers: Towers) {
        self.towers = towers;
    }

    /// The device.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    fn address(&self, view: View) -> Address {
        self.kept[view.buffer.0 as usize].at(view.offset)
    }

    fn training(&self) -> Result<Training, TrainerError> {
        self.session.training.clone().ok_or(TrainerError::NoOptimizer)
    }

    /// Allocates what a recording needs beyond the session's buffers, and makes it ready.
    fn prepare(&mut self, recording: &Recording, feed: Option<Feed>) -> Result<Prepared<D::Graph>, TrainerError> {
        let Recording { buffers, sections, arena: Arena { offsets, bytes } } = recording;
        let arena = self.device.allocate(*bytes)?;
        let mut addresses = self.kept.clone();
        for (buffer, offset) in buffers.all().iter().zip(offsets).skip(self.kept.len()) {
            let address = match (buffer.life, offset) {
                (Life::Kept, _) => self.device.allocate(buffer.bytes)?,
                (Life::Planned, Some(offset)) => arena.at(*offset),
                // Never used by a node.
                (Life::Planned, None) => arena,
            };
            addresses.push(address);
        }
        let graph = self.device.prepare(sections, &addresses)?;
        Ok(Prepared { graph, feed, addresses })
    }

    fn shape(&self, batch: &StepBatch, chunks: usize, has_gradient: bool, has_update: bool) -> StepShape {
        let (images, masking) = (feed::images(batch), feed::masking(batch, self.mask_key));
        let chunks = chunks.clamp(1, batch.samples.max(1));
        let side_by_side = self.towers.are_side_by_side(&self.program, batch.samples, chunks);
        StepShape { samples: batch.samples, chunks, images, masking, has_gradient, has_update, side_by_side }
    }

    /// Makes the recording of a shape ready, once.
    fn ready(&mut self, shape: StepShape) -> Result<(), TrainerError> {
        if self.steps.contains_key(&shape) {
            return Ok(());
        }
        let optimizer = self.optimizer.as_ref().ok_or(TrainerError::NoOptimizer)?;
        let (recording, batch) =
            record::training_step(&self.program, &self.layout, &self.session, self.real, &shape, self.pool, &optimizer.update());
        recording.check_counts(shape.chunks)?;
        let train = optimizer.train.clone();
        let feed = batch.map(|batch| Feed::new(&self.program, batch, shape.samples, shape.chunks));
        let prepared = self.prepare(&recording, feed);
        let prepared = prepared.map_err(|error| with_plan(error, &self.program, Some(&train), self.real))?;
        self.steps.insert(shape, prepared);
        Ok(())
    }

    /// Writes what the device reads, and starts the recording.
    fn start(&mut self, shape: StepShape, batch: Option<&StepBatch>, at: Option<StepAt>) -> Result<(), TrainerError> {
        if let Some(batch) = batch {
            batch.check(&self.program, &[Tower::Image, Tower::Text])?;
            feed::check_places(batch, self.pool.as_ref(), self.program.image_side())?;
        }
        self.ready(shape)?;
        let training = self.training()?;
        if let (Some(at), Some(optimizer)) = (at, &self.optimizer) {
            let (controls, step) = (optimizer.controls(at.step, at.lr), at.step.to_ne_bytes());
            let bytes = [bytemuck::cast_slice(&controls), &step[..]].concat();
            self.device.write(self.address(training.controls), &bytes)?;
        }
        let prepared = self.steps.get_mut(&shape).expect("made ready above");
        if let (Some(batch), Some(feed)) = (batch, &mut prepared.feed) {
            feed.write(&mut self.device, &prepared.addresses, &self.program, batch)?;
        }
        self.device.run(&prepared.graph)
    }

    fn read_padded(&mut self, view: View, layout: &PaddedLayout) -> Result<Vec<f32>, TrainerError> {
        let address = self.address(view);
        let padded = read_floats(&mut self.device, address, layout.len())?;
        Ok(layout.strip(&padded))
    }

    fn report(&mut self) -> Result<[f32; report::LEN], TrainerError> {
        let address = self.address(self.training()?.report);
        let report = read_floats(&mut self.device, address, report::LEN)?;
        Ok(report.try_into().expect("as many as were asked for"))
    }
}

impl<D: Device> Step for CudaStep<D> {
    fn parameters(&mut self) -> Result<Vec<f32>, TrainerError> {
        let layout = self.layout.clone();
        self.read_padded(self.session.params, &layout)
    }

    fn set_parameters(&mut self, values: &[f32]) -> Result<(), TrainerError> {
        let expected = self.layout.dense_len();
        if values.len() != expected {
            return Err(TrainerError::ParameterCount { found: values.len(), expected });
        }
        let address = self.address(self.session.params);
        self.device.write(address, bytemuck::cast_slice(&self.layout.pad(values)))?;
        match &self.refresh {
            Some(refresh) => self.device.run(&refresh.graph),
            None => Ok(()),
        }
    }

    fn gradient(&mut self, batch: &StepBatch, chunks: usize) -> Result<LossReport, TrainerError> {
        let shape = self.shape(batch, chunks, true, false);
        self.start(shape, Some(batch), None)?;
        let found = self.report()?;
        Ok(LossReport { loss: f64::from(found[report::LOSS]), logit_scale: f64::from(found[report::LOGIT_SCALE]) })
    }

    fn gradients(&mut self) -> Result<Vec<f32>, TrainerError> {
        let (grads, layout) = (self.training()?.grads, self.layout.clone());
        self.read_padded(grads, &layout)
    }

    fn update(&mut self, step: u64, lr: f64) -> Result<UpdateReport, TrainerError> {
        let shape = self.shape(&StepBatch::default(), 1, false, true);
        self.start(shape, None, Some(StepAt { step, lr, chunks: 1 }))?;
        Ok(UpdateReport { grad_norm: f64::from(self.report()?[report::GRAD_NORM]) })
    }

    fn advance(&mut self, batch: &StepBatch, at: StepAt) -> Result<(), TrainerError> {
        let shape = self.shape(batch, at.chunks, true, true);
        self.start(shape, Some(batch), Some(at))
    }

    fn found(&mut self) -> Result<StepFound, TrainerError> {
        let found = self.report()?.map(f64::from);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a step number, exact below 2^24")]
        let unfit = (found[report::UNFIT] != 0.0).then(|| Unfit {
            step: found[report::UNFIT_STEP] as u64,
            loss: found[report::UNFIT_LOSS],
            grad_norm: found[report::UNFIT_NORM],
        });
        let [loss, logit_scale, grad_norm] = [report::LOSS, report::LOGIT_SCALE, report::GRAD_NORM].map(|idx| found[idx]);
        Ok(StepFound { loss, logit_scale, grad_norm, unfit })
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn draws_masks(&self) -> bool {
        self.mask_key.is_some()
    }

    fn free_device_bytes(&self) -> Option<u64> {
        self.device.available_bytes()
    }

    fn take_warnings(&mut self) -> Vec<String> {
        self.device.take_warnings()
    }

    fn hold_pool(&mut self, pixels: &[u8], unit: usize) -> Result<bool, TrainerError> {
        if unit == 0 || !pixels.len().is_multiple_of(unit * 3) {
            let what = format!("a pool of {} bytes is no number of units of {unit} pixels", pixels.len());
            return Err(TrainerError::Input(what));
        }
        // Half of what is free is left for the recordings.
        let fits = self.device.available_bytes().is_none_or(|available| pixels.len() as u64 <= available / 2);
        if !fits || self.pool.is_some() || !self.steps.is_empty() {
            return Ok(false);
        }
        let address = self.device.allocate(pixels.len())?;
        self.device.write(address, pixels)?;
        let view = self.session.buffers.add("image pool", pixels.len(), Life::Kept);
        self.pool = Some(Pool { view, bytes: pixels.len(), unit });
        self.kept.push(address);
        Ok(true)
    }

    fn optimizer_state(&mut self) -> Result<Vec<(String, Vec<f32>)>, TrainerError> {
        let Some(optimizer) = &self.optimizer else { return Ok(Vec::new()) };
        let (second_layout, first_layout) = (optimizer.second.clone(), self.layout.clone());
        let Training { first, second, .. } = self.training()?;
        let first = self.read_padded(first, &first_layout)?;
        let second = self.read_padded(second, &second_layout)?;
        Ok(vec![("first_moment".into(), first), ("second_moment".into(), second)])
    }

    fn set_optimizer_state(&mut self, state: &[(String, Vec<f32>)]) -> Result<(), TrainerError> {
        let optimizer = self.optimizer.as_ref().ok_or(TrainerError::NoOptimizer)?;
        let layouts = [("first_moment", self.layout.clone()), ("second_moment", optimizer.second.clone())];
        let Training { first, second, .. } = self.training()?;
        for ((name, layout), view) in layouts.iter().zip([first, second]) {
            let found = state.iter().find(|(key, _)| key == name).map(|(_, values)| values);
            let values = found.filter(|values| values.len() == layout.dense_len());
            let values = values.ok_or_else(|| TrainerError::OptimizerState { buffer: (*name).into() })?;
            let address = self.address(view);
            self.device.write(address, bytemuck::cast_slice(&layout.pad(values)))?;
        }
        Ok(())
    }

    fn encode(&mut self, outputs: &[Output], batch: &StepBatch) -> Result<Vec<Vec<f32>>, TrainerError> {
        let (program, samples) = (self.program.clone(), batch.samples);
        let slot = |output: &Output| {
            program.output(*output).ok_or_else(|| TrainerError::Input(format!("this program gives no {output:?}")))
        };
        let slots = outputs.iter().map(slot).collect::<Result<Vec<_>, _>>()?;
        let mut towers: Vec<Tower> = program.leading_to(&slots).into_iter().map(|call| program.calls[call].tower).collect();
        towers.dedup();
        batch.check(&program, &towers)?;
        let is_masked = |input: &Input| towers.contains(&input.tower) && matches!(input.kind, InputKind::KeptPatches { .. });
        if program.inputs.iter().any(is_masked) {
            return Err(TrainerError::Input("features of masked images: encode with a program that masks none".into()));
        }
        let key = (slots, samples);
        if !self.encoders.contains_key(&key) {
            let Encode { recording, batch, outputs } =
                record::encode(&program, &self.layout, &self.session, self.real, &key.0, samples);
            recording.check_counts(1)?;
            let feed = Feed::new(&program, batch, samples, 1);
            let prepared = self.prepare(&recording, Some(feed))?;
            self.encoders.insert(key.clone(), (prepared, outputs));
        }
        let (prepared, places) = self.encoders.get_mut(&key).expect("made above");
        let feed = prepared.feed.as_mut().expect("an encoder has inputs");
        feed.write(&mut self.device, &prepared.addresses, &program, batch)?;
        self.device.run(&prepared.graph)?;
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            found.push(read_floats(&mut self.device, prepared.addresses[place.view.buffer.0 as usize], place.len())?);
        }
        Ok(found)
    }
}

fn read_floats<D: Device>(device: &mut D, from: Address, len: usize) -> Result<Vec<f32>, TrainerError> {
    let mut values = vec![0.0_f32; len];
    device.read(from, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::run::Pooling;
    use crate::trainer::check::steps::{ADAMW, model, train};
    use crate::trainer::model::build;
    use crate::trainer::ops::launch::Node;

    /// How often each kernel runs, and how many nodes at least run one after another.
    fn nodes(real: Real, side_by_side: bool) -> (BTreeMap<&'static str, usize>, usize) {
        let (program, config) = (build(&model(Pooling::Mean), 0.0), train(ADAMW, 0.0));
        let layout = PaddedLayout::new(&program);
        let optimizer = CudaOptimizer::new(&program, &layout, &config);
        let session = session(&layout, real, Some(&optimizer));
        let shape = StepShape {
            samples: 8,
            chunks: 1,
            images: Images::Written,
            masking: Masking::None,
            has_gradient: true,
            has_update: true,
            side_by_side,
        };
        let (recording, _) = record::training_step(&program, &layout, &session, real, &shape, None, &optimizer.update());
        let mut counts = BTreeMap::new();
        for node in recording.sections.iter().flat_map(|section| &section.branches).flatten() {
            let name = match node {
                Node::Launch(launch) => launch.kernel,
                Node::Product(_) => "a product",
                Node::Zero { .. } | Node::Copy { .. } => "a fill or copy",
            };
            *counts.entry(name).or_default() += 1;
        }
        let longest = |section: &crate::trainer::ops::launch::Section| section.branches.iter().map(Vec::len).max();
        (counts, recording.sections.iter().filter_map(longest).sum())
    }

    #[test]
    fn side_by_side_the_same_nodes_take_less_than_half_of_the_turns() {
        for real in [Real::F32, Real::Bf16] {
            let ((in_turn, turns), (beside, fewer)) = (nodes(real, false), nodes(real, true));
            assert_eq!(in_turn, beside);
            assert_eq!(turns, in_turn.values().sum::<usize>());
            // f32 keeps the gradients of parameters in line.
            let most = if real == Real::F32 { 8 } else { 5 };
            assert!(10 * fewer <= most * turns, "{real:?}: {fewer} of {turns}");
        }
    }

    #[test]
    fn small_steps_run_side_by_side_and_large_ones_in_turn() {
        let program = build(&model(Pooling::Mean), 0.0);
        assert!(record::runs_side_by_side(&program, 1000, 1));
        assert!(!record::runs_side_by_side(&program, 100_000, 1));
        assert!(record::runs_side_by_side(&program, 100_000, 100));
    }
}
