//! `model:` to its config; sizes by name are listed here and nowhere else.

use super::super::diagnostic::{Code, nearest, quoted_list};
use super::super::scalar::{Count, Quantity};
use super::super::types::{ActivationSpec, ImageEncoderSpec, ModelSpec, Named, PixelSpec, PoolingSpec, TextEncoderSpec};
use super::{Problem, size};
use crate::run::{Activation, ImageEncoderConfig, ModelConfig, Pooling, TextEncoderConfig, VitConfig};

/// Width, layers, heads by name. **Source**: ti, s, b, l: `DeiT` (Touvron et al. 2021) and ViT (Dosovitskiy et al. 2021),
/// which the paper uses; xxs and xs are scaled down from ti for small studies.
const VIT_SIZES: [(&str, [usize; 3]); 6] = [
    ("xxs", [48, 3, 3]),
    ("xs", [96, 4, 3]),
    ("ti", [192, 12, 3]),
    ("s", [384, 12, 6]),
    ("b", [768, 12, 12]),
    ("l", [1024, 24, 16]),
];

/// Width, layers, heads by name. **Source**: b is the paper's text encoder (section 3); the others are scaled down from it.
const TEXT_SIZES: [(&str, [usize; 3]); 4] = [("xxs", [64, 2, 2]), ("xs", [128, 3, 4]), ("s", [384, 12, 6]), ("b", [768, 12, 12])];

const MLP_RATIO: f64 = 4.0;
const CONTEXT_LENGTH: usize = 16;
const LOGIT_SCALE_INIT: f64 = 1.0 / 0.07;
/// Initial logit scale of the sigmoid loss unless stated. **Source** Zhai et al. 2023, section 3.2.
pub(in crate::spec) const SIGMOID_LOGIT_SCALE_INIT: f64 = 10.0;
const LOGIT_SCALE_MAX: f64 = 100.0;
const PIXEL: [f64; 3] = [0.5; 3];

/// Names of the known encoders, image encoders first: `vit-ti` (which takes a patch size), `text-s`.
#[must_use]
pub fn encoder_names() -> Vec<String> {
    let names = |family: &str, sizes: &[(&str, [usize; 3])]| sizes.iter().map(|(size, _)| format!("{family}-{size}")).collect();
    let (image, text): (Vec<String>, Vec<String>) = (names("vit", &VIT_SIZES), names("text", &TEXT_SIZES));
    [image, text].concat()
}

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
    let image_encoder = image_encoder(image, image_size, &mut problems);
    let text_encoder = text_encoder(&text, context_length, &mut problems);
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
    pub const WIDTH: usize = 1 << 15;
    pub const MLP_WIDTH: usize = 1 << 17;
    pub const LAYERS: usize = 1 << 9;
    pub const HEADS: usize = 1 << 10;
    pub const EMBED_DIM: usize = 1 << 15;
    pub const IMAGE_SIZE: usize = 1 << 12;
    pub const CONTEXT_LENGTH: usize = 1 << 13;
    /// Tokens of an image.
    pub const PATCHES: usize = 1 << 16;
}

fn within(problems: &mut Vec<Problem>, path: &str, value: usize, limits: std::ops::RangeInclusive<usize>) {
    if !limits.contains(&value) {
        let message = format!("`{path}`: found {value}, expected from {} to {}", limits.start(), limits.end());
        problems.push(Problem::new(Code::Model, path, message));
    }
}

/// The shape of a transformer: what a name stands for, and what is stated beside it.
struct Shape {
    width: Option<Count>,
    layers: Option<Count>,
    heads: Option<Count>,
    mlp_ratio: Option<Quantity>,
}

struct Transformer {
    width: usize,
    layers: usize,
    heads: usize,
    mlp_width: usize,
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "widths below 2^20")]
fn transformer(path: &str, shape: &Shape, preset: Option<[usize; 3]>, problems: &mut Vec<Problem>) -> Option<Transformer> {
    let Shape { width, layers, heads, mlp_ratio } = shape;
    let before = problems.len();
    let mut pick = |key: &str, stated: Option<Count>, idx: usize, most: usize| {
        let value = stated.map(size).or(preset.map(|p| p[idx]));
        match value {
            Some(value) => within(problems, &format!("{path}.{key}"), value, 1..=most),
            None => {
                let message = format!("missing key `{key}` in `{path}`, expected a whole number");
                problems.push(Problem::new(Code::MissingKey, path, message).hint("or name a known size"));
            }
        }
        value
    };
    let width = pick("width", *width, 0, most::WIDTH);
    let (layers, heads) = (pick("layers", *layers, 1, most::LAYERS), pick("heads", *heads, 2, most::HEADS));
    let (width, layers, heads) = (width?, layers?, heads?);
    if problems.len() > before {
        return None;
    }
    if width % heads != 0 {
        let key = if shape.heads.is_some() || shape.width.is_none() { "heads" } else { "width" };
        let message = format!("`{path}.{key}`: {heads} heads do not divide width {width}");
        let known: Vec<String> = (1..=width.min(32)).filter(|h| width % h == 0).map(|h| h.to_string()).collect();
        problems.push(
            Problem::new(Code::Model, format!("{path}.{key}"), message).hint(format!("width {width} takes {}", known.join(", "))),
        );
    }
    let ratio = mlp_ratio.map_or(MLP_RATIO, |r| r.0);
    let mlp_width = width as f64 * ratio;
    if mlp_width.fract() != 0.0 || !(1.0..=most::MLP_WIDTH as f64).contains(&mlp_width) {
        let message = format!(
            "`{path}.mlp_ratio`: {ratio} times width {width} is {mlp_width}, expected a whole number of channels from 1 to {}",
            most::MLP_WIDTH
        );
        problems.push(Problem::new(Code::Model, format!("{path}.mlp_ratio"), message));
    }
    (problems.len() == before).then_some(Transformer { width, layers, heads, mlp_width: mlp_width as usize })
}

/// The size that a name states, or a problem; `None` inside where the name states none.
fn preset(
    path: &str,
    name: &str,
    prefix: &str,
    sizes: &[(&str, [usize; 3])],
    problems: &mut Vec<Problem>,
) -> Option<Option<[usize; 3]>> {
    if name == prefix {
        return Some(None);
    }
    let found = name.strip_prefix(prefix).and_then(|n| n.strip_prefix('-')).unwrap_or(name);
    if let Some((_, shape)) = sizes.iter().find(|(size, _)| *size == found) {
        return Some(Some(*shape));
    }
    let full: Vec<String> = sizes.iter().map(|(size, _)| format!("{prefix}-{size}")).collect();
    let message =
        format!("`{path}`: unknown encoder `{name}`, expected one of {}, or `{prefix}` with its shape", quoted_list(&full));
    let mut problem = Problem::new(Code::Model, path, message);
    problem.hint = nearest(name, full.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
    problems.push(problem);
    None
}

fn image_encoder(spec: ImageEncoderSpec, image_size: usize, problems: &mut Vec<Problem>) -> Option<ImageEncoderConfig> {
    let path = "model.image_encoder";
    let ImageEncoderSpec { name, width, layers, heads, patch_size, mlp_ratio, pooling, pre_norm } = spec;
    let (family, patch) = match name.split_once('/') {
        Some((family, patch)) => (family, Some(patch)),
        None => (name.as_str(), None),
    };
    let preset = preset(path, family, "vit", &VIT_SIZES, problems)?;
    let named_patch = patch.map(|p| p.parse::<usize>().ok().filter(|p| *p > 0));
    if named_patch == Some(None) {
        let message = format!("`{path}`: found `{name}`, expected a patch size in pixels after `/`");
        problems.push(Problem::new(Code::Model, path, message).hint(format!("for example `{family}/16`")));
        return None;
    }
    let Some(patch_size) = patch_size.map(size).or(named_patch.flatten()) else {
        let message = format!("`{path}`: `{name}` states no patch size");
        problems.push(Problem::new(Code::Model, path, message).hint(format!("write `{name}/16`, or `patch_size: 16`")));
        return None;
    };
    let shape = transformer(path, &Shape { width, layers, heads, mlp_ratio }, preset, problems);
    if patch_size == 0 || !image_size.is_multiple_of(patch_size) || patch_size > image_size {
        let message = format!("`{path}`: patches of {patch_size} do not divide images of {image_size} x {image_size}");
        let known: Vec<String> =
            (2..=64.min(image_size)).filter(|p| image_size.is_multiple_of(*p)).map(|p| p.to_string()).collect();
        let hint = format!("images of {image_size} take patches of {}", known.join(", "));
        problems.push(Problem::new(Code::Model, path, message).hint(hint));
        return None;
    }
    let patches = (image_size.min(most::IMAGE_SIZE) / patch_size).pow(2);
    if patches > most::PATCHES && image_size <= most::IMAGE_SIZE {
        let message = format!("`{path}`: an image of {image_size} x {image_size} has {patches} patches of {patch_size}");
        let message = format!("{message}, expected at most {}", most::PATCHES);
        problems.push(Problem::new(Code::Model, path, message).hint("use larger patches, or smaller images"));
        return None;
    }
    let Transformer { width, layers, heads, mlp_width } = shape?;
    let pooling = match pooling.unwrap_or(PoolingSpec::ClassToken) {
        PoolingSpec::ClassToken => Pooling::ClassToken,
        PoolingSpec::Mean => Pooling::Mean,
    };
    let pre_norm = pre_norm.unwrap_or(true);
    Some(ImageEncoderConfig::Vit(VitConfig { width, layers, heads, mlp_width, patch_size, pooling, pre_norm }))
}

fn text_encoder(spec: &TextEncoderSpec, context_length: usize, problems: &mut Vec<Problem>) -> Option<TextEncoderConfig> {
    let path = "model.text_encoder";
    let TextEncoderSpec { name, width, layers, heads, mlp_ratio } = spec;
    let preset = preset(path, name, "text", &TEXT_SIZES, problems)?;
    let shape = Shape { width: *width, layers: *layers, heads: *heads, mlp_ratio: *mlp_ratio };
    let Transformer { width, layers, heads, mlp_width } = transformer(path, &shape, preset, problems)?;
    Some(TextEncoderConfig { width, layers, heads, mlp_width, context_length, vocab_size: 0 })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn resolve(image: serde_json::Value, image_size: u64) -> Result<VitConfig, Vec<Problem>> {
        let json =
            serde_json::json!({"image_encoder": image, "text_encoder": "text-b", "embed_dim": 512, "image_size": image_size});
        let ImageEncoderConfig::Vit(vit) = model(serde_json::from_value(json).unwrap())?.image_encoder;
        Ok(vit)
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
