//! Whole recordings: a training step, the encoders alone, the shadow of the parameters.

use super::super::buffers::{ALIGNMENT, Life};
use super::super::layout::PaddedLayout;
use super::part::{Features, Inputs, Pixels};
use super::tower::CallSaved;
use super::{Recorder, Recording, Session, Training};
use crate::run::OptimizerConfig;
use crate::trainer::backend::{CROP_LEN, parts};
use crate::trainer::ops::contrastive::cuda::Schedule;
use crate::trainer::ops::contrastive::{self, Contrastive, Form};
use crate::trainer::ops::flat::{FlatView, StepBuffers, report as reported};
use crate::trainer::ops::launch::{Node, Real, View};
use crate::trainer::ops::{adafactor, adamw, elementwise, embedding, patchify};
use crate::trainer::program::{Program, Slot, SlotKind, Tower};

/// Where the images of a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Images {
    /// Nowhere: texts alone are encoded.
    None,
    /// Written with every batch, augmented already.
    Written,
    /// In a pool that lies on the device; a batch is a list of indices.
    Pool,
    /// As `Pool`, cropped and flipped on the device by parameters that come with the batch.
    PoolCropped,
}

/// How patches are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Masking {
    /// None are.
    None,
    /// The kept patches come with the batch.
    Written,
    /// Drawn on the device with this Philox key.
    Drawn([u32; 2]),
}

/// What a training step is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Pairs (B).
    pub samples: usize,
    /// Parts that it is cut into for memory.
    pub chunks: usize,
    /// Where images are.
    pub images: Images,
    /// How patches are left out.
    pub masking: Masking,
    /// Whether gradients are computed.
    pub has_gradient: bool,
    /// Whether the optimiser runs.
    pub has_update: bool,
    /// Whether the towers run side by side, and gradients of parameters beside them: the same numbers, more memory.
    pub side_by_side: bool,
}

/// What a host writes before a step. All but the pixels lie in one kept buffer of the recording, to be written at once: a
/// handful of small copies would cost a small model a tenth of its step.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The buffer of the views below, pixels excepted.
    pub written: View,
    /// Its size.
    pub bytes: usize,
    /// u8 [B, S, S, 3], where images are written.
    pub pixels: Option<View>,
    /// u32 `[B]`: places in the pool, in its units.
    pub index: Option<View>,
    /// f32 [B, 6]: left, top, width, height, flip, pixels of the picture's rows.
    pub crops: Option<View>,
    /// u32 [B, kept], where the kept patches are written.
    pub keep: Option<View>,
    /// u32 [B, T].
    pub tokens: View,
    /// u32 `[B]`.
    pub ends: View,
    /// For each part its `TokenPlan`.
    pub token_plans: Vec<View>,
}

/// A pool of images on the device.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// u8, images one after another.
    pub view: View,
    /// Its size.
    pub bytes: usize,
    /// Pixels that the beginnings of images are multiples of.
    pub unit: usize,
}

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
    let mut recorder = Recorder::new(program, layout, session, real);
    let batch = shape.has_gradient.then(|| recorder.gradient(shape, pool));
    if shape.has_update {
        recorder.update(update);
    }
    (recorder.finish(), batch)
}

/// Records one encoder on `samples` samples.
#[must_use]
pub fn encode(program: &Program, layout: &PaddedLayout, session: &Session, real: Real, tower: Tower, samples: usize) -> Encode {
    let mut recorder = Recorder::new(program, layout, session, real);
    let shape = StepShape {
        samples,
        chunks: 1,
        images: if tower == Tower::Image { Images::Written } else { Images::None },
        masking: Masking::None,
        has_gradient: false,
        has_update: false,
        side_by_side: false,
    };
    let batch = recorder.batch(&shape);
    let features = recorder.kept_features(samples, "features");
    let inputs = recorder.part(&shape, &batch, None, None, 0..samples, 0);
    recorder.tower(tower, &inputs, features);
    Encode { recording: recorder.finish(), batch, features: features.floats }
}

/// One encoder on a fixed number of samples.
#[derive(Debug, Clone)]
pub struct Encode {
    /// What runs.
    pub recording: Recording,
    /// What is written before.
    pub batch: Batch,
    /// f32 [samples, E], read after.
    pub features: View,
}

/// Records the copy of all parameters into the compute type; `None` where that is f32.
#[must_use]
pub fn refresh(program: &Program, layout: &PaddedLayout, session: &Session, real: Real) -> Option<Recording> {
    let mut recorder = Recorder::new(program, layout, session, real);
    if real == Real::F32 {
        return None;
    }
    recorder.push([elementwise::cuda::cast(layout.len(), session.params, session.shadow)]);
    Some(recorder.finish())
}

impl Recorder<'_> {
    /// Kept buffers for what a host writes.
    fn batch(&mut self, shape: &StepShape) -> Batch {
        let (samples, tokens) = (shape.samples, self.program.context_length());
        let (side, kept) = (self.program.image_side(), self.kept());
        let has_index = matches!(shape.images, Images::Pool | Images::PoolCropped);
        let pixels = (shape.images == Images::Written).then(|| self.buffers.add("pixels", samples * side * side * 3, Life::Kept));
        // The buffer that is added when all its parts are known.
        let written = View { buffer: self.buffers.next(), offset: 0 };
        let mut bytes = 0;
        let mut place = |words: usize| {
            let view = written.at(bytes);
            bytes += (4 * words).next_multiple_of(ALIGNMENT);
            view
        };
        let index = has_index.then(|| place(samples));
        let crops = (shape.images == Images::PoolCropped).then(|| place(CROP_LEN * samples));
        let keep = (shape.masking == Masking::Written).then(|| place(samples * kept));
        let (tokens_view, ends) = (place(samples * tokens), place(samples));
        let plan_words = |part: &std::ops::Range<usize>| embedding::cuda::TokenPlan::words(part.len(), tokens);
        let token_plans = parts(samples, shape.chunks).iter().map(|part| place(plan_words(part))).collect();
        self.buffers.add("batch", bytes, Life::Kept);
        Batch { written, bytes, pixels, index, crops, keep, tokens: tokens_view, ends, token_plans }
    }

    /// Patches that are kept of an image, where some are masked.
    fn kept(&self) -> usize {
        self.program.kept_patches().map_or(0, |(_, kept)| kept)
    }

    fn kept_features(&mut self, samples: usize, name: &str) -> Features {
        let len = samples * self.program.embed_dim;
        let floats = self.buffers.add(name, 4 * len, Life::Kept);
        let reals = self.reals(name, len);
        Features { floats, reals }
    }

    /// What a part of the batch reads.
    fn part(
        &self,
        shape: &StepShape,
        batch: &Batch,
        pixels: Option<Pixels>,
        keep: Option<View>,
        part: std::ops::Range<usize>,
        chunk: usize,
    ) -> Inputs {
        let image = self.program.image_side().pow(2) * 3;
        let pixels = match (pixels, batch.pixels) {
            (Some(Pixels { bytes, index: Some(index) }), _) => Some(Pixels { bytes, index: Some(index.at(4 * part.start)) }),
            (Some(Pixels { bytes, index: None }), _) | (None, Some(bytes)) => {
                Some(Pixels { bytes: bytes.at(image * part.start), index: None })
            }
            (None, None) => None,
        };
        debug_assert!(shape.masking == Masking::None || keep.is_some());
        Inputs {
            samples: part.len(),
            pixels,
            keep: keep.map(|keep| keep.at(4 * self.kept() * part.start)),
            tokens: batch.tokens.at(4 * self.program.context_length() * part.start),
            ends: batch.ends.at(4 * part.start),
            token_plan: batch.token_plans[chunk],
        }
    }

    /// Forward, loss and backward; returns what the host writes.
    fn gradient(&mut self, shape: &StepShape, pool: Option<Pool>) -> Batch {
        let batch = self.batch(shape);
        let branches = if shape.side_by_side { 2 } else { 1 };
        self.begin(branches);
        let pixels = self.pixels(shape, &batch, pool);
        let keep = self.keep(shape, &batch);
        let parts = parts(shape.samples, shape.chunks);
        let inputs: Vec<Inputs> =
            (parts.iter().enumerate()).map(|(chunk, part)| self.part(shape, &batch, pixels, keep, part.clone(), chunk)).collect();
        let (image, text) = (self.features(shape.samples, "image features"), self.features(shape.samples, "text features"));
        let mut saved = None;
        for (part, inputs) in parts.iter().zip(&inputs) {
            saved = Some(self.towers(inputs, [image, text].map(|features| self.features_at(features, part.start))));
        }
        self.begin(1);
        let grads = self.loss(shape.samples, image, text);
        for (chunk, (part, inputs)) in parts.iter().zip(&inputs).enumerate() {
            if parts.len() > 1 {
                // Exact accumulation: the whole batch's loss is known; each part runs again, to features that nobody reads.
                let again = ["image features again", "text features again"].map(|name| self.features(part.len(), name));
                self.begin(branches);
                saved = Some(self.towers(inputs, again));
            }
            let [image, text] = saved.take().expect("the towers have run");
            let [grad_image, grad_text] = grads.map(|grad| grad.floats(part.start * self.program.embed_dim));
            let mut towers = [
                self.backward(Tower::Image, inputs, image, grad_image, chunk > 0),
                self.backward(Tower::Text, inputs, text, grad_text, chunk > 0),
            ];
            if shape.side_by_side {
                self.towers_backward(towers);
            } else {
                self.begin(1);
                towers.iter_mut().for_each(|tower| self.tower_backward(tower));
            }
        }
        self.begin(1);
        batch
    }

    /// Features of a part, image and text, each tower on its branch.
    fn towers(&mut self, inputs: &Inputs, features: [Features; 2]) -> [Vec<CallSaved>; 2] {
        self.on(0);
        let image = self.tower(Tower::Image, inputs, features[0]);
        self.on(1);
        [image, self.tower(Tower::Text, inputs, features[1])]
    }

    fn pixels(&mut self, shape: &StepShape, batch: &Batch, pool: Option<Pool>) -> Option<Pixels> {
        let index = batch.index?;
        let Pool { view, bytes: _, unit } = pool.expect("indices are into a pool");
        let Some(crops) = batch.crops else { return Some(Pixels { bytes: view, index: Some(index) }) };
        let side = self.program.image_side();
        let cropped = self.temporary("cropped images", shape.samples * side * side * 3);
        let crop = patchify::cuda::Crops { unit, side, samples: shape.samples };
        self.push([patchify::cuda::crop_flip(&crop, view, index, crops, cropped)]);
        Some(Pixels { bytes: cropped, index: None })
    }

    fn keep(&mut self, shape: &StepShape, batch: &Batch) -> Option<View> {
        match shape.masking {
            Masking::None => None,
            Masking::Written => batch.keep,
            Masking::Drawn(key) => {
                let (patches, kept) = self.program.kept_patches()?;
                let keep = self.temporary("kept patches", 4 * shape.samples * kept);
                let step = self.training().step;
                self.push([patchify::cuda::keep_sets(patches, kept, key, shape.samples, step, keep)]);
                Some(keep)
            }
        }
    }

    fn features(&mut self, samples: usize, name: &str) -> Features {
        let len = samples * self.program.embed_dim;
        Features { floats: self.floats(name, len), reals: self.reals(name, len) }
    }

    fn features_at(&self, features: Features, sample: usize) -> Features {
        let place = sample * self.program.embed_dim;
        Features { floats: features.floats.floats(place), reals: features.reals.at(self.real.bytes() * place) }
    }

    /// The loss with its gradients by both features, f32 [B, E].
    fn loss(&mut self, samples: usize, image: Features, text: Features) -> [View; 2] {
        let shape = Contrastive { batch: samples, embed_dim: self.program.embed_dim };
        let len = samples * shape.embed_dim;
        let grads = [self.floats("grad image features", len), self.floats("grad text features", len)];
        let report = self.training().report;
        let views = contrastive::cuda::Views {
            image: image.reals,
            text: text.reals,
            log_scale: self.param(self.program.log_logit_scale),
            bias: self.program.logit_bias.map(|bias| self.param(bias)),
            grad_image: grads[0],
            grad_text: grads[1],
            loss: report.floats(reported::LOSS),
            logit_scale: report.floats(reported::LOGIT_SCALE),
            grad_log_scale: self.grad(self.program.log_logit_scale),
            grad_bias: self.program.logit_bias.map(|bias| self.grad(bias)),
        };
        let form = if self.program.logit_bias.is_some() { Form::Sigmoid } else { Form::Softmax };
        let schedule = Schedule::for_batch(samples, shape.embed_dim);
        let bytes = contrastive::cuda::scratch_bytes(&shape, form, schedule, self.real);
        let scratch = self.temporary("loss scratch", bytes);
        let nodes: Vec<Node> = contrastive::cuda::forward_backward(&shape, form, schedule, self.real, &views, scratch);
        self.push(nodes);
        grads
    }

    /// Global norm, clipping, the optimiser, the clamp of the logit scale.
    #[expect(clippy::cast_possible_truncation, reason = "constants are used in f32")]
    fn update(&mut self, update: &Update) {
        let Training { grads, first, second, table, controls, report, .. } = *self.training();
        let len = self.layout.len();
        let scratch = self.temporary("norm scratch", elementwise::cuda::global_norm_scratch_bytes(len));
        let clip = update.grad_clip_norm.map(|limit| limit as f32);
        let nodes = elementwise::cuda::global_norm(len, grads, clip, controls, report, scratch);
        self.push(nodes);
        let params = self.session.params;
        let shadow = (self.real != Real::F32).then_some(self.session.shadow);
        let buffers = StepBuffers { params, grads, first, second, shadow, table, controls, report };
        match update.optimizer {
            OptimizerConfig::Adamw { beta1, beta2, eps } => {
                let constants = adamw::AdamW::new(beta1, beta2, eps);
                self.push(adamw::cuda::update(update.views, &constants, &buffers));
            }
            OptimizerConfig::Adafactor { beta1, beta2_cap } => {
                let constants = adafactor::Adafactor::new(beta1, beta2_cap);
                let scratch = self.temporary("adafactor scratch", adafactor::cuda::scratch_bytes(update.views));
                self.push(adafactor::cuda::update(update.views, &constants, &buffers, scratch));
            }
        }
        let max_log = self.program.logit_scale_max.ln() as f32;
        let scale = self.param(self.program.log_logit_scale);
        self.push([elementwise::cuda::clamp_logit_scale(scale, max_log, report)]);
    }
}
