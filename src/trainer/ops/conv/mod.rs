//! Convolution of square maps, channels last, as products of gathered rows: implicit GEMM.
//!
//! A map of a sample is `[side * side, channels]`, pixels row after row. With row `r = (oy, ox)` of the output and the patch
//! p(r) of k k inputs channels that it sees (zeros outside the map), y(r) = p(r) Wᵀ (+ b). Backward: dp = dy W, which is added
//! back to the pixels that p was read from; dW = dyᵀ p; db = column sums of dy.
//!
//! The weight is **stored** `[outputs, k, k, inputs]`, so that a patch is a gathered row of channels-last pixels and the weight
//! is one linear map ([`ConvShape::linear`]) to packing, to its gradient and to optimisers. PyTorch has `[outputs, inputs, k, k]`:
//! [`transposed`] with `(outputs, k * k, inputs)` goes there, with `(outputs, inputs, k * k)` back.
//!
//! Patches are gathered a block of rows at a time into scratch that stays in the cache, and never exist as a whole. On the
//! paths of x86 an element is the sum that the whole product would give: blocks change no bits.

pub mod op;
pub mod reference;

pub use super::params::transposed;

use super::linear::{self, Linear, LinearShape};
use super::{Accumulation, Scratch, WeightLayout, elementwise};

/// Floats of gathered patches that stay in the cache: 192 KiB.
const BLOCK_FLOATS: usize = 48 * 1024;
/// Blocks have a multiple of this many rows, which is one of every path's tile.
const ROW_STEP: usize = 48;
/// Rows of a product that sums a weight's gradient; more are cut.
const SUM_ROWS: usize = 512;

/// A convolution with a square kernel over a square map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Side of the input map, pixels.
    pub side: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the kernel (k).
    pub kernel: usize,
    /// Pixels between the patches of neighbouring outputs.
    pub stride: usize,
    /// Zeros around the map on each side.
    pub padding: usize,
}

impl ConvShape {
    /// Side of the output map, pixels.
    #[must_use]
    pub fn out_side(&self) -> usize {
        (self.side + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Pixels of the input map.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.side * self.side
    }

    /// Pixels of the output map.
    #[must_use]
    pub fn out_pixels(&self) -> usize {
        self.out_side() * self.out_side()
    }

    /// Elements of a patch.
    #[must_use]
    pub fn patch(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    /// The weight as a linear map from patches.
    #[must_use]
    pub fn linear(&self) -> LinearShape {
        LinearShape { inputs: self.patch(), outputs: self.outputs, layout: WeightLayout::OutIn }
    }

    /// Multiply-accumulates of a sample, padding counted.
    #[must_use]
    pub fn macs(&self) -> usize {
        self.out_pixels() * self.patch() * self.outputs
    }

    /// Whether a patch is a pixel: the product of rows as they are.
    fn is_plain(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    fn check(&self, weight: &LinearShape, samples: usize, x: &[f32], y: &[f32]) {
        assert!(self.kernel > 0 && self.stride > 0 && self.kernel <= self.side + 2 * self.padding, "kernel of a convolution");
        assert_eq!(*weight, self.linear(), "weight of a convolution");
        assert_eq!(x.len(), samples * self.pixels() * self.inputs, "input maps of a convolution");
        assert_eq!(y.len(), samples * self.out_pixels() * self.outputs, "output maps of a convolution");
    }

    /// Rows of patches that are gathered at a time.
    fn block(&self, rows: usize) -> usize {
        (BLOCK_FLOATS / self.patch() / ROW_STEP * ROW_STEP).clamp(ROW_STEP, 8 * ROW_STEP).min(rows)
    }

    /// Where output row `row` of all samples is: its sample, line and column.
    fn place(&self, row: usize) -> (usize, usize, usize) {
        let (out, pixels) = (self.out_side(), self.out_pixels());
        (row / pixels, row % pixels / out, row % out)
    }

    /// The place of the next output row.
    fn next((sample, line, column): (usize, usize, usize), out: usize) -> (usize, usize, usize) {
        match (line + 1 == out, column + 1 == out) {
            (_, false) => (sample, line, column + 1),
            (false, true) => (sample, line + 1, 0),
            (true, true) => (sample + 1, 0, 0),
        }
    }

    /// The parts of a patch that lie in the map, for the output row at a place: where each begins in the patch and in the maps,
    /// and its length. `lines` are those of the kernel that are wanted.
    #[inline(always)]
    fn runs(
        &self,
        (sample, line, column): (usize, usize, usize),
        lines: std::ops::Range<usize>,
        mut run: impl FnMut(usize, usize, usize),
    ) {
        let (side, inputs) = (self.side, self.inputs);
        let (top, left) = (line * self.stride, column * self.stride);
        // In padded coordinates the map begins at `padding`.
        let from = self.padding.saturating_sub(left);
        let to = (side + self.padding).saturating_sub(left).min(self.kernel);
        for line in lines {
            let y = top + line;
            if y < self.padding || y >= side + self.padding || from >= to {
                continue;
            }
            let pixel = (sample * side + y - self.padding) * side + left + from - self.padding;
            run((line * self.kernel + from) * inputs, pixel * inputs, (to - from) * inputs);
        }
    }

    /// Writes lines `lines` of the patches of output rows from `from_row`.
    fn gather(&self, x: &[f32], from_row: usize, lines: &std::ops::Range<usize>, patches: &mut [f32]) {
        let (line, first) = (self.kernel * self.inputs, lines.start * self.kernel * self.inputs);
        let (mut place, out) = (self.place(from_row), self.out_side());
        if self.padding > 0 {
            patches.fill(0.0);
        }
        for patch in patches.chunks_exact_mut(lines.len() * line) {
            self.runs(place, lines.clone(), |to, from, len| {
                patch[to - first..to - first + len].copy_from_slice(&x[from..from + len]);
            });
            place = Self::next(place, out);
        }
    }

    /// Adds patches of output rows from `from_row` to the pixels that they were read from.
    fn scatter(&self, patches: &[f32], from_row: usize, x: &mut [f32]) {
        let (mut place, out) = (self.place(from_row), self.out_side());
        for patch in patches.chunks_exact(self.patch()) {
            self.runs(place, 0..self.kernel, |from, to, len| {
                x[to..to + len].iter_mut().zip(&patch[from..from + len]).for_each(|(x, p)| *x += p);
            });
            place = Self::next(place, out);
        }
    }
}

/// y = conv(x) (+ b).
pub fn forward(
    shape: &ConvShape,
    weight: &Linear,
    samples: usize,
    x: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    s: &mut Scratch,
) {
    shape.check(&weight.shape, samples, x, y);
    let rows = samples * shape.out_pixels();
    if shape.is_plain() {
        return linear::forward(weight, rows, x, bias, y, s);
    }
    let block = shape.block(rows);
    let ([patches], s) = s.floats_and_rest([block * shape.patch()]);
    for from in (0..rows).step_by(block) {
        let num = block.min(rows - from);
        let patches = &mut patches[..num * shape.patch()];
        shape.gather(x, from, &(0..shape.kernel), patches);
        linear::forward(weight, num, patches, bias, &mut y[from * shape.outputs..][..num * shape.outputs], s);
    }
}

/// dx from dy.
pub fn backward_input(
    shape: &ConvShape,
    weight: &Linear,
    samples: usize,
    grad_y: &[f32],
    grad_x: &mut [f32],
    mode: Accumulation,
    s: &mut Scratch,
) {
    shape.check(&weight.shape, samples, grad_x, grad_y);
    let rows = samples * shape.out_pixels();
    if shape.is_plain() && mode == Accumulation::Overwrite {
        return linear::backward_input(weight, rows, grad_y, grad_x, s);
    }
    if mode == Accumulation::Overwrite {
        grad_x.fill(0.0);
    }
    let block = shape.block(rows);
    let ([patches], s) = s.floats_and_rest([block * shape.patch()]);
    for from in (0..rows).step_by(block) {
        let num = block.min(rows - from);
        let patches = &mut patches[..num * shape.patch()];
        linear::backward_input(weight, num, &grad_y[from * shape.outputs..][..num * shape.outputs], patches, s);
        shape.scatter(patches, from, grad_x);
    }
}

/// dW in the stored layout and db; added to both if `accumulate`, else both are overwritten.
#[expect(clippy::too_many_arguments, reason = "two operands and two results, all plain slices")]
pub fn backward_weight(
    shape: &ConvShape,
    samples: usize,
    x: &[f32],
    grad_y: &[f32],
    grad_w: &mut [f32],
    grad_bias: Option<&mut [f32]>,
    accumulate: bool,
    s: &mut Scratch,
) {
    shape.check(&shape.linear(), samples, x, grad_y);
    assert_eq!(grad_w.len(), shape.outputs * shape.patch(), "weight gradient of a convolution");
    let rows = samples * shape.out_pixels();
    if shape.is_plain() {
        return linear::backward_weight(&shape.linear(), rows, x, grad_y, grad_w, grad_bias, accumulate, s);
    }
    let block = rows.min(SUM_ROWS);
    // All lines of the kernel at once where their patches fit, else line by line.
    let lines = if block * shape.patch() <= 2 * BLOCK_FLOATS { shape.kernel } else { 1 };
    let width = lines * shape.kernel * shape.inputs;
    let ([patches], s) = s.floats_and_rest([block * width]);
    if !accumulate && rows == 0 {
        grad_w.fill(0.0);
    }
    for from in (0..rows).step_by(block.max(1)) {
        let num = block.min(rows - from);
        let dy = &grad_y[from * shape.outputs..][..num * shape.outputs];
        for line in (0..shape.kernel).step_by(lines) {
            let patches = &mut patches[..num * width];
            shape.gather(x, from, &(line..line + lines), patches);
            let first = line * shape.kernel * shape.inputs;
            linear::sum_outer(dy, patches, shape.outputs, width, &mut grad_w[first..], shape.patch(), accumulate || from > 0, s);
        }
    }
    if let Some(grad_bias) = grad_bias {
        assert_eq!(grad_bias.len(), shape.outputs, "bias gradient of a convolution");
        if !accumulate {
            grad_bias.fill(0.0);
        }
        elementwise::column_sums(grad_y, grad_bias);
    }
}

#[cfg(test)]
mod tests;
