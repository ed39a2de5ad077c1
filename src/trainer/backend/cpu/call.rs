//! One call on a part of the batch: lanes side by side, each in chunks whose rows fit the cache.

use std::ops::Range;

use rayon::prelude::*;

use super::core::Core;
use super::lanes::{chunk_samples, lane_range, split_lanes};
use crate::trainer::ops::op::whole::{Part, Pass, State, Whole};
use crate::trainer::ops::op::{Backward, Cpu, Forward, GradInput, GradLane, In, Rows, Workspace};
use crate::trainer::program::Call;

/// Rows of an earlier call for a part; `None` for what comes with the batch.
pub(super) type Input<'a> = Option<&'a [f32]>;

/// One lane's share of a call.
struct LaneJob<'a> {
    /// Samples, counted from the start of the part.
    samples: Range<usize>,
    output: &'a mut [f32],
    saved: Vec<&'a mut [f32]>,
}

impl<'a> LaneJob<'a> {
    /// Takes the first samples off: their part of the output, and of each saved slot.
    fn take(&mut self, core: &Core, call: &Call, samples: usize) -> (&'a mut [f32], Vec<&'a mut [f32]>) {
        let len = |slot: usize| samples * core.program.slots[slot].len_per_sample();
        let saved = self.saved.iter_mut().zip(&call.saved).map(|(buffer, slot)| take_front(buffer, len(*slot))).collect();
        (take_front(&mut self.output, len(call.output)), saved)
    }
}

/// Takes the first `len` elements off a slice.
fn take_front<'a, T>(slice: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (front, rest) = std::mem::take(slice).split_at_mut(len);
    *slice = rest;
    front
}

/// What a chunk reads: `samples` counted from the start of the part.
fn chunk_inputs<'a>(core: &'a Core, call: &Call, part: &Range<usize>, rows: &[Input<'a>], samples: &Range<usize>) -> Vec<In<'a>> {
    let read = |(slot, rows): (&usize, &Input<'a>)| match core.program.input(*slot) {
        None => {
            let per_sample = core.program.slots[*slot].len_per_sample();
            In::Rows(&rows.expect("an earlier call made it")[samples.start * per_sample..samples.end * per_sample])
        }
        Some(kind) => core.batch.input(kind, part.start + samples.start..part.start + samples.end),
    };
    call.inputs.iter().zip(rows).map(read).collect()
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

/// Writes a call's output and saved slots.
pub(super) fn forward(core: &mut Core, call: &Call, part: &Range<usize>, inputs: &[Input], output: &mut [f32], pass: Pass) {
    let rows = match call.op.cpu() {
        Cpu::Rows(rows) => rows,
        Cpu::Whole(whole) => return forward_whole(core, (call, whole), part, inputs, output, pass),
    };
    let mut saved = take_saved(core, call, part.len());
    let shared: &Core = core;
    let jobs = lane_jobs(shared, call, part.len(), output, &mut saved);
    let lane = |mut job: LaneJob| shared.workspaces.with(|work| forward_lane(shared, (call, rows), part, inputs, &mut job, work));
    shared.pool.install(|| jobs.into_par_iter().for_each(lane));
    put_saved(core, call, saved);
}

fn forward_lane(
    core: &Core,
    (call, op): (&Call, &dyn Rows),
    part: &Range<usize>,
    rows: &[Input],
    job: &mut LaneJob,
    work: &mut Workspace,
) {
    let params = core.params();
    let step = chunk_samples(call.chunk_rows);
    let mut start = job.samples.start;
    while start < job.samples.end {
        let samples = start..(start + step).min(job.samples.end);
        let (output, mut saved) = job.take(core, call, samples.len());
        let inputs = chunk_inputs(core, call, part, rows, &samples);
        let mut chunk = Forward { samples: samples.len(), inputs: &inputs, output, saved: &mut saved };
        op.forward(&params, &mut chunk, work);
        start = samples.end;
    }
}

/// One lane's share of a call going back: its job, its parts of the inputs' gradients, its parameter gradients, whether those were
/// written before.
type BackwardJob<'a> = (((LaneJob<'a>, Vec<GradInput<'a>>), &'a mut Vec<f32>), &'a bool);

/// Turns the gradient of a call's output into those of its inputs, and adds those of its parameters.
pub(super) fn backward(
    core: &mut Core,
    call: &Call,
    part: &Range<usize>,
    inputs: &[Input],
    grad_output: &mut [f32],
    mut grad_inputs: Vec<GradInput>,
) {
    let rows = match call.op.cpu() {
        Cpu::Whole(whole) => return backward_whole(core, (call, whole), part, inputs, grad_output, &mut grad_inputs),
        Cpu::Rows(rows) if call.is_whole => {
            return backward_in_order(core, (call, rows), part, inputs, grad_output, grad_inputs);
        }
        Cpu::Rows(rows) => rows,
    };
    let samples = part.len();
    let mut saved = take_saved(core, call, samples);
    let mut lanes = std::mem::take(&mut core.lanes);
    let shared: &Core = core;
    let jobs = lane_jobs(shared, call, samples, grad_output, &mut saved);
    let grads = lane_grads(shared, call, samples, lanes.len(), grad_inputs);
    let work: Vec<_> = jobs.into_iter().zip(grads).zip(lanes.iter_mut()).zip(&shared.lane_started).collect();
    let lane = |(((mut job, grad_inputs), lane), started): BackwardJob| {
        if job.samples.is_empty() {
            return;
        }
        if lane.is_empty() {
            lane.resize(shared.program.num_params(), 0.0);
        }
        let mut grads = GradLane { views: &shared.program.params, flat: lane, first: !started && !call.adds_to_params };
        shared.workspaces.with(|work| backward_lane(shared, (call, rows), part, inputs, &mut job, grad_inputs, &mut grads, work));
    };
    shared.pool.install(|| work.into_par_iter().for_each(lane));
    core.lanes = lanes;
    put_saved(core, call, saved);
}

/// Cuts the gradients of a call's inputs into lanes.
fn lane_grads<'a>(core: &Core, call: &Call, samples: usize, lanes: usize, grads: Vec<GradInput<'a>>) -> Vec<Vec<GradInput<'a>>> {
    let mut by_lane: Vec<Vec<GradInput>> = (0..lanes).map(|_| Vec::with_capacity(grads.len())).collect();
    for (slot, grad) in call.inputs.iter().zip(grads) {
        let per_sample = core.program.slots[*slot].len_per_sample();
        let put = |lane: (&mut Vec<GradInput<'a>>, GradInput<'a>)| lane.0.push(lane.1);
        match grad {
            GradInput::None => by_lane.iter_mut().for_each(|lane| lane.push(GradInput::None)),
            GradInput::Overwrite(rows) => {
                let parts = split_lanes(rows, samples, lanes, per_sample).into_iter().map(GradInput::Overwrite);
                by_lane.iter_mut().zip(parts).for_each(put);
            }
            GradInput::Add(rows) => {
                let parts = split_lanes(rows, samples, lanes, per_sample).into_iter().map(GradInput::Add);
                by_lane.iter_mut().zip(parts).for_each(put);
            }
        }
    }
    by_lane
}

/// Takes the gradient of the first `len` elements off that of a lane.
fn take_grad<'a>(grad: &mut GradInput<'a>, len: usize) -> GradInput<'a> {
    match grad {
        GradInput::None => GradInput::None,
        GradInput::Overwrite(rows) => GradInput::Overwrite(take_front(rows, len)),
        GradInput::Add(rows) => GradInput::Add(take_front(rows, len)),
    }
}

/// A part goes back at once, in the order of samples, into the flat gradient.
fn backward_in_order(
    core: &mut Core,
    (call, op): (&Call, &dyn Rows),
    part: &Range<usize>,
    rows: &[Input],
    grad_output: &mut [f32],
    grad_inputs: Vec<GradInput>,
) {
    let mut saved = take_saved(core, call, part.len());
    let mut gradient = std::mem::take(&mut core.gradient);
    let inputs = chunk_inputs(core, call, part, rows, &(0..part.len()));
    let mut slices: Vec<&mut [f32]> = saved.iter_mut().map(Vec::as_mut_slice).collect();
    // For as long as the other slices live.
    let mut grad_inputs: Vec<GradInput> = grad_inputs;
    let grad_inputs = &mut grad_inputs;
    let mut chunk = Backward { samples: part.len(), inputs: &inputs, grad_output, grad_inputs, saved: &mut slices };
    // The gradient was zeroed when the batch began.
    let mut grads = GradLane { views: &core.program.params, flat: &mut gradient, first: false };
    core.workspaces.with(|work| op.backward(&core.params(), &mut chunk, &mut grads, work));
    core.gradient = gradient;
    put_saved(core, call, saved);
}

/// Writes the output and saved slots of an op that takes a part at once.
fn forward_whole(
    core: &mut Core,
    (call, op): (&Call, &dyn Whole),
    part: &Range<usize>,
    rows: &[Input],
    output: &mut [f32],
    pass: Pass,
) {
    let mut saved = take_saved(core, call, part.len());
    let mut observed = std::mem::take(&mut core.observed);
    let inputs = chunk_inputs(core, call, part, rows, &(0..part.len()));
    let mut slices: Vec<&mut [f32]> = saved.iter_mut().map(Vec::as_mut_slice).collect();
    let whole = Part { samples: part.len(), inputs: &inputs, params: core.params(), pass };
    let mut state = State { views: &core.program.state, flat: &core.state, observed: &mut observed };
    op.forward(&whole, output, &mut slices, &mut state, &core.team());
    core.observed = observed;
    put_saved(core, call, saved);
}

/// Gradients of an op that takes a part at once; those of its parameters are added to the flat gradient, which was zeroed when the batch
/// began.
fn backward_whole(
    core: &mut Core,
    (call, op): (&Call, &dyn Whole),
    part: &Range<usize>,
    rows: &[Input],
    grad_output: &mut [f32],
    grad_inputs: &mut [GradInput],
) {
    let saved = take_saved(core, call, part.len());
    let mut gradient = std::mem::take(&mut core.gradient);
    let inputs = chunk_inputs(core, call, part, rows, &(0..part.len()));
    let slices: Vec<&[f32]> = saved.iter().map(Vec::as_slice).collect();
    let whole = Part { samples: part.len(), inputs: &inputs, params: core.params(), pass: Pass::Gradient };
    op.backward(&whole, grad_output, grad_inputs, &slices, &mut gradient, &core.team());
    core.gradient = gradient;
    put_saved(core, call, saved);
}

#[expect(clippy::too_many_arguments, reason = "the borrowed halves of one lane's job")]
fn backward_lane(
    core: &Core,
    (call, op): (&Call, &dyn Rows),
    part: &Range<usize>,
    rows: &[Input],
    job: &mut LaneJob,
    mut grad_inputs: Vec<GradInput>,
    grads: &mut GradLane,
    work: &mut Workspace,
) {
    let slots = &core.program.slots;
    let params = core.params();
    let step = chunk_samples(call.chunk_rows);
    let mut start = job.samples.start;
    while start < job.samples.end {
        let samples = start..(start + step).min(job.samples.end);
        let (grad_output, mut saved) = job.take(core, call, samples.len());
        let inputs = chunk_inputs(core, call, part, rows, &samples);
        let mut grad_inputs: Vec<GradInput> = (grad_inputs.iter_mut().zip(&call.inputs))
            .map(|(grad, slot)| take_grad(grad, samples.len() * slots[*slot].len_per_sample()))
            .collect();
        let mut chunk =
            Backward { samples: samples.len(), inputs: &inputs, grad_output, grad_inputs: &mut grad_inputs, saved: &mut saved };
        op.backward(&params, &mut chunk, grads, work);
        grads.first = false;
        start = samples.end;
    }
}
