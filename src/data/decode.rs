//! Image files to RGB pixels: central squares, or whole pictures.
//!
//! Input: the bytes of a JPEG, PNG or WebP file. Output: a picture as a [`Frame`] takes it. Invariants: the kind is read from the
//! bytes, not the name; grey becomes RGB, transparency is laid over white, 16 bits become 8; a broken file is a reason in words,
//! never a panic. Must not know: where the bytes came from, packs beyond their frame.

use std::io::Cursor;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageReader, Limits};

use crate::run::Framing;

use super::pack::Frame;
use super::pack_writer::Picture;

/// Longest side accepted: larger files are bombs or mistakes.
const MAX_SIDE: u32 = 1 << 15;
/// Most memory that a decoder may take.
const MAX_DECODER_BYTES: u64 = 1 << 30;

/// Decodes and resizes; holds the resizer's buffers.
#[derive(Debug)]
pub struct Decoder {
    frame: Frame,
    resizer: Resizer,
}

impl Decoder {
    /// A decoder to central squares of side S.
    pub fn new(side: usize) -> Self {
        Self::framed(Frame::centre(side))
    }

    /// A decoder to pictures of this frame.
    pub fn framed(frame: Frame) -> Self {
        Self { frame, resizer: Resizer::new() }
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
        let (width, height, pixels) = rgb(bytes)?;
        let (to_width, to_height) = self.frame.fit(width as usize, height as usize);
        if (width as usize, height as usize) == (to_width, to_height) {
            return Ok(Picture { width: to_width, pixels });
        }
        let mut resized = vec![0; to_width * to_height * 3];
        // The typed calls compile the resizer for this one kind of pixel, the others for all thirteen.
        let source = TypedImageRef::<U8x3>::from_buffer(width, height, &pixels).map_err(|e| e.to_string())?;
        let target = TypedImage::<U8x3>::from_buffer(to_width as u32, to_height as u32, &mut resized);
        let mut target = target.map_err(|e| e.to_string())?;
        let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        if self.frame.framing == Framing::Centre {
            options = options.fit_into_destination(Some((0.5, 0.5)));
        }
        self.resizer.resize_typed(&source, &mut target, &options).map_err(|e| e.to_string())?;
        Ok(Picture { width: to_width, pixels: resized })
    }
}

/// Width, height and RGB pixels of an image file.
fn rgb(bytes: &[u8]) -> Result<(u32, u32, Vec<u8>), String> {
    if bytes.is_empty() {
        return Err("an empty file".to_owned());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let format = reader.format().ok_or("neither JPEG, PNG nor WebP")?;
    if format == image::ImageFormat::Jpeg && !has_jpeg_end(bytes) {
        return Err("a JPEG that ends before its end-of-image marker".to_owned());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| e.to_string())?;
    let (width, height) = (image.width(), image.height());
    if width == 0 || height == 0 {
        return Err(format!("an image of {width} x {height} pixels"));
    }
    let pixels = if image.color().has_alpha() { over_white(&image) } else { image.into_rgb8().into_raw() };
    Ok((width, height, pixels))
}

fn over_white(image: &DynamicImage) -> Vec<u8> {
    let blend = |pixel: &[u8; 4]| -> [u8; 3] {
        let alpha = u32::from(pixel[3]);
        std::array::from_fn(|channel| ((u32::from(pixel[channel]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
    };
    image.to_rgba8().as_chunks::<4>().0.iter().flat_map(blend).collect()
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
    use image::{GrayAlphaImage, GrayImage, ImageFormat, RgbImage, RgbaImage};

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
}
