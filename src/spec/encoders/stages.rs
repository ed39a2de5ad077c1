//! Encoders in stages, each with twice the channels and half the map of the one before.

use super::super::scalar::Count;
use super::keys::{Keys, divisors, most};

/// Where the stride of a named size's stem comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stem {
    /// It is this.
    Stride(usize),
    /// From the image: the first map is 16 x 16.
    OfImage,
}

/// Width of the first stage, blocks of each, and the stem that a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    pub width: usize,
    pub depths: [usize; 4],
    pub stem: Stem,
}

impl Staged {
    pub const fn new(width: usize, depths: [usize; 4], stem: Stem) -> Self {
        Self { width, depths, stem }
    }
}

/// The stride of a stem whose patches do not overlap: as stated, else as the size has it.
pub(super) fn stem_stride(
    name: &str,
    stated: Option<Count>,
    known: Option<Stem>,
    image_size: usize,
    keys: &mut Keys<'_>,
) -> Option<usize> {
    let known = match known {
        Some(Stem::OfImage) if stated.is_none() => Some(keys.of_image(name, "stem_stride", image_size, 16)?),
        Some(Stem::Stride(stride)) => Some(stride),
        Some(Stem::OfImage) | None => None,
    };
    keys.count("stem_stride", stated, known, most::STRIDE)
}

/// Sides of the maps of all stages, from the stem's on; a map that is not halved exactly is refused, because the row and column
/// that are left over would be dropped or padded.
pub(super) fn maps(image_size: usize, stem_stride: usize, stages: usize, keys: &mut Keys<'_>) -> Option<Vec<usize>> {
    if image_size == 0 || !image_size.is_multiple_of(stem_stride) {
        let says = format!("a stem of stride {stem_stride} does not divide images of {image_size} x {image_size}");
        let known = divisors(image_size, 1..=most::STRIDE);
        keys.refuse_key("stem_stride", &says, format!("images of {image_size} take strides of {known}"));
        return None;
    }
    let mut maps = vec![image_size / stem_stride];
    for stage in 1..stages {
        let side = maps[stage - 1];
        if !side.is_multiple_of(2) {
            let says = format!("the map of {side} x {side} after stage {stage} of {stages} cannot be halved");
            let factor = stem_stride << (stages - 1);
            let hint = format!("state `depths` of {stage} stages, or an `image_size` that {factor} divides");
            keys.refuse_key("depths", &says, hint);
            return None;
        }
        maps.push(side / 2);
    }
    Some(maps)
}
