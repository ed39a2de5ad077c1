//! One run, fully resolved: every default filled in, every unit converted, every budget in whole steps.

use serde::{Deserialize, Serialize};

pub use scaledown_ops::Activation;

use super::quality::{Basic, FeatureRule, Keep, ScoreFile};
use super::ssl::SslConfig;
use super::{EvalConfig, EvalSource, ImageEncoderConfig, Milestone, ScenesConfig, SeedParts};

/// Everything that decides the bytes of one run. Two equal configs are one run.
///
/// Thread counts, the device ordinal, checkpoint intervals and log intervals are not here: they cannot change a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// What it learns from.
    pub data: DataConfig,
    /// What learns.
    pub model: ModelConfig,
    /// How it learns.
    pub train: TrainConfig,
    /// What is measured, of the last weights and of those of every milestone; in no train key.
    pub evaluate: Vec<EvalConfig>,
    /// The only source of randomness, through named streams, of the parts in `seeds_draw`.
    pub seed: u64,
    /// Kind of device, resolved from `auto`.
    pub device: DeviceKind,
    /// Arithmetic of the training step.
    pub precision: Precision,
    /// What the seed draws.
    #[serde(default, skip_serializing_if = "SeedParts::is_default")]
    pub seeds_draw: SeedParts,
}

/// Kind of device that a run computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The CPU trainer (dfdx tape, fused blocks).
    Cpu,
    /// An NVIDIA GPU (recorded step).
    Cuda,
}

/// Arithmetic of the training step; master weights and reductions are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Full f32 products.
    F32,
    /// TF32 products (GPU only).
    Tf32,
    /// bf16 products with f32 accumulation (GPU only).
    Bf16,
}

impl Precision {
    /// Name as written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// What a run learns from: a pool, a subset of it, and how captions become tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Where the pool comes from.
    pub source: DataSource,
    /// Samples in the pool: the first `size` of a keyed permutation, so that smaller pools of one draw nest in larger ones. `None`: all there are.
    /// Always set for `Scenes`.
    pub size: Option<u64>,
    /// Filter on the pool; `None` keeps all of it (then `by` cannot matter and is dropped).
    pub quality: Option<QualityConfig>,
    /// How captions become tokens.
    pub tokenizer: TokenizerConfig,
    /// Where the strategy crops: whole pictures are packed, of at most the area of a square with this side, pixels. `None` where
    /// it does not: central squares are packed at the model's image size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_side: Option<usize>,
}

/// What of a picture is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Its central square, resized to S x S.
    #[default]
    Centre,
    /// All of it, its aspect kept, reduced to an area of at most S x S; a smaller one keeps its pixels.
    Whole,
}

impl Framing {
    /// Whether it is [`Framing::Centre`], which keys and headers leave out.
    #[must_use]
    pub fn is_centre(&self) -> bool {
        *self == Self::Centre
    }
}

/// Where image-text pairs come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DataSource {
    /// The procedural world that the program renders itself; sample i is a pure function of (world, i).
    Scenes(ScenesConfig),
    /// Tar shards in the webdataset / img2dataset layout.
    Webdataset {
        /// Shard paths, braces and `::` expanded, environment substituted, in the order written.
        shards: Vec<String>,
    },
    /// A CSV or TSV file of image paths and captions.
    Table {
        /// Path of the table.
        file: String,
        /// Column with image paths, relative to the table's folder.
        image_column: String,
        /// Column with captions.
        caption_column: String,
    },
    /// A data set that is planned and costed but not at hand; `run` refuses it.
    Declared {
        /// Samples it is declared to hold.
        samples: u64,
    },
}

/// Which part of the pool is kept: one filter or several in turn, and a size after them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    /// How much.
    pub keep: Keep,
    /// Best by which measure.
    pub by: QualityBy,
    /// Filters on what is left, in turn. Shares are of the whole pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<FilterConfig>,
    /// Samples drawn of what the filters leave: the first of a keyed permutation. `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A filter after the first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// How much.
    pub keep: Keep,
    /// Best by which measure.
    pub by: QualityBy,
}

impl QualityConfig {
    /// One filter and nothing after it.
    #[must_use]
    pub fn single(keep: Keep, by: QualityBy) -> Self {
        Self { keep, by, then: Vec::new(), size: None }
    }

    /// The measures of all filters, in turn.
    pub fn measures(&self) -> impl Iterator<Item = &QualityBy> {
        std::iter::once(&self.by).chain(self.then.iter().map(|filter| &filter.by))
    }

    /// The measures of all filters, to be changed.
    pub fn measures_mut(&mut self) -> impl Iterator<Item = &mut QualityBy> {
        std::iter::once(&mut self.by).chain(self.then.iter_mut().map(|filter| &mut filter.by))
    }
}

/// The measure that a quality filter ranks by; ties go to the lower index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum QualityBy {
    /// A keyed permutation: a control of the same size.
    Random,
    /// A numeric field of the sample's metadata, such as `clip_l14_similarity_score`.
    Field(String),
    /// Cosine similarity of image and caption under a model that is itself a run.
    Similarity {
        /// The scorer's whole config (its `evaluate` is empty).
        scorer: Box<RunConfig>,
    },
    /// A column of a table, joined by the samples' names.
    File(ScoreFile),
    /// A list of names: 1 for the samples in it, 0 for the others.
    Uids {
        /// Path of a `.npy` or of a text with a name a line.
        file: String,
    },
    /// Length of captions and size of pictures: 1 for what passes, 0 for what does not.
    Basic(Basic),
    /// A rule on the features of a model that is itself a run.
    Rule {
        /// Which.
        rule: FeatureRule,
        /// The scorer's whole config (its `evaluate` is empty).
        scorer: Box<RunConfig>,
        /// Images that the pool is compared with, where the rule has a target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<EvalSource>,
    },
}

impl QualityBy {
    /// The run that scores, where there is one.
    #[must_use]
    pub fn scorer(&self) -> Option<&RunConfig> {
        match self {
            Self::Similarity { scorer } | Self::Rule { scorer, .. } => Some(scorer),
            Self::Random | Self::Field(_) | Self::File(_) | Self::Uids { .. } | Self::Basic(_) => None,
        }
    }
}

/// How captions become tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerConfig {
    /// Byte-pair encoding trained on the captions of the pool.
    Bpe {
        /// Entries, special tokens included.
        vocab_size: u32,
    },
    /// Unigram (as SentencePiece) trained on the captions of the pool.
    Unigram {
        /// Entries, special tokens included.
        vocab_size: u32,
    },
    /// The CLIP byte-pair encoding from its vocabulary file (`bpe_simple_vocab_16e6.txt.gz`), 49,408 entries.
    ClipBpe {
        /// Path of the vocabulary file.
        file: String,
    },
}

impl TokenizerConfig {
    /// Entries of the vocabulary, which is the height of the token embedding.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        match self {
            Self::Bpe { vocab_size } | Self::Unigram { vocab_size } => *vocab_size,
            Self::ClipBpe { .. } => 49_408,
        }
    }
}

/// Both encoders, their projections and the logit scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Image encoder.
    pub image_encoder: ImageEncoderConfig,
    /// Text encoder.
    pub text_encoder: TextEncoderConfig,
    /// Width of the shared space (E).
    pub embed_dim: usize,
    /// Side of the square image that the encoder sees (S), pixels.
    pub image_size: usize,
    /// Activation of every MLP.
    pub activation: Activation,
    /// Initial logit scale (the multiplier, CLIP: 1 / 0.07).
    pub logit_scale_init: f64,
    /// The multiplier is clamped to at most this after each step (CLIP: 100).
    pub logit_scale_max: f64,
    /// Per-channel mean subtracted from pixels in [0, 1].
    pub pixel_mean: [f64; 3],
    /// Per-channel divisor.
    pub pixel_std: [f64; 3],
}

/// A causal text transformer, pre-norm, learnt positions, pooled at the end-of-text token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEncoderConfig {
    /// Channels of a token (C).
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads (H); divides `width`.
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_width: usize,
    /// Tokens a caption is padded or cut to (T).
    pub context_length: usize,
    /// Height of the token embedding (V).
    pub vocab_size: usize,
}

/// How a run learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Views, masking, augmentation, other losses.
    pub strategy: StrategyConfig,
    /// What image-text pairs are learnt with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub loss: LossConfig,
    /// Pairs a step, before the strategy's multiplier.
    pub batch_size: u64,
    /// Chunks that a batch is cut into for memory; the update does not depend on it beyond rounding.
    pub accumulate: u64,
    /// Optimiser steps; every budget becomes this.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of linear warm-up before the cosine to zero.
    pub warmup_steps: u64,
    /// Optimiser.
    pub optimizer: OptimizerConfig,
    /// Decoupled weight decay, on matrices only (no norms, biases, positions, logit scale or bias).
    pub weight_decay: f64,
    /// What the decay of a step is proportional to; the same for every optimiser.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decay_scale: DecayScale,
    /// Global gradient norm is clipped to this.
    pub grad_clip_norm: Option<f64>,
    /// Contiguous parts that a batch is cut into for summing gradients, so that bytes do not depend on threads.
    pub lanes: usize,
    /// Steps whose weights are measured besides those of the end; ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<Milestone>,
}

/// The loss on image-text pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LossConfig {
    /// Symmetric InfoNCE over the batch (Radford et al. 2021).
    #[default]
    Contrastive,
    /// A yes-or-no question for every image and text of the batch (Zhai et al. 2023); it learns a bias of the logits.
    Sigmoid {
        /// The bias at the start.
        logit_bias_init: f64,
    },
}

/// What the weight decay of a step is proportional to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayScale {
    /// The learning rate: a step multiplies by 1 - rate * decay (`PyTorch`, `open_clip`).
    #[default]
    Rate,
    /// The learning rate over its peak: a step multiplies by 1 - rate / peak rate * decay (`big_vision`, the paper).
    RelativeRate,
}

impl TrainConfig {
    /// What decayed parameters are multiplied by in a step with this learning rate.
    #[must_use]
    pub fn decay_factor(&self, lr: f64) -> f64 {
        let rate = match self.decay_scale {
            DecayScale::Rate => lr,
            DecayScale::RelativeRate if self.lr > 0.0 => lr / self.lr,
            DecayScale::RelativeRate => 0.0,
        };
        1.0 - rate * self.weight_decay
    }
    /// Pairs that one step really sees.
    #[must_use]
    pub fn effective_batch(&self) -> u64 {
        self.batch_size * self.strategy.batch_multiplier
    }
    /// Steps, the first ones, that leave patches out; all of them where the strategy masks and never tunes, or masks nothing.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a step count below 2^53"
    )]
    pub fn masked_steps(&self) -> u64 {
        self.steps - (self.steps as f64 * self.strategy.unmasked_tuning).round() as u64
    }
    /// Steps before the last one whose weights are kept, ascending: those of the milestones that are not the end.
    pub fn kept_steps(&self) -> impl Iterator<Item = u64> {
        self.milestones.iter().map(|milestone| milestone.step).filter(|step| *step < self.steps)
    }
    /// Pairs seen over the whole run, repeats counted.
    #[must_use]
    pub fn samples_seen(&self) -> u64 {
        self.steps * self.effective_batch()
    }
}

/// A training strategy as data: CLIP, FLIP, SLIP and CLIP + data augmentation are values of this one structure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrategyConfig {
    /// What is done to the image that the contrastive loss sees.
    pub augmentation: Augmentation,
    /// Share of patches left out of each image, in [0, 1) (FLIP: 0.5 or 0.75).
    pub masked: f64,
    /// Share of the steps, at the end, that see whole images again (FLIP's unmasked tuning); 0 where nothing is masked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unmasked_tuning: f64,
    /// Factor on the batch size (FLIP multiplies it by what masking saves).
    pub batch_multiplier: u64,
    /// A self-supervised loss on two more views (SLIP); `None` for the others.
    pub ssl: Option<SslConfig>,
}

impl StrategyConfig {
    /// Views of an image that a step sees.
    #[must_use]
    pub fn views(&self) -> usize {
        if self.ssl.is_some() { 3 } else { 1 }
    }
    /// The smallest share of the area that a view is cropped to, where pictures are packed whole: where the contrastive loss sees crops.
    #[must_use]
    pub fn min_area(&self) -> Option<f64> {
        let area = self.augmentation.min_area()?;
        Some(if self.ssl.is_some() { area.min(SslConfig::MIN_AREA) } else { area })
    }
    /// Contrastive learning as it is: whole images, not augmented, no other loss.
    #[must_use]
    pub fn clip() -> Self {
        Self { augmentation: Augmentation::None, masked: 0.0, unmasked_tuning: 0.0, batch_multiplier: 1, ssl: None }
    }
}

/// Patches that are kept of `total` where the share `masked` in [0, 1) is left out: [`whole_patches`], and at least one.
///
/// **Source** `open_clip`'s `max(1, int(total * (1 - masked)))`.
#[must_use]
pub fn kept_patches(total: usize, masked: f64) -> usize {
    whole_patches(total, masked).max(1)
}

/// Whole patches that are left of `total` where the share `masked` in [0, 1) is left out; 0 where that is less than one patch.
/// The one rounding of shares of patches.
///
/// **Source** `open_clip`'s `int(total * (1 - masked))`.
/// **Differs** a product that misses a whole number by the rounding of the share counts as that number: of 100 patches 90 %
/// masked 10 stay, where binary fractions give 9.999999999999998.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a patch count"
)]
pub fn whole_patches(total: usize, masked: f64) -> usize {
    (total as f64 * (1.0 - masked) + 1e-9) as usize
}

/// What most configs do not state is left out of keys and records.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A share that most strategies do not have is left out of keys and records.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

/// Augmentation of training images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Augmentation {
    /// The image as it is.
    None,
    /// Random resized crop and horizontal flip.
    CropFlip {
        /// Smallest share of the area that a crop may have.
        min_area: f64,
        /// Probability of a horizontal flip.
        flip: f64,
    },
    /// `RandAugment` (Cubuk et al. 2020) as torchvision has it, on the central square: operations drawn evenly from fourteen, nearest
    /// sampling, black outside. No crop, no flip.
    RandAugment {
        /// Operations applied one after another.
        layers: u32,
        /// Strength, 0 to 10: a third of torchvision's bin of 0 to 30.
        magnitude: f64,
    },
    /// Stacked `RandAugment` (Khosla et al. 2020): crop, flip, colour jitter, `RandAugment`, grey, blur.
    StackedRandAugment {
        /// Operations applied one after another.
        layers: u32,
        /// Strength, 0 to 10: a third of torchvision's bin of 0 to 30.
        magnitude: f64,
        /// Smallest share of the area that a crop may have.
        min_area: f64,
    },
}

impl Augmentation {
    /// Aspect ratios of a crop lie between the inverse of this and this.
    ///
    /// **Source** torchvision's `RandomResizedCrop`, which `open_clip` uses.
    pub const CROP_RATIO: f64 = 4.0 / 3.0;

    /// The last of torchvision's 31 bins of magnitude.
    const LAST_BIN: u32 = 30;

    /// The bin of 0 to 30 that a magnitude of 0 to 10 is a third of, so that 3.3 and 3.33 are 10; `None` for one that is not near a
    /// third of a whole number.
    #[must_use]
    pub fn bin(magnitude: f64) -> Option<u32> {
        /// How far three times a magnitude may be from its bin: a third is stated with one decimal or more.
        const FAR: f64 = 0.1 + 1e-9;
        (0..=Self::LAST_BIN).find(|bin| (3.0 * magnitude - f64::from(*bin)).abs() <= FAR)
    }

    /// The magnitude of a bin.
    #[must_use]
    pub fn magnitude_of(bin: u32) -> f64 {
        f64::from(bin) / 3.0
    }

    /// Smallest share of the area that a crop may have; `None` where nothing is cropped.
    #[must_use]
    pub fn min_area(&self) -> Option<f64> {
        match *self {
            Self::None | Self::RandAugment { .. } => None,
            Self::CropFlip { min_area, flip: _ } | Self::StackedRandAugment { min_area, layers: _, magnitude: _ } => Some(min_area),
        }
    }
}

/// Optimiser and its own constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adafactor as in `big_vision`: factored second moment, momentum, no update clipping by default.
    Adafactor {
        /// Momentum.
        beta1: f64,
        /// Cap on the second moment's decay 1 - (t + 1)^-0.8.
        beta2_cap: f64,
    },
    /// `AdamW`, decoupled weight decay.
    Adamw {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_patches_is_rounded_down_to_whole_ones() {
        // open_clip's int(total * (1 - masked)) for the shares that binary fractions hold.
        for (total, masked, kept) in [(49, 0.5, 24), (49, 0.75, 12), (196, 0.5, 98), (16, 0.75, 4), (9, 0.5, 4), (4, 0.8, 0)] {
            assert_eq!(whole_patches(total, masked), kept, "{total} patches, {masked} masked");
            assert_eq!(kept_patches(total, masked), kept.max(1));
        }
        // No share loses a patch to the rounding of its decimal form.
        for percent in 0..100 {
            assert_eq!(whole_patches(100, f64::from(percent) / 100.0), 100 - percent as usize, "{percent} %");
        }
    }

    #[test]
    fn the_decay_of_a_step_follows_the_rate_or_the_rate_over_its_peak() {
        let mut train: TrainConfig = serde_json::from_value(serde_json::json!({
            "strategy": StrategyConfig::clip(), "batch_size": 8, "accumulate": 1, "steps": 10, "lr": 0.002, "warmup_steps": 2,
            "optimizer": { "adafactor": { "beta1": 0.9, "beta2_cap": 0.999 } }, "weight_decay": 0.1, "grad_clip_norm": null,
            "lanes": 8
        }))
        .expect("a config without the keys that have defaults");
        assert_eq!((train.loss, train.decay_scale), (LossConfig::Contrastive, DecayScale::Rate));
        assert!((train.decay_factor(0.001) - (1.0 - 1e-4)).abs() < 1e-15);
        train.decay_scale = DecayScale::RelativeRate;
        assert!((train.decay_factor(0.001) - 0.95).abs() < 1e-15);
    }
}
