//! An op's form for a GPU, and why it may have none.

use std::fmt::{Display, Formatter};

use super::{Array, Output, Recorder, Source, Value};
use crate::launch::View;

/// Where a call is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Samples of the part.
    pub samples: usize,
    /// Read, in the order of the call's inputs.
    pub inputs: &'a [Source],
    /// What the host writes for this part, where the op has a [`HostPlan`] and gradients are computed.
    pub plan: Option<View>,
}

/// What a call leaves when it has been recorded forward.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The output, in the types that were written.
    pub output: Value,
    /// What backward needs beside the inputs, in an order that the op knows.
    pub saved: Vec<Array>,
}

/// An op as nodes of a recording.
pub trait Record {
    /// Records the output, which goes to `output`.
    fn forward(&self, r: &mut Recorder, site: &Site, output: Output) -> Recorded;
    /// Records gradients of parameters ([`Recorder::grads`]) and inputs: one an input, `None` for those that come with the batch.
    ///
    /// `grad` is the gradient of the output; its rows in f32 may be changed and handed on, those in the compute type may be handed on
    /// only, since gradients of weights may still wait to read them. No two gradients that are returned share a place.
    fn backward(&self, r: &mut Recorder, site: &Site, saved: &[Array], grad: Value) -> Vec<Option<Value>>;
    /// What the host works out of a batch before each step; `None` where backward needs nothing of it.
    fn host_plan(&self) -> Option<Box<dyn HostPlan>> {
        None
    }
}

/// Words that the host works out of a part of a batch and writes for a call's backward. It keeps its memory from step to step.
pub trait HostPlan: Send {
    /// Words of the plan of a part.
    fn words(&self, samples: usize) -> usize;
    /// The plan of a part.
    fn fill(&mut self, part: &HostPart) -> &[u32];
}

/// What a plan is worked out of.
#[derive(Debug, Clone, Copy)]
pub struct HostPart<'a> {
    /// The words of the call's first input, [samples, words].
    pub words: &'a [u32],
    /// The last of those of each sample that leads to a loss, `[samples]`.
    pub ends: &'a [u32],
}

/// Why a call cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its op has no form for a GPU.
    NoForm,
    /// A size is larger than the kernels take.
    Beyond {
        /// Of what.
        what: &'static str,
        /// The size.
        found: usize,
        /// The largest that they take.
        most: usize,
    },
}

impl Refusal {
    /// Refuses a size that is larger than `most`.
    ///
    /// # Errors
    /// [`Refusal::Beyond`].
    pub fn beyond(what: &'static str, found: usize, most: usize) -> Result<(), Self> {
        if found > most { Err(Self::Beyond { what, found, most }) } else { Ok(()) }
    }
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoForm => "use `--device cpu`",
            Self::Beyond { .. } => "use `--device cpu`, or a smaller one",
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        match self {
            Self::NoForm => write!(f, "no kernels for it"),
            Self::Beyond { what, found, most } => write!(f, "{found} {what}, at most {most}"),
        }
    }
}
