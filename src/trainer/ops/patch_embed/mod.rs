//! Pixels to tokens: patches, a linear map, and where a model has them a bias, positions, a class token, a norm.
//!
//! The patches are cut and normalised from uint8 in one pass, forward and again in backward: cheaper than keeping them.

mod cpu;
mod reference;
#[cfg(test)]
mod tests;

use crate::op::{Op, OpShape, Reference, Rows};
use crate::params::ParamIdx;
use crate::patchify::PatchShape;

/// A patch embedding and where its parameters are.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    /// Image side, patch side, pixel statistics.
    pub shape: PatchShape,
    /// Channels of a token (C).
    pub width: usize,
    /// Patches of a whole image (G).
    pub patches: usize,
    /// Patches that are embedded; fewer than `patches` where some are masked.
    pub kept: usize,
    /// [C, 3PP], as CLIP's `conv1`.
    pub weight: ParamIdx,
    /// C elements, where the map has a bias; CLIP's has none, MLP-Mixer's and timm's have.
    pub bias: Option<ParamIdx>,
    /// C elements, where there is a class token.
    pub class_token: Option<ParamIdx>,
    /// [G, C], after the class token's row where there is one; none in an MLP-Mixer.
    pub positions: Option<ParamIdx>,
    /// Norm before the first block: gain, bias.
    pub norm: Option<(ParamIdx, ParamIdx)>,
}

impl PatchEmbed {
    /// Tokens a sample.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.kept + usize::from(self.class_token.is_some())
    }
    fn pixels(&self) -> usize {
        3 * self.shape.patch_size * self.shape.patch_size
    }
}

impl Op for PatchEmbed {
    fn shape(&self) -> OpShape {
        let tokens = self.tokens();
        let saved = [("embedded", tokens, self.width), ("mean", tokens, 1), ("rstd", tokens, 1)];
        let saved = if self.norm.is_some() { &saved[..] } else { &[] };
        OpShape::new((tokens, self.width), saved, self.kept * self.pixels() * self.width)
    }
    fn cpu(&self) -> &dyn Rows {
        self
    }
    fn reference(&self) -> &dyn Reference {
        self
    }
}
