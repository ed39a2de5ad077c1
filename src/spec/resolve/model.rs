//! `model:` to its config; its encoders are read by `encoders`.

use super::super::diagnostic::Code;
use super::super::encoders;
use super::super::scalar::Quantity;
use super::super::types::{ActivationSpec, ImageEncoderSpec, ModelSpec, Named, PixelSpec};
use super::{Problem, size};
use crate::run::{Activation, ImageEncoderConfig, ModelConfig};

const CONTEXT_LENGTH: usize = 16;
const LOGIT_SCALE_INIT: f64 = 1.0 / 0.07;
/// Initial logit scale of the sigmoid loss unless stated. **Source** Zhai et al. 2023, section 3.2.
pub(in crate::spec) const SIGMOID_LOGIT_SCALE_INIT: f64 = 10.0;
const LOGIT_SCALE_MAX: f64 = 100.0;
const PIXEL: [f64; 3] = [0.5; 3];

/// Resolves `model:`; the vocabulary's size is filled in where the tokenizer is known.
pub(in crate::spec) fn model(spec: ModelSpec) -> Result<ModelConfig, Vec<Problem>> {
    let ModelSpec {
        image_encoder: Named(image),
        text_encoder: Named(text),
        context_length,
        embed_dim,
        image_size,
        activation,
        logit_scale_init,
        logit_scale_max,
        pixel_mean,
        pixel_std,
    } = spec;
    let mut problems = Vec::new();
    let image_size = size(image_size);
    let context_length = context_length.map_or(CONTEXT_LENGTH, size);
    let image_encoder = encoders::image_encoder(image, image_size, &mut problems);
    let text_encoder = encoders::text_encoder(text, context_length, &mut problems);
    within(&mut problems, "model.embed_dim", size(embed_dim), 1..=most::EMBED_DIM);
    within(&mut problems, "model.image_size", image_size, 1..=most::IMAGE_SIZE);
    within(&mut problems, "model.context_length", context_length, 3..=most::CONTEXT_LENGTH);
    let number = |stated: Option<Quantity>, default: f64| stated.map_or(default, |q| q.0);
    let logit_scale_init = number(logit_scale_init, LOGIT_SCALE_INIT);
    let logit_scale_max = number(logit_scale_max, LOGIT_SCALE_MAX);
    if !(logit_scale_init > 0.0 && logit_scale_init <= logit_scale_max) {
        let message = format!("`model.logit_scale_init`: found {logit_scale_init}, expected above 0 and at most {logit_scale_max}");
        problems.push(Problem::new(Code::Model, "model.logit_scale_init", message));
    }
    let pixel_std = pixel_std.map_or(PIXEL, |PixelSpec(p)| p);
    if pixel_std.iter().any(|s| *s <= 0.0) {
        problems.push(Problem::new(Code::Model, "model.pixel_std", "`model.pixel_std`: expected numbers above 0"));
    }
    let (Some(image_encoder), Some(text_encoder), true) = (image_encoder, text_encoder, problems.is_empty()) else {
        return Err(problems);
    };
    let activation = match activation.unwrap_or(ActivationSpec::Gelu) {
        ActivationSpec::Gelu => Activation::Gelu,
        ActivationSpec::GeluTanh => Activation::GeluTanh,
        ActivationSpec::QuickGelu => Activation::QuickGelu,
    };
    let pixel_mean = pixel_mean.map_or(PIXEL, |PixelSpec(p)| p);
    let embed_dim = size(embed_dim);
    Ok(ModelConfig {
        image_encoder,
        text_encoder,
        embed_dim,
        image_size,
        activation,
        logit_scale_init,
        logit_scale_max,
        pixel_mean,
        pixel_std,
    })
}

/// What a number may be at most, so that a plan takes seconds; the largest models known are far below.
mod most {
    pub const EMBED_DIM: usize = 1 << 15;
    pub const IMAGE_SIZE: usize = 1 << 12;
    pub const CONTEXT_LENGTH: usize = 1 << 13;
}

fn within(problems: &mut Vec<Problem>, path: &str, value: usize, limits: std::ops::RangeInclusive<usize>) {
    if !limits.contains(&value) {
        let message = format!("`{path}`: found {value}, expected from {} to {}", limits.start(), limits.end());
        problems.push(Problem::new(Code::Model, path, message));
    }
}

/// The image encoder that a text states as in an experiment file, a name or a map, for images of this side, pixels.
///
/// # Errors
/// What is wrong with it, line by line.
pub fn image_encoder(text: &str, image_size: usize) -> Result<ImageEncoderConfig, String> {
    let Named(spec) = serde_yaml::from_str::<Named<ImageEncoderSpec>>(text).map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    let config = encoders::image_encoder(spec, image_size, &mut problems);
    let says = |problem: Problem| match problem.hint {
        Some(hint) => format!("{}; {hint}", problem.message),
        None => problem.message,
    };
    config.ok_or_else(|| problems.into_iter().map(says).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::run::{Pooling, VitConfig};

    fn resolve(image: serde_json::Value, image_size: u64) -> Result<VitConfig, Vec<Problem>> {
        let json =
            serde_json::json!({"image_encoder": image, "text_encoder": "text-b", "embed_dim": 512, "image_size": image_size});
        match model(serde_json::from_value(json).unwrap())?.image_encoder {
            ImageEncoderConfig::Vit(vit) => Ok(vit),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_a_map_and_both_together_say_the_same() {
        let name = resolve(serde_json::json!("vit-b/32"), 224).unwrap();
        assert_eq!((name.width, name.layers, name.heads, name.mlp_width, name.patch_size), (768, 12, 12, 3072, 32));
        let map = serde_json::json!({"name": "vit", "width": 768, "layers": 12, "heads": 12, "patch_size": 32});
        assert_eq!(resolve(map, 224).unwrap(), name);
        let both = resolve(serde_json::json!({"name": "vit-b/32", "pooling": "mean", "layers": 2}), 224).unwrap();
        assert_eq!(both, VitConfig { pooling: Pooling::Mean, layers: 2, ..name });
    }

    #[test]
    fn shapes_that_cannot_be_built_are_refused_with_what_would_fit() {
        let hint = |json, size| resolve(json, size).unwrap_err()[0].hint.clone().unwrap();
        assert!(hint(serde_json::json!("vit-b/32"), 100).contains("2, 4, 5, 10, 20, 25, 50"));
        assert!(hint(serde_json::json!({"name": "vit-b/16", "heads": 7}), 224).contains("1, 2, 3, 4, 6"));
        assert!(hint(serde_json::json!("vit-bb/16"), 224).contains("`vit-b`"));
        assert!(hint(serde_json::json!("vit-b"), 224).contains("vit-b/16"));
    }
}
