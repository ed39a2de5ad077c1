//! Ops whose result for a sample depends on the other samples of its group, and the state that they keep: their forms take a whole
//! part of the batch at once.

use super::{GradInput, In, Params, Value};
use crate::ParallelFor;
use crate::reference::{Gradients, Matrix, Parameters};

/// Index of a view in a program's list of state.
pub type StateIdx = usize;

/// A vector that training changes without a gradient, such as a running mean.
#[derive(Debug, Clone, PartialEq)]
pub struct StateView {
    /// Name, as it is exported.
    pub name: String,
    /// First element in the flat state.
    pub offset: usize,
    /// Elements.
    pub len: usize,
    /// What every element starts as.
    pub start: f32,
    /// Share of what a step observed in the value after it; the rest is the value before it.
    pub momentum: f64,
}

impl StateView {
    /// Range in the flat state.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Collects views of state, in flat order, while a model is described.
#[derive(Debug, Default)]
pub struct StateList(Vec<StateView>);

impl StateList {
    /// Adds a vector at the end of the flat state.
    pub fn vector(&mut self, name: String, len: usize, start: f32, momentum: f64) -> StateIdx {
        let offset = self.0.last().map_or(0, |view| view.range().end);
        self.0.push(StateView { name, offset, len, start, momentum });
        self.0.len() - 1
    }

    /// The views.
    #[must_use]
    pub fn finish(self) -> Vec<StateView> {
        self.0
    }
}

/// The state before the first step.
#[must_use]
pub fn initial(views: &[StateView]) -> Vec<f32> {
    views.iter().flat_map(|view| std::iter::repeat_n(view.start, view.len)).collect()
}

/// What a pass through a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Features for an evaluation: state is read.
    Evaluate,
    /// Features of a training step: the batch's own statistics, which are not observed.
    Features,
    /// A training step: the batch's own statistics, which are observed.
    Gradient,
}

/// What a step has observed: sums over groups, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    sums: Vec<f64>,
    groups: Vec<u32>,
}

impl Observed {
    /// Nothing yet, for these views.
    #[must_use]
    pub fn new(views: &[StateView]) -> Self {
        Self { sums: vec![0.0; views.iter().map(|view| view.len).sum()], groups: vec![0; views.len()] }
    }
    /// Forgets what was observed.
    pub fn clear(&mut self) {
        self.sums.fill(0.0);
        self.groups.fill(0);
    }
    /// The state after a step, from the mean over its groups; views that nothing was observed of stay as they are.
    #[must_use]
    pub fn moved(&self, views: &[StateView], state: &[f64]) -> Vec<f64> {
        let mut state = state.to_vec();
        for (view, groups) in views.iter().zip(&self.groups).filter(|(_, groups)| **groups > 0) {
            for (value, sum) in state[view.range()].iter_mut().zip(&self.sums[view.range()]) {
                *value += view.momentum * (sum / f64::from(*groups) - *value);
            }
        }
        state
    }
}

/// A program's state as an op sees it.
pub struct State<'a, R> {
    /// Views of the program.
    pub views: &'a [StateView],
    /// The flat state before the step.
    pub flat: &'a [R],
    /// What the step observed so far.
    pub observed: &'a mut Observed,
}

impl<R> State<'_, R> {
    /// Values of one view.
    #[must_use]
    pub fn view(&self, idx: StateIdx) -> &[R] {
        &self.flat[self.views[idx].range()]
    }
    /// Takes in what one group of samples shows of a view; groups are told in their order.
    ///
    /// # Panics
    /// If there is not one value an element.
    pub fn observe(&mut self, idx: StateIdx, values: impl ExactSizeIterator<Item = f64>) {
        let sums = &mut self.observed.sums[self.views[idx].range()];
        assert_eq!(values.len(), sums.len(), "what is observed of `{}`", self.views[idx].name);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.observed.groups[idx] += 1;
    }
}

/// A part of a batch on its way through an op.
pub struct Part<'a, 'b> {
    /// Samples in the part: whole groups, except in [`Pass::Evaluate`].
    pub samples: usize,
    /// Read, in the order of the call's inputs; rows are [samples * rows, channels].
    pub inputs: &'b [In<'a>],
    /// Parameters.
    pub params: Params<'a>,
    /// What it is for.
    pub pass: Pass,
}

/// An op on a whole part; what it gives does not depend on how `team` shares the work.
pub trait Whole: Sync {
    /// Writes the output and, where there will be a way back, the saved slots.
    fn forward(&self, part: &Part, output: &mut [f32], saved: &mut [&mut [f32]], state: &mut State<f32>, team: &dyn ParallelFor);
    /// Gradients of the inputs, and those of the parameters, which are added to `gradient`, the program's flat one. An op that works in
    /// place turns `grad_output` into the gradient of its first input.
    fn backward(
        &self,
        part: &Part,
        grad_output: &mut [f32],
        grad_inputs: &mut [GradInput],
        saved: &[&[f32]],
        gradient: &mut [f32],
        team: &dyn ParallelFor,
    );
}

/// As [`Whole`], in plain f64 loops; by sample.
pub trait WholeReference {
    /// The output of every sample.
    fn forward(&self, params: &Parameters, inputs: &[Vec<Value>], pass: Pass, state: &mut State<f64>) -> Vec<Matrix>;
    /// Adds the parameters' gradients; the gradients of each sample's inputs, `None` for what comes with the batch.
    fn backward(
        &self,
        params: &Parameters,
        inputs: &[Vec<Value>],
        grad_outputs: &[Matrix],
        grads: &mut Gradients,
    ) -> Vec<Vec<Option<Matrix>>>;
}
