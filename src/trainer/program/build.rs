//! Putting a program together while a model is described.

use std::sync::Arc;

use super::{
    Call, Dtype, GradMode, Input, InputKind, Logits, LossTerm, Output, ParamIdx, ParamList, Program, Slot, SlotIdx, SlotKind, Tower,
};
use crate::trainer::ops::loss::Loss;
use crate::trainer::ops::op::whole::StateList;
use crate::trainer::ops::op::{Op, Size};

/// Collects views, slots, calls and losses while a model is described.
#[derive(Debug, Default)]
pub struct ProgramBuilder {
    /// Views, in flat order.
    pub params: ParamList,
    /// Untrained state, in flat order.
    pub state: StateList,
    inputs: Vec<Input>,
    slots: Vec<Slot>,
    calls: Vec<Call>,
    losses: Vec<LossTerm>,
    outputs: Vec<(Output, SlotIdx)>,
}

impl ProgramBuilder {
    /// Channels of a slot.
    #[must_use]
    pub fn channels(&self, slot: SlotIdx) -> usize {
        self.slots[slot].channels
    }
    /// Repeats the calls that lead to a slot, with the same parameters, on what a batch brings along of another view of its images;
    /// returns the slot that stands for the given one. Names get the view behind their first part: `image.view1.block0`.
    pub fn repeat(&mut self, slot: SlotIdx, view: usize) -> SlotIdx {
        let named = |name: &str| match name.split_once('.') {
            Some((first, rest)) => format!("{first}.view{view}.{rest}"),
            None => format!("{name}.view{view}"),
        };
        let mut places: Vec<SlotIdx> = (0..self.slots.len()).collect();
        for idx in leading_to(&self.calls, &[slot]) {
            let mut call = self.calls[idx].clone();
            for input in &mut call.inputs {
                let found = self.inputs.iter().find(|found| found.slot == *input && places[*input] == *input);
                if let Some(Input { kind, tower, .. }) = found.copied() {
                    places[*input] = self.input(&named(&self.slots[*input].name), tower, kind.of_view(view));
                }
                *input = places[*input];
            }
            let written = call.saved.iter_mut().chain([&mut call.output]);
            for slot in written {
                places[*slot] = self.slots.len();
                self.slots.push(Slot { name: named(&self.slots[*slot].name), ..self.slots[*slot].clone() });
                *slot = places[*slot];
            }
            call.name = named(&call.name);
            self.calls.push(call);
        }
        places[slot]
    }
    /// Adds something that a batch brings along.
    pub fn input(&mut self, name: &str, tower: Tower, kind: InputKind) -> SlotIdx {
        let (size, dtype) = kind.layout();
        let slot = self.slot(name.to_owned(), size, dtype, SlotKind::Input);
        self.inputs.push(Input { slot, kind, tower });
        slot
    }
    fn slot(&mut self, name: String, Size { rows, channels }: Size, dtype: Dtype, kind: SlotKind) -> SlotIdx {
        self.slots.push(Slot { name, rows, channels, dtype, kind });
        self.slots.len() - 1
    }
    /// Adds a call with its output slot and saved slots; returns the output.
    pub fn call(&mut self, name: String, tower: Tower, op: impl Op, inputs: &[SlotIdx]) -> SlotIdx {
        let shape = op.shape();
        let saved = shape.saved.iter();
        let saved = saved.map(|(part, size)| self.slot(format!("{name}.{part}"), *size, Dtype::F32, SlotKind::Saved)).collect();
        let output = self.slot(format!("{name}.out"), shape.output, Dtype::F32, SlotKind::Activation);
        let chunk_rows = self.chunk_rows(inputs, output);
        let has_gradient = !op.params().is_empty() || inputs.iter().any(|slot| self.has_gradient(*slot));
        self.calls.push(Call {
            name,
            has_gradient,
            chunk_rows,
            tower,
            is_in_place: shape.is_in_place,
            is_whole: !op.summed_whole().is_empty(),
            op: Arc::new(op),
            inputs: inputs.to_vec(),
            grads: Vec::new(),
            adds_to_params: false,
            output,
            saved,
        });
        output
    }
    /// Whether a slot's gradient leads to a parameter.
    fn has_gradient(&self, slot: SlotIdx) -> bool {
        self.calls.iter().any(|call| call.output == slot && call.has_gradient)
    }
    /// The most rows of the f32 slots that a call reads and writes; a call on single rows walks the chunks of the call before it.
    fn chunk_rows(&self, inputs: &[SlotIdx], output: SlotIdx) -> usize {
        let slots = inputs.iter().chain([&output]).map(|slot| &self.slots[*slot]);
        let rows = slots.filter(|slot| slot.dtype == Dtype::F32).map(|slot| slot.rows).max().unwrap_or(1);
        let before = inputs.iter().find_map(|slot| self.calls.iter().find(|call| call.output == *slot));
        if rows > 1 { rows } else { before.map_or(rows, |call| call.chunk_rows) }
    }
    /// Adds a term of the loss.
    pub fn loss(&mut self, name: &'static str, weight: f64, op: impl Loss, inputs: &[SlotIdx]) {
        self.losses.push(LossTerm { name, weight, op: Arc::new(op), inputs: inputs.to_vec(), grads: Vec::new() });
    }
    /// Names a slot that is read from outside.
    pub fn output(&mut self, output: Output, slot: SlotIdx) {
        self.outputs.push((output, slot));
    }
    /// The finished program.
    ///
    /// # Panics
    /// If two calls share some of their parameters and not all.
    #[must_use]
    pub fn finish(self, logits: Logits, embed_dim: usize) -> Program {
        let (Self { params, state, inputs, slots, mut calls, mut losses, outputs }, Logits { log_scale, bias, scale_max }) =
            (self, logits);
        set_grad_modes(&slots, &mut calls, &mut losses);
        set_shared(&mut calls, &losses);
        Program {
            params: params.finish(),
            state: state.finish(),
            inputs,
            slots,
            calls,
            losses,
            outputs,
            log_logit_scale: log_scale,
            logit_bias: bias,
            embed_dim,
            logit_scale_max: scale_max,
        }
    }
}

/// The calls that some slots depend on, in order.
pub(super) fn leading_to(calls: &[Call], slots: &[SlotIdx]) -> Vec<usize> {
    let mut wanted = slots.to_vec();
    let mut found = Vec::new();
    for (idx, call) in calls.iter().enumerate().rev() {
        if wanted.contains(&call.output) {
            found.push(idx);
            wanted.extend(&call.inputs);
        }
    }
    found.reverse();
    found
}

/// The calls that lead to a loss, in order: only they go back.
fn leading_to_losses(calls: &[Call], losses: &[LossTerm]) -> Vec<usize> {
    let slots: Vec<SlotIdx> = losses.iter().flat_map(|term| term.inputs.iter().copied()).collect();
    leading_to(calls, &slots)
}

/// Of a slot's readers, losses last, the last overwrites its gradient and the others add.
fn set_grad_modes(slots: &[Slot], calls: &mut [Call], losses: &mut [LossTerm]) {
    let trained = leading_to_losses(calls, losses);
    let mut has_gradient = vec![false; slots.len()];
    calls.iter().for_each(|call| has_gradient[call.output] = call.has_gradient);
    let mut is_written = vec![false; slots.len()];
    let mut modes = |inputs: &[SlotIdx]| -> Vec<GradMode> {
        let mode = |slot: &SlotIdx| match (has_gradient[*slot], std::mem::replace(&mut is_written[*slot], true)) {
            (false, _) => GradMode::None,
            (_, false) => GradMode::Overwrite,
            (_, true) => GradMode::Add,
        };
        inputs.iter().map(mode).collect()
    };
    for term in losses.iter_mut().rev() {
        term.grads = modes(&term.inputs);
    }
    for (idx, call) in calls.iter_mut().enumerate().rev() {
        call.grads = if trained.contains(&idx) { modes(&call.inputs) } else { vec![GradMode::None; call.inputs.len()] };
    }
}

/// Of the calls that share parameters, the last overwrites their gradients and the others add.
fn set_shared(calls: &mut [Call], losses: &[LossTerm]) {
    let mut written: Vec<ParamIdx> = Vec::new();
    for idx in leading_to_losses(calls, losses).into_iter().rev() {
        let params = calls[idx].op.params();
        let shared = params.iter().filter(|param| written.contains(param)).count();
        assert!(shared == 0 || shared == params.len(), "`{}` shares some of its parameters and not all", calls[idx].name);
        calls[idx].adds_to_params = shared > 0;
        written.extend(params);
    }
}
