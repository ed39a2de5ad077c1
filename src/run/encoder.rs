//! Image encoders as data: one variant a family.
//!
//! Invariant: what other rooms ask of an encoder is a method of [`ImageEncoderConfig`]; only the spec's file of the family and the
//! trainer's description of it read the fields.

use serde::{Deserialize, Serialize};

/// An image encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageEncoderConfig {
    /// Vision transformer.
    Vit(VitConfig),
}

impl ImageEncoderConfig {
    /// The word that names of its family begin with.
    #[must_use]
    pub fn family(&self) -> &'static str {
        match self {
            Self::Vit(_) => "vit",
        }
    }

    /// Patches of a whole image of this side, pixels, where some of them can be left out; `None` where the encoder needs the whole
    /// map.
    #[must_use]
    pub fn droppable(&self, image_size: usize) -> Option<usize> {
        match self {
            Self::Vit(vit) => Some((image_size / vit.patch_size).pow(2)),
        }
    }
}

/// A vision transformer, pre-norm, learnt positions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Channels of a token (C).
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads (H); divides `width`.
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_width: usize,
    /// Side of a patch (P), pixels; divides the image size.
    pub patch_size: usize,
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// Layer norm before the first block, as CLIP has (`visual.ln_pre`).
    pub pre_norm: bool,
}

/// How an image encoder's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// A learnt class token is prepended; its final state is taken.
    ClassToken,
    /// Mean over the patch tokens after the last norm; no class token.
    Mean,
}
