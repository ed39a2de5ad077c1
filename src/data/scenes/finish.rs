//! Light and lens: what happens to the pixels after painting.
//!
//! Input: painted pixels, a layout, a fault with its strength. Output: the pixels as seen. Invariant: noise and tiles lie on grids
//! of fixed resolution, blur is a share of the side: S changes nothing else.

use super::super::philox::Draws;
use super::faults::Fault;
use super::layout::{SceneLayout, Style};

/// Cells of the noise grid along a side.
const NOISE_CELLS: usize = 48;
/// Tiles of a mosaic along a side.
const TILES: usize = 16;
/// Draws of noise, away from those of texture.
const NOISE_DRAWS: u32 = 8 << 10;

/// Finishes an image in place.
pub(super) fn finish(pixels: &mut [u8], side: usize, layout: &SceneLayout, fault: Fault, strength: f32, paint: Draws) {
    if layout.style == Style::Photo {
        light(pixels, side, layout);
    }
    if layout.style == Style::Art(2) {
        mosaic(pixels, side);
    }
    if layout.contrast < 1.0 {
        fade(pixels, layout.contrast);
    }
    match fault {
        Fault::Blurred => blur(pixels, side, 0.05 + 0.05 * strength),
        Fault::Noisy => noise(pixels, side, 26.0 + 30.0 * strength, paint.from_draw(NOISE_DRAWS)),
        _ => {}
    }
}

/// Brightness with a linear gradient across the image.
fn light(pixels: &mut [u8], side: usize, layout: &SceneLayout) {
    let (x_slope, y_slope) = layout.light;
    let scale = 1.0 / side as f32;
    for (y, row) in pixels.chunks_exact_mut(side * 3).enumerate() {
        let at_row = layout.brightness + y_slope * ((y as f32 + 0.5) * scale - 0.5);
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let gain = at_row + x_slope * ((x as f32 + 0.5) * scale - 0.5);
            pixel.iter_mut().for_each(|channel| *channel = (f32::from(*channel) * gain + 0.5) as u8);
        }
    }
}

/// Contrast around the mean colour.
fn fade(pixels: &mut [u8], contrast: f32) {
    let count = (pixels.len() / 3) as u64;
    let mut sums = [0u64; 3];
    for pixel in pixels.as_chunks::<3>().0 {
        (0..3).for_each(|channel| sums[channel] += u64::from(pixel[channel]));
    }
    let means = sums.map(|sum| sum as f32 / count as f32);
    for pixel in pixels.as_chunks_mut::<3>().0 {
        (0..3).for_each(|channel| {
            pixel[channel] = (means[channel] + (f32::from(pixel[channel]) - means[channel]) * contrast + 0.5) as u8
        });
    }
}

/// Flat tiles of the colour at their centres.
fn mosaic(pixels: &mut [u8], side: usize) {
    let source = pixels.to_vec();
    let centre = |at: usize| ((at * TILES / side * 2 + 1) * side / (2 * TILES)).min(side - 1);
    for (i, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let from = (centre(i / side) * side + centre(i % side)) * 3;
        pixel.copy_from_slice(&source[from..from + 3]);
    }
}

/// Two box blurs of this radius (a share of the side) along each axis.
fn blur(pixels: &mut [u8], side: usize, radius: f32) {
    let reach = ((radius * side as f32).round() as usize).max(1);
    for _ in 0..2 {
        for axis in [3, side * 3] {
            box_blur(pixels, side, reach, axis);
        }
    }
}

/// A box blur along one axis: `stride` is the distance of neighbours.
fn box_blur(pixels: &mut [u8], side: usize, reach: usize, stride: usize) {
    let across = if stride == 3 { side * 3 } else { 3 };
    let mut line = vec![0u32; side];
    for start in (0..side).flat_map(|i| (0..3).map(move |channel| i * across + channel)) {
        (0..side).for_each(|i| line[i] = u32::from(pixels[start + i * stride]));
        for i in 0..side {
            let window = &line[i.saturating_sub(reach)..(i + reach + 1).min(side)];
            let count = window.len() as u32;
            pixels[start + i * stride] = ((window.iter().sum::<u32>() + count / 2) / count) as u8;
        }
    }
}

/// Normal noise on a fixed grid.
fn noise(pixels: &mut [u8], side: usize, deviation: f32, mut draws: Draws) {
    let cells: Vec<f32> = (0..NOISE_CELLS * NOISE_CELLS * 3).map(|_| approximate_normal(&mut draws) * deviation).collect();
    let cell = |at: usize| (2 * at + 1) * NOISE_CELLS / (2 * side);
    for (i, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let from = (cell(i / side) * NOISE_CELLS + cell(i % side)) * 3;
        (0..3).for_each(|channel| pixel[channel] = (f32::from(pixel[channel]) + cells[from + channel] + 0.5) as u8);
    }
}

/// The sum of a word's four bytes, centred and scaled to deviation 1: near enough to normal for grain.
fn approximate_normal(draws: &mut Draws) -> f32 {
    let sum: u32 = draws.word().to_le_bytes().into_iter().map(u32::from).sum();
    (sum as f32 - 510.0) / 147.8
}

#[cfg(test)]
mod tests {
    use super::super::{Variant, World};
    use super::*;

    #[test]
    fn a_faded_image_keeps_its_mean_and_loses_its_range() {
        let mut pixels: Vec<u8> = (0..48).map(|i| if i % 6 < 3 { 40 } else { 200 }).collect();
        fade(&mut pixels, 0.25);
        assert!(pixels.iter().all(|&value| value == 100 || value == 140), "{pixels:?}");
    }

    #[test]
    fn blur_spreads_a_point_and_keeps_flat_areas() {
        let side = 16;
        let mut flat = vec![77u8; side * side * 3];
        blur(&mut flat, side, 0.1);
        assert!(flat.iter().all(|&value| value == 77));
        let mut point = vec![0u8; side * side * 3];
        point[(8 * side + 8) * 3] = 255;
        blur(&mut point, side, 0.1);
        assert!(point[(8 * side + 8) * 3] < 60 && point[(8 * side + 10) * 3] > 0);
        assert_eq!(point[(8 * side + 8) * 3 + 1], 0, "channels do not mix");
    }

    #[test]
    fn tiles_and_noise_stay_inside_at_awkward_sides() {
        let draws = || super::super::super::philox::Philox::new(0, super::super::super::philox::Stream::Scenes).at(0, 0);
        for side in [1, 7, 28, 33, 100] {
            let mut pixels = vec![128u8; side * side * 3];
            mosaic(&mut pixels, side);
            noise(&mut pixels, side, 40.0, draws());
        }
    }

    #[test]
    fn a_scene_is_the_same_at_every_resolution() {
        let world = World::new(&crate::run::ScenesConfig::of_seed(3));
        for (i, variant) in Variant::ALL.into_iter().enumerate().filter(|(_, v)| *v != Variant::Rendition) {
            let scene = world.evaluation(variant, i as u64);
            let (large, small) = (scene.render(128), scene.render(32));
            // Mean of each 4 x 4 block of the larger against the smaller; edges of thin marks differ a little.
            let block = |y: usize, x: usize| {
                (0..16).map(|at| u32::from(large[((4 * y + at / 4) * 128 + 4 * x + at % 4) * 3])).sum::<u32>() / 16
            };
            let gaps = (0..1024).map(|at| u32::from(small[at * 3]).abs_diff(block(at / 32, at % 32)));
            let mean = gaps.sum::<u32>() as f32 / 1024.0;
            assert!(mean < 4.0, "{variant}: {mean}");
        }
    }
}
