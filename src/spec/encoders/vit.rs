//! Vision transformers, `vit-<size>/<patch>`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, Quantity, size};
use super::FamilySpec;
use super::keys::{Keys, Patch};
use super::transformer::{Size, Stated, Transformer, transformer};
use crate::run::{ImageEncoderConfig, Pooling, VitConfig};

/// What a name stands for.
struct Known {
    shape: Size,
    patch: Patch,
}

const fn patched(width: usize, layers: usize, heads: usize) -> Known {
    Known { shape: Size::new(width, layers, heads), patch: Patch::Stated }
}

const fn of_image(width: usize, layers: usize, heads: usize) -> Known {
    Known { shape: Size::new(width, layers, heads), patch: Patch::OfImage }
}

/// **Source**: ti, s, b, l: `DeiT` (Touvron et al. 2021) and ViT (Dosovitskiy et al. 2021), which the paper uses; xxs and xs are
/// scaled down from ti for small studies. `5m`, `20m` and `80m` have that many million multiply-accumulates at 16 patches; `quarter`
/// is a fourth of the paper's width at half its depth, `eighth` an eighth at a third: each keeps the ratios of the paper's costs.
const SIZES: [(&str, Known); 17] = [
    ("xxs", patched(48, 3, 3)),
    ("xs", patched(96, 4, 3)),
    ("ti", patched(192, 12, 3)),
    ("s", patched(384, 12, 6)),
    ("b", patched(768, 12, 12)),
    ("l", patched(1024, 24, 16)),
    ("5m", of_image(64, 6, 2)),
    ("20m", of_image(128, 6, 4)),
    ("80m", of_image(256, 6, 8)),
    ("ti-quarter", patched(48, 6, 3)),
    ("s-quarter", patched(96, 6, 6)),
    ("b-quarter", patched(192, 6, 12)),
    ("l-quarter", patched(256, 12, 16)),
    ("ti-eighth", patched(24, 4, 3)),
    ("s-eighth", patched(48, 4, 6)),
    ("b-eighth", patched(96, 4, 12)),
    ("l-eighth", patched(128, 8, 16)),
];

/// A vision transformer: a known size, or `name: vit` with its shape. A stated key goes before the known size's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VitSpec {
    /// `vit-<size>/<patch>` (sizes `xxs`, `xs`, `ti`, `s`, `b`, `l`; `5m`, `20m`, `80m`; `ti`, `s`, `b`, `l` with `-quarter` or
    /// `-eighth`), or `vit`.
    name: String,
    /// Channels of a token.
    width: Option<Count>,
    /// Transformer blocks.
    layers: Option<Count>,
    /// Attention heads; divides `width`.
    heads: Option<Count>,
    /// Side of a patch, pixels; divides `image_size`. Default of the sizes in millions: 8 at 32 px, 16 at 64 px.
    patch_size: Option<Count>,
    /// Hidden channels of the MLP over `width`. Default 4: ViT (Dosovitskiy et al. 2021).
    mlp_ratio: Option<Quantity>,
    /// How tokens become one vector. Default `class_token`: CLIP.
    pooling: Option<PoolingSpec>,
    /// Layer norm before the first block. Default true: CLIP (`visual.ln_pre`).
    pre_norm: Option<bool>,
}

/// How an image encoder's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PoolingSpec {
    /// The final state of a learnt class token.
    ClassToken,
    /// The mean over the patch tokens.
    Mean,
}

impl FamilySpec for VitSpec {
    const NAME: &'static str = "vit";
    const DROPS_TOKENS: bool = true;

    fn names() -> Vec<String> {
        SIZES.iter().map(|(name, known)| format!("vit-{name}{}", known.patch.example("/16"))).collect()
    }

    fn resolve(self, image_size: usize, keys: &mut Keys<'_>) -> Option<ImageEncoderConfig> {
        let Self { name, width, layers, heads, patch_size, mlp_ratio, pooling, pre_norm } = self;
        let base = name.split('/').next().unwrap_or_default();
        let known = keys.known(base, Self::NAME, &SIZES)?;
        let patch_size = keys.patch_size(&name, patch_size.map(size), known.map(|k| k.patch), image_size)?;
        let stated = Stated { width, layers, heads, mlp_ratio };
        let shape = transformer(&stated, known.map(|k| k.shape), keys);
        if !keys.divides(patch_size, image_size) {
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
}
