//! JPEG, PNG and WebP files by their decoders: what a header says, then 8-bit samples as stored.
//!
//! Input: the bytes of a file. Output: an [`Opened`] header, and its samples. Invariants: the kind is read from the bytes; 16 bits
//! become 8, palettes and fewer bits become what they stand for; of an animation the first picture is taken; pixels are as stored,
//! whatever orientation the EXIF data ask for. Must not know: transparency, frames, memory budgets.

use std::io::Cursor;

use image_webp::WebPDecoder;
use png::{BitDepth, ColorType, Transformations};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// Longest side accepted.
const MAX_SIDE: u32 = 1 << 15;
/// Most bytes of colour profiles and the like that a thread unpacks while it reads a header.
const MAX_METADATA_BYTES: usize = 16 << 20;

/// How a file is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Jpeg,
    Png,
    WebP,
}

impl Kind {
    /// The kind that the first bytes say.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            _ => None,
        }
    }
}

/// What a decoder gives of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Samples {
    /// 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
    pub channels: usize,
    /// Of a channel, 1 or 2.
    pub bytes: usize,
}

/// A file whose header is read.
pub(super) struct Opened<'a> {
    pub width: u32,
    pub height: u32,
    pub samples: Samples,
    /// Whether its EXIF data ask for another orientation than the stored one.
    pub is_rotated: bool,
    source: Source<'a>,
}

enum Source<'a> {
    Jpeg(&'a [u8], ColorSpace),
    Png(Box<png::Reader<Cursor<&'a [u8]>>>),
    WebP(Box<WebPDecoder<Cursor<&'a [u8]>>>),
}

/// Reads the header. **Errors**: what the decoder says; a side that is too long.
pub(super) fn open(kind: Kind, bytes: &[u8]) -> Result<Opened<'_>, String> {
    let opened = match kind {
        Kind::Jpeg => open_jpeg(bytes),
        Kind::Png => open_png(bytes),
        Kind::WebP => open_webp(bytes),
    }?;
    check_sides(opened.width, opened.height)?;
    Ok(opened)
}

fn check_sides(width: u32, height: u32) -> Result<(), String> {
    if width.max(height) > MAX_SIDE {
        return Err(format!("an image of {width} x {height} pixels, beyond the limit of {MAX_SIDE} a side"));
    }
    Ok(())
}

impl Opened<'_> {
    /// The picture at 8 bits. **Shapes**: \[height, width, channels\].
    pub fn pixels(self) -> Result<Vec<u8>, String> {
        let Samples { channels, bytes } = self.samples;
        let mut pixels = vec![0; self.width as usize * self.height as usize * channels * bytes];
        match self.source {
            Source::Jpeg(file, space) => {
                jpeg_decoder(file, jpeg_options().jpeg_set_out_colorspace(space)).decode_into(&mut pixels).map_err(jpeg_error)?;
            }
            Source::Png(mut reader) => {
                reader.next_frame(&mut pixels).map_err(png_error)?;
            }
            Source::WebP(mut decoder) => decoder.read_image(&mut pixels).map_err(webp_error)?,
        }
        // PNG is big-endian.
        Ok(if bytes == 2 {
            pixels.as_chunks().0.iter().map(|&sample| of_16_bits(u16::from_be_bytes(sample))).collect()
        } else {
            pixels
        })
    }
}

/// The nearest of 256 levels.
fn of_16_bits(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

/// What other programs show of a damaged JPEG is taken.
fn jpeg_options() -> DecoderOptions {
    DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX)
}

fn jpeg_decoder(bytes: &[u8], options: DecoderOptions) -> JpegDecoder<ZCursor<&[u8]>> {
    JpegDecoder::new_with_options(ZCursor::new(bytes), options)
}

fn open_jpeg(bytes: &[u8]) -> Result<Opened<'_>, String> {
    let mut decoder = jpeg_decoder(bytes, jpeg_options());
    decoder.decode_headers().map_err(jpeg_error)?;
    let ((width, height), Some(stored)) = (decoder.dimensions().unwrap_or((0, 0)), decoder.input_colorspace()) else {
        return Err("JPEG: no frame header".to_owned());
    };
    let (space, channels) = match stored {
        ColorSpace::Luma => (stored, 1),
        ColorSpace::LumaA => (stored, 2),
        ColorSpace::RGBA => (stored, 4),
        _ => (ColorSpace::RGB, 3),
    };
    Ok(Opened {
        width: width as u32,
        height: height as u32,
        samples: Samples { channels, bytes: 1 },
        is_rotated: decoder.exif().is_some_and(|exif| asks_for_rotation(exif)),
        source: Source::Jpeg(bytes, space),
    })
}

fn open_png(bytes: &[u8]) -> Result<Opened<'_>, String> {
    let limits = png::Limits { bytes: MAX_METADATA_BYTES };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    let header = decoder.read_header_info().map_err(png_error)?;
    check_sides(header.width, header.height)?;
    decoder.set_transformations(Transformations::EXPAND);
    let reader = decoder.read_info().map_err(png_error)?;
    let (color, depth) = reader.output_color_type();
    let channels = match color {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err("PNG: a palette that was not expanded".to_owned()),
    };
    let info = reader.info();
    Ok(Opened {
        width: info.width,
        height: info.height,
        samples: Samples { channels, bytes: if depth == BitDepth::Sixteen { 2 } else { 1 } },
        is_rotated: info.exif_metadata.as_ref().is_some_and(|exif| asks_for_rotation(exif)),
        source: Source::Png(Box::new(reader)),
    })
}

fn open_webp(bytes: &[u8]) -> Result<Opened<'_>, String> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(webp_error)?;
    let (width, height) = decoder.dimensions();
    Ok(Opened {
        width,
        height,
        samples: Samples { channels: if decoder.has_alpha() { 4 } else { 3 }, bytes: 1 },
        is_rotated: decoder.exif_metadata().is_ok_and(|exif| exif.is_some_and(|exif| asks_for_rotation(&exif))),
        source: Source::WebP(Box::new(decoder)),
    })
}

fn jpeg_error(error: impl std::fmt::Debug) -> String {
    format!("JPEG: {error:?}")
}

fn png_error(error: png::DecodingError) -> String {
    format!("PNG: {error}")
}

fn webp_error(error: image_webp::DecodingError) -> String {
    format!("WebP: {error}")
}

/// Whether the orientation tag of EXIF data (a TIFF header and its first directory) is one of 2 to 8.
fn asks_for_rotation(exif: &[u8]) -> bool {
    orientation(exif).is_some_and(|value| (2..=8).contains(&value))
}

fn orientation(exif: &[u8]) -> Option<u16> {
    let is_little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let two = |at: usize| {
        let bytes = exif.get(at..at + 2)?.try_into().ok()?;
        Some(if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let four = |at: usize| {
        let bytes = exif.get(at..at + 4)?.try_into().ok()?;
        Some(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = four(4)? as usize;
    for entry in (0..usize::from(two(directory)?)).map(|entry| directory + 2 + 12 * entry) {
        // Tag, type (3: 16 bits), count, value.
        if (two(entry)?, two(entry + 2)?, four(entry + 4)?) == (0x112, 3, 1) {
            return two(entry + 8);
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use image::{DynamicImage, ImageFormat, ImageReader};

    use super::*;

    /// Pixels of RGBA at 16 bits that hold every level.
    fn every_kind() -> Vec<(DynamicImage, ImageFormat)> {
        let deep = DynamicImage::ImageRgba16(image::ImageBuffer::from_fn(256, 256, |x, y| {
            let level = (y * 256 + x) as u16;
            image::Rgba([level, !level, level.rotate_left(5), level.rotate_left(8)])
        }));
        let png = [
            deep.to_rgba16().into(),
            deep.to_rgb16().into(),
            deep.to_luma16().into(),
            deep.to_luma_alpha16().into(),
            deep.to_rgba8().into(),
            deep.to_rgb8().into(),
            deep.to_luma8().into(),
            deep.to_luma_alpha8().into(),
        ];
        let jpeg = [DynamicImage::from(deep.to_rgb8()), deep.to_luma8().into()];
        let webp = [DynamicImage::from(deep.to_rgb8()), deep.to_rgba8().into()];
        let of = |images: Vec<DynamicImage>, format| images.into_iter().map(move |image| (image, format));
        of(Vec::from(png), ImageFormat::Png)
            .chain(of(Vec::from(jpeg), ImageFormat::Jpeg))
            .chain(of(Vec::from(webp), ImageFormat::WebP))
            .collect()
    }

    #[test]
    fn every_kind_of_file_has_the_pixels_that_the_image_crate_reads() {
        for (image, format) in every_kind() {
            let mut file = Cursor::new(Vec::new());
            image.write_to(&mut file, format).unwrap();
            let file = file.into_inner();
            let theirs = ImageReader::with_format(Cursor::new(&file), format).decode().unwrap();
            let opened = open(Kind::of(&file).unwrap(), &file).unwrap();
            assert_eq!((opened.width, opened.height, opened.is_rotated), (256, 256, false));
            let channels = opened.samples.channels;
            let what = format!("{format:?} {:?}", image.color());
            assert_eq!(channels, usize::from(theirs.color().channel_count()), "{what}");
            let expected = match channels {
                1 => theirs.into_luma8().into_raw(),
                2 => theirs.into_luma_alpha8().into_raw(),
                3 => theirs.into_rgb8().into_raw(),
                _ => theirs.into_rgba8().into_raw(),
            };
            assert!(opened.pixels().unwrap() == expected, "{what}");
        }
    }

    #[test]
    fn the_orientation_is_read_in_both_byte_orders_and_cut_data_have_none() {
        let little = b"II*\0\x08\0\0\0\x02\0\0\x01\x03\0\x01\0\0\0\x09\0\0\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0";
        assert_eq!((orientation(little), orientation(big)), (Some(6), Some(3)));
        for len in 0..big.len() - 2 {
            assert_eq!(orientation(&big[..len]), None, "{len} bytes");
        }
        assert!(!asks_for_rotation(b"II*\0\xff\xff\xff\xff") && asks_for_rotation(big));
    }
}
