//! Residual networks of bottleneck blocks (He et al. 2016, v1.5), `resnet-<size>`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, Quantity};
use super::FamilySpec;
use super::keys::{Keys, divisors, most};
use crate::run::{ImageEncoderConfig, ResNetConfig, ResNetNorm};

/// What a name stands for.
struct Size {
    width: usize,
    depths: [usize; 4],
    stem_kernel: usize,
    /// `None`: from the image, so that the first stage has a map of 16 x 16.
    stem_pool: Option<bool>,
}

const fn known(width: usize, depths: [usize; 4], stem_kernel: usize, stem_pool: Option<bool>) -> Size {
    Size { width, depths, stem_kernel, stem_pool }
}

/// **Source**: 50: He et al. 2016, table 1, with the stride in the 3x3 convolution (torchvision's and timm's `resnet50`), which the
/// paper uses; the others keep its cost over that of ViT-B/32 at 5, 20 and 80 million multiply-accumulates and images of 32 pixels.
const SIZES: [(&str, Size); 4] = [
    ("50", known(64, [3, 4, 6, 3], 7, Some(true))),
    ("5m", known(8, [3, 4, 5, 3], 3, None)),
    ("20m", known(16, [3, 4, 5, 3], 3, None)),
    ("80m", known(32, [3, 4, 5, 3], 3, None)),
];

/// Samples of a group that batch norm is taken over unless stated. **Source** Goyal et al. 2017, section 2.3: 32 a worker.
const BN_GROUP: usize = 32;
/// Groups of channels of group norm unless stated, or as many as a narrower first stage has channels. **Source** Wu and He 2018.
const NORM_GROUPS: usize = 32;

/// A residual network: a known size, or `name: resnet` with its shape. A stated key goes before the known size's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResNetSpec {
    /// `resnet-<size>` (sizes `50`, `5m`, `20m`, `80m`), or `resnet`.
    name: String,
    /// Inner channels of the first stage's blocks; every later stage has twice those of the one before. A stage puts out four times
    /// its inner channels.
    width: Option<Count>,
    /// Blocks of every stage, a list.
    depths: Option<Vec<Count>>,
    /// Side of the stem's convolution, odd; its stride is 2.
    stem_kernel: Option<Count>,
    /// Whether a max pool of 3 x 3 and stride 2 follows the stem. Default of the sizes in millions: false at 32 px, true at 64 px.
    stem_pool: Option<bool>,
    /// What activations are normalised over. Default `batch`: He et al. 2016.
    norm: Option<NormSpec>,
    /// Samples, one after another in the batch, whose statistics batch norm takes together; divides every chunk. Default 32: Goyal et
    /// al. 2017, section 2.3.
    bn_group: Option<Count>,
    /// Groups of channels of group norm; divides `width`. Default 32, or a smaller `width`: Wu and He 2018.
    norm_groups: Option<Count>,
    /// Added to the variance in norms. Default 1e-5: He et al. 2016, torchvision.
    norm_eps: Option<Quantity>,
}

/// What activations are normalised over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum NormSpec {
    /// Samples of a group and positions, for every channel; running statistics are used in evaluation.
    Batch,
    /// Positions and channels of a group, for every sample.
    Group,
}

impl FamilySpec for ResNetSpec {
    const NAME: &'static str = "resnet";
    const DROPS_TOKENS: bool = false;

    fn names() -> Vec<String> {
        SIZES.iter().map(|(size, _)| format!("resnet-{size}")).collect()
    }

    fn resolve(self, image_size: usize, keys: &mut Keys<'_>) -> Option<ImageEncoderConfig> {
        let Self { name, width, depths, stem_kernel, stem_pool, norm, bn_group, norm_groups, norm_eps: eps } = self;
        let known = keys.known(&name, Self::NAME, &SIZES)?;
        let width = keys.count("width", width, known.map(|k| k.width), most::STAGE_WIDTH);
        let depths = keys.counts("depths", depths, known.map(|k| &k.depths[..]), most::LAYERS);
        let stem_kernel = keys.count("stem_kernel", stem_kernel, known.map(|k| k.stem_kernel), most::KERNEL);
        let stem_kernel = stem_kernel.filter(|kernel| {
            let is_odd = kernel % 2 == 1;
            if !is_odd {
                keys.refuse_key("stem_kernel", &format!("found {kernel}, expected an odd number"), "such as 3 or 7");
            }
            is_odd
        });
        let stem_pool = match (stem_pool, known.map(|k| k.stem_pool)) {
            (Some(stated), _) => Some(stated),
            (None, Some(Some(known))) => Some(known),
            // The stem halves the image; where the first stage's map is a fourth of it, the pool halves it again.
            (None, Some(None)) => keys.of_image(&name, "stem_pool", image_size, 16).map(|stride| stride > 2),
            (None, None) => {
                keys.missing("stem_pool", "`true` or `false`");
                None
            }
        };
        let norm_eps = keys.norm_eps(eps, 1e-5);
        let (width, depths) = (width?, depths?);
        let norm = normalised(norm.unwrap_or(NormSpec::Batch), bn_group, norm_groups, width, keys)?;
        let (stem_kernel, stem_pool, norm_eps) = (stem_kernel?, stem_pool?, norm_eps?);
        Some(ImageEncoderConfig::Resnet(ResNetConfig { width, depths, stem_kernel, stem_pool, norm, norm_eps }))
    }
}

/// The norm with its own key; that of the other norm is refused.
fn normalised(
    norm: NormSpec,
    bn_group: Option<Count>,
    norm_groups: Option<Count>,
    width: usize,
    keys: &mut Keys<'_>,
) -> Option<ResNetNorm> {
    match norm {
        NormSpec::Batch if norm_groups.is_some() => {
            keys.refuse_key("norm_groups", "it goes with `norm: group`", "remove it, or state `norm: group`");
            None
        }
        NormSpec::Batch => {
            let group = keys.count("bn_group", bn_group, Some(BN_GROUP), most::BN_GROUP)?;
            Some(ResNetNorm::Batch { group })
        }
        NormSpec::Group if bn_group.is_some() => {
            keys.refuse_key("bn_group", "it goes with `norm: batch`", "remove it, or state `norm: batch`");
            None
        }
        NormSpec::Group => {
            let groups = keys.count("norm_groups", norm_groups, Some(NORM_GROUPS.min(width)), most::STAGE_WIDTH)?;
            if !width.is_multiple_of(groups) {
                let says = format!("{groups} groups do not divide width {width}");
                keys.refuse_key("norm_groups", &says, format!("width {width} takes {}", divisors(width, 1..=64)));
                return None;
            }
            Some(ResNetNorm::Group { groups })
        }
    }
}
