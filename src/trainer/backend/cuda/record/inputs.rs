//! What a batch brings along, on the device: where the host writes it, and where calls read it.

use std::ops::Range;

use super::shape::{Images, Masking, StepShape};
use super::{Draft, form};
use crate::trainer::backend::cuda::buffers::ALIGNMENT;
use crate::trainer::backend::{CROP_LEN, parts};
use crate::trainer::ops::launch::View;
use crate::trainer::ops::patchify;
use crate::trainer::ops::recorder::{Array, Elem, Life, Pixels, Source};
use crate::trainer::program::{Input, InputKind, SlotIdx};

/// What a host writes before a step. All but pixels lie in one kept buffer of the recording, to be written at once: a handful of
/// small copies would cost a small model a tenth of its step.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The buffer of the views below, pixels excepted.
    pub written: View,
    /// Its size.
    pub bytes: usize,
    /// The program's inputs, in their order; `None` for those that the recording does not read.
    pub inputs: Vec<Option<Written>>,
    /// What the host works out for calls.
    pub plans: Vec<Planned>,
}

/// Where the host writes an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// u8 [B, S, S, 3], a buffer by itself.
    Pixels(View),
    /// Which images of a pool.
    Places {
        /// u32 `[B]`: places in the pool, in its units.
        index: View,
        /// f32 [B, 6]: left, top, width, height, flip, pixels of the picture's rows.
        crops: Option<View>,
    },
    /// u32 [B, words].
    Words(View),
    /// Nowhere: the device draws it.
    Drawn,
}

/// What the host works out for a call: its place in the program, and where the plan of each part goes.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Index of the call.
    pub call: usize,
    /// u32, for each part as many words as the op's plan has.
    pub parts: Vec<View>,
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

/// An input of the whole batch, ready to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    slot: SlotIdx,
    source: Source,
    /// Bytes of an image.
    image: usize,
}

impl Ready {
    /// What a part of the batch reads, by slot.
    pub fn part(&self, part: &Range<usize>) -> (SlotIdx, Source) {
        let source = match self.source {
            Source::Pixels(Pixels { bytes, index: Some(index) }) => {
                Source::Pixels(Pixels { bytes, index: Some(index.at(4 * part.start)) })
            }
            Source::Pixels(Pixels { bytes, index: None }) => {
                Source::Pixels(Pixels { bytes: bytes.at(self.image * part.start), index: None })
            }
            Source::Words(words) => Source::Words(words.part(part.clone())),
            Source::Rows(_) => unreachable!("a batch brings no rows along"),
        };
        (self.slot, source)
    }
}

impl Draft<'_> {
    /// Kept buffers for what a host writes of the inputs that `calls` read, and for their plans where there are gradients.
    pub(super) fn batch(&mut self, shape: &StepShape, calls: &[usize]) -> Batch {
        let program = self.program;
        let is_read = |input: &Input| calls.iter().any(|call| program.calls[*call].inputs.contains(&input.slot));
        let samples = shape.samples;
        let mut pixels: Vec<Option<View>> = Vec::new();
        for input in &program.inputs {
            let is_written = is_read(input) && shape.images == Images::Written;
            pixels.push(match input.kind {
                InputKind::Image { side, .. } if is_written => {
                    Some(self.r.buffers.add("pixels", samples * side * side * 3, Life::Kept))
                }
                _ => None,
            });
        }
        // The buffer that is added when all its parts are known.
        let written = View { buffer: self.r.buffers.next(), offset: 0 };
        let mut bytes = 0;
        let mut place = |words: usize| {
            let view = written.at(bytes);
            bytes += (4 * words).next_multiple_of(ALIGNMENT);
            view
        };
        let mut inputs = Vec::with_capacity(program.inputs.len());
        for (input, pixels) in program.inputs.iter().zip(pixels) {
            inputs.push(is_read(input).then(|| match (input.kind, pixels) {
                (InputKind::Image { .. }, Some(pixels)) => Written::Pixels(pixels),
                (InputKind::Image { .. }, None) => {
                    let index = place(samples);
                    Written::Places { index, crops: (shape.images == Images::PoolCropped).then(|| place(CROP_LEN * samples)) }
                }
                (InputKind::KeptPatches { .. }, _) if shape.masking != Masking::Written => Written::Drawn,
                (InputKind::KeptPatches { .. } | InputKind::Tokens { .. } | InputKind::Ends { .. }, _) => {
                    Written::Words(place(samples * words(input.kind)))
                }
            }));
        }
        let mut plans = Vec::new();
        for call in calls.iter().filter(|_| shape.has_gradient) {
            if let Some(plan) = form(&program.calls[*call]).host_plan() {
                let parts = parts(samples, shape.chunks).iter().map(|part| place(plan.words(part.len()))).collect();
                plans.push(Planned { call: *call, parts });
            }
        }
        // A device gives out no memory of no bytes.
        self.r.buffers.add("batch", bytes.max(ALIGNMENT), Life::Kept);
        Batch { written, bytes, inputs, plans }
    }

    /// Records what the device does to inputs before calls read them.
    pub(super) fn ready(&mut self, shape: &StepShape, batch: &Batch, pool: Option<Pool>) -> Vec<Ready> {
        let program = self.program;
        let mut ready = Vec::new();
        for (input, written) in program.inputs.iter().zip(&batch.inputs) {
            let Some(written) = written else { continue };
            let source = match (input.kind, *written) {
                (_, Written::Pixels(bytes)) => Source::Pixels(Pixels { bytes, index: None }),
                (_, Written::Places { index, crops: None }) => {
                    let bytes = pool.expect("indices are into a pool").view;
                    Source::Pixels(Pixels { bytes, index: Some(index) })
                }
                (kind, Written::Places { index, crops: Some(crops) }) => {
                    let Pool { view, unit, .. } = pool.expect("indices are into a pool");
                    Source::Pixels(self.crop(shape.samples, kind, (view, unit), index, crops))
                }
                (kind, Written::Words(view)) => {
                    Source::Words(Array { view, elem: Elem::U32, rows: shape.samples, channels: words(kind) })
                }
                (kind, Written::Drawn) => match self.draw(shape, kind) {
                    Some(kept) => Source::Words(kept),
                    None => continue,
                },
            };
            let image = if let InputKind::Image { side, .. } = input.kind { side * side * 3 } else { 0 };
            ready.push(Ready { slot: input.slot, source, image });
        }
        ready
    }

    fn crop(&mut self, samples: usize, kind: InputKind, (pool, unit): (View, usize), index: View, crops: View) -> Pixels {
        let InputKind::Image { side, .. } = kind else { unreachable!("only images are cropped") };
        let cropped = self.r.scratch("cropped images", samples * side * side * 3);
        let crop = patchify::cuda::Crops { unit, side, samples };
        self.r.push([patchify::cuda::crop_flip(&crop, pool, index, crops, cropped)]);
        Pixels { bytes: cropped, index: None }
    }

    /// The kept patches of every image, drawn from the number of the step.
    fn draw(&mut self, shape: &StepShape, kind: InputKind) -> Option<Array> {
        let (InputKind::KeptPatches { patches, kept, .. }, Masking::Drawn(key)) = (kind, shape.masking) else { return None };
        let keep = self.r.array("kept patches", Elem::U32, shape.samples, kept);
        let step = self.training().step;
        self.r.push([patchify::cuda::keep_sets(patches, kept, key, shape.samples, step, keep.view)]);
        Some(keep)
    }
}

/// Words of a sample.
fn words(kind: InputKind) -> usize {
    let (size, _) = kind.layout();
    size.rows * size.channels
}
