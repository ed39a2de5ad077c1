//! Changes of colour, pixel by pixel: blends, tables, grey, hue.
//!
//! Pixels are RGB bytes in a row. Every function gives the bytes of torchvision's on uint8 tensors: sums and products in f32, each
//! rounded alone and in torchvision's order, then cut off to a byte.
//!
//! **Source** torchvision 0.29.2, `transforms/_functional_tensor.py`.

/// `share * value + (1 - share) * other`, cut off to a byte. The shares are rounded to f32 after the subtraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blend {
    share: f32,
    rest: f32,
}

impl Blend {
    pub fn new(share: f64) -> Self {
        Self { share: share as f32, rest: (1.0 - share) as f32 }
    }

    /// Both values in 0 to 255. A cast to a byte clamps.
    #[inline]
    pub fn of(self, value: f32, other: f32) -> u8 {
        (self.share * value + self.rest * other) as u8
    }
}

/// Replaces every byte by its entry in a table.
pub(super) fn look_up(image: &mut [u8], entry: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|byte| entry(byte as u8));
    image.iter_mut().for_each(|byte| *byte = table[usize::from(*byte)]);
}

/// Replaces every byte by its entry in its channel's table, where the channel has one.
fn look_up_channels(image: &mut [u8], tables: &[Option<[u8; 256]>; 3]) {
    for (channel, table) in tables.iter().enumerate() {
        let Some(table) = table else { continue };
        image.iter_mut().skip(channel).step_by(3).for_each(|byte| *byte = table[usize::from(*byte)]);
    }
}

/// Luminance of a pixel.
#[inline]
fn grey_of([red, green, blue]: [u8; 3]) -> u8 {
    (0.2989 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)) as u8
}

/// Every channel is the luminance.
pub(super) fn grey(image: &mut [u8]) {
    image.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = [grey_of(*pixel); 3]);
}

/// Away from black (0) to twice as bright (2).
pub(super) fn brightness(image: &mut [u8], factor: f64) {
    let blend = Blend::new(factor);
    look_up(image, |byte| blend.of(f32::from(byte), 0.0));
}

/// Away from the mean luminance of the image, which is not rounded.
pub(super) fn contrast(image: &mut [u8], factor: f64) {
    let pixels = image.as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|pixel| u64::from(grey_of(*pixel))).sum();
    let (blend, mean) = (Blend::new(factor), sum as f32 / pixels.len().max(1) as f32);
    look_up(image, |byte| blend.of(f32::from(byte), mean));
}

/// Away from each pixel's luminance.
pub(super) fn saturation(image: &mut [u8], factor: f64) {
    let blend = Blend::new(factor);
    for pixel in image.as_chunks_mut::<3>().0 {
        let grey = f32::from(grey_of(*pixel));
        *pixel = pixel.map(|byte| blend.of(f32::from(byte), grey));
    }
}

/// Only the highest bits of every byte stay.
pub(super) fn posterize(image: &mut [u8], bits: u32) {
    let mask = !((1_u32 << (8 - bits.min(8))) - 1) as u8;
    image.iter_mut().for_each(|byte| *byte &= mask);
}

/// Bytes from a threshold on are inverted.
pub(super) fn solarize(image: &mut [u8], threshold: f32) {
    look_up(image, |byte| if f32::from(byte) >= threshold { 255 - byte } else { byte });
}

/// Stretches every channel from its smallest and largest byte to 0 and 255; one of a single value stays.
pub(super) fn auto_contrast(image: &mut [u8]) {
    let (mut least, mut most) = ([255_u8; 3], [0_u8; 3]);
    for pixel in image.as_chunks::<3>().0 {
        for channel in 0..3 {
            least[channel] = least[channel].min(pixel[channel]);
            most[channel] = most[channel].max(pixel[channel]);
        }
    }
    let tables = std::array::from_fn(|channel| {
        let (low, high) = (least[channel], most[channel]);
        (low < high).then(|| {
            let scale = 255.0 / (f32::from(high) - f32::from(low));
            std::array::from_fn(|byte| ((byte as f32 - f32::from(low)) * scale) as u8)
        })
    });
    look_up_channels(image, &tables);
}

/// Spreads the values of every channel evenly; a channel of hardly more than one value stays.
pub(super) fn equalize(image: &mut [u8]) {
    let mut counts = [[0_u32; 256]; 3];
    for pixel in image.as_chunks::<3>().0 {
        (0..3).for_each(|channel| counts[channel][usize::from(pixel[channel])] += 1);
    }
    let tables = counts.map(|counts| {
        let last = counts.iter().rposition(|&count| count > 0)?;
        let step = counts[..last].iter().sum::<u32>() / 255;
        let mut below = step / 2;
        (step > 0).then(|| {
            counts.map(|count| {
                let level = (below / step).min(255) as u8;
                below += count;
                level
            })
        })
    });
    look_up_channels(image, &tables);
}

/// Turns the hue by a share of the circle in [-1/2, 1/2], by way of hue, saturation and value in f32.
pub(super) fn hue(image: &mut [u8], turn: f64) {
    let turn = turn as f32;
    for pixel in image.as_chunks_mut::<3>().0 {
        let [red, green, blue] = pixel.map(|byte| f32::from(byte) / 255.0);
        let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
        if most == least {
            // Without saturation the turned pixel is its own value three times.
            continue;
        }
        let range = most - least;
        let (from_red, from_green, from_blue) = ((most - red) / range, (most - green) / range, (most - blue) / range);
        let sixth = if most == red {
            from_blue - from_green
        } else if most == green {
            2.0 + from_red - from_blue
        } else {
            4.0 + from_green - from_red
        };
        let hue = below_one(sixth / 6.0 + 1.0) + turn;
        let hue = if hue < 0.0 { hue + 1.0 } else { below_one(hue) };
        *pixel = rgb_of(hue, range / most, most).map(|value| (value * BYTE_SCALE) as u8);
    }
}

/// The remainder by 1 of a value in [0, 2), exactly.
#[inline]
fn below_one(value: f32) -> f32 {
    if value >= 1.0 { value - 1.0 } else { value }
}

/// What torchvision multiplies by to turn [0, 1] into bytes: 255 + 1 - 1e-3.
const BYTE_SCALE: f32 = 255.999;

/// Red, green and blue in [0, 1] of a hue, a saturation and a value in [0, 1].
fn rgb_of(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    // Cut off, which is the floor: the hue is not below 0.
    let sector = (hue * 6.0) as i32;
    let part = hue * 6.0 - sector as f32;
    let low = (value * (1.0 - saturation)).clamp(0.0, 1.0);
    let falling = (value * (1.0 - saturation * part)).clamp(0.0, 1.0);
    let rising = (value * (1.0 - saturation * (1.0 - part))).clamp(0.0, 1.0);
    match sector % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}
