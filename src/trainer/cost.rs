//! What a run costs, counted from shapes as the paper counts: forward multiply-accumulates of both encoders times samples.

use super::TrainerError;
use super::backend::cuda;
use super::model::{Recipe, build_with};
use super::program::Tower;
use crate::run::{DeviceKind, ModelConfig, RunConfig, StrategyConfig, TrainConfig};

/// Forward multiply-accumulates of one sample in units of 1e9, every image view and head counted; the mean over a run whose last
/// steps are unmasked.
///
/// **Source** arXiv 2404.08197, Fig 8b: its "GFLOPs per sample" are forward multiply-accumulates of both towers.
/// **Differs** SLIP counts its three views and its head; [`gmacs_per_sample_as_stated`] counts it as the paper does.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub fn gmacs_per_sample(model: &ModelConfig, strategy: &StrategyConfig) -> f64 {
    let at = |masked: f64| {
        let program = build_with(model, &Recipe { ssl: strategy.ssl, ..Recipe::contrastive(masked) });
        (program.macs(Tower::Image) + program.macs(Tower::Text)) as f64 / 1e9
    };
    match strategy.unmasked_tuning {
        0.0 => at(strategy.masked),
        share => (1.0 - share) * at(strategy.masked) + share * at(0.0),
    }
}

/// As [`gmacs_per_sample`], with SLIP counted as twice the cost of the same training without its self-supervised loss.
///
/// **Source** arXiv 2404.08197, section 7: SLIP costs twice what CLIP costs.
#[must_use]
pub fn gmacs_per_sample_as_stated(model: &ModelConfig, strategy: &StrategyConfig) -> f64 {
    match strategy.ssl {
        None => gmacs_per_sample(model, strategy),
        Some(_) => 2.0 * gmacs_per_sample(model, &StrategyConfig { ssl: None, ..strategy.clone() }),
    }
}

/// The cost of the first `steps` steps of a training in units of 1e9 multiply-accumulates, unmasked ones counted in full.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sample counts below 2^53")]
pub fn gmacs_of_steps(model: &ModelConfig, train: &TrainConfig, steps: u64) -> f64 {
    let plain = |masked| StrategyConfig { masked, unmasked_tuning: 0.0, ..train.strategy.clone() };
    let masked = steps.min(train.masked_steps());
    let cost = |share, steps: u64| match steps {
        0 => 0.0,
        steps => gmacs_per_sample(model, &plain(share)) * (steps * train.effective_batch()) as f64,
    };
    cost(train.strategy.masked, masked) + cost(0.0, steps - masked)
}

/// The whole run's cost in units of 1e9 multiply-accumulates.
#[must_use]
pub fn gmacs(config: &RunConfig) -> f64 {
    gmacs_of_steps(&config.model, &config.train, config.train.steps)
}

/// Bytes that a training step of this config plans for: on the CPU parameters, lanes, moments and saved activations; on a GPU
/// kept buffers and the arena of the recorded step, without a held image pool.
///
/// # Errors
/// If the device cannot train the model.
pub fn planned_bytes(config: &RunConfig) -> Result<u64, TrainerError> {
    // The steps that see whole images need the most.
    let masked = if config.train.masked_steps() < config.train.steps { 0.0 } else { config.train.strategy.masked };
    let program = build_with(&config.model, &Recipe::of(&config.train, masked));
    if config.device == DeviceKind::Cuda {
        return cuda::planned_bytes(&program, &config.train, cuda::real_of(config.precision));
    }
    let batch = config.train.effective_batch().div_ceil(config.train.accumulate.max(1));
    let activations = program.activation_bytes(usize::try_from(batch).unwrap_or(usize::MAX));
    Ok(activations.saturating_add(program.parameter_bytes(config.train.lanes, 2)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{ImageEncoderConfig, Pooling, TextEncoderConfig, VitConfig};
    use crate::trainer::tests::{tiny_model, tiny_train};

    /// ViT with the paper's text encoder: 12 x 768, 16 tokens, 32k vocabulary.
    fn paper_model(width: usize, layers: usize, heads: usize, patch_size: usize) -> ModelConfig {
        let vit =
            VitConfig { width, layers, heads, mlp_width: 4 * width, patch_size, pooling: Pooling::ClassToken, pre_norm: true };
        let text = TextEncoderConfig { width: 768, layers: 12, heads: 12, mlp_width: 3072, context_length: 16, vocab_size: 32_000 };
        ModelConfig {
            image_encoder: ImageEncoderConfig::Vit(vit),
            text_encoder: text,
            embed_dim: 512,
            image_size: 224,
            ..tiny_model(Pooling::Mean)
        }
    }

    #[test]
    fn the_papers_five_vits_cost_what_its_figures_imply() {
        // total_gmacs of the paper's compute table (counted from layer shapes, agreeing with Fig 8b within 2 %).
        let expected = [
            ((192, 12, 3, 16), 2.62),
            ((384, 12, 6, 16), 5.96),
            ((768, 12, 12, 32), 5.77),
            ((768, 12, 12, 16), 18.93),
            ((1024, 24, 16, 16), 62.92),
        ];
        for ((width, layers, heads, patch), total) in expected {
            let found = gmacs_per_sample(&paper_model(width, layers, heads, patch), &tiny_train().strategy);
            assert!((found / total - 1.0).abs() < 0.01, "width {width} patch {patch}: {found:.3}, expected {total}");
        }
    }

    #[test]
    fn unmasked_steps_cost_what_they_see() {
        let model = paper_model(768, 12, 12, 32);
        let strategy = StrategyConfig { masked: 0.5, unmasked_tuning: 0.25, ..tiny_train().strategy };
        let train = TrainConfig { steps: 10, strategy, ..tiny_train() };
        assert_eq!(train.masked_steps(), 7);
        let at = |masked| gmacs_per_sample(&model, &StrategyConfig { masked, ..tiny_train().strategy }) * 8.0;
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
        near(gmacs_of_steps(&model, &train, 5), 5.0 * at(0.5));
        near(gmacs_of_steps(&model, &train, 10), 7.0 * at(0.5) + 3.0 * at(0.0));
        near(gmacs_per_sample(&model, &train.strategy) * 8.0, 0.75 * at(0.5) + 0.25 * at(0.0));
    }

    #[test]
    fn masking_halves_the_image_encoder_and_slip_triples_it_and_adds_its_head_twice() {
        let model = paper_model(768, 12, 12, 32);
        let plain = tiny_train().strategy;
        let flip = StrategyConfig { masked: 0.5, ..plain.clone() };
        // compute.csv: FLIP keeps 24 of 49 patches, 3.56 in all; three-view SLIP 14.59.
        assert!((gmacs_per_sample(&model, &flip) / 3.56 - 1.0).abs() < 0.01);
        let ssl = crate::run::SslConfig { weight: 1.0, temperature: 0.1, hidden: 4096, out: 256, bn_group: 4096 };
        let slip = StrategyConfig { ssl: Some(ssl), ..plain.clone() };
        let head = 2.0 * (768.0 * 4096.0 + 4096.0 * 4096.0 + 4096.0 * 256.0) / 1e9;
        assert!(((gmacs_per_sample(&model, &slip) - head) / 14.59 - 1.0).abs() < 0.01);
        let stated = gmacs_per_sample_as_stated(&model, &slip) / gmacs_per_sample(&model, &plain);
        assert!((stated - 2.0).abs() < 1e-12, "{stated}");
    }
}
