//! Whole recordings: a training step, the encoders alone, the shadow of the parameters.

use std::ops::Range;

use super::calls::{Part, of_tower};
use super::inputs::{Batch, Pool};
use super::loss::read_slots;
use super::shape::{Images, Masking, StepShape};
use super::{Draft, Recording, Session, Training};
use crate::run::OptimizerConfig;
use crate::trainer::backend::cuda::layout::PaddedLayout;
use crate::trainer::backend::parts;
use crate::trainer::ops::flat::{FlatView, StepBuffers};
use crate::trainer::ops::launch::Real;
use crate::trainer::ops::recorder::{Array, Elem, Life, Output, Value};
use crate::trainer::ops::{adafactor, adamw, elementwise};
use crate::trainer::program::{Program, Slot, SlotIdx, SlotKind, Tower};

/// What an optimiser needs beside the session's buffers.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// Which, with its constants.
    pub optimizer: OptimizerConfig,
    /// Views of the flat buffers.
    pub views: &'a [FlatView],
    /// Limit of the global norm.
    pub grad_clip_norm: Option<f64>,
}

/// Elements of a residual stream up to which towers run side by side: about ten for each thread that an H100 or H200 has. Below
/// it a kernel alone leaves most of the device idle (not measured); beyond it, nothing is left to be filled, and memory counts.
const SIDE_BY_SIDE: usize = 4 << 20;

/// Whether the towers of a step run side by side.
#[must_use]
pub fn runs_side_by_side(program: &Program, samples: usize, chunks: usize) -> bool {
    let streams = program.slots.iter().filter(|slot| slot.kind == SlotKind::Activation);
    let widest = streams.map(Slot::len_per_sample).max().unwrap_or_default();
    samples.div_ceil(chunks.max(1)) * widest <= SIDE_BY_SIDE
}

/// Records a training step.
#[must_use]
pub fn training_step(
    program: &Program,
    layout: &PaddedLayout,
    session: &Session,
    real: Real,
    shape: &StepShape,
    pool: Option<Pool>,
    update: &Update,
) -> (Recording, Option<Batch>) {
    let mut draft = Draft::new(program, layout, session, real);
    let batch = shape.has_gradient.then(|| draft.gradient(shape, pool));
    if shape.has_update {
        draft.update(update);
    }
    (draft.finish(), batch)
}

/// Records outputs of `samples` samples: what they depend on, and no more.
#[must_use]
pub fn encode(
    program: &Program,
    layout: &PaddedLayout,
    session: &Session,
    real: Real,
    slots: &[SlotIdx],
    samples: usize,
) -> Encode {
    let mut draft = Draft::new(program, layout, session, real);
    let shape = StepShape {
        samples,
        chunks: 1,
        images: Images::Written,
        masking: Masking::None,
        has_gradient: false,
        has_update: false,
        side_by_side: false,
    };
    let calls = program.leading_to(slots);
    let batch = draft.batch(&shape, &calls);
    let kept: Vec<Array> = slots.iter().map(|slot| draft.kept_place(samples, *slot)).collect();
    let inputs = draft.ready(&shape, &batch, None);
    let mut part = Part::new(program, &(0..samples), &inputs, Vec::new());
    draft.forward(&mut part, &calls);
    for (slot, place) in slots.iter().zip(&kept) {
        draft.r.copy(part.value(*slot), *place);
    }
    Encode { recording: draft.finish(), batch, outputs: kept }
}

/// Outputs of a fixed number of samples.
#[derive(Debug, Clone)]
pub struct Encode {
    /// What runs.
    pub recording: Recording,
    /// What is written before.
    pub batch: Batch,
    /// f32, one a slot that was asked for, read after.
    pub outputs: Vec<Array>,
}

/// Records the copy of all parameters into the compute type; `None` where that is f32.
#[must_use]
pub fn refresh(program: &Program, layout: &PaddedLayout, session: &Session, real: Real) -> Option<Recording> {
    let mut draft = Draft::new(program, layout, session, real);
    if real == Real::F32 {
        return None;
    }
    draft.r.push([elementwise::cuda::cast(layout.len(), session.params, session.shadow)]);
    Some(draft.finish())
}

impl Draft<'_> {
    /// Where a slot that is read from outside is kept, f32.
    fn kept_place(&mut self, samples: usize, slot: SlotIdx) -> Array {
        let Slot { name, rows, channels, .. } = &self.program.slots[slot];
        let (rows, channels) = (samples * rows, *channels);
        let view = self.r.buffers.add(name, 4 * rows * channels, Life::Kept);
        Array { view, elem: Elem::F32, rows, channels }
    }

    /// Where a slot goes that is read from outside: in f32, and in the compute type in a place of its own.
    fn place(&mut self, samples: usize, slot: SlotIdx, suffix: &str) -> Output {
        let Slot { name, rows, channels, .. } = &self.program.slots[slot];
        let name = format!("{name}{suffix}");
        Output { floats: self.r.floats(&name, samples * rows, *channels), reals: self.r.reals(&name, samples * rows, *channels) }
    }

    /// Forward, loss and backward; returns what the host writes.
    fn gradient(&mut self, shape: &StepShape, pool: Option<Pool>) -> Batch {
        let program = self.program;
        let slots = read_slots(program);
        let calls = program.leading_to(&slots);
        let towers = [Tower::Image, Tower::Text].map(|tower| of_tower(program, &calls, tower));
        let batch = self.batch(shape, &calls);
        let branches = if shape.side_by_side { 2 } else { 1 };
        self.r.begin(branches);
        let inputs = self.ready(shape, &batch, pool);
        let ranges = parts(shape.samples, shape.chunks);
        let plans = |chunk: usize| batch.plans.iter().map(|plan| (plan.call, plan.parts[chunk])).collect();
        let new_part = |chunk: usize| Part::new(program, &ranges[chunk], &inputs, plans(chunk));
        let whole = slots.map(|slot| self.place(shape.samples, slot, ""));
        let mut forward = None;
        for (chunk, range) in ranges.iter().enumerate() {
            let mut part = new_part(chunk);
            part.write_to(self.rows_of(range, slots, whole));
            self.towers(&mut part, &towers);
            forward = Some(part);
        }
        self.r.begin(1);
        let grads = self.loss(shape.samples, whole);
        for (chunk, range) in ranges.iter().enumerate() {
            if ranges.len() > 1 {
                // Exact accumulation: the whole batch's loss is known; each part runs again, to features that nobody reads.
                let mut part = new_part(chunk);
                part.write_to(slots.map(|slot| (slot, self.place(range.len(), slot, " again"))).to_vec());
                self.r.begin(branches);
                self.towers(&mut part, &towers);
                forward = Some(part);
            }
            let mut part = forward.take().expect("the towers have run");
            for (slot, grad) in slots.into_iter().zip(grads) {
                part.seed(slot, Value::floats(grad.in_either().part(self.rows(range, slot))));
            }
            match shape.side_by_side {
                true => self.backward_side_by_side(&mut part, &towers),
                false => self.backward_in_turn(&mut part, &towers),
            }
        }
        self.r.begin(1);
        batch
    }

    /// The rows of a slot that some samples have.
    fn rows(&self, samples: &Range<usize>, slot: SlotIdx) -> Range<usize> {
        let rows = self.program.slots[slot].rows;
        samples.start * rows..samples.end * rows
    }

    /// Where the slots that the loss reads go for some samples.
    fn rows_of(&self, samples: &Range<usize>, slots: [SlotIdx; 2], whole: [Output; 2]) -> Vec<(SlotIdx, Output)> {
        slots.into_iter().zip(whole).map(|(slot, place)| (slot, place.part(self.rows(samples, slot)))).collect()
    }

    /// A part forward, each tower on its branch.
    fn towers(&mut self, part: &mut Part, towers: &[Vec<usize>; 2]) {
        for (branch, calls) in towers.iter().enumerate() {
            self.r.on(branch);
            self.forward(part, calls);
        }
    }

    /// Global norm, clipping, the optimiser, the clamp of the logit scale.
    #[expect(clippy::cast_possible_truncation, reason = "constants are used in f32")]
    fn update(&mut self, update: &Update) {
        let Training { grads, first, second, table, controls, report, .. } = *self.training();
        let len = self.layout.len();
        let scratch = self.r.scratch("norm scratch", elementwise::cuda::global_norm_scratch_bytes(len));
        let clip = update.grad_clip_norm.map(|limit| limit as f32);
        let nodes = elementwise::cuda::global_norm(len, grads, clip, controls, report, scratch);
        self.r.push(nodes);
        let params = self.session.params;
        let shadow = (self.r.real() != Real::F32).then_some(self.session.shadow);
        let buffers = StepBuffers { params, grads, first, second, shadow, table, controls, report };
        match update.optimizer {
            OptimizerConfig::Adamw { beta1, beta2, eps } => {
                let constants = adamw::AdamW::new(beta1, beta2, eps);
                self.r.push(adamw::cuda::update(update.views, &constants, &buffers));
            }
            OptimizerConfig::Adafactor { beta1, beta2_cap } => {
                let constants = adafactor::Adafactor::new(beta1, beta2_cap);
                let scratch = self.r.scratch("adafactor scratch", adafactor::cuda::scratch_bytes(update.views));
                self.r.push(adafactor::cuda::update(update.views, &constants, &buffers, scratch));
            }
        }
        let max_log = self.program.logit_scale_max.ln() as f32;
        let scale = self.r.param(self.program.log_logit_scale);
        self.r.push([elementwise::cuda::clamp_logit_scale(scale, max_log, report)]);
    }
}
