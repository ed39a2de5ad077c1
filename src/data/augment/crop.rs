//! Random resized crop and horizontal flip.
//!
//! Every float operation is one that rounds alone, and pixels are summed as integers, so that `kernels/patchify.cu` gives the
//! same bytes.

use crate::data::pack::PictureView;
use crate::data::philox::Draws;
use crate::run::Augmentation;

/// Crops tried before the largest central one is taken.
const CROP_ATTEMPTS: usize = 10;
/// Parts of a pixel that sides and corners of crops are multiples of: with pictures below 2^15 pixels a side, sums of them are
/// exact in f32.
const PARTS: f32 = 256.0;
/// Bits of a weight's fraction.
const WEIGHT_BITS: u32 = 16;
/// Pixels on each side of a bicubic filter's centre, at the scale of the output or of the input, whichever is coarser.
const REACH: f32 = 2.0;

/// Random resized crop, then a flip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CropFlip {
    /// Smallest share of the area that a crop may have.
    pub min_area: f32,
    /// Probability of a horizontal flip.
    pub flip: f32,
}

/// Part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Crop {
    pub left: f32,
    pub top: f32,
    pub width: f32,
    pub height: f32,
}

impl CropFlip {
    /// The crop of a picture of this width and height, and whether it is mirrored.
    pub fn draw(&self, (width, height): (usize, usize), draws: &mut Draws) -> (Crop, bool) {
        let crop = random_crop(width as f32, height as f32, self.min_area, draws);
        (crop, draws.chance(self.flip))
    }

    /// A random crop of a picture, stretched to side S. **Shapes**: \[height, width, 3\] to \[S, S, 3\].
    pub fn apply(&self, picture: PictureView<'_>, side: usize, draws: &mut Draws, out: &mut [u8]) {
        let (crop, is_flipped) = self.draw((picture.width, picture.height), draws);
        resample(picture, crop, is_flipped, side, out);
    }
}

/// A crop whose share of the area is uniform in [`min_area`, 1] and whose log aspect ratio is uniform; where none of ten fits,
/// the largest central one of an allowed ratio.
///
/// **Source** torchvision's `RandomResizedCrop`, which `open_clip` uses (there with areas from 0.9 and no flip unless asked).
/// **Differs**: sides and corner are rounded to 1/256 of a pixel, not to pixels, which at 32 pixels would make the crop's grid
/// visible. What is cropped is the whole picture as it was packed: one that has more pixels than the pack's side squared was
/// resized before, with its sides rounded to pixels.
fn random_crop(width: f32, height: f32, min_area: f32, draws: &mut Draws) -> Crop {
    let (most_ratio, log_ratio) = (Augmentation::CROP_RATIO as f32, libm::logf(Augmentation::CROP_RATIO as f32));
    for _ in 0..CROP_ATTEMPTS {
        let root_area = (width * height * draws.between(min_area, 1.0)).sqrt();
        let root_ratio = libm::expf(0.5 * draws.between(-log_ratio, log_ratio));
        let (crop_width, crop_height) = (in_parts(root_area * root_ratio), in_parts(root_area / root_ratio));
        if crop_width <= width && crop_height <= height {
            let left = in_parts(draws.between(0.0, width - crop_width));
            let top = in_parts(draws.between(0.0, height - crop_height));
            return Crop { left, top, width: crop_width, height: crop_height };
        }
    }
    let (crop_width, crop_height) = (in_parts(width.min(height * most_ratio)), in_parts(height.min(width * most_ratio)));
    let (left, top) = (in_parts((width - crop_width) / 2.0), in_parts((height - crop_height) / 2.0));
    Crop { left, top, width: crop_width, height: crop_height }
}

/// Rounded down to a multiple of 1/256, but not to 0 where it is above.
fn in_parts(pixels: f32) -> f32 {
    if pixels <= 0.0 { 0.0 } else { (pixels * PARTS).floor().max(1.0) / PARTS }
}

/// What one output coordinate is made of: adjacent source pixels, and their weights in [`Filter::weights`].
#[derive(Debug, Clone)]
struct Taps {
    first: usize,
    weights: std::ops::Range<usize>,
}

/// The taps of every output coordinate along one direction.
#[derive(Debug, Clone, Default)]
struct Filter {
    taps: Vec<Taps>,
    /// Those of a coordinate sum to about 2^16.
    weights: Vec<i32>,
}

/// The cubic of Catmull and Rom (a = -1/2), which PIL and torchvision call bicubic.
fn catmull_rom(at: f32) -> f32 {
    let x = at.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        (((5.0 - x) * x - 8.0) * x + 4.0) * 0.5
    } else {
        0.0
    }
}

impl Filter {
    /// The taps of a crop's stretch to `side` pixels: the filter is as wide as the coarser of the two grids asks, and ends with the
    /// crop's pixels.
    ///
    /// **Source** PIL's `Resample.c`, as `resized_crop` calls it on a picture. **Differs**: weights have 16 bits, not 22, and are
    /// computed in single precision, so that a channel may differ by one.
    fn new(start: f32, length: f32, side: usize) -> Self {
        let scale = length / side as f32;
        let coarser = scale.max(1.0);
        let (inverse, reach) = (1.0 / coarser, REACH * coarser);
        let (mut filter, mut raw) = (Self::default(), Vec::new());
        for output in 0..side {
            let centre = start + (output as f32 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(start.floor()) as usize;
            let end = (centre + reach + 0.5).min((start + length).ceil()) as usize;
            raw.clear();
            raw.extend((first..end).map(|pixel| catmull_rom((pixel as f32 - centre + 0.5) * inverse)));
            let to_fixed = (1_u32 << WEIGHT_BITS) as f32 / raw.iter().sum::<f32>();
            let from = filter.weights.len();
            filter.weights.extend(raw.iter().map(|weight| {
                let weight = weight * to_fixed;
                (weight + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
            }));
            filter.taps.push(Taps { first, weights: from..filter.weights.len() });
        }
        filter
    }

    /// Source pixels that it reads.
    fn pixels(&self) -> std::ops::Range<usize> {
        let end = self.taps.last().map_or(0, |taps| taps.first + taps.weights.len());
        self.taps.first().map_or(end, |taps| taps.first)..end
    }

    /// First pixel and weights of every output coordinate.
    fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &[i32])> + ExactSizeIterator {
        self.taps.iter().map(|taps| (taps.first, &self.weights[taps.weights.clone()]))
    }
}

/// A weighted sum of bytes as a byte.
fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// Antialiased bicubic resampling of a crop to the whole side, along rows first, each direction rounded to bytes, as PIL does.
pub(super) fn resample(picture: PictureView<'_>, crop: Crop, is_flipped: bool, side: usize, out: &mut [u8]) {
    let (rows, columns) = (Filter::new(crop.top, crop.height, side), Filter::new(crop.left, crop.width, side));
    let (row_bytes, lines) = (side * 3, rows.pixels());
    let mut narrowed = vec![0_u8; lines.len() * row_bytes];
    for (y, row) in lines.clone().zip(narrowed.chunks_exact_mut(row_bytes)) {
        let line = picture.pixels[y * picture.width * 3..][..picture.width * 3].as_chunks::<3>().0;
        let narrow = |(pixel, (first, weights)): (&mut [u8; 3], (usize, &[i32]))| {
            let mut sums = [0; 3];
            for (source, weight) in line[first..].iter().zip(weights) {
                (0..3).for_each(|channel| sums[channel] += i32::from(source[channel]) * weight);
            }
            *pixel = sums.map(rounded);
        };
        let pixels = row.as_chunks_mut::<3>().0.iter_mut();
        if is_flipped { pixels.zip(columns.iter().rev()).for_each(narrow) } else { pixels.zip(columns.iter()).for_each(narrow) }
    }
    let mut sums = vec![0_i32; row_bytes];
    for (out_row, (first, weights)) in out.chunks_exact_mut(row_bytes).zip(rows.iter()) {
        sums.fill(0);
        for (line, &weight) in narrowed.chunks_exact(row_bytes).skip(first - lines.start).zip(weights) {
            sums.iter_mut().zip(line).for_each(|(sum, &byte)| *sum += i32::from(byte) * weight);
        }
        out_row.iter_mut().zip(&sums).for_each(|(slot, &sum)| *slot = rounded(sum));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::data::philox::{Philox, Stream};

    const CROP: CropFlip = CropFlip { min_area: 0.25, flip: 0.5 };

    fn picture(width: usize, height: usize, value: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
        (0..width * height).flat_map(|i| value(i % width, i / width)).collect()
    }

    fn view(width: usize, pixels: &[u8]) -> PictureView<'_> {
        PictureView { width, height: pixels.len() / 3 / width, pixels }
    }

    fn cropped(picture: PictureView<'_>, [left, top, width, height]: [f32; 4], is_flipped: bool, side: usize) -> Vec<u8> {
        let mut out = vec![0; side * side * 3];
        resample(picture, Crop { left, top, width, height }, is_flipped, side, &mut out);
        out
    }

    /// Noise that repeats: `(x * x * 31 + y * 17 + x * y * 7 + c * 50) % 256`, as the PIL script below makes it.
    fn noise(width: usize, height: usize) -> Vec<u8> {
        picture(width, height, |x, y| std::array::from_fn(|c| ((x * x * 31 + y * 17 + x * y * 7 + c * 50) % 256) as u8))
    }

    #[test]
    fn the_whole_image_is_its_own_crop_and_flips_exactly() {
        let image = noise(8, 8);
        assert_eq!(cropped(view(8, &image), [0.0, 0.0, 8.0, 8.0], false, 8), image);
        let flipped: Vec<u8> =
            image.chunks(24).flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>()).collect();
        assert_eq!(cropped(view(8, &image), [0.0, 0.0, 8.0, 8.0], true, 8), flipped);
    }

    #[test]
    fn a_crop_of_a_linear_ramp_is_the_linear_ramp_of_its_place() {
        let (width, side) = (36, 16);
        let image = picture(width, 32, |x, y| [(x * 7) as u8, (y * 7) as u8, 100]);
        for crop in [[4.0, 8.0, 24.0, 20.0], [4.5, 8.25, 9.0, 12.0]] {
            let out = cropped(view(width, &image), crop, false, side);
            let [left, top, crop_width, crop_height] = crop;
            // Where the filter does not end with the crop.
            for (y, x) in (4..side - 4).flat_map(|y| (4..side - 4).map(move |x| (y, x))) {
                let expected_x = (left + (x as f32 + 0.5) * crop_width / side as f32 - 0.5) * 7.0;
                let expected_y = (top + (y as f32 + 0.5) * crop_height / side as f32 - 0.5) * 7.0;
                let pixel = &out[(y * side + x) * 3..][..3];
                assert!((f32::from(pixel[0]) - expected_x).abs() < 1.5, "{x},{y}: {pixel:?} {expected_x}");
                assert!((f32::from(pixel[1]) - expected_y).abs() < 1.5, "{x},{y}: {pixel:?} {expected_y}");
                assert_eq!(pixel[2], 100);
            }
        }
    }

    /// The same resampling in f64, one output pixel at a time, without rounding in between.
    fn plainly(picture: PictureView<'_>, [left, top, width, height]: [f32; 4], side: usize) -> Vec<f64> {
        let cubic = |x: f64| match x.abs() {
            x if x < 1.0 => 1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.0,
            x if x < 2.0 => -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4.0 * x + 2.0,
            _ => 0.0,
        };
        let weights = |output: usize, start: f32, length: f32| {
            let (start, scale) = (f64::from(start), f64::from(length) / side as f64);
            let centre = start + (output as f64 + 0.5) * scale;
            let pixels = start.floor() as usize..(start + f64::from(length)).ceil() as usize;
            let all: Vec<(usize, f64)> = pixels.map(|p| (p, cubic((p as f64 + 0.5 - centre) / scale.max(1.0)))).collect();
            let sum: f64 = all.iter().map(|(_, weight)| weight).sum();
            all.into_iter().map(|(pixel, weight)| (pixel, weight / sum)).collect::<Vec<_>>()
        };
        let mut out = Vec::new();
        for (y, x, channel) in (0..side * side * 3).map(|i| (i / 3 / side, i / 3 % side, i % 3)) {
            let mut value = 0.0;
            for (row, row_weight) in weights(y, top, height) {
                for (column, column_weight) in weights(x, left, width) {
                    let byte = picture.pixels[(row * picture.width + column) * 3 + channel];
                    value += row_weight * column_weight * f64::from(byte);
                }
            }
            out.push(value);
        }
        out
    }

    #[test]
    fn crops_are_those_of_a_plain_computation() {
        // A smooth picture, so that rounding in between moves nothing by more than a step and clipping does nothing.
        let wave = |x: f64| 128.0 + 90.0 * x.sin();
        let image =
            picture(50, 40, |x, y| [wave(x as f64 * 0.7) as u8, wave(y as f64 * 0.9) as u8, wave((x + y) as f64 * 0.4) as u8]);
        for (crop, side) in [([3.0, 5.0, 40.0, 30.0], 12), ([0.0, 0.0, 50.0, 40.0], 9), ([7.25, 2.5, 11.5, 20.75], 16)] {
            let (found, expected) = (cropped(view(50, &image), crop, false, side), plainly(view(50, &image), crop, side));
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1.6, "{crop:?} to {side}: {found}, expected {expected}");
            }
        }
    }

    /// `Image.fromarray(noise).crop(box).resize((side, side), Image.BICUBIC)` of Pillow 13.0.0, of noise 23 wide and 19 high.
    #[test]
    fn crops_of_whole_pixels_are_those_of_pil() {
        let image = noise(23, 19);
        let boxes = [([3.0, 2.0, 17.0, 13.0], 5), ([0.0, 0.0, 23.0, 19.0], 4), ([6.0, 4.0, 3.0, 4.0], 6)];
        let expected: [&[u8]; 3] = [
            &[
                130, 144, 128, 137, 133, 131, 110, 164, 113, 92, 145, 112, 111, 109, 152, 156, 90, 98, 129, 137, 134, 129, 96, 138,
                128, 120, 143, 88, 136, 125, 119, 133, 147, 141, 133, 115, 153, 108, 147, 116, 125, 149, 122, 140, 126, 137, 128,
                110, 135, 121, 135, 133, 134, 121, 106, 142, 130, 136, 108, 142, 101, 110, 131, 118, 135, 153, 141, 127, 145, 129,
                110, 160, 132, 108, 144,
            ],
            &[
                110, 120, 142, 119, 126, 128, 111, 136, 121, 122, 129, 125, 138, 131, 135, 139, 123, 127, 121, 121, 141, 127, 126,
                128, 129, 120, 121, 128, 125, 135, 125, 129, 142, 134, 124, 131, 122, 137, 129, 119, 124, 146, 129, 117, 140, 121,
                128, 117,
            ],
            &[
                52, 125, 175, 105, 103, 153, 219, 56, 106, 255, 27, 77, 247, 19, 69, 238, 15, 65, 92, 153, 220, 108, 132, 194, 142,
                86, 140, 154, 59, 108, 142, 54, 103, 136, 50, 100, 149, 201, 214, 124, 179, 203, 73, 135, 180, 44, 110, 166, 43,
                108, 162, 42, 106, 159, 187, 252, 40, 166, 229, 88, 125, 181, 190, 102, 155, 237, 102, 155, 226, 103, 156, 221,
                230, 133, 47, 213, 153, 68, 176, 195, 110, 157, 217, 131, 159, 212, 127, 161, 211, 125, 255, 12, 103, 242, 70, 83,
                206, 195, 37, 189, 255, 15, 194, 250, 21, 196, 246, 23,
            ],
        ];
        for ((crop, side), expected) in boxes.into_iter().zip(expected) {
            let found = cropped(view(23, &image), crop, false, side);
            let far = found.iter().zip(expected).filter(|(a, b)| a.abs_diff(**b) > 1).count();
            let off = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert!(found.len() == expected.len() && far == 0 && off <= found.len() / 20, "{off} differ, {far} by more than 1");
        }
    }

    #[test]
    fn a_crop_of_a_larger_picture_holds_detail_that_the_reduced_one_has_lost() {
        // Stripes of two pixels: at half the size they are grey, and no crop of that brings them back.
        let (width, side) = (64, 32);
        let stripes = picture(width, width, |x, _| [if x % 4 < 2 { 255 } else { 0 }; 3]);
        let reduced = cropped(view(width, &stripes), [0.0, 0.0, 64.0, 64.0], false, side / 2);
        let contrast = |image: &[u8]| {
            let of = |row: &[u8]| i32::from(*row.iter().max().unwrap()) - i32::from(*row.iter().min().unwrap());
            of(&image[image.len() / 2..][..side * 3])
        };
        let (from_whole, expected) = (
            cropped(view(width, &stripes), [16.0, 16.0, 32.0, 32.0], false, side),
            plainly(view(width, &stripes), [16.0, 16.0, 32.0, 32.0], side),
        );
        let from_reduced = cropped(view(side / 2, &reduced), [4.0, 4.0, 8.0, 8.0], false, side);
        assert!(
            contrast(&from_whole) == 255 && contrast(&from_reduced) < 60,
            "{} {}",
            contrast(&from_whole),
            contrast(&from_reduced)
        );
        assert!(from_whole.iter().zip(expected).all(|(found, expected)| (f64::from(*found) - expected).abs() < 0.6));
    }

    #[test]
    fn crops_keep_their_share_and_ratio_and_lie_inside_pictures_of_any_aspect() {
        let philox = Philox::new(1, Stream::Augment);
        for (width, height) in [(32.0_f32, 32.0_f32), (90.0, 31.0), (20.0, 61.0)] {
            let (mut smallest, mut leftmost, mut rightmost) = (f32::MAX, f32::MAX, 0.0_f32);
            for sample in 0..2000 {
                let Crop { left, top, width: w, height: h } = random_crop(width, height, 0.25, &mut philox.at(0, sample));
                let (share, ratio) = (w * h / (width * height), w / h);
                smallest = smallest.min(share);
                (leftmost, rightmost) = (leftmost.min(left), rightmost.max(left + w));
                assert!((0.249..=1.001).contains(&share) && (0.749..1.335).contains(&ratio), "{share} {ratio}");
                assert!(left >= 0.0 && top >= 0.0 && left + w <= width && top + h <= height);
                assert!([left, top, w, h].iter().all(|v| (v * 256.0).fract() == 0.0));
            }
            assert!(smallest < 0.3 && leftmost < 0.02 * width && rightmost > 0.98 * width, "{smallest} {leftmost} {rightmost}");
        }
        // Where nothing fits, the largest central part of an allowed ratio, as torchvision takes it.
        let crop = random_crop(100.0, 10.0, 0.9, &mut philox.at(0, 0));
        assert_eq!((crop.top, crop.height), (0.0, 10.0));
        assert!((crop.width - 40.0 / 3.0).abs() < 0.01 && (crop.left - 130.0 / 3.0).abs() < 0.01, "{crop:?}");
    }

    #[test]
    fn draws_decide_the_crop_alone() {
        let philox = Philox::new(1, Stream::Augment);
        let (image, mut a, mut b) = (noise(60, 50), vec![0; 3072], vec![0; 3072]);
        CROP.apply(view(60, &image), 32, &mut philox.at(4, 2), &mut a);
        CROP.apply(view(60, &image), 32, &mut philox.at(4, 2), &mut b);
        assert_eq!(a, b);
        CROP.apply(view(60, &image), 32, &mut philox.at(4, 3), &mut b);
        assert_ne!(a, b);
    }

    #[test]
    fn awkward_sides_do_not_read_outside_and_keep_a_plain_colour() {
        for (width, height) in [(1, 1), (2, 1), (3, 50), (28, 28), (200, 3), (64, 61)] {
            for side in [1, 2, 28] {
                let (image, mut out) = (vec![203; width * height * 3], vec![0; side * side * 3]);
                for step in 0..50 {
                    CROP.apply(view(width, &image), side, &mut Philox::new(0, Stream::Augment).at(step, 0), &mut out);
                    assert!(out.iter().all(|&byte| byte == 203), "{width} x {height} to {side}");
                }
            }
        }
    }
}
