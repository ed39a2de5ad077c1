//! Calls of a part of a batch as nodes: forward, then back from the gradients of the slots that losses read.

use super::inputs::Ready;
use super::{Draft, form};
use crate::trainer::ops::launch::View;
use crate::trainer::ops::recorder::{Array, Aside, Output, Site, Source, Value};
use crate::trainer::program::{Dtype, Program, SlotIdx, Tower};

/// A part of a batch on its way through the calls.
pub(super) struct Part {
    /// Samples.
    pub samples: usize,
    /// What each slot holds, once it is there.
    sources: Vec<Option<Source>>,
    /// Where the slots go that are read from outside.
    places: Vec<(SlotIdx, Output)>,
    /// The plans of calls.
    plans: Vec<(usize, View)>,
    /// What each call has kept.
    saved: Vec<Vec<Array>>,
    /// The gradient of each slot whose later readers have gone back.
    grads: Vec<Option<Value>>,
}

impl Part {
    /// A part whose inputs are ready; `plans` are those of its calls.
    pub fn new(program: &Program, range: &std::ops::Range<usize>, inputs: &[Ready], plans: Vec<(usize, View)>) -> Self {
        let mut sources = vec![None; program.slots.len()];
        for (slot, source) in inputs.iter().map(|input| input.part(range)) {
            sources[slot] = Some(source);
        }
        let (saved, grads) = (vec![Vec::new(); program.calls.len()], vec![None; program.slots.len()]);
        Self { samples: range.len(), sources, places: Vec::new(), plans, saved, grads }
    }

    /// Says where slots go that are read from outside.
    pub fn write_to(&mut self, places: Vec<(SlotIdx, Output)>) {
        self.places = places;
    }

    /// What an earlier call gave.
    pub fn value(&self, slot: SlotIdx) -> Value {
        self.sources[slot].expect("the call has been recorded").rows()
    }

    /// Gives the gradient of a slot by the losses.
    pub fn seed(&mut self, slot: SlotIdx, grad: Value) {
        self.grads[slot] = Some(grad);
    }

    fn inputs(&self, program: &Program, call: usize) -> Vec<Source> {
        let read = |slot: &SlotIdx| {
            self.sources[*slot].unwrap_or_else(|| panic!("`{}` is there when it is read", program.slots[*slot].name))
        };
        program.calls[call].inputs.iter().map(read).collect()
    }

    fn plan(&self, call: usize) -> Option<View> {
        self.plans.iter().find(|(of, _)| *of == call).map(|(_, view)| *view)
    }
}

/// Those of some calls that are a tower's.
pub(super) fn of_tower(program: &Program, calls: &[usize], tower: Tower) -> Vec<usize> {
    calls.iter().copied().filter(|call| program.calls[*call].tower == tower).collect()
}

impl Draft<'_> {
    /// Records calls forward, in order.
    pub(super) fn forward(&mut self, part: &mut Part, calls: &[usize]) {
        let program = self.program;
        for idx in calls {
            let call = &program.calls[*idx];
            let inputs = part.inputs(program, *idx);
            let site = Site { samples: part.samples, inputs: &inputs, plan: part.plan(*idx) };
            let output = part.places.iter().find(|(slot, _)| *slot == call.output).map(|(_, place)| *place);
            let slot = &program.slots[call.output];
            let output = output.unwrap_or_else(|| self.r.pair(&slot.name, part.samples * slot.rows, slot.channels));
            let recorded = form(call).forward(&mut self.r, &site, output);
            part.sources[call.output] = Some(Source::Rows(recorded.output));
            part.saved[*idx] = recorded.saved;
        }
    }

    /// Records a call back: what it returns is added to the gradients of the slots that it read.
    fn backward(&mut self, part: &mut Part, call: usize) {
        let program = self.program;
        let inputs = part.inputs(program, call);
        let site = Site { samples: part.samples, inputs: &inputs, plan: part.plan(call) };
        let saved = std::mem::take(&mut part.saved[call]);
        let call = &program.calls[call];
        let grad = part.grads[call.output].take().expect("a call goes back after the readers of its output");
        let grads = form(call).backward(&mut self.r, &site, &saved, grad);
        assert_eq!(grads.len(), call.inputs.len(), "`{}` gives one gradient an input", call.name);
        for ((slot, source), grad) in call.inputs.iter().zip(&inputs).zip(grads) {
            assert_eq!(matches!(source, Source::Rows(_)), grad.is_some(), "`{}` gives gradients of rows alone", call.name);
            let Some(grad) = grad else { continue };
            part.grads[*slot] = Some(match part.grads[*slot].take() {
                None => grad,
                Some(later) => self.r.add(later, grad),
            });
        }
    }

    /// Records the calls of towers back, one tower after the other, each last call first.
    pub(super) fn backward_in_turn(&mut self, part: &mut Part, towers: &[Vec<usize>; 2]) {
        self.r.begin(1);
        for call in towers.iter().flat_map(|calls| calls.iter().rev()) {
            self.backward(part, *call);
        }
    }

    /// Whether a call works on single rows: it shares a section with the call that it reads, since it is over at once.
    fn is_short(&self, call: usize) -> bool {
        let slots = self.program.calls[call].inputs.iter().map(|slot| &self.program.slots[*slot]);
        slots.filter(|slot| slot.dtype == Dtype::F32).all(|slot| slot.rows == 1)
    }

    /// As [`Self::backward_in_turn`], both towers side by side, a section for a call of each; gradients of parameters run beside the
    /// calls after those that they belong to. Branches: a tower's calls, then its products and its sums aside.
    pub(super) fn backward_side_by_side(&mut self, part: &mut Part, towers: &[Vec<usize>; 2]) {
        let mut left = towers.clone();
        let mut waiting: [Aside; 2] = Default::default();
        loop {
            self.r.begin(6);
            let mut is_over = true;
            for (idx, (left, waiting)) in left.iter_mut().zip(&mut waiting).enumerate() {
                let Aside { products, sums } = std::mem::take(waiting);
                is_over &= products.is_empty() && sums.is_empty();
                self.r.on(2 + 2 * idx);
                self.r.push(products);
                self.r.on(3 + 2 * idx);
                self.r.push(sums);
                self.r.on(idx);
                self.r.set_aside();
                while let Some(call) = left.pop() {
                    is_over = false;
                    self.backward(part, call);
                    if !self.is_short(call) {
                        break;
                    }
                }
                *waiting = self.r.take_aside();
            }
            if is_over {
                return;
            }
        }
    }
}
