//! Calls as ops on dfdx's tape.
//!
//! An activation is a dfdx tensor [samples * rows, channels]. A call makes its output, and, where there is a tape, pushes one
//! op that turns the output's gradient into the input's and adds parameter gradients to the lanes. Every slot has one consumer,
//! so a residual block may turn its gradient buffer over instead of adding to a second one.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use dfdx::shapes::HasShape;
use dfdx::tensor::{Cpu, CpuError, Merge, NoneTape, OwnedTape, PutTape, SplitTape, Tape, Tensor, TensorFromVec, ZerosTensor};
use dfdx::tensor_ops::Backward as _;
use rayon::prelude::*;

use super::core::Core;
use super::lanes::{chunk_samples, lane_range, split_lanes};
use crate::trainer::TrainerError;
use crate::trainer::ops::op::{Backward, Forward, GradLane, In, Workspace};
use crate::trainer::program::{Call, Dtype, Tower};

/// An activation.
pub(super) type Rows<T> = Tensor<(usize, usize), f32, Cpu, T>;

/// An activation with the tape that leads back from it.
pub(super) type Taped = Rows<OwnedTape<f32, Cpu>>;

/// Copies the elements of an activation into a buffer, which takes its length: dfdx lends no slice of a tensor's elements.
fn read_into<T>(tensor: &Rows<T>, values: &mut Vec<f32>) {
    let (rows, channels) = *tensor.shape();
    values.resize(rows * channels, 0.0);
    tensor.copy_into(values);
}

/// The elements of an activation.
pub(super) fn values<T>(tensor: &Rows<T>) -> Vec<f32> {
    let mut values = Vec::new();
    read_into(tensor, &mut values);
    values
}

/// `len` zeros, or the error of dfdx where there is no memory for them.
fn zeros(len: usize) -> Result<Vec<f32>, CpuError> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| CpuError::OutOfMemory)?;
    values.resize(len, 0.0);
    Ok(values)
}

/// Runs one encoder on a part of the loaded batch, from its inputs to normalised features [samples, E].
pub(super) fn run_tower<T: Tape<f32, Cpu>>(
    core: &Rc<RefCell<Core>>,
    tower: Tower,
    part: Range<usize>,
) -> Result<Rows<T>, TrainerError> {
    let program = core.borrow().program.clone();
    let device = Cpu::default();
    let mut x: Option<Rows<T>> = None;
    // What `x` holds, for the next call to read.
    let mut x_values = std::mem::take(&mut core.borrow_mut().read);
    for (idx, call) in program.calls.iter().enumerate().filter(|(_, call)| call.tower == tower) {
        let slot = &program.slots[call.output];
        let mut y = zeros(part.len() * slot.len_per_sample())?;
        let (x_rows, mut tape) = match x.take() {
            None => (None, T::default()),
            Some(x) => {
                let (x, tape) = x.split_tape();
                (Some(x), tape)
            }
        };
        forward_call(&mut core.borrow_mut(), call, &part, x_rows.is_some().then_some(&x_values), &mut y);
        x_values.clone_from(&y);
        let y: Rows<NoneTape> = device.try_tensor_from_vec(y, (part.len() * slot.rows, slot.channels))?;
        if T::OWNS_TAPE {
            let (core, program, part, out) = (core.clone(), program.clone(), part.clone(), y.ghost());
            tape.add_backward_op(move |grads| {
                let mut grad_y = std::mem::take::<Vec<f32>>(grads.get_or_alloc_mut(&out)?);
                let call = &program.calls[idx];
                let mut core = core.borrow_mut();
                let mut values = std::mem::take(&mut core.read);
                if let Some(x) = &x_rows {
                    read_into(x, &mut values);
                }
                match &x_rows {
                    Some(x) if call.is_in_place => {
                        backward_call(&mut core, call, &part, Some(&values), &mut grad_y, &mut []);
                        **grads.get_or_alloc_mut(x)? = grad_y;
                    }
                    Some(x) => {
                        let grad_x: &mut Vec<f32> = grads.get_or_alloc_mut(x)?;
                        backward_call(&mut core, call, &part, Some(&values), &mut grad_y, grad_x);
                    }
                    None => backward_call(&mut core, call, &part, None, &mut grad_y, &mut []),
                }
                core.read = values;
                Ok(())
            });
        }
        x = Some(y.put_tape(tape));
    }
    core.borrow_mut().read = x_values;
    Ok(x.expect("a tower has at least one call"))
}

/// Runs tapes back from given gradients of their features.
pub(super) fn backward_from(features: Vec<(Taped, Vec<f32>)>) -> Result<(), TrainerError> {
    let mut tape = OwnedTape::default();
    let mut seeds = Vec::with_capacity(features.len());
    for (features, gradient) in features {
        let (features, own) = features.split_tape();
        tape = tape.merge(own);
        seeds.push((features.ghost(), gradient));
    }
    tape.add_backward_op(move |grads| {
        for (features, gradient) in seeds {
            **grads.get_or_alloc_mut(&features)? = gradient;
        }
        Ok(())
    });
    // The loss has been computed already: this scalar only carries the tape.
    let carrier: Tensor<(), f32, Cpu> = Cpu::default().try_zeros()?;
    carrier.put_tape(tape).try_backward()?;
    Ok(())
}

/// One lane's share of a call.
struct LaneJob<'a> {
    /// Samples, counted from the start of the part.
    samples: Range<usize>,
    output: &'a mut [f32],
    saved: Vec<&'a mut [f32]>,
}

/// Takes the first `len` elements off a slice.
fn take_front<'a, T>(slice: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (front, rest) = std::mem::take(slice).split_at_mut(len);
    *slice = rest;
    front
}

/// What a chunk reads: `samples` counted from the start of the part.
fn chunk_inputs<'a>(core: &'a Core, call: &Call, part: &Range<usize>, x: Option<&'a [f32]>, samples: &Range<usize>) -> Vec<In<'a>> {
    let read = |slot: &usize| match core.program.input(*slot) {
        None => {
            let per_sample = core.program.slots[*slot].len_per_sample();
            In::Rows(&x.expect("an earlier call made it")[samples.start * per_sample..samples.end * per_sample])
        }
        Some(kind) => core.batch.input(kind, part.start + samples.start..part.start + samples.end),
    };
    call.inputs.iter().map(read).collect()
}

/// Rows that decide how many samples a chunk of this call holds: those of f32 slots.
fn chunk_rows(core: &Core, call: &Call) -> usize {
    let slots = call.inputs.iter().chain([&call.output]).map(|slot| &core.program.slots[*slot]);
    slots.filter(|slot| slot.dtype == Dtype::F32).map(|slot| slot.rows).max().unwrap_or(1)
}

/// Moves a call's saved slots out of the core, grown to `samples`.
fn take_saved(core: &mut Core, call: &Call, samples: usize) -> Vec<Vec<f32>> {
    let take = |slot: &usize| {
        let mut buffer = std::mem::take(&mut core.saved[*slot]);
        buffer.resize(samples * core.program.slots[*slot].len_per_sample(), 0.0);
        buffer
    };
    call.saved.iter().map(take).collect()
}

fn put_saved(core: &mut Core, call: &Call, saved: Vec<Vec<f32>>) {
    for (slot, buffer) in call.saved.iter().zip(saved) {
        core.saved[*slot] = buffer;
    }
}

/// Cuts a call's output-shaped buffer and its saved slots into lanes.
fn lane_jobs<'a>(core: &Core, call: &Call, samples: usize, output: &'a mut [f32], saved: &'a mut [Vec<f32>]) -> Vec<LaneJob<'a>> {
    let slots = &core.program.slots;
    let lanes = core.lane_started.len();
    let mut saved_parts: Vec<Vec<&mut [f32]>> = (0..lanes).map(|_| Vec::with_capacity(saved.len())).collect();
    for (slot, buffer) in call.saved.iter().zip(saved) {
        let parts = split_lanes(buffer, samples, lanes, slots[*slot].len_per_sample());
        saved_parts.iter_mut().zip(parts).for_each(|(lane, part)| lane.push(part));
    }
    let outputs = split_lanes(output, samples, lanes, slots[call.output].len_per_sample());
    let jobs = outputs.into_iter().zip(saved_parts).enumerate();
    jobs.map(|(lane, (output, saved))| LaneJob { samples: lane_range(samples, lane, lanes), output, saved }).collect()
}

fn forward_call(core: &mut Core, call: &Call, part: &Range<usize>, x: Option<&[f32]>, output: &mut [f32]) {
    let mut saved = take_saved(core, call, part.len());
    let shared: &Core = core;
    let jobs = lane_jobs(shared, call, part.len(), output, &mut saved);
    let lane = |mut job: LaneJob| shared.workspaces.with(|work| forward_lane(shared, call, part, x, &mut job, work));
    shared.pool.install(|| jobs.into_par_iter().for_each(lane));
    put_saved(core, call, saved);
}

fn forward_lane(core: &Core, call: &Call, part: &Range<usize>, x: Option<&[f32]>, job: &mut LaneJob, work: &mut Workspace) {
    let slots = &core.program.slots;
    let params = core.params();
    let step = chunk_samples(chunk_rows(core, call));
    let mut start = job.samples.start;
    while start < job.samples.end {
        let samples = start..(start + step).min(job.samples.end);
        let mut saved: Vec<&mut [f32]> = (job.saved.iter_mut().zip(&call.saved))
            .map(|(buffer, slot)| take_front(buffer, samples.len() * slots[*slot].len_per_sample()))
            .collect();
        let inputs = chunk_inputs(core, call, part, x, &samples);
        let mut chunk = Forward {
            samples: samples.len(),
            inputs: &inputs,
            output: take_front(&mut job.output, samples.len() * slots[call.output].len_per_sample()),
            saved: &mut saved,
        };
        call.op.cpu().forward(&params, &mut chunk, work);
        start = samples.end;
    }
}

/// One lane's share of a call going back: its job, its part of the input's gradient, its parameter gradients, whether those
/// were written before.
type BackwardJob<'a> = (((LaneJob<'a>, &'a mut [f32]), &'a mut Vec<f32>), &'a bool);

fn backward_call(core: &mut Core, call: &Call, part: &Range<usize>, x: Option<&[f32]>, grad_y: &mut [f32], grad_x: &mut [f32]) {
    if call.is_whole {
        return backward_whole(core, call, part, x, grad_y, grad_x);
    }
    let samples = part.len();
    let mut saved = take_saved(core, call, samples);
    let mut lanes = std::mem::take(&mut core.lanes);
    let shared: &Core = core;
    let jobs = lane_jobs(shared, call, samples, grad_y, &mut saved);
    let grad_per_sample = if grad_x.is_empty() { 0 } else { shared.program.slots[call.inputs[0]].len_per_sample() };
    let inputs = split_lanes(grad_x, samples, lanes.len(), grad_per_sample);
    let work: Vec<_> = jobs.into_iter().zip(inputs).zip(lanes.iter_mut()).zip(&shared.lane_started).collect();
    let lane = |(((mut job, grad_input), lane), started): BackwardJob| {
        if job.samples.is_empty() {
            return;
        }
        if lane.is_empty() {
            lane.resize(shared.program.num_params(), 0.0);
        }
        let mut grads = GradLane { views: &shared.program.params, flat: lane, first: !started };
        shared.workspaces.with(|work| backward_lane(shared, call, part, x, &mut job, grad_input, &mut grads, work));
    };
    shared.pool.install(|| work.into_par_iter().for_each(lane));
    core.lanes = lanes;
    put_saved(core, call, saved);
}

/// A part goes back at once, in the order of samples, into the flat gradient.
fn backward_whole(core: &mut Core, call: &Call, part: &Range<usize>, x: Option<&[f32]>, grad_y: &mut [f32], grad_x: &mut [f32]) {
    let mut saved = take_saved(core, call, part.len());
    let mut gradient = std::mem::take(&mut core.gradient);
    let inputs = chunk_inputs(core, call, part, x, &(0..part.len()));
    let mut slices: Vec<&mut [f32]> = saved.iter_mut().map(Vec::as_mut_slice).collect();
    let mut chunk = Backward { samples: part.len(), inputs: &inputs, grad_output: grad_y, grad_input: grad_x, saved: &mut slices };
    // The gradient was zeroed when the batch began.
    let mut grads = GradLane { views: &core.program.params, flat: &mut gradient, first: false };
    core.workspaces.with(|work| call.op.cpu().backward(&core.params(), &mut chunk, &mut grads, work));
    core.gradient = gradient;
    put_saved(core, call, saved);
}

#[expect(clippy::too_many_arguments, reason = "the borrowed halves of one lane's job")]
fn backward_lane(
    core: &Core,
    call: &Call,
    part: &Range<usize>,
    x: Option<&[f32]>,
    job: &mut LaneJob,
    grad_input: &mut [f32],
    grads: &mut GradLane,
    work: &mut Workspace,
) {
    let slots = &core.program.slots;
    let params = core.params();
    let step = chunk_samples(chunk_rows(core, call));
    let mut grad_input = grad_input;
    let grad_per_sample = if grad_input.is_empty() { 0 } else { slots[call.inputs[0]].len_per_sample() };
    let mut start = job.samples.start;
    while start < job.samples.end {
        let samples = start..(start + step).min(job.samples.end);
        let mut saved: Vec<&mut [f32]> = (job.saved.iter_mut().zip(&call.saved))
            .map(|(buffer, slot)| take_front(buffer, samples.len() * slots[*slot].len_per_sample()))
            .collect();
        let inputs = chunk_inputs(core, call, part, x, &samples);
        let mut chunk = Backward {
            samples: samples.len(),
            inputs: &inputs,
            grad_output: take_front(&mut job.output, samples.len() * slots[call.output].len_per_sample()),
            grad_input: take_front(&mut grad_input, samples.len() * grad_per_sample),
            saved: &mut saved,
        };
        call.op.cpu().backward(&params, &mut chunk, grads, work);
        grads.first = false;
        start = samples.end;
    }
}
