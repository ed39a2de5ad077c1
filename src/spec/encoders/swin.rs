//! Swin transformers (Liu et al. 2021), `swin-<size>`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Count, Quantity};
use super::FamilySpec;
use super::keys::{Keys, divisors, most};
use super::stages::{Staged, Stem, maps, stem_stride};
use crate::run::{ImageEncoderConfig, SwinConfig};

/// What a name stands for.
struct Size {
    stages: Staged,
    heads: [usize; 4],
    window: usize,
}

const fn size(width: usize, depths: [usize; 4], heads: [usize; 4], window: usize, stem: Stem) -> Size {
    Size { stages: Staged::new(width, depths, stem), heads, window }
}

/// **Source**: t: Liu et al. 2021, section 3.3 and timm's `swin_tiny_patch4_window7_224`, which the paper uses; the others keep its
/// cost over that of ViT-B/32 at 5, 20 and 80 million multiply-accumulates and images of 32 pixels.
const SIZES: [(&str, Size); 4] = [
    ("t", size(96, [2, 2, 6, 2], [3, 6, 12, 24], 7, Stem::Stride(4))),
    ("5m", size(12, [2, 2, 5, 2], [1, 2, 4, 8], 4, Stem::OfImage)),
    ("20m", size(24, [2, 2, 5, 2], [1, 2, 4, 8], 4, Stem::OfImage)),
    ("80m", size(48, [2, 2, 5, 2], [2, 4, 8, 16], 4, Stem::OfImage)),
];

/// A Swin transformer: a known size, or `name: swin` with its shape. A stated key goes before the known size's.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SwinSpec {
    /// `swin-<size>` (sizes `t`, `5m`, `20m`, `80m`), or `swin`.
    name: String,
    /// Channels of the first stage; every later one has twice those of the one before.
    width: Option<Count>,
    /// Blocks of every stage, a list.
    depths: Option<Vec<Count>>,
    /// Attention heads of every stage, a list as long as `depths`; each divides the channels of its stage.
    heads: Option<Vec<Count>>,
    /// Side of a window, patches; divides the map of every stage that is larger. A smaller map is one window.
    window: Option<Count>,
    /// Side and stride of the stem's patches, pixels; divides `image_size`. Default of the sizes in millions: 2 at 32 px, 4 at 64 px.
    stem_stride: Option<Count>,
    /// Added to the variance in layer norms. Default 1e-5: Liu et al. 2021, timm.
    norm_eps: Option<Quantity>,
}

impl FamilySpec for SwinSpec {
    const NAME: &'static str = "swin";
    const DROPS_TOKENS: bool = false;

    fn names() -> Vec<String> {
        SIZES.iter().map(|(size, _)| format!("swin-{size}")).collect()
    }

    fn resolve(self, image_size: usize, keys: &mut Keys<'_>) -> Option<ImageEncoderConfig> {
        let Self { name, width, depths, heads, window, stem_stride: stride, norm_eps: eps } = self;
        let known = keys.known(&name, Self::NAME, &SIZES)?;
        let width = keys.count("width", width, known.map(|k| k.stages.width), most::STAGE_WIDTH);
        let depths = keys.counts("depths", depths, known.map(|k| &k.stages.depths[..]), most::LAYERS);
        let heads = keys.counts("heads", heads, known.map(|k| &k.heads[..]), most::HEADS);
        let window = keys.count("window", window, known.map(|k| k.window), most::WINDOW);
        let stem_stride = stem_stride(&name, stride, known.map(|k| k.stages.stem), image_size, keys);
        let norm_eps = keys.norm_eps(eps, 1e-5);
        let (width, depths, heads) = (width?, depths?, heads?);
        let (window, stem_stride, norm_eps) = (window?, stem_stride?, norm_eps?);
        let maps = maps(image_size, stem_stride, depths.len(), keys)?;
        let is_divided = divides_channels(width, &depths, &heads, keys);
        let is_tiled = divides_maps(window, &maps, keys);
        let config = SwinConfig { width, depths, heads, window, stem_stride, norm_eps };
        (is_divided && is_tiled).then_some(ImageEncoderConfig::Swin(config))
    }
}

/// Checks that there are heads for every stage, and that they divide its channels.
fn divides_channels(width: usize, depths: &[usize], heads: &[usize], keys: &mut Keys<'_>) -> bool {
    if heads.len() != depths.len() {
        let says = format!("found heads of {} stages, `depths` has {}", heads.len(), depths.len());
        keys.refuse_key("heads", &says, "state one number of heads a stage");
        return false;
    }
    let wrong = heads.iter().enumerate().map(|(stage, heads)| (stage, *heads, width << stage)).find(|(_, heads, w)| w % heads != 0);
    if let Some((stage, heads, width)) = wrong {
        let says = format!("{heads} heads do not divide width {width} of stage {}", stage + 1);
        keys.refuse_key("heads", &says, format!("width {width} takes {}", divisors(width, 1..=32)));
    }
    wrong.is_none()
}

/// Checks that windows divide every map that is larger than one. **Differs** from timm, which pads such maps, and from torchvision,
/// which pads them in another order: their outputs differ from each other there.
fn divides_maps(window: usize, maps: &[usize], keys: &mut Keys<'_>) -> bool {
    let fits = |window: usize| maps.iter().all(|side| *side <= window || side.is_multiple_of(window));
    if fits(window) {
        return true;
    }
    let side = maps.iter().copied().find(|side| *side > window && !side.is_multiple_of(window)).unwrap_or_default();
    let known: Vec<String> = (2..=maps[0]).filter(|window| fits(*window)).take(16).map(|window| window.to_string()).collect();
    let sides: Vec<String> = maps.iter().map(|side| format!("{side} x {side}")).collect();
    let hint = format!("maps of {} take windows of {}", sides.join(", "), known.join(", "));
    keys.refuse_key("window", &format!("windows of {window} do not divide a map of {side} x {side}"), hint);
    false
}
