//! Augmentation of packed pictures, bytes to bytes.
//!
//! Owns what is done to a picture on its way to the trainer: crops ([`crop`]), `RandAugment` and what is stacked on a crop, and the
//! views of one picture ([`Views`]). Input: a picture and the draws of (step, sample, view). Output: an image of side S. Invariant:
//! a pure function of the picture and the draws, whatever thread runs it.
//! Must not know: batches, epochs, tensors.

mod blur;
mod color;
mod crop;
mod geometry;
mod rand_augment;
mod stacked;
#[cfg(test)]
mod tests;
mod views;

use self::crop::CropFlip;
use self::rand_augment::RandAugment;
use self::stacked::{BlurKind, Stack};
pub use self::views::Views;
use super::DataResult;
use super::pack::PictureView;
use super::philox::Draws;
use crate::run::{Augmentation, SslConfig};

/// An augmentation that gives images of one side.
#[derive(Debug, Clone, Copy)]
pub struct Augmenter {
    side: usize,
    recipe: Recipe,
}

/// What is done, in this order.
#[derive(Debug, Clone, Copy)]
enum Recipe {
    /// Nothing: the picture is the image.
    Identity,
    Crop(CropFlip),
    /// On a picture that is an image already.
    RandAugment(RandAugment),
    Stacked(CropFlip, Stack),
}

impl Augmenter {
    /// The augmentation of a strategy to images of side S.
    ///
    /// - `none`: the packed central square as it is.
    /// - `crop_flip`: random resized crop of the whole picture, flip.
    /// - `rand_augment`: the packed central square, then `RandAugment`; no crop and no flip.
    /// - `stacked_rand_augment`: random resized crop of the whole picture, flip with probability 0.5, colour jitter (0.4, 0.4, 0.4,
    ///   0.1) with 0.8, `RandAugment`, grey with 0.2 and, for images of 64 pixels or more, Gaussian blur with 0.5 (deviation 0.1 to 2
    ///   pixels, kernel a tenth of the side).
    ///
    /// **Source** `RandAugment`: torchvision 0.29.2. The stack: `supcon/preprocessing.py` of google-research (Khosla et al. 2020), in
    /// its order. **Differs** there: `RandAugment` is TensorFlow's, with its grey fill and its ranges; the crop is bilinear; the blur
    /// is padded with black. Here crops are those of `crop_flip`, the other parts torchvision's on uint8 tensors.
    ///
    /// **Errors**: layers or a magnitude that `RandAugment` does not have.
    pub fn new(augmentation: Augmentation, side: usize) -> DataResult<Self> {
        let recipe = match augmentation {
            Augmentation::None => Recipe::Identity,
            Augmentation::CropFlip { min_area, flip } => Recipe::Crop(CropFlip { min_area: min_area as f32, flip: flip as f32 }),
            Augmentation::RandAugment { layers, magnitude } => Recipe::RandAugment(RandAugment::new(layers, magnitude)?),
            Augmentation::StackedRandAugment { layers, magnitude, min_area } => {
                let rand_augment = Some(RandAugment::new(layers, magnitude)?);
                let crop = CropFlip { min_area: min_area as f32, flip: 0.5 };
                Recipe::Stacked(crop, Stack { rand_augment, blur: BlurKind::Kernel })
            }
        };
        Ok(Self { side, recipe })
    }

    /// A view of SLIP's self-supervised loss: random resized crop of 8 % of the area or more, flip with probability 0.5, colour jitter
    /// (0.4, 0.4, 0.4, 0.1) with 0.8, grey with 0.2 and, for images of 64 pixels or more, Pillow's Gaussian blur with 0.5 (deviation
    /// 0.1 to 2 pixels).
    ///
    /// **Source** SLIP's `datasets.py`, which flips last: the same bytes, since nothing in between tells left from right. **Differs**:
    /// colours are torchvision's on uint8 tensors, not on Pillow images.
    #[must_use]
    pub fn self_supervised(side: usize) -> Self {
        let stack = Stack { rand_augment: None, blur: BlurKind::ExtendedBox };
        Self { side, recipe: Recipe::Stacked(CropFlip { min_area: SslConfig::MIN_AREA as f32, flip: 0.5 }, stack) }
    }

    /// Side of the images that it gives (S), pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.side
    }

    /// Whether pictures have to be images of side S; else they may be of any shape.
    #[must_use]
    pub fn takes_images(&self) -> bool {
        matches!(self.recipe, Recipe::Identity | Recipe::RandAugment(_))
    }

    /// Whether a device that holds the pictures can do the same: nothing, or a crop and a flip.
    #[must_use]
    pub fn is_for_devices(&self) -> bool {
        matches!(self.recipe, Recipe::Identity | Recipe::Crop(_))
    }

    /// For devices: the crop of a picture of this width and height: left, top, width and height in pixels, 1 where it is mirrored,
    /// else 0, and the picture's width, which is the length of its rows; `None` where a crop is not all, or none, of what is done.
    pub fn crop(&self, size: (usize, usize), draws: &mut Draws) -> Option<[f32; 6]> {
        let Recipe::Crop(crop_flip) = self.recipe else { return None };
        let (crop, is_flipped) = crop_flip.draw(size, draws);
        Some([crop.left, crop.top, crop.width, crop.height, f32::from(u8::from(is_flipped)), size.0 as f32])
    }

    /// Augments one picture, which is an image of side S where [`Self::takes_images`]. **Shapes**: \[height, width, 3\] to
    /// \[S, S, 3\].
    pub fn apply(&self, picture: PictureView<'_>, draws: &mut Draws, out: &mut [u8]) {
        let (side, mut scratch) = (self.side, Vec::new());
        match self.recipe {
            Recipe::Identity => out.copy_from_slice(picture.pixels),
            Recipe::Crop(crop) => crop.apply(picture, side, draws, out),
            Recipe::RandAugment(rand_augment) => {
                out.copy_from_slice(picture.pixels);
                rand_augment.apply(out, side, draws, &mut scratch);
            }
            Recipe::Stacked(crop, stack) => {
                crop.apply(picture, side, draws, out);
                stack.apply(out, side, draws, &mut scratch);
            }
        }
    }
}
