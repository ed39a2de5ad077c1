//! Four neighbours of a square map become one row of twice the width: y = reduce(norm(four rows side by side)).
//!
//! The four lie at (row, column) offsets (0, 0), (1, 0), (0, 1), (1, 1), in this order. The map has no bias.
//!
//! Saved: the norm's statistics. The four rows are put side by side again in backward.
//!
//! **Source** Liu et al. 2021, "Swin Transformer"; order and names are timm's (`swin_transformer.py`, `PatchMerging`).

mod cpu;
mod reference;
#[cfg(test)]
mod tests;

use crate::WeightLayout;
use crate::linear::LinearShape;
use crate::mlp::describe_norm;
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Init, ParamIdx, ParamList};

/// Offsets of the four, row and column.
const NEIGHBOURS: [(usize, usize); 4] = [(0, 0), (1, 0), (0, 1), (1, 1)];

/// A merging step and where its parameters are.
#[derive(Debug, Clone)]
pub struct PatchMerge {
    /// Side of the map that enters; even.
    pub side: usize,
    /// Channels that enter (C).
    pub width: usize,
    /// Added to the norm's variance.
    pub eps: f32,
    /// Norm of 4C channels: gain, bias.
    pub norm: (ParamIdx, ParamIdx),
    /// [2C, 4C].
    pub reduce: ParamIdx,
}

impl PatchMerge {
    /// Adds the parameters under `prefix`, a name that ends before the dot.
    ///
    /// # Panics
    /// If the side is odd.
    pub fn describe(params: &mut ParamList, prefix: &str, (side, width): (usize, usize), eps: f32, init: Init) -> Self {
        assert!(side.is_multiple_of(2), "merging a map of {side}");
        let norm = describe_norm(params, &format!("{prefix}.norm"), 4 * width);
        let linear = LinearShape { inputs: 4 * width, outputs: 2 * width, layout: WeightLayout::OutIn };
        let reduce = params.linear(format!("{prefix}.reduction.weight"), &[2 * width, 4 * width], 1, linear, init);
        Self { side, width, eps, norm, reduce }
    }

    /// Rows of the map that leaves.
    fn rows(&self) -> usize {
        self.side * self.side / 4
    }
}

impl Op for PatchMerge {
    fn shape(&self) -> OpShape {
        let rows = self.rows();
        OpShape::new((rows, 2 * self.width), &[("mean", rows, 1), ("rstd", rows, 1)], rows * 8 * self.width * self.width)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.norm.0, self.norm.1, self.reduce]
    }
}
