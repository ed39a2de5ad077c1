//! Batch norm with an optional residual (the second input) and ReLU as an op of a program: samples of a group meet in it.
//!
//! A training pass normalises each group of samples by its own statistics and observes its mean and unbiased variance (0 where a
//! group has a single row); an evaluation normalises by the running ones. The last group of a part may be shorter.
//! Saved: each group's statistics, at its first sample. Recomputed in backward: the output, slab by slab, where ReLU stands
//! behind the norm.
//!
//! **Source** PyTorch's `BatchNorm2d`: momentum 0.1, running mean 0 and running variance 1 at the start.

mod cpu;
mod reference;

use crate::op::whole::{StateIdx, StateList};
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Init, ParamIdx, ParamList};

/// Share of what a step observed in the running statistics after it.
const MOMENTUM: f64 = 0.1;

/// Sizes of a batch norm, and what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormShape {
    /// Rows of a sample.
    pub pixels: usize,
    /// Channels (C).
    pub width: usize,
    /// Samples that share their statistics.
    pub group: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether negative sums become 0.
    pub relu: bool,
}

/// A batch norm and where its parameters and its state are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Sizes.
    pub shape: BatchNormShape,
    /// Gain.
    pub gain: ParamIdx,
    /// Bias.
    pub bias: ParamIdx,
    /// Running mean.
    pub running_mean: StateIdx,
    /// Running variance.
    pub running_var: StateIdx,
}

impl BatchNorm {
    /// Adds the norm's parameters as `{name}.weight`, which starts as `gain`, and `{name}.bias`, and its state as
    /// `{name}.running_mean` and `{name}.running_var`.
    pub fn describe(params: &mut ParamList, state: &mut StateList, name: &str, shape: BatchNormShape, gain: f32) -> Self {
        assert!(shape.pixels > 0 && shape.width > 0 && shape.group > 0, "sizes of a batch norm");
        Self {
            shape,
            gain: params.vector(format!("{name}.weight"), shape.width, Init::Constant(gain)),
            bias: params.vector(format!("{name}.bias"), shape.width, Init::Constant(0.0)),
            running_mean: state.vector(format!("{name}.running_mean"), shape.width, 0.0, MOMENTUM),
            running_var: state.vector(format!("{name}.running_var"), shape.width, 1.0, MOMENTUM),
        }
    }
}

impl Op for BatchNorm {
    fn shape(&self) -> OpShape {
        let width = self.shape.width;
        OpShape::new((self.shape.pixels, width), &[("mean", 1, width), ("rstd", 1, width)], 0)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Whole(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Whole(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.gain, self.bias]
    }
    fn group(&self) -> usize {
        self.shape.group
    }
}

#[cfg(test)]
mod tests;
