//! Pooling of square maps, channels last: the greatest of a window, the mean of the map.
//!
//! **Shapes** x `[samples, side, side, C]`, y `[samples, out, out, C]` or `[samples, C]`.
//! Nothing is saved: the gradient of a maximum goes to the first pixel of its window, line after line, that equals it, as in
//! PyTorch. **Differs** from PyTorch: a NaN that is not the window's last pixel is passed over.

mod cpu;
pub mod op;
pub mod reference;

use super::{Accumulation, elementwise};

/// A maximum over windows; what lies beyond the map is never the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPoolShape {
    /// Side of the input map, pixels.
    pub side: usize,
    /// Channels (C).
    pub channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Pixels by which windows reach beyond the map, at most half of the window.
    pub padding: usize,
}

impl MaxPoolShape {
    /// Side of the output map, pixels.
    #[must_use]
    pub fn out_side(&self) -> usize {
        (self.side + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Elements of an input map.
    #[must_use]
    pub fn map(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Elements of an output map.
    #[must_use]
    pub fn out_map(&self) -> usize {
        self.out_side() * self.out_side() * self.channels
    }

    /// Calls `visit(output pixel, input pixel)` for every pixel of every window, window after window.
    #[inline(always)]
    fn windows(&self, mut visit: impl FnMut(usize, usize)) {
        let (side, out, pad) = (self.side, self.out_side(), self.padding);
        for (oy, ox) in (0..out).flat_map(|y| (0..out).map(move |x| (y, x))) {
            let (top, left) = (oy * self.stride, ox * self.stride);
            for y in top.max(pad)..(top + self.kernel).min(side + pad) {
                for x in left.max(pad)..(left + self.kernel).min(side + pad) {
                    visit(oy * out + ox, (y - pad) * side + x - pad);
                }
            }
        }
    }

    fn check(&self, samples: usize, x: &[f32], y: &[f32]) {
        assert!(self.padding <= self.kernel / 2 && self.kernel <= self.side + 2 * self.padding, "window of a pooling");
        assert_eq!(x.len(), samples * self.map(), "input maps of a pooling");
        assert_eq!(y.len(), samples * self.out_map(), "output maps of a pooling");
    }
}

/// The greatest of every window.
pub fn max_forward(shape: &MaxPoolShape, samples: usize, x: &[f32], y: &mut [f32]) {
    shape.check(samples, x, y);
    cpu::max_forward(*shape, x, y);
}

/// dx from dy, given what forward read and gave; `grad_y` is used up.
pub fn max_backward(
    shape: &MaxPoolShape,
    samples: usize,
    x: &[f32],
    y: &[f32],
    grad_y: &mut [f32],
    grad_x: &mut [f32],
    mode: Accumulation,
) {
    shape.check(samples, x, y);
    shape.check(samples, grad_x, grad_y);
    if mode == Accumulation::Overwrite {
        grad_x.fill(0.0);
    }
    cpu::max_backward(*shape, x, y, grad_y, grad_x);
}

/// The mean over the pixels of each map, summed in their order.
pub fn mean_forward(pixels: usize, width: usize, x: &[f32], y: &mut [f32]) {
    check_mean(pixels, width, x, y);
    y.fill(0.0);
    for (map, row) in x.chunks_exact(pixels * width).zip(y.chunks_exact_mut(width)) {
        elementwise::column_sums(map, row);
    }
    elementwise::scale(1.0 / pixels as f32, y);
}

/// dx from dy: every pixel of a map gets dy / pixels.
pub fn mean_backward(pixels: usize, width: usize, grad_y: &[f32], grad_x: &mut [f32], mode: Accumulation) {
    check_mean(pixels, width, grad_x, grad_y);
    let share = 1.0 / pixels as f32;
    for (map, row) in grad_x.chunks_exact_mut(pixels * width).zip(grad_y.chunks_exact(width)) {
        for pixel in map.chunks_exact_mut(width) {
            match mode {
                Accumulation::Overwrite => pixel.iter_mut().zip(row).for_each(|(dx, dy)| *dx = dy * share),
                Accumulation::Add => pixel.iter_mut().zip(row).for_each(|(dx, dy)| *dx += dy * share),
            }
        }
    }
}

fn check_mean(pixels: usize, width: usize, x: &[f32], y: &[f32]) {
    assert!(pixels > 0 && width > 0, "a mean of nothing");
    assert_eq!(x.len(), y.len() * pixels, "maps of a mean");
    assert!(y.len().is_multiple_of(width), "maps of a mean");
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{DIFFERENCE, ROUNDED, SUM, assert_close, differences, random, widen};
    use super::*;
    use crate::reference::{Matrix, dot};

    #[test]
    fn greatest_values_and_their_gradients_agree_with_the_definition() {
        for (side, channels, kernel, stride, padding) in [(5, 3, 3, 2, 1), (16, 12, 3, 2, 1), (8, 20, 2, 2, 0), (4, 8, 3, 1, 1)] {
            let shape = MaxPoolShape { side, channels, kernel, stride, padding };
            // Few different values, so that windows have ties.
            let x: Vec<f32> = random(1, 2 * shape.map()).iter().map(|v| (v * 3.0).round()).collect();
            let dy = random(2, 2 * shape.out_map());
            let (mut y64, mut dx64) = (vec![], vec![]);
            for (x, dy) in x.chunks_exact(shape.map()).zip(dy.chunks_exact(shape.out_map())) {
                let (x, dy) = (Matrix::from_rows(channels, widen(x)), Matrix::from_rows(channels, widen(dy)));
                y64.extend(reference::max_forward(&shape, &x).values);
                dx64.extend(reference::max_backward(&shape, &x, &dy).values);
            }
            on_every_path(|path| {
                let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                max_forward(&shape, 2, &x, &mut y);
                assert_close(&format!("{path} {shape:?} y"), &y, &y64, ROUNDED);
                for (mode, times) in [(Accumulation::Overwrite, 1.0), (Accumulation::Add, 2.0)] {
                    max_backward(&shape, 2, &x, &y, &mut dy.clone(), &mut dx, mode);
                    let expected: Vec<f64> = dx64.iter().map(|v| v * times).collect();
                    assert_close(&format!("{path} {shape:?} dx"), &dx, &expected, SUM);
                }
            });
        }
    }

    #[test]
    fn the_gradient_of_the_definition_is_its_slope_where_there_are_no_ties() {
        let shape = MaxPoolShape { side: 5, channels: 2, kernel: 3, stride: 2, padding: 1 };
        let (x, dy) = (widen(&random(1, 50)), widen(&random(2, 18)));
        let rows = |v: &[f64]| Matrix::from_rows(2, v.to_vec());
        let dx = reference::max_backward(&shape, &rows(&x), &rows(&dy)).values;
        let loss = |x: &[f64]| dot(&reference::max_forward(&shape, &rows(x)).values, &dy);
        assert_close("dx", &dx.iter().map(|v| *v as f32).collect::<Vec<_>>(), &differences(&x, loss), DIFFERENCE);
    }

    #[test]
    fn means_and_their_gradients_are_shares_of_the_map() {
        let (x, dy) = (random(1, 3 * 9 * 20), random(2, 3 * 20));
        let means: Vec<f64> = x
            .chunks_exact(180)
            .flat_map(|map| (0..20).map(move |c| (0..9).map(|p| f64::from(map[p * 20 + c])).sum::<f64>() / 9.0))
            .collect();
        on_every_path(|path| {
            let (mut y, mut dx) = (vec![f32::NAN; 60], vec![f32::NAN; x.len()]);
            mean_forward(9, 20, &x, &mut y);
            assert_close(path, &y, &means, SUM);
            mean_backward(9, 20, &dy, &mut dx, Accumulation::Overwrite);
            mean_backward(9, 20, &dy, &mut dx, Accumulation::Add);
            for (i, dx) in dx.iter().enumerate() {
                let expected = 2.0 * dy[i / 180 * 20 + i % 20] / 9.0;
                assert!((dx - expected).abs() <= 1e-6, "{path}: element {i}: {dx} for {expected}");
            }
        });
    }
}
