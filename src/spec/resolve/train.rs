//! `train:`, key by key, to config values.

use super::super::diagnostic::Code;
use super::super::scalar::{Count, Quantity, Share};
use super::super::types::{AugmentationSpec, GradClipSpec, Named, OptimizerSpec, StrategySpec};
use super::{Problem, size};
use crate::run::{Augmentation, ImageEncoderConfig, ModelConfig, OptimizerConfig, SslConfig, StrategyConfig};

const GRAD_CLIP_NORM: f64 = 1.0;
const FLIP_MASKED: f64 = 0.5;
const FLIP_MULTIPLIER: u64 = 2;
const SSL: SslConfig = SslConfig { weight: 1.0, temperature: 0.1, hidden: 4096, out: 256 };

fn number(stated: Option<Quantity>, default: f64) -> f64 {
    stated.map_or(default, |q| q.0)
}

fn share(stated: Option<Share>, default: f64) -> f64 {
    stated.map_or(default, |s| s.0)
}

/// The strategy as data.
pub(in crate::spec) fn strategy(spec: StrategySpec) -> Result<StrategyConfig, Vec<Problem>> {
    let mut problems = Vec::new();
    let config = match spec {
        StrategySpec::Clip { augmentation } => StrategyConfig {
            augmentation: augment(augmentation, &mut problems),
            masked: 0.0,
            unmasked_tuning: 0.0,
            batch_multiplier: 1,
            ssl: None,
        },
        StrategySpec::Flip { augmentation, masked, unmasked_tuning, batch_multiplier } => {
            let masked = share(masked, FLIP_MASKED);
            if masked >= 1.0 {
                let message = "`train.strategy.masked`: found 100%, expected less: some patches must be left";
                problems.push(Problem::new(Code::Train, "train.strategy.masked", message));
            }
            // Where nothing is masked there is nothing to unmask.
            let unmasked_tuning = if masked > 0.0 { share(unmasked_tuning, 0.0) } else { 0.0 };
            let batch_multiplier = batch_multiplier.map_or(FLIP_MULTIPLIER, |m| m.0);
            within(&mut problems, "train.strategy.batch_multiplier", batch_multiplier, 1 << 10);
            StrategyConfig {
                augmentation: augment(augmentation, &mut problems),
                masked,
                unmasked_tuning,
                batch_multiplier,
                ssl: None,
            }
        }
        StrategySpec::Slip { augmentation, ssl_weight, ssl_temperature, ssl_hidden, ssl_out } => {
            let count = |stated: Option<Count>, default| stated.map_or(default, size);
            let weight = number(ssl_weight, SSL.weight);
            let temperature = number(ssl_temperature, SSL.temperature);
            let (hidden, out) = (count(ssl_hidden, SSL.hidden), count(ssl_out, SSL.out));
            above_zero(&mut problems, "train.strategy.ssl_weight", weight);
            above_zero(&mut problems, "train.strategy.ssl_temperature", temperature);
            within(&mut problems, "train.strategy.ssl_hidden", hidden as u64, 1 << 16);
            within(&mut problems, "train.strategy.ssl_out", out as u64, 1 << 16);
            let ssl = Some(SslConfig { weight, temperature, hidden, out });
            StrategyConfig {
                augmentation: augment(augmentation, &mut problems),
                masked: 0.0,
                unmasked_tuning: 0.0,
                batch_multiplier: 1,
                ssl,
            }
        }
    };
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn augment(spec: Option<Named<AugmentationSpec>>, problems: &mut Vec<Problem>) -> Augmentation {
    let path = "train.strategy.augmentation";
    let mut strength = |layers: Option<Count>, magnitude: Option<Quantity>, default: f64| {
        let layers = layers.map_or(2, |c| u32::try_from(c.0).unwrap_or(u32::MAX));
        let magnitude = number(magnitude, default);
        if !(1..=16).contains(&layers) {
            problems.push(Problem::new(
                Code::Train,
                format!("{path}.layers"),
                format!("`{path}.layers`: found {layers}, expected from 1 to 16"),
            ));
        }
        if !(0.0..=10.0).contains(&magnitude) {
            let message = format!("`{path}.magnitude`: found {magnitude}, expected from 0 to 10");
            problems.push(Problem::new(Code::Train, format!("{path}.magnitude"), message));
        }
        (layers, magnitude)
    };
    match spec.map(|Named(a)| a) {
        None | Some(AugmentationSpec::None {}) => Augmentation::None,
        Some(AugmentationSpec::CropFlip { min_area, flip }) => {
            let (min_area, flip) = (share(min_area, 0.5), share(flip, 0.5));
            area(problems, min_area);
            Augmentation::CropFlip { min_area, flip }
        }
        Some(AugmentationSpec::RandAugment { layers, magnitude }) => {
            let (layers, magnitude) = strength(layers, magnitude, 9.0);
            Augmentation::RandAugment { layers, magnitude }
        }
        Some(AugmentationSpec::StackedRandAugment { layers, magnitude, min_area }) => {
            let (layers, magnitude) = strength(layers, magnitude, 10.0);
            let min_area = share(min_area, 0.2);
            area(problems, min_area);
            Augmentation::StackedRandAugment { layers, magnitude, min_area }
        }
    }
}

fn area(problems: &mut Vec<Problem>, min_area: f64) {
    if min_area <= 0.0 {
        let path = "train.strategy.augmentation.min_area";
        problems.push(Problem::new(Code::Train, path, format!("`{path}`: found 0%, expected a share of the area above 0%")));
    }
}

fn within(problems: &mut Vec<Problem>, path: &str, value: u64, most: u64) {
    if !(1..=most).contains(&value) {
        problems.push(Problem::new(Code::Train, path, format!("`{path}`: found {value}, expected from 1 to {most}")));
    }
}

fn above_zero(problems: &mut Vec<Problem>, path: &str, value: f64) {
    if value <= 0.0 {
        problems.push(Problem::new(Code::Train, path, format!("`{path}`: found {value}, expected a number above 0")));
    }
}

/// The optimiser with its constants.
pub(in crate::spec) fn optimizer(spec: Option<Named<OptimizerSpec>>) -> Result<OptimizerConfig, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut decay = |key: &str, value: f64| {
        if !(0.0..1.0).contains(&value) {
            let path = format!("train.optimizer.{key}");
            let message = format!("`{path}`: found {value}, expected from 0 to below 1");
            problems.push(Problem::new(Code::Train, path, message));
        }
        value
    };
    let config = match spec.map_or(OptimizerSpec::Adafactor { beta1: None, beta2_cap: None }, |Named(o)| o) {
        OptimizerSpec::Adafactor { beta1, beta2_cap } => OptimizerConfig::Adafactor {
            beta1: decay("beta1", number(beta1, 0.9)),
            beta2_cap: decay("beta2_cap", number(beta2_cap, 0.999)),
        },
        OptimizerSpec::Adamw { beta1, beta2, eps } => {
            let (beta1, beta2) = (decay("beta1", number(beta1, 0.9)), decay("beta2", number(beta2, 0.98)));
            let eps = number(eps, 1e-6);
            above_zero(&mut problems, "train.optimizer.eps", eps);
            OptimizerConfig::Adamw { beta1, beta2, eps }
        }
    };
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// The norm that gradients are clipped to.
pub(in crate::spec) fn grad_clip(spec: Option<GradClipSpec>) -> Option<f64> {
    spec.map_or(Some(GRAD_CLIP_NORM), |GradClipSpec(norm)| norm)
}

/// Patches that are left of each image, where some are masked.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "patches of one image")]
pub(in crate::spec) fn kept_patches(model: &ModelConfig, strategy: &StrategyConfig) -> u64 {
    let ImageEncoderConfig::Vit(vit) = &model.image_encoder;
    let patches = (model.image_size / vit.patch_size).pow(2);
    (patches as f64 * (1.0 - strategy.masked)).round() as u64
}
