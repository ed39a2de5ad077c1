//! `ConvNeXt` (Liu et al. 2022), `convnext-<size>`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, Quantity};
use super::FamilySpec;
use super::keys::{Keys, most};
use super::stages::{Staged, Stem, maps, stem_stride};
use crate::run::{ConvNextConfig, ImageEncoderConfig};

/// **Source**: t: Liu et al. 2022, section 3.1 and timm's `convnext_tiny`, which the paper uses; the others keep its cost over that
/// of ViT-B/32 at 5, 20 and 80 million multiply-accumulates and images of 32 pixels.
const SIZES: [(&str, Staged); 4] = [
    ("t", Staged::new(96, [3, 3, 9, 3], Stem::Stride(4))),
    ("5m", Staged::new(12, [2, 2, 8, 3], Stem::OfImage)),
    ("20m", Staged::new(24, [2, 2, 9, 3], Stem::OfImage)),
    ("80m", Staged::new(48, [2, 2, 9, 3], Stem::OfImage)),
];

/// `ConvNeXt`: a known size, or `name: convnext` with its shape. A stated key goes before the known size's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConvNextSpec {
    /// `convnext-<size>` (sizes `t`, `5m`, `20m`, `80m`), or `convnext`.
    name: String,
    /// Channels of the first stage; every later one has twice those of the one before.
    width: Option<Count>,
    /// Blocks of every stage, a list.
    depths: Option<Vec<Count>>,
    /// Side and stride of the stem's patches, pixels; divides `image_size`. Default of the sizes in millions: 2 at 32 px, 4 at 64 px.
    stem_stride: Option<Count>,
    /// Added to the variance in layer norms. Default 1e-6: Liu et al. 2022, timm.
    norm_eps: Option<Quantity>,
}

impl FamilySpec for ConvNextSpec {
    const NAME: &'static str = "convnext";
    const DROPS_TOKENS: bool = false;

    fn names() -> Vec<String> {
        SIZES.iter().map(|(size, _)| format!("convnext-{size}")).collect()
    }

    fn resolve(self, image_size: usize, keys: &mut Keys<'_>) -> Option<ImageEncoderConfig> {
        let Self { name, width, depths, stem_stride: stride, norm_eps: eps } = self;
        let known = keys.known(&name, Self::NAME, &SIZES)?;
        let width = keys.count("width", width, known.map(|k| k.width), most::STAGE_WIDTH);
        let depths = keys.counts("depths", depths, known.map(|k| &k.depths[..]), most::LAYERS);
        let stem_stride = stem_stride(&name, stride, known.map(|k| k.stem), image_size, keys);
        let norm_eps = keys.norm_eps(eps, 1e-6);
        let (width, depths, stem_stride) = (width?, depths?, stem_stride?);
        maps(image_size, stem_stride, depths.len(), keys)?;
        Some(ImageEncoderConfig::Convnext(ConvNextConfig { width, depths, stem_stride, norm_eps: norm_eps? }))
    }
}
