//! Image files to RGB pixels: central squares, or whole pictures.
//!
//! Input: the bytes of a JPEG, PNG or WebP file. Output: a picture as a [`Frame`] takes it. Invariants: the kind is read from the
//! bytes, not the name; grey becomes RGB, transparency is laid over white, 16 bits become 8; pixels are as stored, whatever
//! orientation the EXIF data ask for (as in `open_clip`, counted); a broken file is a reason in words, never a panic; how much
//! memory a file needs is read from its header, refused where it is too much and taken from one budget of all threads.
//! Must not know: where the bytes came from, packs beyond their frame.

use std::sync::Arc;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::codec::{self, Kind, Samples};
use super::memory;
use super::pack::Frame;
use super::pack_writer::Picture;
use super::tally::Tally;
use crate::run::Framing;

/// Most pixels accepted. **Source**: where PIL raises `DecompressionBombError`.
const MAX_PIXELS: u64 = 178_956_970;

/// Decodes and resizes; holds the resizer's buffers.
#[derive(Debug)]
pub struct Decoder {
    frame: Frame,
    resizer: Resizer,
    tally: Arc<Tally>,
}

impl Decoder {
    /// A decoder to central squares of side S.
    pub fn new(side: usize) -> Self {
        Self::counting(Frame::centre(side), Arc::default())
    }

    /// A decoder that counts what it meets.
    pub(super) fn counting(frame: Frame, tally: Arc<Tally>) -> Self {
        Self { frame, resizer: Resizer::new(), tally }
    }

    /// Where it counts.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// A decoder to pictures of this frame.
    pub fn framed(frame: Frame) -> Self {
        Self::counting(frame, Arc::default())
    }

    /// An image at side S, or as large as the frame takes whole pictures. **Shapes**: \[S, S, 3\], or \[height, width, 3\].
    ///
    /// Resized by bicubic convolution (Catmull-Rom), antialiased when shrinking, as PIL's: a central square so that the shortest
    /// side becomes S, a whole picture only where it has more than S x S pixels. **Differs** from `open_clip`'s resize and
    /// central crop: the long side and the corner of the crop are not rounded to whole pixels; transparency is laid over white,
    /// where PIL's conversion to RGB drops it.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.picture(bytes).map(|picture| picture.pixels)
    }

    /// As [`Self::decode`], with the width.
    pub(super) fn picture(&mut self, bytes: &[u8]) -> Result<Picture, String> {
        let Rgb { width, height, pixels, is_rotated, held: _held } = rgb(bytes)?;
        let (to_width, to_height) = self.frame.fit(width as usize, height as usize);
        let pixels = if (width as usize, height as usize) == (to_width, to_height) {
            pixels
        } else {
            self.resized((width, height), &pixels, (to_width as u32, to_height as u32))?
        };
        self.tally.rotated.add(u64::from(is_rotated));
        Ok(Picture { width: to_width, pixels })
    }

    fn resized(&mut self, (width, height): (u32, u32), pixels: &[u8], to: (u32, u32)) -> Result<Vec<u8>, String> {
        let mut resized = vec![0; to.0 as usize * to.1 as usize * 3];
        // The typed calls compile the resizer for this one kind of pixel, the others for all thirteen.
        let source = TypedImageRef::<U8x3>::from_buffer(width, height, pixels).map_err(|e| e.to_string())?;
        let mut target = TypedImage::<U8x3>::from_buffer(to.0, to.1, &mut resized).map_err(|e| e.to_string())?;
        let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        if self.frame.framing == Framing::Centre {
            options = options.fit_into_destination(Some((0.5, 0.5)));
        }
        self.resizer.resize_typed(&source, &mut target, &options).map_err(|e| e.to_string())?;
        Ok(resized)
    }
}

/// A decoded image, and the memory that it holds of the budget.
struct Rgb {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
    /// Whether its EXIF data ask for another orientation than the stored one.
    is_rotated: bool,
    held: memory::Held,
}

/// RGB pixels of an image file.
fn rgb(bytes: &[u8]) -> Result<Rgb, String> {
    if bytes.is_empty() {
        return Err("an empty file".to_owned());
    }
    let kind = Kind::of(bytes).ok_or("neither JPEG, PNG nor WebP")?;
    if kind == Kind::Jpeg && !has_jpeg_end(bytes) {
        return Err("a JPEG that ends before its end-of-image marker".to_owned());
    }
    let file = codec::open(kind, bytes)?;
    let (width, height, samples, is_rotated) = (file.width, file.height, file.samples, file.is_rotated);
    let count = u64::from(width) * u64::from(height);
    if count == 0 || count > MAX_PIXELS {
        return Err(format!("an image of {width} x {height} pixels, expected 1 to {MAX_PIXELS}"));
    }
    let held = memory::take(bytes_needed(kind, bytes, samples, count))?;
    let pixels = file.pixels()?;
    let pixels = match samples.channels {
        1 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        2 => over_white(pixels.as_chunks().0.iter().flat_map(|&[grey, alpha]| [grey, grey, grey, alpha]).collect()),
        3 => pixels,
        _ => over_white(pixels),
    };
    Ok(Rgb { width, height, pixels, is_rotated, held })
}

/// Most bytes held at once while a file of so many pixels is decoded and made RGB.
fn bytes_needed(kind: Kind, file: &[u8], samples: Samples, pixels: u64) -> u64 {
    let inside_decoder = match kind {
        // A progressive one keeps two bytes of each coefficient, of four components at most.
        Kind::Jpeg if is_progressive(file) => 8 * pixels,
        // Planes, alpha and the canvas before they are copied out.
        Kind::WebP => 6 * pixels,
        Kind::Jpeg | Kind::Png => 0,
    };
    let converted = match samples {
        Samples { channels: 3 | 4, bytes: 1 } => 0,
        Samples { channels: 2 | 4, .. } => 4,
        _ => 3,
    };
    inside_decoder + ((samples.channels * samples.bytes) as u64 + converted) * pixels
}

/// Whether a JPEG's frame header is one of the progressive kinds. Segments are walked from the start; anything that is no segment
/// ends the walk, and is taken for progressive, which needs more.
fn is_progressive(file: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = file.get(at..at + 4) {
        match marker {
            0xc0 | 0xc1 => return false,
            0xc2..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => return true,
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    true
}

/// RGB over white, in the place of RGBA.
fn over_white(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for pixel in 0..count {
        let alpha = u32::from(pixels[4 * pixel + 3]);
        for channel in 0..3 {
            let value = u32::from(pixels[4 * pixel + channel]);
            pixels[3 * pixel + channel] = ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
    }
    pixels.truncate(3 * count);
    pixels
}

/// Whether an end-of-image marker follows the last start of a scan (an embedded thumbnail has both before it): the decoder
/// fills what is missing with grey and says nothing.
fn has_jpeg_end(bytes: &[u8]) -> bool {
    let last_scan = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap_or(0);
    bytes[last_scan..].windows(2).any(|pair| pair == [0xff, 0xd9])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageFormat, RgbImage, RgbaImage};

    use super::*;

    fn file(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn an_image_of_the_right_side_keeps_its_bytes() {
        let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 9, 77]));
        assert_eq!(Decoder::new(16).decode(&file(image.clone(), ImageFormat::Png)).unwrap(), image.into_raw());
    }

    #[test]
    fn grey_becomes_rgb_and_transparency_white() {
        let grey = GrayImage::from_pixel(4, 4, image::Luma([50]));
        assert_eq!(Decoder::new(4).decode(&file(grey, ImageFormat::Png)).unwrap(), [50; 48]);
        let clear = RgbaImage::from_pixel(4, 4, image::Rgba([10, 20, 30, 0]));
        assert_eq!(Decoder::new(4).decode(&file(clear, ImageFormat::Png)).unwrap(), [255; 48]);
        let half = GrayAlphaImage::from_pixel(4, 4, image::LumaA([0, 128]));
        assert_eq!(Decoder::new(4).decode(&file(half, ImageFormat::Png)).unwrap(), [127; 48]);
    }

    #[test]
    fn the_centre_of_a_wide_image_is_taken_and_shrinking_averages() {
        // Black, a fine checkerboard in the middle third, white.
        let image = RgbImage::from_fn(192, 64, |x, y| match x / 64 {
            0 => image::Rgb([0; 3]),
            1 => image::Rgb([255 * ((x + y) % 2) as u8; 3]),
            _ => image::Rgb([255; 3]),
        });
        let pixels = Decoder::new(8).decode(&file(image, ImageFormat::Png)).unwrap();
        for row in pixels.as_chunks::<24>().0 {
            assert!(row[6..18].iter().all(|&value| (126..=130).contains(&value)), "{row:?}");
            // The outermost columns see a little of what was cut off, as in CLIP.
            assert!((110..128).contains(&row[0]) && (129..146).contains(&row[23]), "{row:?}");
        }
    }

    #[test]
    fn whole_pictures_keep_their_aspect_and_are_never_enlarged() {
        let decode = |width, height, side| {
            let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 7]));
            let decoded = Decoder::framed(Frame::whole(side)).picture(&file(image.clone(), ImageFormat::Png)).unwrap();
            (decoded.width, decoded.pixels.len() / 3 / decoded.width, decoded.pixels, image.into_raw())
        };
        // Smaller than the frame, in area: the pixels as they are.
        let (width, height, pixels, source) = decode(40, 25, 32);
        assert!((width, height) == (40, 25) && pixels == source);
        // Larger: the corners are those of the picture, and the area fills the frame.
        for (from_width, from_height, side, expected) in
            [(200, 100, 32, (45, 22)), (100, 200, 32, (22, 45)), (90, 90, 64, (64, 64))]
        {
            let (width, height, pixels, _) = decode(from_width, from_height, side);
            assert_eq!((width, height), expected);
            let (first, last) = (&pixels[..3], &pixels[pixels.len() - 3..]);
            assert!(first[0] < 12 && first[1] < 12 && last[0] > 243 && last[1] > 243, "{first:?} {last:?}");
        }
        // A sliver keeps a pixel across, and fits.
        assert_eq!(Frame::whole(53).fit(32_768, 1), (2809, 1));
        assert_eq!(Frame::whole(53).fit(3, 30_000), (1, 2809));
    }

    #[test]
    fn broken_files_have_reasons() {
        let image = RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let (jpeg, png) = (file(image.clone(), ImageFormat::Jpeg), file(image, ImageFormat::Png));
        let mut decoder = Decoder::new(32);
        assert!(decoder.decode(&jpeg[..jpeg.len() / 2]).unwrap_err().contains("end-of-image"));
        let with_thumbnail = [&jpeg[..2], &[0xff, 0xda, 0, 0, 0xff, 0xd9], &jpeg[2..jpeg.len() / 2]].concat();
        assert!(!has_jpeg_end(&with_thumbnail) && has_jpeg_end(&jpeg));
        assert!(decoder.decode(&png[..png.len() / 2]).is_err());
        assert!(decoder.decode(&[]).is_err());
        assert!(decoder.decode(b"<html>not found</html>").unwrap_err().contains("neither JPEG"));
        let mut flipped = png;
        flipped[60] ^= 0xff;
        assert!(decoder.decode(&flipped).is_err(), "a checksum that does not match");
    }

    /// The start of a PNG: its header and a few rows, of as many as the header says.
    fn started_png(width: u32, height: u32, depth: u8, color: u8, bytes_per_row: usize) -> Vec<u8> {
        use std::io::Write;
        let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        rows.write_all(&vec![0u8; 4 * (1 + bytes_per_row)]).unwrap();
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
        let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in [(b"IHDR", header), (b"IDAT", rows.finish().unwrap()), (b"IEND", Vec::new())] {
            let mut crc = flate2::Crc::new();
            crc.update(kind);
            crc.update(&data);
            out.extend([&(data.len() as u32).to_be_bytes()[..], kind, &data, &crc.sum().to_be_bytes()].concat());
        }
        out
    }

    #[test]
    fn bombs_are_refused_from_their_header_by_pixels_and_by_memory() {
        let refused = |bytes: &[u8]| Decoder::new(16).decode(bytes).unwrap_err();
        let grey = started_png(20_000, 20_000, 1, 0, 2500);
        assert_eq!(refused(&grey), "an image of 20000 x 20000 pixels, expected 1 to 178956970");
        let deep = started_png(10_000, 10_000, 16, 6, 80_000);
        assert_eq!(refused(&deep), "decoding needs 1144 MiB, expected at most 512 MiB");
        assert!(refused(&started_png(40_000, 1, 8, 2, 120_000)).contains("limit"), "a long side");
        // The sizes of a real JPEG and a real WebP, raised in the header alone.
        let mut jpeg = file(RgbImage::new(16, 16), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0x75, 0x30, 0x75, 0x30]);
        assert_eq!(refused(&jpeg), "an image of 30000 x 30000 pixels, expected 1 to 178956970");
        let mut webp = file(RgbImage::new(16, 16), ImageFormat::WebP);
        let size = webp.windows(4).position(|four| four == b"VP8L").unwrap() + 9;
        let bits = u32::from_le_bytes(webp[size..size + 4].try_into().unwrap()) & !0x0fff_ffff | 16_382 | 16_382 << 14;
        webp[size..size + 4].copy_from_slice(&bits.to_le_bytes());
        assert_eq!(refused(&webp), "an image of 16383 x 16383 pixels, expected 1 to 178956970");
    }

    #[test]
    fn what_a_file_needs_counts_what_its_decoder_and_the_conversion_hold() {
        let baseline = file(RgbImage::new(16, 16), ImageFormat::Jpeg);
        let mut progressive = baseline.clone();
        let frame = progressive.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        progressive[frame + 1] = 0xc2;
        assert!(!is_progressive(&baseline) && is_progressive(&progressive) && is_progressive(b"x"));
        let of = |channels, bytes| Samples { channels, bytes };
        let needed = |bytes: &[u8]| bytes_needed(Kind::Jpeg, bytes, of(3, 1), 100);
        assert_eq!((needed(&baseline), needed(&progressive)), (300, 1100));
        assert_eq!(bytes_needed(Kind::Png, &[], of(4, 2), 100), 1200);
        assert_eq!(bytes_needed(Kind::Png, &[], of(1, 1), 100), 400);
    }

    #[test]
    fn an_orientation_that_exif_asks_for_is_counted_and_not_applied() {
        let image = RgbImage::from_fn(8, 8, |x, _| image::Rgb([x as u8 * 30; 3]));
        let plain = file(image, ImageFormat::Jpeg);
        let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let rotated = [&plain[..2], exif, &plain[2..]].concat();
        let mut decoder = Decoder::new(8);
        let upright = decoder.decode(&plain).unwrap();
        assert_eq!((decoder.decode(&rotated).unwrap(), decoder.tally.rotated.get()), (upright, 1));
    }
}
