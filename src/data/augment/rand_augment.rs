//! `RandAugment`: a few operations one after another, each drawn evenly from fourteen, all at one magnitude.

use super::geometry::Affine;
use super::{blur, color};
use crate::data::philox::Draws;
use crate::data::{DataError, DataResult};
use crate::run::Augmentation;

/// Operations at most, as the draws of a view have room for them.
pub(super) const MOST_LAYERS: u32 = 16;

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

/// In torchvision's order: a draw is a place here.
pub(super) const OPS: [Op; 14] = [
    Op::Identity,
    Op::ShearX,
    Op::ShearY,
    Op::TranslateX,
    Op::TranslateY,
    Op::Rotate,
    Op::Brightness,
    Op::Color,
    Op::Contrast,
    Op::Sharpness,
    Op::Posterize,
    Op::Solarize,
    Op::AutoContrast,
    Op::Equalize,
];

/// An operation and whether its strength is taken with a minus sign, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drawn {
    pub op: Op,
    pub is_negative: bool,
}

/// `RandAugment` of torchvision, with nearest sampling and black outside.
///
/// **Source** torchvision 0.29.2, `transforms.RandAugment` on uint8 tensors, bit for bit given the same draws; Cubuk et al. 2020.
/// **Differs** a sign is drawn for every operation, used or not, so that a draw's place does not depend on those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RandAugment {
    layers: u32,
    /// Magnitude in 0 to 30.
    pub bin: u32,
}

impl RandAugment {
    /// **Errors**: no or more than 16 layers, a magnitude that is no third of a whole number in 0 to 10.
    pub fn new(layers: u32, magnitude: f64) -> DataResult<Self> {
        if !(1..=MOST_LAYERS).contains(&layers) {
            let what = format!("RandAugment with {layers} layers: expected from 1 to {MOST_LAYERS}");
            return Err(DataError::Unsupported { what });
        }
        let bin = Augmentation::bin(magnitude).ok_or_else(|| {
            let what = format!("RandAugment of magnitude {magnitude}: expected from 0 to 10, in thirds");
            DataError::Unsupported { what }
        })?;
        Ok(Self { layers, bin })
    }

    /// The operations of one image.
    pub fn draw(self, draws: &mut Draws) -> impl Iterator<Item = Drawn> {
        (0..self.layers).map(|_| Drawn { op: OPS[draws.below(OPS.len() as u32) as usize], is_negative: draws.chance(0.5) })
    }

    /// Draws and applies the operations of one image. **Shapes**: \[S, S, 3\].
    pub fn apply(self, image: &mut [u8], side: usize, draws: &mut Draws, scratch: &mut Vec<u8>) {
        self.draw(draws).for_each(|drawn| drawn.apply(self.bin, image, side, scratch));
    }
}

impl Op {
    /// Strength at a bin of 0 to 30 for images of side S.
    ///
    /// **Units**: of shears a slope, of translations pixels, of the rotation degrees; of colours what is added to a factor of 1; the
    /// bits that `Posterize` leaves; the first byte that `Solarize` inverts.
    pub fn magnitude(self, bin: u32, side: usize) -> f32 {
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => 0.0,
            Self::ShearX | Self::ShearY => spaced(0.0, 0.3, bin),
            Self::TranslateX | Self::TranslateY => spaced(0.0, (150.0 / 331.0 * side as f64) as f32, bin),
            Self::Rotate => spaced(0.0, 30.0, bin),
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => spaced(0.0, 0.9, bin),
            // 4 / 30 of the bin, rounded; it is never halfway.
            Self::Posterize => (8 - (8 * bin + LAST) / (2 * LAST)) as f32,
            Self::Solarize => spaced(255.0, 0.0, bin),
        }
    }

    /// Whether its strength has a sign.
    pub fn is_signed(self) -> bool {
        !matches!(self, Self::Identity | Self::Posterize | Self::Solarize | Self::AutoContrast | Self::Equalize)
    }
}

/// The last bin.
const LAST: u32 = 30;

/// Point `bin` of 31 evenly spaced ones, as `torch.linspace` computes them on CPUs with fused multiply-add: either half from its own
/// end, product and sum rounded once. Without it torch's differ in the last bit of some points.
fn spaced(from: f32, to: f32, bin: u32) -> f32 {
    let step = f64::from((to - from) / LAST as f32);
    if bin < LAST.div_ceil(2) {
        (f64::from(from) + step * f64::from(bin)) as f32
    } else {
        (f64::from(to) - step * f64::from(LAST - bin)) as f32
    }
}

impl Drawn {
    /// Applies the operation at a bin. **Shapes**: \[S, S, 3\].
    pub fn apply(self, bin: u32, image: &mut [u8], side: usize, scratch: &mut Vec<u8>) {
        let magnitude = f64::from(self.op.magnitude(bin, side));
        let signed = if self.is_negative && self.op.is_signed() { -magnitude } else { magnitude };
        match self.op {
            Op::Identity => {}
            Op::ShearX => moved(image, side, Affine::shear_x(signed, side), scratch),
            Op::ShearY => moved(image, side, Affine::shear_y(signed, side), scratch),
            Op::TranslateX => moved(image, side, Affine::translate(signed as i32, 0), scratch),
            Op::TranslateY => moved(image, side, Affine::translate(0, signed as i32), scratch),
            Op::Rotate => moved(image, side, Affine::rotate(signed), scratch),
            Op::Brightness => color::brightness(image, 1.0 + signed),
            Op::Color => color::saturation(image, 1.0 + signed),
            Op::Contrast => color::contrast(image, 1.0 + signed),
            Op::Sharpness => blur::sharpness(image, side, 1.0 + signed, scratch),
            Op::Posterize => color::posterize(image, signed as u32),
            Op::Solarize => color::solarize(image, signed as f32),
            Op::AutoContrast => color::auto_contrast(image),
            Op::Equalize => color::equalize(image),
        }
    }
}

/// Replaces an image by what a map makes of it.
fn moved(image: &mut [u8], side: usize, map: Affine, scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(image);
    map.apply(scratch, side, image);
}
