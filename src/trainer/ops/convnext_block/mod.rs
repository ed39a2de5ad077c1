//! A ConvNeXt block: x + gamma fc2(f(fc1(norm(depthwise(x))))), with a 7 x 7 depthwise convolution and layer norm over channels.
//!
//! Saved: the depthwise output, the norm's statistics, the MLP's pre-activation and its output before gamma. Recomputed in
//! backward: the norm's output and the activation.
//!
//! **Source** Liu et al. 2022, as timm's `convnext.py` has it.

mod cpu;
mod reference;

use crate::depthwise::DepthwiseShape;
use crate::linear::LinearShape;
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Init, Matrix, ParamIdx, ParamList};
use crate::{Activation, WeightLayout};

/// Shape and starting values of a block.
#[derive(Debug, Clone, Copy)]
pub struct ConvNextShape {
    /// Side of the map, pixels.
    pub side: usize,
    /// Channels (C).
    pub width: usize,
    /// Side of the depthwise kernel, odd.
    pub kernel: usize,
    /// Hidden channels of the MLP.
    pub mlp_width: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Added to the norm's variance.
    pub eps: f32,
    /// Start of the three weights; biases start at 0.
    pub weights: Init,
    /// Start of gamma.
    pub gamma: f32,
}

/// A ConvNeXt block and where its parameters are.
#[derive(Debug, Clone)]
pub struct ConvNextBlock {
    /// Shape.
    pub shape: ConvNextShape,
    /// Scale of the residual branch: `[C]`.
    pub gamma: ParamIdx,
    /// Depthwise convolution: weight stored [k, k, C] and exported as [C, 1, k, k], bias.
    pub depthwise: (ParamIdx, ParamIdx),
    /// Norm: gain, bias.
    pub norm: (ParamIdx, ParamIdx),
    /// MLP's first map: weight [M, C], bias.
    pub fc1: (ParamIdx, ParamIdx),
    /// MLP's second map: weight [C, M], bias.
    pub fc2: (ParamIdx, ParamIdx),
}

impl ConvNextBlock {
    /// Adds the block's parameters under `prefix` (timm's names and order).
    pub fn describe(params: &mut ParamList, prefix: &str, shape: ConvNextShape) -> Self {
        let ConvNextShape { width, kernel, mlp_width, weights, .. } = shape;
        let zero = Init::Constant(0.0);
        let gamma = params.vector(format!("{prefix}.gamma"), width, Init::Constant(shape.gamma));
        // Optimisers see the weight as one row: a channel's few taps are no matrix whose second moments could be factored.
        let taps = Matrix { count: 1, rows: 1, columns: kernel * kernel * width };
        let weight = params.param(format!("{prefix}.conv_dw.weight"), &[width, 1, kernel, kernel], taps, weights, true);
        params.permute(weight, (1, kernel * kernel, width));
        let depthwise = (weight, params.vector(format!("{prefix}.conv_dw.bias"), width, zero));
        let gain = params.vector(format!("{prefix}.norm.weight"), width, Init::Constant(1.0));
        let norm = (gain, params.vector(format!("{prefix}.norm.bias"), width, zero));
        let mut map = |name: &str, inputs: usize, outputs: usize| {
            let linear = LinearShape { inputs, outputs, layout: WeightLayout::OutIn };
            let weight = params.linear(format!("{prefix}.mlp.{name}.weight"), &[outputs, inputs], 1, linear, weights);
            (weight, params.vector(format!("{prefix}.mlp.{name}.bias"), outputs, zero))
        };
        let (fc1, fc2) = (map("fc1", width, mlp_width), map("fc2", mlp_width, width));
        Self { shape, gamma, depthwise, norm, fc1, fc2 }
    }

    /// Shape of its depthwise convolution.
    #[must_use]
    pub fn depthwise_shape(&self) -> DepthwiseShape {
        let ConvNextShape { side, width, kernel, .. } = self.shape;
        DepthwiseShape { side, channels: width, kernel }
    }
}

impl Op for ConvNextBlock {
    fn shape(&self) -> OpShape {
        let ConvNextShape { side, width, mlp_width, .. } = self.shape;
        let pixels = side * side;
        let saved = [
            ("depthwise", pixels, width),
            ("mean", pixels, 1),
            ("rstd", pixels, 1),
            ("hidden", pixels, mlp_width),
            ("branch", pixels, width),
        ];
        let macs = self.depthwise_shape().macs() + 2 * pixels * width * mlp_width;
        OpShape { is_in_place: true, ..OpShape::new((pixels, width), &saved, macs) }
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        let maps = [self.depthwise, self.norm, self.fc1, self.fc2];
        std::iter::once(self.gamma).chain(maps.into_iter().flat_map(|(a, b)| [a, b])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::op::{Given, check};

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for (side, width, activation) in [(2, 3, Activation::Gelu), (3, 4, Activation::GeluTanh), (8, 24, Activation::Gelu)] {
            let mut params = ParamList::default();
            let shape = ConvNextShape {
                side,
                width,
                kernel: 7,
                mlp_width: 4 * width,
                activation,
                eps: 1e-6,
                weights: Init::Normal { std: 0.02 },
                gamma: 1e-6,
            };
            let op = ConvNextBlock::describe(&mut params, "blocks.0", shape);
            check(&op, &params.finish(), Given::Rows(side * side, width), 3);
        }
    }
}
