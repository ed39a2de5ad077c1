//! Small configs that several tests of the trainer share.

use crate::run::{
    Activation, DecayScale, ImageEncoderConfig, LossConfig, ModelConfig, OptimizerConfig, Pooling, StrategyConfig,
    TextEncoderConfig, TrainConfig, VitConfig,
};

/// A model of a few thousand parameters with awkward sizes.
pub fn tiny_model(pooling: Pooling) -> ModelConfig {
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 20,
            layers: 2,
            heads: 4,
            mlp_width: 36,
            patch_size: 4,
            pooling,
            pre_norm: pooling == Pooling::ClassToken,
        }),
        text_encoder: TextEncoderConfig { width: 18, layers: 2, heads: 3, mlp_width: 40, context_length: 7, vocab_size: 31 },
        embed_dim: 13,
        image_size: 12,
        activation: Activation::Gelu,
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        pixel_mean: [0.5, 0.4, 0.45],
        pixel_std: [0.5, 0.25, 0.3],
    }
}

/// A plain CLIP training config.
pub fn tiny_train() -> TrainConfig {
    TrainConfig {
        strategy: StrategyConfig::clip(),
        loss: LossConfig::Contrastive,
        batch_size: 8,
        accumulate: 1,
        steps: 10,
        lr: 1e-3,
        warmup_steps: 2,
        optimizer: OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.98, eps: 1e-6 },
        weight_decay: 0.1,
        decay_scale: DecayScale::Rate,
        grad_clip_norm: Some(1.0),
        lanes: 8,
        milestones: Vec::new(),
    }
}
