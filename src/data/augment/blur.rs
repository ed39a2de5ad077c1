//! Blurs of square images, and the sharpening that undoes one.
//!
//! Pixels are RGB bytes, \[S, S, 3\].

use super::color::Blend;

/// Away from (below 1) or beyond (above 1) the image to its 3 x 3 blur; pixels at the border stay.
///
/// **Source** torchvision's `adjust_sharpness` on uint8 tensors, bit for bit: the blur is weighted 5 in the middle and 1 around it,
/// and rounded to bytes before it is blended.
pub(super) fn sharpness(image: &mut [u8], side: usize, factor: f64, scratch: &mut Vec<u8>) {
    if side <= 2 {
        return;
    }
    scratch.clear();
    scratch.extend_from_slice(image);
    let (blend, row) = (Blend::new(factor), side * 3);
    let mut blurred = vec![0_u8; row];
    for y in 0..side {
        let line = |y: usize| &scratch[y * row..][..row];
        // A byte of the border is blended with itself, which may move it by a rounding.
        blurred.copy_from_slice(line(y));
        if (1..side - 1).contains(&y) {
            let (above, at, below) = (line(y - 1), line(y), line(y + 1));
            for (i, slot) in blurred[3..row - 3].iter_mut().enumerate() {
                let column = |i: usize| u16::from(above[i]) + u16::from(at[i]) + u16::from(below[i]);
                let sum = column(i) + column(i + 3) + column(i + 6) + 4 * u16::from(at[i + 3]);
                // Rounded; a multiple of 1/13 is never halfway between two bytes.
                *slot = ((2 * sum + 13) / 26) as u8;
            }
        }
        for (slot, other) in image[y * row..][..row].iter_mut().zip(&blurred) {
            *slot = blend.of(f32::from(*slot), f32::from(*other));
        }
    }
}

/// Gaussian blur with a kernel of `2 * radius + 1` pixels; beyond the border the image is mirrored about its outermost pixels.
///
/// **Source** torchvision's `gaussian_blur` on uint8 tensors. **Differs**: rows, then columns, in f32, not one sum over both, so
/// that a byte may differ by one.
pub(super) fn gaussian(image: &mut [u8], side: usize, radius: usize, sigma: f32) {
    let mut kernel: Vec<f32> = (0..=2 * radius).map(|i| libm::expf(-0.5 * ((i as f32 - radius as f32) / sigma).powi(2))).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= sum);
    let mirrored = |at: usize| {
        let from = at.abs_diff(radius);
        from.min((2 * (side - 1)).saturating_sub(from))
    };
    let row = side * 3;
    let (mut narrowed, mut padded, mut sums) = (vec![0.0_f32; side * row], vec![0.0_f32; (side + 2 * radius) * 3], vec![0.0; row]);
    for (line, out) in image.chunks_exact(row).zip(narrowed.chunks_exact_mut(row)) {
        for (at, pixel) in padded.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = std::array::from_fn(|channel| f32::from(line[mirrored(at) * 3 + channel]));
        }
        for (i, weight) in kernel.iter().enumerate() {
            out.iter_mut().zip(&padded[i * 3..]).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    for (y, out) in image.chunks_exact_mut(row).enumerate() {
        sums.fill(0.0);
        for (i, weight) in kernel.iter().enumerate() {
            let line = &narrowed[mirrored(y + i) * row..][..row];
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * value);
        }
        out.iter_mut().zip(&sums).for_each(|(byte, sum)| *byte = (sum + 0.5) as u8);
    }
}

/// The blur that Pillow calls `GaussianBlur`: three box blurs along rows, then three along columns, each rounded to bytes; beyond
/// the border the outermost pixels repeat.
///
/// **Source** Pillow's `BoxBlur.c`, bit for bit, after Gwosdek et al., "Theoretical foundations of Gaussian convolution by
/// extended box filtering", SSVM 2011.
pub(super) fn extended_box(image: &mut [u8], side: usize, sigma: f32, scratch: &mut Vec<u8>) {
    const PASSES: usize = 3;
    let Some(filter) = BoxFilter::new(box_radius(sigma, PASSES as f32)) else { return };
    scratch.clear();
    scratch.resize(image.len(), 0);
    for _ in 0..PASSES {
        filter.rows(image, side, scratch);
        image.copy_from_slice(scratch);
    }
    transpose(image, side, scratch);
    for _ in 0..PASSES {
        filter.rows(scratch, side, image);
        scratch.copy_from_slice(image);
    }
    transpose(scratch, side, image);
}

/// Radius, with a fraction, of the box filter that a Gaussian of this deviation is made of.
fn box_radius(sigma: f32, passes: f32) -> f32 {
    let variance = sigma * sigma / passes;
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((length - 1.0) / 2.0).floor();
    let above = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    whole + above / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)))
}

/// A box of whole pixels with a fraction of one more on either side.
#[derive(Debug, Clone, Copy)]
struct BoxFilter {
    radius: usize,
    /// Weights of a whole pixel and of those at the ends, 24 bits of fraction.
    whole: u32,
    end: u32,
}

impl BoxFilter {
    /// `None` where the box is one pixel.
    fn new(radius: f32) -> Option<Self> {
        const ONE: u32 = 1 << 24;
        let pixels = radius as usize;
        let whole = (ONE as f32 / (radius * 2.0 + 1.0)) as u32;
        let end = (ONE - (2 * pixels as u32 + 1) * whole) / 2;
        (radius > 0.0).then_some(Self { radius: pixels, whole, end })
    }

    /// Blurs along rows. **Shapes**: \[S, S, 3\], both.
    fn rows(&self, image: &[u8], side: usize, out: &mut [u8]) {
        let Self { radius, whole, end } = *self;
        for (line, out) in image.chunks_exact(side * 3).zip(out.chunks_exact_mut(side * 3)) {
            let line = line.as_chunks::<3>().0;
            let pixel = |at: usize| line[at.clamp(radius + 1, side + radius) - radius - 1];
            let mut sums = [0_u32; 3];
            // The box around the pixel before the first; places are shifted by `radius + 1`.
            (0..=2 * radius).for_each(|at| add(&mut sums, pixel(at)));
            for (x, slot) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let (left, right) = (pixel(x), pixel(x + 2 * radius + 1));
                let (before, after) = (left, pixel(x + 2 * radius + 2));
                for channel in 0..3 {
                    sums[channel] = sums[channel] + u32::from(right[channel]) - u32::from(left[channel]);
                    let ends = u32::from(before[channel]) + u32::from(after[channel]);
                    slot[channel] = ((sums[channel] * whole + ends * end + (1 << 23)) >> 24) as u8;
                }
            }
        }
    }
}

fn add(sums: &mut [u32; 3], pixel: [u8; 3]) {
    sums.iter_mut().zip(pixel).for_each(|(sum, byte)| *sum += u32::from(byte));
}

fn transpose(image: &[u8], side: usize, out: &mut [u8]) {
    let (pixels, out) = (image.as_chunks::<3>().0, out.as_chunks_mut::<3>().0);
    for (i, pixel) in out.iter_mut().enumerate() {
        *pixel = pixels[i % side * side + i / side];
    }
}
