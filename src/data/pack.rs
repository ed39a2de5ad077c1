//! The packed store of a dataset job: decoded images, captions, labels and numeric metadata, read in place.
//!
//! Written by [`PackWriter`](super::PackWriter), once, in sample order; opened by every run that trains or evaluates on it.
//! Output: views of a sample by index. Invariants: a file whose length does not match the header is refused on opening and
//! named; the bytes depend on the samples alone, not on threads; training never decodes.
//! Must not know: jobs, keys, tensors, where samples came from.
//!
//! | file | holds |
//! |---|---|
//! | `pack.json` | [`PackHeader`] |
//! | `images.u8` | RGB interleaved: samples x S x S x 3, or whole pictures, each filled up with zeros to a multiple of 16 pixels |
//! | `sizes.u32` | width and height a sample; only where whole pictures are packed |
//! | `captions.bin`, `captions.offsets` | UTF-8 texts end to end; captions + 1 byte offsets (u64) |
//! | `captions.first` | samples + 1 caption indices (u32): a sample owns `first[i]..first[i + 1]` |
//! | `labels.u32` | a class a sample, [`NO_LABEL`] for none; only where there are any |
//! | `names.bin`, `names.offsets` | key and uid a sample ([`names`](super::names)); only where it is made of files |
//! | `field-000.f64`, ... | a column each, NaN for missing |
//!
//! All numbers are little-endian.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mapped::Mapped;
use super::names::Names;
use super::tally::Oddities;
use super::{DataError, DataResult};
use crate::run::Framing;

/// Version of the files above; another one is refused.
pub const PACK_FORMAT: u32 = 2;

/// Label of a sample without a class.
pub const NO_LABEL: u32 = u32::MAX;

/// Largest side of packed images, pixels.
pub(super) const MAX_SIDE: usize = 1 << 14;

/// Pixels that the beginning of a whole picture is a multiple of.
pub(super) const UNIT: usize = 16;

/// What a pack keeps of each picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Side of the square (S), or of the square whose area whole pictures have at most, pixels.
    pub side: usize,
    /// Which part of a picture.
    pub framing: Framing,
}

impl Frame {
    /// Central squares of this side.
    #[must_use]
    pub const fn centre(side: usize) -> Self {
        Self { side, framing: Framing::Centre }
    }

    /// Whole pictures of at most `side` x `side` pixels.
    #[must_use]
    pub const fn whole(side: usize) -> Self {
        Self { side, framing: Framing::Whole }
    }

    /// Width and height at which a picture of this width and height is packed: whole pictures are never enlarged.
    pub(super) fn fit(self, width: usize, height: usize) -> (usize, usize) {
        let area = self.side * self.side;
        if self.framing == Framing::Centre {
            return (self.side, self.side);
        }
        if width * height <= area {
            return (width, height);
        }
        let scale = (area as f64 / (width * height) as f64).sqrt();
        // Rounded down, but for what rounding of the scale may have taken.
        let scaled = |side: usize| (side as f64 * scale + 1e-6) as usize;
        let shorter = scaled(width.min(height)).max(1);
        let longer = scaled(width.max(height)).min(area / shorter);
        if width < height { (shorter, longer) } else { (longer, shorter) }
    }
}

/// A packed picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureView<'a> {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// RGB interleaved. **Shapes**: \[height, width, 3\].
    pub pixels: &'a [u8],
}

/// What a pack was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackTask {
    /// Image-text pairs to learn from.
    Training,
    /// Labelled images with class names and templates.
    Classification,
    /// Images with several captions each.
    Retrieval,
}

/// Why a sample was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipKind {
    /// No member with an image suffix.
    NoImage,
    /// No caption, or an empty one.
    NoCaption,
    /// A caption that is no UTF-8.
    BadCaption,
    /// Metadata that is no JSON object.
    BadMetadata,
    /// An image that cannot be decoded.
    Undecodable,
    /// An image file that does not exist or cannot be read.
    Unreadable,
    /// A class that is missing or is no integer.
    BadLabel,
}

/// One sample left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Where: shard and key, or table and line.
    pub sample: String,
    /// Why.
    pub kind: SkipKind,
    /// What the reader said.
    pub detail: String,
}

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.sample, self.detail)
    }
}

/// All samples left out: every one counted, the first thousand listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skips {
    /// How many in all.
    pub total: u64,
    /// How many of each kind, in the order of [`SkipKind`].
    pub by_kind: Vec<(SkipKind, u64)>,
    /// The first [`Skips::LISTED`].
    pub listed: Vec<Skip>,
}

impl Skips {
    /// Samples listed at most.
    pub const LISTED: usize = 1000;

    /// Counts one, and lists it while there is room.
    pub fn add(&mut self, skip: Skip) {
        self.total += 1;
        match self.by_kind.binary_search_by_key(&skip.kind, |&(kind, _)| kind) {
            Ok(at) => self.by_kind[at].1 += 1,
            Err(at) => self.by_kind.insert(at, (skip.kind, 1)),
        }
        if self.listed.len() < Self::LISTED {
            self.listed.push(skip);
        }
    }
}

/// Shards that a source lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardCount {
    /// All that are listed.
    pub listed: u64,
    /// Those that do not exist.
    pub missing: u64,
}

/// `pack.json`: what the other files hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackHeader {
    /// [`PACK_FORMAT`].
    pub format: u32,
    /// What it was made for.
    pub task: PackTask,
    /// Side of the square images, or of the square whose area whole ones have at most (S), pixels.
    pub side: usize,
    /// What of a picture is packed.
    #[serde(default, skip_serializing_if = "Framing::is_centre")]
    pub framing: Framing,
    /// Samples.
    pub samples: usize,
    /// Captions of all samples.
    pub captions: usize,
    /// Whether there is a `labels.u32`.
    pub labelled: bool,
    /// Whether there are names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
    /// Names of the numeric fields, sorted; column `k` of `field-k.f64` is `fields[i].1 == k`.
    pub fields: Vec<(String, u32)>,
    /// Class names, index = label.
    pub classnames: Vec<String>,
    /// Prompt templates; `{c}` stands for the class name.
    pub templates: Vec<String>,
    /// Samples left out.
    pub skips: Skips,
    /// Shards listed and missing, where it was made of shards.
    pub shards: Option<ShardCount>,
    /// What the samples were like, besides.
    pub oddities: Oddities,
    /// Anything else a person should know: gaps in shard numbers, empty shards.
    pub warnings: Vec<String>,
}

/// Sizes and places of whole pictures.
#[derive(Debug)]
struct WholePictures {
    sizes: Mapped,
    /// Where each picture begins, in units of [`UNIT`] pixels, and where the last one ends.
    places: Vec<u64>,
}

impl WholePictures {
    /// Reads the sizes, and checks that they are those of pictures in a frame of this side.
    fn open(path: &Path, samples: usize, side: usize) -> DataResult<Self> {
        let sizes = map_sized(path, samples * 8)?;
        let (mut places, mut end) = (Vec::with_capacity(samples + 1), 0);
        places.push(0);
        for sample in 0..samples {
            let (width, height) = size_at(&sizes, sample);
            let pixels = width.saturating_mul(height);
            if pixels == 0 || pixels > side * side {
                let what = format!("a picture of {width} x {height} pixels, expected at most {} in all", side * side);
                return Err(DataError::BadPack { path: path.to_path_buf(), what });
            }
            end += pixels.div_ceil(UNIT) as u64;
            places.push(end);
        }
        Ok(Self { sizes, places })
    }
}

/// An opened pack.
#[derive(Debug)]
pub struct Pack {
    header: PackHeader,
    images: Mapped,
    whole: Option<WholePictures>,
    caption_bytes: Mapped,
    caption_offsets: Mapped,
    first_caption: Mapped,
    labels: Option<Mapped>,
    names: Option<Names>,
    fields: Vec<Mapped>,
}

impl Pack {
    /// Opens a pack and checks every file's length against the header.
    pub fn open(dir: &Path) -> DataResult<Self> {
        let header = read_header(&dir.join("pack.json"))?;
        let samples = header.samples;
        let sized = |name: &str, expected: usize| map_sized(&dir.join(name), expected);
        let whole = match header.framing {
            Framing::Centre => None,
            Framing::Whole => Some(WholePictures::open(&dir.join("sizes.u32"), samples, header.side)?),
        };
        let image_bytes = match &whole {
            None => samples * header.side * header.side * 3,
            Some(whole) => whole.places[samples] as usize * UNIT * 3,
        };
        let images = sized("images.u8", image_bytes)?;
        let caption_offsets = sized("captions.offsets", (header.captions + 1) * 8)?;
        let first_caption = sized("captions.first", (samples + 1) * 4)?;
        let caption_bytes = sized("captions.bin", u64_at(&caption_offsets, header.captions) as usize)?;
        let labels = if header.labelled { Some(sized("labels.u32", samples * 4)?) } else { None };
        let names = if header.named { Some(Names::open(dir, samples)?) } else { None };
        let fields =
            header.fields.iter().map(|(_, column)| sized(&column_file(*column), samples * 8)).collect::<DataResult<_>>()?;
        let pack = Self { header, images, whole, caption_bytes, caption_offsets, first_caption, labels, names, fields };
        pack.check_captions(dir)?;
        Ok(pack)
    }

    /// Samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.header.samples
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.samples == 0
    }

    /// Side of the images, or of the square whose area whole pictures have at most (S), pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.header.side
    }

    /// What it keeps of each picture.
    #[must_use]
    pub fn frame(&self) -> Frame {
        Frame { side: self.header.side, framing: self.header.framing }
    }

    /// What it was made for.
    #[must_use]
    pub fn task(&self) -> PackTask {
        self.header.task
    }

    /// The whole header.
    #[must_use]
    pub fn header(&self) -> &PackHeader {
        &self.header
    }

    /// Pixels of a sample. **Shapes**: \[S, S, 3\], RGB interleaved, or those of a whole picture.
    #[must_use]
    pub fn image(&self, sample: usize) -> &[u8] {
        self.picture(sample).pixels
    }

    /// The picture of a sample.
    #[must_use]
    pub fn picture(&self, sample: usize) -> PictureView<'_> {
        let (width, height) = self.size(sample);
        let from = self.place(sample) as usize * self.unit() * 3;
        PictureView { width, height, pixels: &self.images[from..][..width * height * 3] }
    }

    /// Width and height of a sample's picture, pixels.
    #[must_use]
    pub fn size(&self, sample: usize) -> (usize, usize) {
        match &self.whole {
            Some(whole) => size_at(&whole.sizes, sample),
            None => (self.header.side, self.header.side),
        }
    }

    /// Where a sample's picture begins in [`Self::images`], in units of [`Self::unit`] pixels.
    #[must_use]
    pub fn place(&self, sample: usize) -> u64 {
        match &self.whole {
            Some(whole) => whole.places[sample],
            None => sample as u64,
        }
    }

    /// Pixels that the beginnings of pictures are multiples of: S x S, or 16 for whole ones.
    #[must_use]
    pub fn unit(&self) -> usize {
        if self.whole.is_some() { UNIT } else { self.header.side * self.header.side }
    }

    /// The bytes of all samples. **Shapes**: \[N, S, S, 3\], or whole pictures at their places.
    #[must_use]
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// The captions of a sample: one in training packs, several in retrieval sets, none in plain classification sets.
    pub fn captions(&self, sample: usize) -> impl ExactSizeIterator<Item = &str> + '_ {
        self.caption_range(sample).map(|caption| self.caption_at(caption))
    }

    /// The first caption of a sample; empty where it has none.
    #[must_use]
    pub fn caption(&self, sample: usize) -> &str {
        self.captions(sample).next().unwrap_or("")
    }

    /// Captions of all samples, in sample order.
    #[must_use]
    pub fn caption_count(&self) -> usize {
        self.header.captions
    }

    /// Indices of a sample's captions among all captions.
    #[must_use]
    pub fn caption_range(&self, sample: usize) -> std::ops::Range<usize> {
        u32_at(&self.first_caption, sample) as usize..u32_at(&self.first_caption, sample + 1) as usize
    }

    /// A caption by its index among all captions.
    #[must_use]
    pub fn caption_at(&self, caption: usize) -> &str {
        let (from, to) = (u64_at(&self.caption_offsets, caption), u64_at(&self.caption_offsets, caption + 1));
        std::str::from_utf8(&self.caption_bytes[from as usize..to as usize]).expect("captions are checked on opening")
    }

    /// The class of a sample.
    #[must_use]
    pub fn label(&self, sample: usize) -> Option<u32> {
        let label = u32_at(self.labels.as_ref()?, sample);
        (label != NO_LABEL).then_some(label)
    }

    /// Whether samples carry classes.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Class names, index = label.
    #[must_use]
    pub fn classnames(&self) -> &[String] {
        &self.header.classnames
    }

    /// Prompt templates; `{c}` stands for the class name.
    #[must_use]
    pub fn templates(&self) -> &[String] {
        &self.header.templates
    }

    /// Samples left out, with reasons.
    #[must_use]
    pub fn skipped(&self) -> &Skips {
        &self.header.skips
    }

    /// Key and uid of a sample, an empty uid for none; `None` where the pack holds no names.
    #[must_use]
    pub fn name(&self, sample: usize) -> Option<(&str, &str)> {
        self.names.as_ref().map(|names| names.of(sample))
    }

    /// Names of the numeric fields, sorted.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.header.fields.iter().map(|(name, _)| name.as_str())
    }

    /// A numeric field of a sample; `None` where the field or the value is missing.
    #[must_use]
    pub fn field(&self, sample: usize, name: &str) -> Option<f64> {
        let value = f64_at(self.column(name)?, sample);
        (!value.is_nan()).then_some(value)
    }

    /// A numeric field of all samples, NaN for missing.
    ///
    /// **Errors**: a field that no sample has, with the known names.
    pub fn field_values(&self, name: &str) -> DataResult<Vec<f64>> {
        let column = self.column(name).ok_or_else(|| DataError::NoSuchField {
            field: name.to_owned(),
            known: self.field_names().map(str::to_owned).collect(),
        })?;
        Ok((0..self.len()).map(|sample| f64_at(column, sample)).collect())
    }

    fn column(&self, name: &str) -> Option<&Mapped> {
        let at = self.header.fields.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(&self.fields[at])
    }

    /// Offsets ascend and every caption is UTF-8: what the accessors rely on.
    fn check_captions(&self, dir: &Path) -> DataResult<()> {
        let bad = |file: &str, what: &str| DataError::BadPack { path: dir.join(file), what: what.to_owned() };
        let text = std::str::from_utf8(&self.caption_bytes).map_err(|e| bad("captions.bin", &e.to_string()))?;
        let mut previous = 0;
        for caption in 0..=self.header.captions {
            let offset = u64_at(&self.caption_offsets, caption) as usize;
            if offset < previous || !text.is_char_boundary(offset) {
                return Err(bad(
                    "captions.offsets",
                    &format!("offset {offset} of caption {caption} is out of order or inside a character"),
                ));
            }
            previous = offset;
        }
        let mut firsts = (0..=self.len()).map(|sample| u32_at(&self.first_caption, sample) as usize);
        if !firsts.clone().is_sorted() || firsts.next_back() != Some(self.header.captions) {
            return Err(bad("captions.first", "indices do not ascend to the number of captions"));
        }
        Ok(())
    }
}

/// Name of the file of a column.
pub(super) fn column_file(column: u32) -> String {
    format!("field-{column:03}.f64")
}

fn read_header(path: &Path) -> DataResult<PackHeader> {
    let text = std::fs::read_to_string(path).map_err(|e| DataError::io("read", path, e))?;
    let bad = |what: String| DataError::BadPack { path: path.to_path_buf(), what };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| bad(format!("not a pack header: {e}")))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format == u64::from(PACK_FORMAT) => {}
        other => return Err(bad(format!("pack format {other:?}, this program reads {PACK_FORMAT}"))),
    }
    let header: PackHeader = serde_json::from_value(value).map_err(|e| bad(format!("not a pack header: {e}")))?;
    if !header.fields.is_sorted() {
        return Err(bad("field names are not sorted".to_owned()));
    }
    // Bounds every product of sizes below, so a damaged header cannot overflow one.
    if header.samples > u32::MAX as usize || header.captions > u32::MAX as usize || !(1..=MAX_SIDE).contains(&header.side) {
        return Err(bad(format!("{} samples, {} captions, side {}: out of range", header.samples, header.captions, header.side)));
    }
    Ok(header)
}

fn map_sized(path: &Path, expected: usize) -> DataResult<Mapped> {
    let mapped = Mapped::open(path)?;
    if mapped.len() != expected {
        let what = format!("holds {} bytes, the header says {expected}", mapped.len());
        return Err(DataError::BadPack { path: PathBuf::from(path), what });
    }
    Ok(mapped)
}

/// Width and height of a picture.
fn size_at(sizes: &[u8], sample: usize) -> (usize, usize) {
    (u32_at(sizes, 2 * sample) as usize, u32_at(sizes, 2 * sample + 1) as usize)
}

fn bytes_at<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
    bytes[index * N..][..N].try_into().expect("a slice of N bytes")
}

fn u32_at(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, index))
}

fn u64_at(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, index))
}

fn f64_at(bytes: &[u8], index: usize) -> f64 {
    f64::from_le_bytes(bytes_at(bytes, index))
}
