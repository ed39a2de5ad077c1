//! Pixels to tokens: patches, a linear map, and where a model has them a bias, positions, a class token, a norm.
//!
//! The patches are cut and normalised from uint8 in one pass, forward and again in backward: cheaper than keeping them.

mod cpu;
mod cuda;
mod reference;
#[cfg(test)]
mod tests;

use crate::layer_norm;
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::ParamIdx;
use crate::patchify::{self, PatchShape};
use crate::recorder::{Record, Refusal};

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
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        let norm = self.norm.into_iter().flat_map(|(gain, bias)| [gain, bias]);
        std::iter::once(self.weight).chain(self.bias).chain(self.positions).chain(self.class_token).chain(norm).collect()
    }
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        // The kernels add positions, and no bias.
        if self.positions.is_none() || self.bias.is_some() {
            return Err(Refusal::NoForm);
        }
        if self.norm.is_some() {
            layer_norm::cuda::check(self.width)?;
        }
        // Masked patches are drawn by a kernel.
        let drawn = if self.kept < self.patches { self.patches } else { 0 };
        Refusal::beyond("patches of an image of which some are masked", drawn, patchify::cuda::MOST_PATCHES)?;
        Ok(self)
    }
}
