//! Pixels to the first map of a ConvNeXt: a convolution of s x s patches with stride s and a bias, then layer norm.
//!
//! The patches do not overlap, so this is the product of a patch embedding; the weight lies as PyTorch has it, `[C, 3, s, s]`.
//! Saved: the map before the norm and the norm's statistics. Patches are cut again in backward.

mod cpu;
mod reference;

use crate::WeightLayout;
use crate::linear::LinearShape;
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::{Init, ParamIdx, ParamList};
use crate::patchify::PatchShape;

/// A stem and where its parameters are.
#[derive(Debug, Clone)]
pub struct ConvStem {
    /// Image, patch, and how pixels are normalised.
    pub shape: PatchShape,
    /// Channels (C).
    pub width: usize,
    /// Added to the norm's variance.
    pub eps: f32,
    /// Convolution: weight [C, 3, s, s], bias.
    pub conv: (ParamIdx, ParamIdx),
    /// Norm: gain, bias.
    pub norm: (ParamIdx, ParamIdx),
}

impl ConvStem {
    /// Adds the parameters of the convolution and the norm under their names; `init` starts the convolution's weight and bias.
    pub fn describe(
        params: &mut ParamList,
        (conv, norm): (&str, &str),
        shape: PatchShape,
        width: usize,
        eps: f32,
        init: (Init, Init),
    ) -> Self {
        let patch = shape.patch_size;
        let linear = LinearShape { inputs: shape.row_len(), outputs: width, layout: WeightLayout::OutIn };
        let (zero, one) = (Init::Constant(0.0), Init::Constant(1.0));
        let weight = params.linear(format!("{conv}.weight"), &[width, 3, patch, patch], 1, linear, init.0);
        let conv = (weight, params.vector(format!("{conv}.bias"), width, init.1));
        let gain = params.vector(format!("{norm}.weight"), width, one);
        let norm = (gain, params.vector(format!("{norm}.bias"), width, zero));
        Self { shape, width, eps, conv, norm }
    }
}

impl Op for ConvStem {
    fn shape(&self) -> OpShape {
        let pixels = self.shape.patches();
        let saved = [("embedded", pixels, self.width), ("mean", pixels, 1), ("rstd", pixels, 1)];
        OpShape::new((pixels, self.width), &saved, pixels * self.shape.row_len() * self.width)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.conv.0, self.conv.1, self.norm.0, self.norm.1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::op::{Given, check};

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for (image_size, patch_size, width) in [(4, 2, 3), (12, 4, 20)] {
            let shape = PatchShape { image_size, patch_size, mean: [0.5, 0.4, 0.3], std: [0.25, 0.5, 1.0] };
            let mut params = ParamList::default();
            let op = ConvStem::describe(
                &mut params,
                ("stem.0", "stem.1"),
                shape,
                width,
                1e-6,
                (Init::Normal { std: 0.1 }, Init::Constant(0.0)),
            );
            check(&op, &params.finish(), Given::Bytes(3 * image_size * image_size), 3);
        }
    }
}
