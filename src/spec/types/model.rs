//! `model:`, what learns.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::super::encoders::{ImageEncoderSpec, TextEncoderSpec};
use super::super::scalar::{Count, Quantity};
use super::Named;

/// Both encoders and the shared space.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Image encoder: the name of a known size, or a map.
    pub image_encoder: Named<ImageEncoderSpec>,
    /// Text encoder: `text-<size>`, or a map.
    pub text_encoder: Named<TextEncoderSpec>,
    /// Tokens a caption is padded or cut to. Default 16: the paper, section 3.
    pub context_length: Option<Count>,
    /// Width of the shared space.
    pub embed_dim: Count,
    /// Side of the image that the encoder sees, pixels.
    pub image_size: Count,
    /// Activation of every MLP. Default `gelu`: ViT (Dosovitskiy et al. 2021).
    pub activation: Option<ActivationSpec>,
    /// Initial logit scale (a multiplier). Default 1/0.07: CLIP (Radford et al. 2021, section 2.5); with `train.loss: sigmoid` 10: Zhai
    /// et al. 2023, section 3.2.
    pub logit_scale_init: Option<Quantity>,
    /// The multiplier is clamped to at most this. Default 100: CLIP, section 2.5.
    pub logit_scale_max: Option<Quantity>,
    /// Mean subtracted from pixels in [0, 1], one number or three. Default 0.5: the paper's pixels are in [-1, 1].
    pub pixel_mean: Option<PixelSpec>,
    /// Divisor of pixels, one number or three. Default 0.5: the paper's pixels are in [-1, 1].
    pub pixel_std: Option<PixelSpec>,
}

/// Activation function of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationSpec {
    /// By the error function.
    Gelu,
    /// The tanh approximation.
    GeluTanh,
    /// x * sigmoid(1.702 x), as `OpenAI`'s CLIP.
    QuickGelu,
}

/// One number for all three colour channels, or three.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelSpec(pub [f64; 3]);

impl<'de> Deserialize<'de> for PixelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrThree;
        impl<'de> Visitor<'de> for OneOrThree {
            type Value = [f64; 3];
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one number, or a list of three")
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<[f64; 3], E> {
                Ok([v; 3])
            }
            #[expect(clippy::cast_precision_loss, reason = "a pixel value")]
            fn visit_u64<E: Error>(self, v: u64) -> Result<[f64; 3], E> {
                Ok([v as f64; 3])
            }
            #[expect(clippy::cast_precision_loss, reason = "a pixel value")]
            fn visit_i64<E: Error>(self, v: i64) -> Result<[f64; 3], E> {
                Ok([v as f64; 3])
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[f64; 3], A::Error> {
                let mut out = [0.0; 3];
                for (idx, channel) in out.iter_mut().enumerate() {
                    *channel = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(idx, &"three numbers"))?;
                }
                match seq.next_element::<f64>()? {
                    None => Ok(out),
                    Some(_) => Err(A::Error::invalid_length(4, &"three numbers")),
                }
            }
        }
        deserializer.deserialize_any(OneOrThree).map(PixelSpec)
    }
}

impl JsonSchema for PixelSpec {
    fn schema_name() -> Cow<'static, str> {
        "PixelSpec".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "number" },
            { "type": "array", "items": { "type": "number" }, "minItems": 3, "maxItems": 3 }
        ]})
    }
}
