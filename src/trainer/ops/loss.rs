//! What a loss is to a program: a number from slots of the whole batch, with its gradients.

use std::fmt::Debug;

use crate::ParallelFor;
use crate::op::Params;
use crate::params::ParamIdx;
use crate::reference::{Matrix, Parameters};

/// The value of a loss and its gradients by its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct LossValue {
    /// Nats.
    pub value: f64,
    /// Gradients of scalar parameters.
    pub params: Vec<(ParamIdx, f64)>,
}

/// A loss in the f64 form: value, gradients of the inputs, gradients of scalar parameters.
#[derive(Debug, Clone)]
pub struct ReferenceLoss {
    /// Nats.
    pub value: f64,
    /// By each input, of its size.
    pub inputs: Vec<Matrix>,
    /// Gradients of scalar parameters.
    pub params: Vec<(ParamIdx, f64)>,
}

/// A loss on the features of a whole batch.
pub trait Loss: Debug + Send + Sync + 'static {
    /// Value and gradients. **Shapes** inputs and their gradients [B, width of the slot]; gradients are overwritten. What it
    /// returns does not depend on how `team` shares the work.
    fn cpu(
        &self,
        params: &Params,
        samples: usize,
        inputs: &[&[f32]],
        grads: &mut [&mut [f32]],
        team: &dyn ParallelFor,
    ) -> LossValue;
    /// The form that the others are tested against; inputs are [B, width].
    fn reference(&self, params: &Parameters, inputs: &[&Matrix]) -> ReferenceLoss;
}
