//! Depthwise convolution of square maps, channels last: each channel has a kernel of its own; stride 1, the map keeps its side.
//!
//! **Shapes** x, y `[samples, side, side, C]`, weight **stored** `[k, k, C]`, bias `[C]`; k is odd, k / 2 zeros surround the map.
//! y(p, c) = b(c) + sum over taps t of w(t, c) x(p + t - k / 2, c). Backward: dx is the same sum of dy with the taps reversed,
//! dw(t, c) = sum over p of dy(p, c) x(p + t - k / 2, c), db = column sums of dy.
//!
//! PyTorch has the weight as `[C, 1, k, k]`: [`conv::transposed`](super::conv::transposed) with `(1, k * k, C)` goes there, with
//! `(1, C, k * k)` back.

mod cpu;
mod strip;

pub mod reference;

use super::{Accumulation, Scratch, elementwise};
use cpu::{Start, Taps};

/// A depthwise convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// Side of the map, pixels.
    pub side: usize,
    /// Channels (C).
    pub channels: usize,
    /// Side of the kernel (k), odd.
    pub kernel: usize,
}

impl DepthwiseShape {
    /// Elements of a map.
    #[must_use]
    pub fn map(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Elements of the weight.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    /// Multiply-accumulates of a sample, padding counted.
    #[must_use]
    pub fn macs(&self) -> usize {
        self.side * self.side * self.weight()
    }

    fn check(&self, samples: usize, x: &[f32], weight: &[f32], y: &[f32]) {
        assert!(self.kernel % 2 == 1 && self.side > 0 && self.channels > 0, "shape of a depthwise convolution");
        assert_eq!(weight.len(), self.weight(), "weight of a depthwise convolution");
        assert_eq!(x.len(), samples * self.map(), "maps of a depthwise convolution");
        assert_eq!(x.len(), y.len(), "maps of a depthwise convolution");
    }
}

/// y = conv(x) (+ b).
pub fn forward(
    shape: &DepthwiseShape,
    samples: usize,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    s: &mut Scratch,
) {
    shape.check(samples, x, weight, y);
    assert!(bias.is_none_or(|bias| bias.len() == shape.channels), "bias of a depthwise convolution");
    cpu::correlate(*shape, x, Taps { values: weight, reversed: false }, bias.map_or(Start::Zero, Start::Bias), y, s);
}

/// dx from dy.
pub fn backward_input(
    shape: &DepthwiseShape,
    samples: usize,
    grad_y: &[f32],
    weight: &[f32],
    grad_x: &mut [f32],
    mode: Accumulation,
    s: &mut Scratch,
) {
    shape.check(samples, grad_x, weight, grad_y);
    let start = if mode == Accumulation::Add { Start::Add } else { Start::Zero };
    cpu::correlate(*shape, grad_y, Taps { values: weight, reversed: true }, start, grad_x, s);
}

/// dw and db; added to both if `accumulate`, else both are overwritten.
#[expect(clippy::too_many_arguments, reason = "two operands and two results, all plain slices")]
pub fn backward_weight(
    shape: &DepthwiseShape,
    samples: usize,
    x: &[f32],
    grad_y: &[f32],
    grad_w: &mut [f32],
    grad_bias: Option<&mut [f32]>,
    accumulate: bool,
    s: &mut Scratch,
) {
    shape.check(samples, x, grad_w, grad_y);
    if !accumulate {
        grad_w.fill(0.0);
    }
    cpu::weight_gradient(*shape, x, grad_y, grad_w, s);
    if let Some(grad_bias) = grad_bias {
        assert_eq!(grad_bias.len(), shape.channels, "bias gradient of a depthwise convolution");
        if !accumulate {
            grad_bias.fill(0.0);
        }
        elementwise::column_sums(grad_y, grad_bias);
    }
}

#[cfg(test)]
mod tests;
