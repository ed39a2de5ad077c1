//! Text transformers, `text-<size>`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::problem::Problem;
use super::super::scalar::{Count, Quantity};
use super::keys::Keys;
use super::transformer::{Size, Stated, Transformer, transformer};
use crate::run::TextEncoderConfig;

/// **Source**: b is the paper's text encoder (section 3); the others are scaled down from it.
const SIZES: [(&str, Size); 4] =
    [("xxs", Size::new(64, 2, 2)), ("xs", Size::new(128, 3, 4)), ("s", Size::new(384, 12, 6)), ("b", Size::new(768, 12, 12))];

/// A text encoder: a known size, or `name: text` with its shape. A stated key goes before the known size's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-expected" = "an encoder such as `text-xs`, or a map with its shape"))]
pub struct TextEncoderSpec {
    /// `text-<size>` (sizes `xxs`, `xs`, `s`, `b`), or `text`.
    pub name: String,
    /// Channels of a token.
    pub width: Option<Count>,
    /// Transformer blocks.
    pub layers: Option<Count>,
    /// Attention heads; divides `width`.
    pub heads: Option<Count>,
    /// Hidden channels of the MLP over `width`. Default 4: CLIP.
    pub mlp_ratio: Option<Quantity>,
}

/// Names of the known sizes.
pub(super) fn names() -> Vec<String> {
    SIZES.iter().map(|(size, _)| format!("text-{size}")).collect()
}

/// The config of a text encoder, without its vocabulary.
pub(in crate::spec) fn text_encoder(
    spec: TextEncoderSpec,
    context_length: usize,
    problems: &mut Vec<Problem>,
) -> Option<TextEncoderConfig> {
    let mut keys = Keys { path: "model.text_encoder", problems };
    let TextEncoderSpec { name, width, layers, heads, mlp_ratio } = spec;
    let size = keys.known(&name, "text", &SIZES)?;
    let stated = Stated { width, layers, heads, mlp_ratio };
    let Transformer { width, layers, heads, mlp_width } = transformer(&stated, size.copied(), &mut keys)?;
    Some(TextEncoderConfig { width, layers, heads, mlp_width, context_length, vocab_size: 0 })
}
