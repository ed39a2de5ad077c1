//! Augmentation of packed images: random resized crop and horizontal flip, bytes to bytes.
//!
//! Input: an image of side S and the draws of (step, sample). Output: an image of side S. Invariant: a pure function of the
//! image and the draws, whatever thread runs it; integer arithmetic on pixels.
//! Must not know: batches, epochs, tensors.

use crate::run::Augmentation;

use super::philox::Draws;
use super::{DataError, DataResult};

/// Aspect ratios of a crop lie in 3/4 to 4/3, as in torchvision's `RandomResizedCrop`.
const MAX_RATIO: f32 = 4.0 / 3.0;
/// Crops tried before the whole image is taken.
const CROP_ATTEMPTS: usize = 10;

/// An augmentation that can be applied to images of one side.
#[derive(Debug, Clone, Copy)]
pub struct Augmenter {
    side: usize,
    crop_flip: Option<CropFlip>,
}

#[derive(Debug, Clone, Copy)]
struct CropFlip {
    min_area: f32,
    flip: f32,
}

/// Part of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Crop {
    left: f32,
    top: f32,
    width: f32,
    height: f32,
}

impl Augmenter {
    /// The augmentation of a strategy for images of side S.
    ///
    /// **Errors**: `RandAugment` and its stacked form, which are not built yet.
    pub fn new(augmentation: Augmentation, side: usize) -> DataResult<Self> {
        let crop_flip = match augmentation {
            Augmentation::None => None,
            Augmentation::CropFlip { min_area, flip } => Some(CropFlip { min_area: min_area as f32, flip: flip as f32 }),
            Augmentation::RandAugment { .. } | Augmentation::StackedRandAugment { .. } => {
                let what = "augmentation `rand_augment` is not available in this version, use `crop_flip` or `none`".to_owned();
                return Err(DataError::Unsupported { what });
            }
        };
        Ok(Self { side, crop_flip })
    }

    /// Whether images pass unchanged.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.crop_flip.is_none()
    }

    /// The crop of one image: left, top, width and height in pixels, and 1 where it is mirrored, else 0; `None` where images
    /// pass unchanged.
    pub fn crop(&self, draws: &mut Draws) -> Option<[f32; 5]> {
        let CropFlip { min_area, flip } = self.crop_flip?;
        let Crop { left, top, width, height } = random_crop(self.side as f32, min_area, draws);
        Some([left, top, width, height, f32::from(u8::from(draws.chance(flip)))])
    }

    /// Augments one image. **Shapes**: \[S, S, 3\] to \[S, S, 3\].
    pub fn apply(&self, image: &[u8], draws: &mut Draws, out: &mut [u8]) {
        match self.crop(draws) {
            None => out.copy_from_slice(image),
            Some([left, top, width, height, flip]) => {
                resample(image, self.side, Crop { left, top, width, height }, flip != 0.0, out);
            }
        }
    }
}

/// A crop whose area share is uniform in [`min_area`, 1] and whose log aspect ratio is uniform.
///
/// **Differs** from torchvision: sides and corner are not rounded to whole pixels, which at 32 pixels would make the crop's
/// grid visible.
fn random_crop(side: f32, min_area: f32, draws: &mut Draws) -> Crop {
    let log_ratio = libm::logf(MAX_RATIO);
    for _ in 0..CROP_ATTEMPTS {
        let area = draws.between(min_area, 1.0);
        let root_ratio = libm::expf(0.5 * draws.between(-log_ratio, log_ratio));
        let (width, height) = (side * area.sqrt() * root_ratio, side * area.sqrt() / root_ratio);
        if width <= side && height <= side {
            return Crop { left: draws.between(0.0, side - width), top: draws.between(0.0, side - height), width, height };
        }
    }
    Crop { left: 0.0, top: 0.0, width: side, height: side }
}

/// Source positions and weight (of 256) of one output coordinate.
#[derive(Debug, Clone, Copy, Default)]
struct Tap {
    from: usize,
    to: usize,
    weight: u32,
}

fn tap(output: usize, start: f32, length: f32, side: usize) -> Tap {
    let centre = start + (output as f32 + 0.5) * (length / side as f32) - 0.5;
    let at = centre.clamp(0.0, (side - 1) as f32);
    let from = at as usize;
    Tap { from, to: (from + 1).min(side - 1), weight: ((at - from as f32) * 256.0) as u32 }
}

/// Bilinear resampling of a crop to the whole side, rows first: rows are blended in 8.8 fixed point over their whole width
/// (a loop that vectorises), then columns. Crops are never larger than the image, so nothing is minified.
fn resample(image: &[u8], side: usize, crop: Crop, is_flipped: bool, out: &mut [u8]) {
    let row_bytes = side * 3;
    let mut columns: Vec<Tap> = (0..side).map(|x| tap(x, crop.left, crop.width, side)).collect();
    if is_flipped {
        columns.reverse();
    }
    let mut blended = vec![0u16; row_bytes];
    for (y, out_row) in out.chunks_exact_mut(row_bytes).enumerate() {
        let Tap { from, to, weight } = tap(y, crop.top, crop.height, side);
        let weight = weight as u16;
        let (upper, lower) = (&image[from * row_bytes..][..row_bytes], &image[to * row_bytes..][..row_bytes]);
        for ((slot, &a), &b) in blended.iter_mut().zip(upper).zip(lower) {
            *slot = u16::from(a) * (256 - weight) + u16::from(b) * weight;
        }
        for (pixel, column) in out_row.as_chunks_mut::<3>().0.iter_mut().zip(&columns) {
            let (left, right) = (&blended[column.from * 3..][..3], &blended[column.to * 3..][..3]);
            for (channel, slot) in pixel.iter_mut().enumerate() {
                let sum = u32::from(left[channel]) * (256 - column.weight) + u32::from(right[channel]) * column.weight;
                *slot = ((sum + (1 << 15)) >> 16) as u8;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::philox::{Philox, Stream};
    use super::*;

    const CROP: Augmentation = Augmentation::CropFlip { min_area: 0.25, flip: 0.5 };

    fn ramp(side: usize) -> Vec<u8> {
        (0..side * side).flat_map(|i| [(i % side * 7) as u8, (i / side * 7) as u8, 100]).collect()
    }

    #[test]
    fn the_whole_image_is_its_own_crop_and_flips_exactly() {
        let (side, image) = (8, ramp(8));
        let whole = Crop { left: 0.0, top: 0.0, width: 8.0, height: 8.0 };
        let mut out = vec![0; image.len()];
        resample(&image, side, whole, false, &mut out);
        assert_eq!(out, image);
        resample(&image, side, whole, true, &mut out);
        let flipped: Vec<u8> =
            image.chunks(24).flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>()).collect();
        assert_eq!(out, flipped);
    }

    #[test]
    fn a_crop_of_a_linear_ramp_is_the_linear_ramp_of_its_place() {
        let side = 32;
        let image = ramp(side);
        let crop = Crop { left: 4.0, top: 8.0, width: 16.0, height: 12.0 };
        let mut out = vec![0; image.len()];
        resample(&image, side, crop, false, &mut out);
        for y in 0..side {
            for x in 0..side {
                let expected_x = (4.0 + (x as f32 + 0.5) * 0.5 - 0.5) * 7.0;
                let expected_y = (8.0 + (y as f32 + 0.5) * 0.375 - 0.5) * 7.0;
                let pixel = &out[(y * side + x) * 3..][..3];
                assert!((f32::from(pixel[0]) - expected_x).abs() < 1.0, "{x},{y}: {pixel:?} {expected_x}");
                assert!((f32::from(pixel[1]) - expected_y).abs() < 1.0, "{x},{y}: {pixel:?} {expected_y}");
                assert_eq!(pixel[2], 100);
            }
        }
    }

    #[test]
    fn crops_keep_their_share_and_ratio_and_lie_inside() {
        let philox = Philox::new(1, Stream::Augment);
        let mut smallest = f32::MAX;
        for sample in 0..2000 {
            let Crop { left, top, width, height } = random_crop(32.0, 0.25, &mut philox.at(0, sample));
            let share = width * height / 1024.0;
            smallest = smallest.min(share);
            assert!((0.249..=1.001).contains(&share) && (0.749..1.335).contains(&(width / height)));
            assert!(left >= 0.0 && top >= 0.0 && left + width <= 32.001 && top + height <= 32.001);
        }
        assert!(smallest < 0.3, "small crops occur: {smallest}");
    }

    #[test]
    fn draws_decide_the_crop_alone() {
        let augmenter = Augmenter::new(CROP, 32).unwrap();
        let philox = Philox::new(1, Stream::Augment);
        let (image, mut a, mut b) = (ramp(32), vec![0; 3072], vec![0; 3072]);
        augmenter.apply(&image, &mut philox.at(4, 2), &mut a);
        augmenter.apply(&image, &mut philox.at(4, 2), &mut b);
        assert_eq!(a, b);
        augmenter.apply(&image, &mut philox.at(4, 3), &mut b);
        assert_ne!(a, b);
    }

    #[test]
    fn awkward_sides_do_not_read_outside() {
        for side in [1, 2, 3, 28, 64] {
            let augmenter = Augmenter::new(CROP, side).unwrap();
            let (image, mut out) = (ramp(side), vec![0; side * side * 3]);
            (0..50).for_each(|step| augmenter.apply(&image, &mut Philox::new(0, Stream::Augment).at(step, 0), &mut out));
        }
    }
}
