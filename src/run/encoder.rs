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
    /// Residual network of bottleneck blocks.
    Resnet(ResNetConfig),
    /// `ConvNeXt`.
    Convnext(ConvNextConfig),
    /// Swin transformer.
    Swin(SwinConfig),
    /// MLP-Mixer.
    Mixer(MixerConfig),
}

impl ImageEncoderConfig {
    /// The word that names of its family begin with.
    #[must_use]
    pub fn family(&self) -> &'static str {
        match self {
            Self::Vit(_) => "vit",
            Self::Resnet(_) => "resnet",
            Self::Convnext(_) => "convnext",
            Self::Swin(_) => "swin",
            Self::Mixer(_) => "mixer",
        }
    }

    /// Channels of an image before the projection.
    #[must_use]
    pub fn pooled_width(&self) -> usize {
        let doubled = |width: usize, stages: usize| width << stages.saturating_sub(1);
        match self {
            Self::Vit(VitConfig { width, .. }) | Self::Mixer(MixerConfig { width, .. }) => *width,
            Self::Resnet(ResNetConfig { width, depths, .. }) => 4 * doubled(*width, depths.len()),
            Self::Convnext(ConvNextConfig { width, depths, .. }) | Self::Swin(SwinConfig { width, depths, .. }) => {
                doubled(*width, depths.len())
            }
        }
    }

    /// Patches of a whole image of this side, pixels, where some of them can be left out; `None` where the encoder needs the whole
    /// map.
    #[must_use]
    pub fn droppable(&self, image_size: usize) -> Option<usize> {
        match self {
            Self::Vit(vit) => Some((image_size / vit.patch_size).pow(2)),
            // Convolutions and windows need every place of a map, a Mixer's weights every token.
            Self::Resnet(_) | Self::Convnext(_) | Self::Swin(_) | Self::Mixer(_) => None,
        }
    }

    /// Samples whose statistics are taken together; `None` where what is found of a sample depends on no other.
    #[must_use]
    pub fn batch_group(&self) -> Option<usize> {
        match self {
            Self::Resnet(ResNetConfig { norm: ResNetNorm::Batch { group }, .. }) => Some(*group),
            Self::Resnet(ResNetConfig { norm: ResNetNorm::Group { .. }, .. })
            | Self::Vit(_)
            | Self::Convnext(_)
            | Self::Swin(_)
            | Self::Mixer(_) => None,
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

/// A residual network of bottleneck blocks (v1.5: the stride is in the 3x3 convolution). Stage i has `width` * 2^i inner channels,
/// puts out four times as many, and halves the map of the stage before; the mean over the last map is projected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Inner channels of the first stage, and channels of the stem.
    pub width: usize,
    /// Blocks by stage.
    pub depths: Vec<usize>,
    /// Side of the stem's convolution, odd; its stride is 2, its padding half of the side.
    pub stem_kernel: usize,
    /// Whether a max pool of 3x3, stride 2 and padding 1 follows the stem.
    pub stem_pool: bool,
    /// What activations are normalised over.
    pub norm: ResNetNorm,
    /// Added to the variance.
    pub norm_eps: f64,
}

/// What a residual network normalises over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ResNetNorm {
    /// Batch norm over groups of samples; running statistics in evaluation.
    Batch {
        /// Samples of a group, one after another in the batch; divides every chunk.
        group: usize,
    },
    /// Group norm, which sees one sample.
    Group {
        /// Groups of channels; divides `width`.
        groups: usize,
    },
}

/// `ConvNeXt`: stage i has `width` * 2^i channels and half the map of the stage before. 7x7 depthwise convolutions, MLPs of four times
/// the channels, layer scale; mean over the last map, then layer norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Channels of the first stage.
    pub width: usize,
    /// Blocks by stage.
    pub depths: Vec<usize>,
    /// Side and stride of the stem's patches, pixels; divides the image size.
    pub stem_stride: usize,
    /// Added to the variance.
    pub norm_eps: f64,
}

/// A Swin transformer: stage i has `width` * 2^i channels and half the map of the stage before. Attention in windows, shifted by half
/// a window in every second block where there are several; relative position biases, MLPs of four times the channels; layer norm,
/// then mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinConfig {
    /// Channels of the first stage.
    pub width: usize,
    /// Blocks by stage.
    pub depths: Vec<usize>,
    /// Attention heads by stage; each divides its stage's channels.
    pub heads: Vec<usize>,
    /// Side of a window; divides every map that is larger. A smaller map is one window, without shift.
    pub window: usize,
    /// Side and stride of the stem's patches, pixels; divides the image size.
    pub stem_stride: usize,
    /// Added to the variance.
    pub norm_eps: f64,
}

/// An MLP-Mixer: blocks of an MLP over tokens and an MLP over channels, each after a layer norm and with a residual; layer norm, then
/// mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixerConfig {
    /// Channels of a token (C).
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Side of a patch (P), pixels; divides the image size.
    pub patch_size: usize,
    /// Hidden units of the MLP over tokens.
    pub token_mlp_width: usize,
    /// Hidden channels of the MLP over channels.
    pub mlp_width: usize,
    /// Added to the variance.
    pub norm_eps: f64,
}
