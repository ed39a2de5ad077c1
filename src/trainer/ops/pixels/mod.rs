//! Pixels to the rows that a convolution reads: u8 `[S, S, 3]` to f32 `[S * S, 3]`, each (pixel / 255 - mean) / std.
//!
//! Nothing is saved, there are no parameters, and pixels have no gradient.

mod reference;

use crate::op::{Backward, Cpu, Forward, GradLane, Op, OpShape, Oracle, Params, Rows, Workspace};
use crate::params::ParamIdx;
use crate::patchify::PatchShape;

/// How bytes become rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixels {
    /// Side of the square image (S), pixels.
    pub image_size: usize,
    /// Per-channel mean of pixels in [0, 1].
    pub mean: [f32; 3],
    /// Per-channel divisor.
    pub std: [f32; 3],
}

impl Pixels {
    fn pixels(&self) -> usize {
        self.image_size * self.image_size
    }
}

impl Op for Pixels {
    fn shape(&self) -> OpShape {
        OpShape::new((self.pixels(), 3), &[], 0)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        Vec::new()
    }
}

impl Rows for Pixels {
    fn forward(&self, _params: &Params, chunk: &mut Forward, _work: &mut Workspace) {
        let bytes = chunk.inputs[0].bytes();
        assert!(bytes.len() == chunk.samples * self.pixels() * 3 && bytes.len() == chunk.output.len(), "pixels of images");
        let patch = PatchShape { image_size: self.image_size, patch_size: 1, mean: self.mean, std: self.std };
        let values = patch.values();
        for (pixel, row) in bytes.chunks_exact(3).zip(chunk.output.chunks_exact_mut(3)) {
            for ((byte, value), values) in pixel.iter().zip(row).zip(&values) {
                *value = values[usize::from(*byte)];
            }
        }
    }

    /// Nothing: pixels have no gradient.
    fn backward(&self, _params: &Params, _chunk: &mut Backward, _grads: &mut GradLane, _work: &mut Workspace) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::op::{Given, check};

    #[test]
    fn rows_agree_with_the_reference() {
        for image_size in [1, 4, 7] {
            let op = Pixels { image_size, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.25] };
            check(&op, &[], Given::Bytes(image_size * image_size * 3), 3);
        }
    }
}
