//! MLP-Mixer (Tolstikhin et al. 2021), `mixer-<size>/<patch>`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, Quantity, size};
use super::FamilySpec;
use super::keys::{Keys, Patch, most};
use crate::run::{ImageEncoderConfig, MixerConfig};

/// What a name stands for.
struct Size {
    width: usize,
    layers: usize,
    token_mlp_width: usize,
    patch: Patch,
}

const fn known(width: usize, layers: usize, token_mlp_width: usize, patch: Patch) -> Size {
    Size { width, layers, token_mlp_width, patch }
}

/// **Source**: b: Tolstikhin et al. 2021, table 1, which the paper uses; the others keep the cost of b/32 over that of ViT-B/32 at 5,
/// 20 and 80 million multiply-accumulates.
const SIZES: [(&str, Size); 4] = [
    ("b", known(768, 12, 384, Patch::Stated)),
    ("5m", known(64, 6, 48, Patch::OfImage)),
    ("20m", known(128, 6, 96, Patch::OfImage)),
    ("80m", known(256, 6, 192, Patch::OfImage)),
];

/// An MLP-Mixer: a known size, or `name: mixer` with its shape. A stated key goes before the known size's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MixerSpec {
    /// `mixer-<size>/<patch>` (sizes `b`, `5m`, `20m`, `80m`), or `mixer`.
    name: String,
    /// Channels of a token.
    width: Option<Count>,
    /// Mixer blocks.
    layers: Option<Count>,
    /// Side of a patch, pixels; divides `image_size`. Default of the sizes in millions: 8 at 32 px, 16 at 64 px.
    patch_size: Option<Count>,
    /// Hidden units of the MLP over tokens.
    token_mlp_width: Option<Count>,
    /// Hidden channels of the MLP over channels, over `width`. Default 4: Tolstikhin et al. 2021, table 1.
    mlp_ratio: Option<Quantity>,
    /// Added to the variance in layer norms. Default 1e-6: Tolstikhin et al. 2021, timm.
    norm_eps: Option<Quantity>,
}

impl FamilySpec for MixerSpec {
    const NAME: &'static str = "mixer";
    const DROPS_TOKENS: bool = false;

    fn names() -> Vec<String> {
        SIZES.iter().map(|(name, size)| format!("mixer-{name}{}", size.patch.example("/32"))).collect()
    }

    fn resolve(self, image_size: usize, keys: &mut Keys<'_>) -> Option<ImageEncoderConfig> {
        let Self { name, width, layers, patch_size, token_mlp_width, mlp_ratio, norm_eps: eps } = self;
        let base = name.split('/').next().unwrap_or_default();
        let known = keys.known(base, Self::NAME, &SIZES)?;
        let patch_size = keys.patch_size(&name, patch_size.map(size), known.map(|k| k.patch), image_size)?;
        let width = keys.count("width", width, known.map(|k| k.width), most::WIDTH);
        let layers = keys.count("layers", layers, known.map(|k| k.layers), most::LAYERS);
        let token_mlp_width = keys.count("token_mlp_width", token_mlp_width, known.map(|k| k.token_mlp_width), most::MLP_WIDTH);
        let mlp_width = width.and_then(|width| keys.mlp_width(width, mlp_ratio));
        let norm_eps = keys.norm_eps(eps, 1e-6);
        if !keys.divides(patch_size, image_size) {
            return None;
        }
        let (width, layers, token_mlp_width) = (width?, layers?, token_mlp_width?);
        let (mlp_width, norm_eps) = (mlp_width?, norm_eps?);
        Some(ImageEncoderConfig::Mixer(MixerConfig { width, layers, patch_size, token_mlp_width, mlp_width, norm_eps }))
    }
}
