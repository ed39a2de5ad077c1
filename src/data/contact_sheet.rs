//! A look at a pack: one PNG of many images, and their captions beside it.
//!
//! Input: a pack. Output: `path` (PNG) and the same path with `.txt`. Must not know: the terminal.

use std::fmt::Write;
use std::path::Path;

use png::{BitDepth, ColorType, Encoder};

use super::pack::{Pack, PictureView};
use super::{DataError, DataResult};

/// Pixels between images.
const GAP: usize = 4;
/// Small images are enlarged by a whole factor up to about this side.
const SHOWN_SIDE: usize = 96;
/// Colour of the gaps.
const PAPER: u8 = 128;

/// Writes samples of a pack, in this order, as a PNG in rows, and their labels, fields and captions as text, a line each.
pub fn contact_sheet(pack: &Pack, samples: &[usize], path: &Path) -> DataResult<()> {
    let count = samples.len();
    let zoom = (SHOWN_SIDE / pack.side().max(1)).max(1);
    let cell = pack.side() * zoom + GAP;
    let columns = (count as f64 * 1.5).sqrt().ceil().max(1.0) as usize;
    let rows = count.div_ceil(columns).max(1);
    let (width, height) = (columns * cell + GAP, rows * cell + GAP);
    let mut sheet = vec![PAPER; width * height * 3];
    for (at, &sample) in samples.iter().enumerate() {
        let corner = ((at / columns * cell + GAP) * width + at % columns * cell + GAP) * 3;
        place(&mut sheet[corner..], width, pack.picture(sample), pack.side() * zoom);
    }
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width as u32, height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let encoded = encoder.write_header().and_then(|mut writer| writer.write_image_data(&sheet));
    encoded.map_err(|e| DataError::io("write", path, std::io::Error::other(e)))?;
    std::fs::write(path, png).map_err(|e| DataError::io("write", path, e))?;
    let text = path.with_extension("txt");
    std::fs::write(&text, describe(pack, samples, columns)).map_err(|e| DataError::io("write", &text, e))
}

/// Copies a picture at the scale that gives its longer side `shown` pixels, each the nearest one.
fn place(sheet: &mut [u8], sheet_width: usize, picture: PictureView<'_>, shown: usize) {
    let PictureView { width, height, pixels } = picture;
    let longer = width.max(height);
    for y in 0..(height * shown / longer).max(1) {
        for x in 0..(width * shown / longer).max(1) {
            let from = ((y * longer / shown).min(height - 1) * width + (x * longer / shown).min(width - 1)) * 3;
            sheet[(y * sheet_width + x) * 3..][..3].copy_from_slice(&pixels[from..from + 3]);
        }
    }
}

/// "row,column  class  captions  field=value".
fn describe(pack: &Pack, samples: &[usize], columns: usize) -> String {
    let mut text = String::new();
    for (at, &sample) in samples.iter().enumerate() {
        let class = pack.label(sample).and_then(|label| pack.classnames().get(label as usize)).map_or("", String::as_str);
        let captions = pack.captions(sample).collect::<Vec<_>>().join(" | ");
        let field = |name| pack.field(sample, name).map(|value| format!("  {name}={value:.3}"));
        let fields: String = pack.field_names().filter_map(field).collect();
        _ = writeln!(text, "{},{}\t{class}\t{captions}\t{}", at / columns + 1, at % columns + 1, fields.trim_start());
    }
    text
}
