//! A map to one of half its side: layer norm over channels, then a 2 x 2 convolution with stride 2 and a bias.
//!
//! The weight is stored `[outputs, 2, 2, inputs]`; its exported shape is PyTorch's `[outputs, inputs, 2, 2]` (see
//! [`conv`](crate::conv)). Saved: the norm's statistics. Recomputed in backward: the norm's output.

mod cpu;
mod reference;

use crate::conv::ConvShape;
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Init, ParamIdx, ParamList};

/// A downsampling step and where its parameters are.
#[derive(Debug, Clone)]
pub struct Downsample {
    /// The convolution.
    pub conv_shape: ConvShape,
    /// Added to the norm's variance.
    pub eps: f32,
    /// Norm: gain, bias.
    pub norm: (ParamIdx, ParamIdx),
    /// Convolution: weight, bias.
    pub conv: (ParamIdx, ParamIdx),
}

impl Downsample {
    /// Adds the step's parameters as `{prefix}.0` and `{prefix}.1` (timm's names), from `inputs` to `outputs` channels; `side` is
    /// that of the input map, `init` starts the weight.
    pub fn describe(
        params: &mut ParamList,
        prefix: &str,
        side: usize,
        (inputs, outputs): (usize, usize),
        eps: f32,
        init: Init,
    ) -> Self {
        let conv_shape = ConvShape { side, inputs, outputs, kernel: 2, stride: 2, padding: 0 };
        let (zero, one) = (Init::Constant(0.0), Init::Constant(1.0));
        let gain = params.vector(format!("{prefix}.0.weight"), inputs, one);
        let norm = (gain, params.vector(format!("{prefix}.0.bias"), inputs, zero));
        let weight = params.linear(format!("{prefix}.1.weight"), &[outputs, inputs, 2, 2], 1, conv_shape.linear(), init);
        params.permute(weight, (outputs, 4, inputs));
        let conv = (weight, params.vector(format!("{prefix}.1.bias"), outputs, zero));
        Self { conv_shape, eps, norm, conv }
    }
}

impl Op for Downsample {
    fn shape(&self) -> OpShape {
        let shape = &self.conv_shape;
        let saved = [("mean", shape.pixels(), 1), ("rstd", shape.pixels(), 1)];
        OpShape::new((shape.out_pixels(), shape.outputs), &saved, shape.macs())
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.norm.0, self.norm.1, self.conv.0, self.conv.1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::op::{Given, check};

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for (side, inputs, outputs) in [(2, 3, 4), (5, 4, 3), (8, 12, 24)] {
            let mut params = ParamList::default();
            let op = Downsample::describe(&mut params, "downsample", side, (inputs, outputs), 1e-6, Init::Normal { std: 0.1 });
            check(&op, &params.finish(), Given::Rows(side * side, inputs), 3);
        }
    }
}
