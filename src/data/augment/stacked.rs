//! What is stacked on a crop: colour jitter, `RandAugment`, grey, blur. The stacked form of `RandAugment`, and the views of a
//! self-supervised loss.

use super::rand_augment::RandAugment;
use super::{blur, color};
use crate::data::philox::Draws;

/// Smallest side of images that are blurred. Deviations are stated for images of 224 pixels: below 64 they shrink to less than
/// 0.6 pixels.
const LEAST_BLURRED_SIDE: usize = 64;
/// Deviations of blurs, pixels.
const SIGMAS: [f32; 2] = [0.1, 2.0];
const JITTERED: f32 = 0.8;
const GREY: f32 = 0.2;
const BLURRED: f32 = 0.5;

/// Brightness, contrast and saturation by a factor in [0.6, 1.4], hue by a turn in [-0.1, 0.1], in a random order.
///
/// **Source** torchvision's `ColorJitter(0.4, 0.4, 0.4, 0.1)` on uint8 tensors, bit for bit given the same draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Jitter {
    /// Places in `factors`, in the order in which they are applied.
    pub order: [usize; 4],
    pub factors: [f64; 4],
}

impl Jitter {
    fn draw(draws: &mut Draws) -> Self {
        let mut order = [0, 1, 2, 3];
        for last in (1..order.len()).rev() {
            order.swap(last, draws.below(last as u32 + 1) as usize);
        }
        let mut factor = || f64::from(draws.between(0.6, 1.4));
        let [brightness, contrast, saturation] = std::array::from_fn(|_| factor());
        Self { order, factors: [brightness, contrast, saturation, f64::from(draws.between(-0.1, 0.1))] }
    }

    pub fn apply(&self, image: &mut [u8]) {
        for part in self.order {
            let change = [color::brightness, color::contrast, color::saturation, color::hue][part];
            change(image, self.factors[part]);
        }
    }
}

/// A blur of the given deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlurKind {
    /// Of a tenth of the side, as SimCLR's code has it.
    Kernel,
    /// Pillow's.
    ExtendedBox,
}

/// Colour jitter with probability 0.8, `RandAugment` where there is one, grey with 0.2 and, from 64 pixels on, blur with 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stack {
    pub rand_augment: Option<RandAugment>,
    pub blur: BlurKind,
}

impl Stack {
    /// Draws and applies what is done to one image. **Shapes**: \[S, S, 3\].
    pub fn apply(&self, image: &mut [u8], side: usize, draws: &mut Draws, scratch: &mut Vec<u8>) {
        if draws.chance(JITTERED) {
            Jitter::draw(draws).apply(image);
        }
        if let Some(rand_augment) = self.rand_augment {
            rand_augment.apply(image, side, draws, scratch);
        }
        if draws.chance(GREY) {
            color::grey(image);
        }
        if side >= LEAST_BLURRED_SIDE && draws.chance(BLURRED) {
            self.blur.apply(image, side, draws.between(SIGMAS[0], SIGMAS[1]), scratch);
        }
    }
}

impl BlurKind {
    pub fn apply(self, image: &mut [u8], side: usize, sigma: f32, scratch: &mut Vec<u8>) {
        match self {
            Self::Kernel => blur::gaussian(image, side, side / 10 / 2, sigma),
            Self::ExtendedBox => blur::extended_box(image, side, sigma, scratch),
        }
    }
}
