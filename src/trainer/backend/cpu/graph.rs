//! Programs on dfdx's tape.
//!
//! A slot is a dfdx tensor. A call merges the tapes of its inputs and pushes one op that turns the gradient of its output into those of
//! its inputs; they stay in dfdx's gradients, where readers of one slot overwrite and add in a fixed order. A loss term is a scalar
//! tensor, and dfdx goes back from their weighted sum.

use std::cell::{Ref, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use dfdx::tensor::TensorFromVec as _;
use dfdx::tensor::{Cpu, CpuError, Gradients, Merge, OwnedTape, PutTape, SplitTape, Tape, Tensor, Trace, ZerosTensor};
use dfdx::tensor_ops::{Backward as _, TryAdd, TryMul};

use super::call::{self, Input};
use super::core::Core;
use super::values::{FreeList, Values};
use crate::trainer::TrainerError;
use crate::trainer::ops::elementwise;
use crate::trainer::ops::loss::LossValue;
use crate::trainer::ops::op::GradInput;
use crate::trainer::ops::op::whole::Pass;
use crate::trainer::program::{GradMode, LossTerm, Program, SlotIdx};

type CpuTape = OwnedTape<f32, Cpu>;
type Scalar = Tensor<(), f32, Cpu, CpuTape>;

/// Tapes that lead back from slots, by slot; the first reader takes a slot's.
pub(super) type Tapes = Vec<Option<CpuTape>>;

/// What the ops on the tape share.
pub(super) struct State {
    pub core: Core,
    /// Slots of the part at hand.
    values: Values,
    /// Slots that the losses read, for the whole batch where it is cut into parts.
    whole: Values,
    free: FreeList,
}

/// A program's graph: tensors, and gradients that are kept from step to step.
pub(super) struct Graph {
    program: Arc<Program>,
    pub state: Rc<RefCell<State>>,
    device: Cpu,
    /// Entries of all slots, empty between steps, and how many tensors had been made when they were told apart from scalars.
    kept: Option<(Gradients<f32, Cpu>, usize)>,
}

/// Which tensors the losses read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Those of the part at hand, which is the whole batch.
    Part,
    /// Those that parts were gathered in.
    Whole,
}

impl State {
    fn values(&mut self, source: Source) -> &mut Values {
        match source {
            Source::Part => &mut self.values,
            Source::Whole => &mut self.whole,
        }
    }
}

impl Graph {
    pub fn new(program: Arc<Program>, core: Core) -> Self {
        let state = State { core, values: Values::default(), whole: Values::default(), free: FreeList::default() };
        Self { program, state: Rc::new(RefCell::new(state)), device: Cpu::default(), kept: None }
    }

    /// Runs the calls that lead to `slots` on a part of the loaded batch; the tapes that lead back from slots nobody read are returned
    /// in a pass with gradients.
    pub fn run(&self, slots: &[SlotIdx], part: &Range<usize>, pass: Pass) -> Result<Tapes, TrainerError> {
        let mut tapes: Tapes = self.program.slots.iter().map(|_| None).collect();
        for idx in self.program.leading_to(slots) {
            self.forward(idx, part, pass)?;
            let call = &self.program.calls[idx];
            if pass == Pass::Gradient && call.has_gradient {
                let mut tape = merged(&mut tapes, &call.inputs);
                let (program, state, part) = (self.program.clone(), self.state.clone(), part.clone());
                tape.add_backward_op(move |grads| backward(&program, &mut state.borrow_mut(), grads, idx, &part));
                tapes[call.output] = Some(tape);
            }
        }
        Ok(tapes)
    }

    fn forward(&self, idx: usize, part: &Range<usize>, pass: Pass) -> Result<(), CpuError> {
        let (program, call) = (&*self.program, &self.program.calls[idx]);
        let state = &mut *self.state.borrow_mut();
        state.values.reserve(program, call.output, part.len())?;
        let len = part.len() * program.slots[call.output].len_per_sample();
        let (inputs, output) = state.values.write(&rows_of(program, &call.inputs, part), call.output, len);
        call::forward(&mut state.core, call, part, &inputs, output, pass);
        Ok(())
    }

    /// A slot's elements for a part.
    pub fn values(&self, slot: SlotIdx, samples: usize) -> Ref<'_, [f32]> {
        let len = samples * self.program.slots[slot].len_per_sample();
        Ref::map(self.state.borrow(), |state| state.values.read(slot, len))
    }

    /// Copies a part's slots to their places in the whole batch.
    pub fn gather(&self, slots: &[SlotIdx], part: &Range<usize>, samples: usize) -> Result<(), TrainerError> {
        let state = &mut *self.state.borrow_mut();
        for slot in slots {
            let per_sample = self.program.slots[*slot].len_per_sample();
            state.whole.reserve(&self.program, *slot, samples)?;
            let (_, whole) = state.whole.write(&[], *slot, samples * per_sample);
            whole[part.start * per_sample..part.end * per_sample]
                .copy_from_slice(state.values.read(*slot, part.len() * per_sample));
        }
        Ok(())
    }

    /// The gradient that the losses left for a slot of the whole batch.
    pub fn take_gradient(&mut self, slot: SlotIdx) -> Result<Vec<f32>, TrainerError> {
        let (grads, _) = self.kept.as_mut().expect("the losses have gone back");
        Ok(std::mem::take(self.state.borrow().whole.gradient(slot, grads)?))
    }

    /// The total loss of the whole batch and the values of its terms; parts of it that the tapes lead back from are in `source`.
    pub fn loss(&self, tapes: &mut Tapes, samples: usize, source: Source) -> Result<(Scalar, Vec<f64>), TrainerError> {
        let (mut total, mut values): (Option<Scalar>, Vec<f64>) = (None, Vec::new());
        for (idx, term) in self.program.losses.iter().enumerate() {
            let (found, grads) = self.evaluate(term, samples, source)?;
            values.push(found.value);
            let mut tape = merged(tapes, &term.inputs);
            #[expect(clippy::cast_possible_truncation, reason = "a scalar of the tape is f32; its f64 value is reported")]
            let scalar: Tensor<(), f32, Cpu> = self.device.try_tensor_from_vec(vec![found.value as f32], ())?;
            let (program, state, ghost) = (self.program.clone(), self.state.clone(), scalar.ghost());
            tape.add_backward_op(move |gradients| {
                let upstream = gradients.get_or_alloc_mut(&ghost)?[0];
                let (term, state) = (&program.losses[idx], &mut *state.borrow_mut());
                hand_back(term, state, gradients, source, grads, upstream)?;
                let weighted = found.params.iter().map(|(param, grad)| (*param, grad * f64::from(upstream)));
                state.core.loss_grads.extend(weighted);
                Ok(())
            });
            #[expect(clippy::cast_possible_truncation, reason = "weights are small numbers")]
            let weighted = scalar.put_tape(tape).try_mul(term.weight as f32)?;
            total = Some(match total {
                None => weighted,
                Some(total) => total.try_add(weighted)?,
            });
        }
        Ok((total.expect("a program that is trained has a loss"), values))
    }

    /// A term's value, and its gradients by its inputs.
    fn evaluate(&self, term: &LossTerm, samples: usize, source: Source) -> Result<(LossValue, Vec<Vec<f32>>), TrainerError> {
        let state = &mut *self.state.borrow_mut();
        let len = |slot: &SlotIdx| samples * self.program.slots[*slot].len_per_sample();
        let mut grads = term.inputs.iter().map(|slot| state.free.take(len(slot))).collect::<Result<Vec<_>, _>>()?;
        let values = match source {
            Source::Part => &state.values,
            Source::Whole => &state.whole,
        };
        let inputs: Vec<&[f32]> = term.inputs.iter().map(|slot| values.read(*slot, len(slot))).collect();
        let mut slices: Vec<&mut [f32]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
        let found = term.op.cpu(&state.core.params(), samples, &inputs, &mut slices, &state.core.team());
        Ok((found, grads))
    }

    /// A scalar that leads back from given gradients of slots of the part.
    pub fn seeded(&self, tapes: &mut Tapes, seeds: Vec<(SlotIdx, Vec<f32>)>) -> Result<Scalar, TrainerError> {
        let slots: Vec<SlotIdx> = seeds.iter().map(|(slot, _)| *slot).collect();
        let mut tape = merged(tapes, &slots);
        let state = self.state.clone();
        tape.add_backward_op(move |grads| {
            let state = &mut *state.borrow_mut();
            for (slot, seed) in seeds {
                let entry = state.values.gradient(slot, grads)?;
                state.free.give(std::mem::replace(entry, seed));
            }
            Ok(())
        });
        let carrier: Tensor<(), f32, Cpu> = self.device.try_zeros()?;
        Ok(carrier.put_tape(tape))
    }

    /// Goes back from a scalar.
    pub fn go_back(&mut self, scalar: Scalar) -> Result<(), TrainerError> {
        let (scalar, tape) = scalar.split_tape();
        let (mut kept, known) = self.kept.take().unwrap_or_else(|| (Gradients::leaky(), 0));
        let made = {
            let state = self.state.borrow();
            let made = state.values.generation + state.whole.generation;
            if made != known {
                // Entries of these are kept after a pass, those of scalars are dropped.
                kept.retain_leafs(&[state.values.ids(), state.whole.ids()].concat());
            }
            made
        };
        let carrier: Tensor<(), f32, Cpu> = self.device.try_zeros()?;
        let (_, kept) = carrier.traced(kept).split_tape();
        self.kept = Some((scalar.put_tape(kept.merge(tape)).try_backward()?, made));
        Ok(())
    }
}

/// Slots of earlier calls among a call's inputs, with their elements for a part.
fn rows_of(program: &Program, inputs: &[SlotIdx], part: &Range<usize>) -> Vec<Option<(SlotIdx, usize)>> {
    let rows = |slot: &SlotIdx| match program.input(*slot) {
        None => Some((*slot, part.len() * program.slots[*slot].len_per_sample())),
        Some(_) => None,
    };
    inputs.iter().map(rows).collect()
}

/// The tapes of some slots as one.
fn merged(tapes: &mut Tapes, slots: &[SlotIdx]) -> CpuTape {
    let tapes = slots.iter().filter_map(|slot| tapes[*slot].take());
    tapes.reduce(Merge::merge).unwrap_or_default()
}

/// One call going back.
fn backward(
    program: &Program,
    state: &mut State,
    grads: &mut Gradients<f32, Cpu>,
    idx: usize,
    part: &Range<usize>,
) -> Result<(), CpuError> {
    let call = &program.calls[idx];
    let State { core, values, free, .. } = state;
    let mut grad_output = std::mem::take(values.gradient(call.output, grads)?);
    let turns_over = |input: usize| call.is_in_place && input == 0;
    let mut buffers: Vec<Vec<f32>> = Vec::with_capacity(call.inputs.len());
    let mut modes = call.grads.clone();
    for (input, (slot, mode)) in call.inputs.iter().zip(&mut modes).enumerate() {
        let written: usize = if *mode == GradMode::Add { values.gradient(*slot, grads)?.len() } else { 0 };
        if *mode == GradMode::Add && written == 0 {
            // The reader that would have written first did not run.
            *mode = GradMode::Overwrite;
        }
        buffers.push(match mode {
            GradMode::None => Vec::new(),
            _ if turns_over(input) => Vec::new(),
            GradMode::Overwrite => free.take(part.len() * program.slots[*slot].len_per_sample())?,
            GradMode::Add => std::mem::take(values.gradient(*slot, grads)?),
        });
    }
    let grad_inputs = buffers.iter_mut().zip(&modes).enumerate().map(|(input, (buffer, mode))| match mode {
        GradMode::None => GradInput::None,
        _ if turns_over(input) => GradInput::None,
        GradMode::Overwrite => GradInput::Overwrite(buffer),
        GradMode::Add => GradInput::Add(buffer),
    });
    let inputs = rows_of(program, &call.inputs, part);
    let rows: Vec<Input> = inputs.iter().map(|input| input.map(|(slot, len)| values.read(slot, len))).collect();
    call::backward(core, call, part, &rows, &mut grad_output, grad_inputs.collect());
    let mut grad_output = Some(grad_output);
    for (input, (buffer, (slot, mode))) in buffers.into_iter().zip(call.inputs.iter().zip(&modes)).enumerate() {
        if *mode == GradMode::None {
            continue;
        }
        let entry = values.gradient(*slot, grads)?;
        match (turns_over(input).then(|| grad_output.take()).flatten(), mode) {
            (None, _) => free.give(std::mem::replace(entry, buffer)),
            (Some(turned), mode) => put(entry, turned, *mode, free),
        }
    }
    grad_output.into_iter().for_each(|buffer| free.give(buffer));
    Ok(())
}

/// Puts a reader's gradient of a slot where it stays; what is not kept goes back to the list.
fn put(entry: &mut Vec<f32>, mut grad: Vec<f32>, mode: GradMode, free: &mut FreeList) {
    if mode == GradMode::Add {
        elementwise::add(&grad, entry);
    } else {
        std::mem::swap(entry, &mut grad);
    }
    free.give(grad);
}

/// Hands a term's gradients back to the slots that it read.
fn hand_back(
    term: &LossTerm,
    state: &mut State,
    gradients: &mut Gradients<f32, Cpu>,
    source: Source,
    grads: Vec<Vec<f32>>,
    upstream: f32,
) -> Result<(), CpuError> {
    for (mut grad, (slot, mode)) in grads.into_iter().zip(term.inputs.iter().zip(&term.grads)) {
        if upstream.to_bits() != 1_f32.to_bits() {
            grad.iter_mut().for_each(|value| *value *= upstream);
        }
        let entry = state.values(source).gradient(*slot, gradients)?;
        put(entry, grad, *mode, &mut state.free);
    }
    Ok(())
}
