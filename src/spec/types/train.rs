//! `train:`, how a run learns.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::super::scalar::{Count, Interval, Quantity, Share};
use super::{Named, ScalarOr};

/// How a run learns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// The training strategy.
    pub strategy: Named<StrategySpec>,
    /// What image-text pairs are learnt with. Default `contrastive`: the paper, section 3.
    pub loss: Option<Named<LossSpec>>,
    /// Pairs a step, before the strategy's multiplier.
    pub batch_size: Count,
    /// Chunks that a batch is cut into to save memory; the update is the same. Default 1.
    pub accumulate: Option<Count>,
    /// Peak learning rate. Outside 1e-7 to 0.1 a warning says so.
    pub lr: Quantity,
    /// Linear warm-up: steps, a share of them, or `{samples: ..}`; at most the budget. Default 5%: LiT's 10k of the paper's 207,520
    /// steps.
    pub warmup: Option<WarmupSpec>,
    /// Optimiser. Default `adafactor`: the paper, section 3.
    pub optimizer: Option<Named<OptimizerSpec>>,
    /// Decoupled weight decay on matrices, the same for every optimiser: a number is times the learning rate, so that a step
    /// multiplies by 1 - rate * decay (`PyTorch`, `open_clip`; CLIP has 0.2); `{relative: ..}` is times the rate over its peak
    /// (`big_vision`, the paper). Default `{relative: 1e-4}`: the paper, section 3.
    pub weight_decay: Option<WeightDecaySpec>,
    /// The gradient's global norm is clipped to this; `none` for no clipping. Default 1: `big_vision`.
    pub grad_clip_norm: Option<GradClipSpec>,
    /// Parts that a batch is cut into for summing gradients, so that bytes do not depend on threads. Default 8, or the pairs of a
    /// smaller batch.
    pub lanes: Option<Count>,
    /// How long: exactly one of epochs, `samples_seen`, steps, gmacs.
    pub budget: BudgetSpec,
    /// How often a checkpoint is written: steps, or a share of them. Default 10%. Changes no result.
    pub checkpoint_every: Option<Interval>,
}

/// A training strategy and its own settings.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum StrategySpec {
    /// Contrastive learning as it is, with or without augmentation (Radford et al. 2021).
    Clip {
        /// What is done to the image. Default none: the paper, section 3.
        augmentation: Option<Named<AugmentationSpec>>,
    },
    /// Part of each image's patches left out, larger batches for it (Li et al. 2023).
    Flip {
        /// What is done to the image. Default none: the paper, section 3.
        augmentation: Option<Named<AugmentationSpec>>,
        /// Share of patches left out. Default 50%: the paper, section 7.
        masked: Option<Share>,
        /// Share of the steps, at the end, that see whole images again. Default 0%: the paper tunes none (Li et al. 2023 tune
        /// after pre-training).
        unmasked_tuning: Option<Share>,
        /// Factor on the batch size. Default 2: the paper, section 7.
        batch_multiplier: Option<Count>,
    },
    /// A self-supervised loss on two more views (Mu et al. 2021).
    Slip {
        /// What is done to the image that the contrastive loss sees. Default `crop_flip` of half the area or more without a flip: Mu et
        /// al. 2021. The two other views are always crops of 8 % or more, flipped, with colour jitter, grey and blur; they are cut out
        /// of the whole picture where this one is a crop, else out of its central square.
        augmentation: Option<Named<AugmentationSpec>>,
        /// Share of patches left out of every view. Default 0%.
        masked: Option<Share>,
        /// Weight of the self-supervised loss. Default 1: Mu et al. 2021, section 3.
        ssl_weight: Option<Quantity>,
        /// Temperature of its NT-Xent. Default 0.1: Mu et al. 2021, appendix.
        ssl_temperature: Option<Quantity>,
        /// Hidden width of its projection. Default 4096: Mu et al. 2021, section 3; for images below 64 px four times the channels of
        /// the encoder's last layer.
        ssl_hidden: Option<Count>,
        /// Output width of its projection. Default 256: Mu et al. 2021, section 3; for images below 64 px 128.
        ssl_out: Option<Count>,
        /// Samples that the projection's batch norms are taken over; divides every chunk of a batch. Default the whole chunk, as Mu et
        /// al. 2021 take the whole batch.
        ssl_bn_group: Option<Count>,
    },
}

/// The loss on image-text pairs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum LossSpec {
    /// Each image picks its text among those of the batch, each text its image (Radford et al. 2021).
    Contrastive {},
    /// Each image and text of the batch: a pair or not (Zhai et al. 2023). The logit scale then starts at 10, unless
    /// `model.logit_scale_init` says otherwise: Zhai et al. 2023, section 3.2 and algorithm 1.
    Sigmoid {
        /// Bias of the logits at the start; it is learnt. Default -10: Zhai et al. 2023, section 3.2.
        logit_bias_init: Option<Quantity>,
    },
}

/// Weight decay: a number, or `{relative: ..}`.
pub type WeightDecaySpec = ScalarOr<Quantity, RelativeDecay>;

/// Weight decay that follows the schedule and not the rate itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelativeDecay {
    /// What a step at the peak rate takes away; elsewhere times the rate over its peak.
    pub relative: Quantity,
}

/// What is done to training images.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum AugmentationSpec {
    /// Nothing.
    None {},
    /// Random resized crop and horizontal flip.
    CropFlip {
        /// Smallest share of the area that a crop may have. Default 50%: CLIP's crop in Mu et al. 2021.
        min_area: Option<Share>,
        /// Probability of a flip. Default 50%.
        flip: Option<Share>,
    },
    /// `RandAugment` (Cubuk et al. 2020) as torchvision 0.29.2 has it: operations drawn evenly from fourteen (identity, shears,
    /// translations, rotation, brightness, colour, contrast, sharpness, posterize, solarize, auto-contrast, equalize), nearest
    /// sampling, black outside. On the central square: no crop, no flip.
    RandAugment {
        /// Operations one after another, 1 to 16. Default 2: torchvision; Cubuk et al. 2020, ResNet-50 on ImageNet.
        layers: Option<Count>,
        /// Strength, 0 to 10 in thirds: three times it is torchvision's magnitude, 0 to 30. Default 3: torchvision's 9. Cubuk et al.
        /// 2020 use 9 or 10 of their 10 on ImageNet.
        magnitude: Option<Quantity>,
    },
    /// Random resized crop, flip (50%), colour jitter of 0.4, 0.4, 0.4, 0.1 (80%), `RandAugment`, grey (20%), and from 64 pixels on
    /// Gaussian blur of deviation 0.1 to 2 pixels (50%): `supcon/preprocessing.py` of google-research (Khosla et al. 2020).
    StackedRandAugment {
        /// Operations of `RandAugment` one after another, 1 to 16. Default 2: `supcon/preprocessing.py`.
        layers: Option<Count>,
        /// Strength of `RandAugment`, 0 to 10 in thirds. Default 10: `supcon/preprocessing.py`.
        magnitude: Option<Quantity>,
        /// Smallest share of the area that a crop may have. Default 8%: `supcon/preprocessing.py`.
        min_area: Option<Share>,
    },
}

/// An optimiser and its constants.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerSpec {
    /// Adafactor as in `big_vision`.
    Adafactor {
        /// Momentum. Default 0.9: the paper, section 3.
        beta1: Option<Quantity>,
        /// Cap on the second moment's decay. Default 0.999: the paper, section 3.
        beta2_cap: Option<Quantity>,
    },
    /// `AdamW`.
    Adamw {
        /// Decay of the first moment. Default 0.9: CLIP.
        beta1: Option<Quantity>,
        /// Decay of the second moment. Default 0.98: CLIP's ViTs (Radford et al. 2021, table 18).
        beta2: Option<Quantity>,
        /// Added to the root of the second moment. Default 1e-6: CLIP's ViTs (Radford et al. 2021, table 18).
        eps: Option<Quantity>,
    },
}

/// How long a run learns: exactly one of these.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetSpec {
    /// Passes over the subset after quality and size.
    Epochs(Quantity),
    /// Pairs seen, repeats counted.
    SamplesSeen(Count),
    /// Optimiser steps; 0 for a network that is not trained.
    Steps(Count),
    /// Forward multiply-accumulates of both encoders over all samples, in units of 1e9.
    Gmacs(Quantity),
}

/// Linear warm-up.
pub type WarmupSpec = ScalarOr<Interval, WarmupSamples>;

/// Warm-up by samples seen.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmupSamples {
    /// Pairs seen during warm-up.
    pub samples: Count,
}

/// A number, or `none`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradClipSpec(pub Option<f64>);

impl<'de> Deserialize<'de> for GradClipSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrNone;
        impl Visitor<'_> for NumberOrNone {
            type Value = Option<f64>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or `none`")
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Option<f64>, E> {
                if v == "none" { Ok(None) } else { Err(E::custom(format!("found `{v}`, expected a number or `none`"))) }
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Option<f64>, E> {
                Ok(Some(v))
            }
            #[expect(clippy::cast_precision_loss, reason = "a gradient norm")]
            fn visit_u64<E: Error>(self, v: u64) -> Result<Option<f64>, E> {
                Ok(Some(v as f64))
            }
        }
        deserializer.deserialize_any(NumberOrNone).map(GradClipSpec)
    }
}

impl JsonSchema for GradClipSpec {
    fn schema_name() -> Cow<'static, str> {
        "GradClipSpec".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "number", "exclusiveMinimum": 0 }, { "const": "none" }] })
    }
}
