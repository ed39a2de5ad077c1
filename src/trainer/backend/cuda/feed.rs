//! What the host writes before a step: how a [`StepBatch`] becomes what a recording reads.
//!
//! The one place of the backend that knows how a batch holds a program's inputs. Input: a checked batch, the places of a recording.
//! Output: bytes on a device.

use std::ops::Range;

use super::device::{Address, Device};
use super::record::{Batch, Images, Masking, Planned, Pool, Written};
use crate::trainer::TrainerError;
use crate::trainer::backend::{CROP_LEN, StepBatch, parts};
use crate::trainer::ops::launch::View;
use crate::trainer::ops::patchify;
use crate::trainer::ops::recorder::{HostPart, HostPlan};
use crate::trainer::program::{InputKind, Program};

/// Where a batch has its images.
pub(super) fn images(batch: &StepBatch) -> Images {
    match (batch.index.is_empty(), batch.crops.is_empty()) {
        (true, _) => Images::Written,
        (false, true) => Images::Pool,
        (false, false) => Images::PoolCropped,
    }
}

/// How the patches of a batch are left out; `key` is what they are drawn with where they do not come along.
pub(super) fn masking(batch: &StepBatch, key: Option<[u32; 2]>) -> Masking {
    match (batch.keep.is_empty(), key) {
        (false, _) => Masking::Written,
        (true, Some(key)) => Masking::Drawn(key),
        (true, None) => Masking::None,
    }
}

/// Checks that what a batch has in a pool lies there: its images, and its crops in their pictures. Kernels do not.
pub(super) fn check_places(batch: &StepBatch, pool: Option<&Pool>, side: usize) -> Result<(), TrainerError> {
    if batch.index.is_empty() {
        return Ok(());
    }
    let wrong = |what: String| Err(TrainerError::Input(format!("a batch of {} pairs: {what}", batch.samples)));
    let Some(pool) = pool else { return wrong("the image index is of a pool, and none is held".into()) };
    let fits = |place: u32, pixels: usize| (place as usize * pool.unit + pixels) * 3 <= pool.bytes;
    if batch.crops.is_empty() {
        if pool.unit != side * side {
            return wrong(format!("whole pictures of a pool, expected crops of them at {side} x {side}"));
        }
        return match batch.index.iter().find(|place| !fits(**place, side * side)) {
            Some(place) => wrong(format!("image {place} of a pool of {}", pool.bytes / 3 / pool.unit)),
            None => Ok(()),
        };
    }
    for (crop, place) in batch.crops.as_chunks::<CROP_LEN>().0.iter().zip(&batch.index) {
        let [left, top, width, height, _, row] = *crop;
        let is_inside = left >= 0.0 && top >= 0.0 && width > 0.0 && height > 0.0 && left + width <= row;
        #[expect(clippy::cast_precision_loss, reason = "a side")]
        let is_short = width.max(height) <= patchify::cuda::MOST_CROP * side as f32;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be sides")]
        if !(is_inside && is_short && fits(*place, row as usize * (top + height).ceil() as usize)) {
            return wrong(format!("the crop {crop:?} at {place} in a pool of {} bytes", pool.bytes));
        }
    }
    Ok(())
}

/// Where the host writes for a recording, with what it keeps from step to step.
pub(super) struct Feed {
    batch: Batch,
    parts: Vec<Range<usize>>,
    /// For each planned call, the plan of each part.
    plans: Vec<Vec<Box<dyn HostPlan>>>,
}

impl Feed {
    /// For a recording of `samples` in `chunks` parts of a program that was checked.
    pub(super) fn new(program: &Program, batch: Batch, samples: usize, chunks: usize) -> Self {
        let parts = parts(samples, chunks);
        let plan = |call: usize| program.calls[call].op.cuda().ok()?.host_plan();
        let of_parts = |planned: &Planned| parts.iter().filter_map(|_| plan(planned.call)).collect();
        let plans = batch.plans.iter().map(of_parts).collect();
        Self { batch, parts, plans }
    }

    /// Writes a batch that was checked.
    pub(super) fn write<D: Device>(
        &mut self,
        device: &mut D,
        addresses: &[Address],
        program: &Program,
        batch: &StepBatch,
    ) -> Result<(), TrainerError> {
        let to = |view: View| addresses[view.buffer.0 as usize].at(view.offset);
        let mut written = vec![0; self.batch.bytes];
        let mut put = |view: View, bytes: &[u8]| written[view.offset..][..bytes.len()].copy_from_slice(bytes);
        for (input, place) in program.inputs.iter().zip(&self.batch.inputs) {
            match *place {
                None | Some(Written::Drawn) => {}
                Some(Written::Pixels(view)) => device.write(to(view), &batch.images)?,
                Some(Written::Places { index, crops }) => {
                    put(index, bytemuck::cast_slice(&batch.index));
                    if let Some(crops) = crops {
                        put(crops, bytemuck::cast_slice(&batch.crops));
                    }
                }
                Some(Written::Words(view)) => put(view, bytemuck::cast_slice(words(batch, input.kind, 0..batch.samples))),
            }
        }
        for (Planned { call, parts: views }, plans) in self.batch.plans.iter().zip(&mut self.plans) {
            let kind = program.input(program.calls[*call].inputs[0]).expect("a plan is of words of the batch");
            for ((range, view), plan) in self.parts.iter().zip(views).zip(plans) {
                // What follows the end of a text leads to no loss.
                let part = HostPart { words: words(batch, kind, range.clone()), ends: &batch.ends[range.clone()] };
                put(*view, bytemuck::cast_slice(plan.fill(&part)));
            }
        }
        if written.is_empty() { Ok(()) } else { device.write(to(self.batch.written), &written) }
    }
}

fn words(batch: &StepBatch, kind: InputKind, samples: Range<usize>) -> &[u32] {
    batch.input::<[f32]>(kind, samples).words()
}
