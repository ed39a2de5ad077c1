//! A map to one row: the mean over its pixels, then layer norm where the model has one (ConvNeXt does, ResNet does not).
//!
//! Saved: with a norm, the mean and the norm's statistics; else nothing.

mod cpu;
mod reference;

use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::ParamIdx;

/// A pooling step and where its parameters are.
#[derive(Debug, Clone)]
pub struct MapPool {
    /// Pixels of a map.
    pub pixels: usize,
    /// Channels (C).
    pub width: usize,
    /// Norm of the mean: gain, bias.
    pub norm: Option<(ParamIdx, ParamIdx)>,
    /// Added to the norm's variance.
    pub eps: f32,
}

impl Op for MapPool {
    fn shape(&self) -> OpShape {
        let saved = [("pooled", 1, self.width), ("mean", 1, 1), ("rstd", 1, 1)];
        OpShape::new((1, self.width), if self.norm.is_some() { &saved } else { &[] }, 0)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        self.norm.into_iter().flat_map(|(gain, bias)| [gain, bias]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Init, ParamList};
    use crate::testing::op::{Given, check};

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for (pixels, width, has_norm) in [(4, 5, true), (4, 5, false), (9, 24, true), (1, 16, false)] {
            let mut params = ParamList::default();
            let gain = params.vector("norm.weight".into(), width, Init::Constant(1.0));
            let bias = params.vector("norm.bias".into(), width, Init::Constant(0.0));
            let op = MapPool { pixels, width, norm: has_norm.then_some((gain, bias)), eps: 1e-6 };
            let views = if has_norm { params.finish() } else { Vec::new() };
            check(&op, &views, Given::Rows(pixels, width), 4);
        }
    }
}
