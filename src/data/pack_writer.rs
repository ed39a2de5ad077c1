//! Writing a pack: samples in order in, files out.
//!
//! Input: decoded samples and skips, in the order of the source. Output: the files of [`Pack`](super::Pack), synced to disk.
//! Invariants: nothing of a sample is kept in memory but its caption offset; the header is written last, so a folder without
//! one is no pack. Must not know: decoding, threads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::names::{self, SampleName};
use super::pack::{Frame, MAX_SIDE, NO_LABEL, PACK_FORMAT, PackHeader, PackTask, ShardCount, Skip, Skips, UNIT, column_file};
use super::tally::Oddities;
use super::{DataError, DataResult};

/// Numeric fields kept at most; metadata with more is not a table.
const MAX_FIELDS: usize = 256;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// RGB interleaved, rows without gaps.
    pub pixels: Vec<u8>,
}

/// One decoded sample.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedSample {
    /// Its picture, as the pack's frame takes it.
    pub image: Picture,
    /// Captions, in order.
    pub captions: Vec<String>,
    /// Class, where there is one.
    pub label: Option<u32>,
    /// Numeric metadata by name.
    pub fields: BTreeMap<String, f64>,
    /// What it is called, where it comes from a file.
    pub name: Option<SampleName>,
}

/// What packing came to.
#[derive(Debug, Clone, PartialEq)]
pub struct PackSummary {
    /// Samples packed: the achieved size.
    pub samples: usize,
    /// Samples left out.
    pub skips: Skips,
    /// Shards listed and missing, where it was made of shards.
    pub shards: Option<ShardCount>,
    /// What the samples were like, besides.
    pub oddities: Oddities,
    /// Anything else a person should know.
    pub warnings: Vec<String>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Writes a pack sample by sample.
#[derive(Debug)]
pub struct PackWriter {
    dir: PathBuf,
    header: PackHeader,
    images: Column,
    sizes: Option<Column>,
    caption_bytes: Column,
    caption_offsets: Column,
    first_caption: Column,
    labels: Column,
    /// Texts and offsets of names, from the first sample that has one on.
    names: Option<(Column, Column)>,
    fields: BTreeMap<String, (u32, Column)>,
    /// Fields beyond [`MAX_FIELDS`].
    has_dropped_fields: bool,
}

impl PackWriter {
    /// Starts a pack in a folder, which is made where it does not exist.
    ///
    /// **Errors**: a side that no image has.
    pub fn create(dir: &Path, task: PackTask, frame: Frame) -> DataResult<Self> {
        let Frame { side, framing } = frame;
        if !(1..=MAX_SIDE).contains(&side) {
            return Err(DataError::Unsupported { what: format!("images of side {side}, expected 1 to {MAX_SIDE} pixels") });
        }
        std::fs::create_dir_all(dir).map_err(|e| DataError::io("create", dir, e))?;
        let header = PackHeader {
            format: PACK_FORMAT,
            task,
            side,
            framing,
            samples: 0,
            captions: 0,
            labelled: false,
            named: false,
            fields: Vec::new(),
            classnames: Vec::new(),
            templates: Vec::new(),
            skips: Skips::default(),
            shards: None,
            oddities: Oddities::default(),
            warnings: Vec::new(),
        };
        let mut writer = Self {
            images: Column::create(dir.join("images.u8"))?,
            sizes: if framing.is_centre() { None } else { Some(Column::create(dir.join("sizes.u32"))?) },
            caption_bytes: Column::create(dir.join("captions.bin"))?,
            caption_offsets: Column::create(dir.join("captions.offsets"))?,
            first_caption: Column::create(dir.join("captions.first"))?,
            labels: Column::create(dir.join("labels.u32"))?,
            names: None,
            fields: BTreeMap::new(),
            has_dropped_fields: false,
            dir: dir.to_path_buf(),
            header,
        };
        writer.caption_offsets.write(&0u64.to_le_bytes())?;
        writer.first_caption.write(&0u32.to_le_bytes())?;
        Ok(writer)
    }

    /// States class names and templates.
    pub fn classes(&mut self, classnames: Vec<String>, templates: Vec<String>) {
        self.header.classnames = classnames;
        self.header.templates = templates;
    }

    /// Adds the next sample.
    pub fn push(&mut self, sample: &PackedSample) -> DataResult<()> {
        let PackedSample { image, captions, label, fields, name } = sample;
        self.push_picture(image)?;
        for caption in captions {
            self.caption_bytes.write(caption.as_bytes())?;
            self.caption_offsets.write(&self.caption_bytes.written.to_le_bytes())?;
        }
        self.header.captions += captions.len();
        self.first_caption.write(&(self.header.captions as u32).to_le_bytes())?;
        self.labels.write(&label.unwrap_or(NO_LABEL).to_le_bytes())?;
        self.header.labelled |= label.is_some();
        self.push_fields(fields)?;
        if let Some(name) = name {
            self.push_name(name)?;
        }
        self.header.samples += 1;
        Ok(())
    }

    /// Notes a sample left out.
    pub fn skip(&mut self, skip: Skip) {
        self.header.skips.add(skip);
    }

    /// Notes something that a person should know.
    pub fn warn(&mut self, warning: String) {
        self.header.warnings.push(warning);
    }

    /// States how many shards were listed, and how many of them are missing.
    pub fn shards(&mut self, count: ShardCount) {
        self.header.shards = Some(count);
    }

    /// Counts what samples or members were like.
    pub fn oddities(&mut self, found: &Oddities) {
        self.header.oddities.add(found);
    }

    /// Samples so far.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.header.samples
    }

    /// Closes every file, syncs it, and writes the header last.
    ///
    /// **Errors**: a pack without samples, with the first reason.
    pub fn finish(mut self) -> DataResult<PackSummary> {
        if self.header.samples == 0 {
            let first = self.header.skips.listed.first();
            let first_reason = first.map_or("the source is empty".to_owned(), |skip| format!("{}: {}", skip.sample, skip.detail));
            return Err(DataError::NoSamples { seen: self.header.skips.total, first_reason });
        }
        if self.has_dropped_fields {
            self.warn(format!("metadata has more than {MAX_FIELDS} numeric fields; those that appear later were left out"));
        }
        let mut bytes = 0;
        for (name, (index, mut column)) in self.fields {
            column.pad_nan(self.header.samples)?;
            bytes += column.finish()?;
            self.header.fields.push((name, index));
        }
        for column in [self.images, self.caption_bytes, self.caption_offsets, self.first_caption].into_iter().chain(self.sizes) {
            bytes += column.finish()?;
        }
        if let Some((texts, offsets)) = self.names {
            self.header.named = true;
            bytes += texts.finish()? + offsets.finish()?;
        }
        let labels_path = self.labels.path.clone();
        let label_bytes = self.labels.finish()?;
        if self.header.labelled {
            bytes += label_bytes;
        } else {
            std::fs::remove_file(&labels_path).map_err(|e| DataError::io("remove", &labels_path, e))?;
        }
        let mut header = Column::create(self.dir.join("pack.json"))?;
        let mut text = serde_json::to_vec_pretty(&self.header).expect("a header of plain values serialises");
        text.push(b'\n');
        header.write(&text)?;
        bytes += header.finish()?;
        let PackHeader { samples, skips, shards, oddities, warnings, .. } = self.header;
        Ok(PackSummary { samples, skips, shards, oddities, warnings, bytes })
    }

    fn push_picture(&mut self, picture: &Picture) -> DataResult<()> {
        let Picture { width, pixels } = picture;
        let most = self.header.side * self.header.side * 3;
        assert!(pixels.len() <= most && pixels.len().is_multiple_of(width * 3), "a picture that fits the pack's frame");
        self.images.write(pixels)?;
        match &mut self.sizes {
            None => assert!(pixels.len() == most && *width == self.header.side, "an image of the pack's side"),
            Some(sizes) => {
                let unit = 3 * UNIT;
                self.images.write(&[0; 3 * UNIT][..pixels.len().next_multiple_of(unit) - pixels.len()])?;
                for pixels in [*width, pixels.len() / (width * 3)] {
                    sizes.write(&u32::try_from(pixels).expect("a side of a picture that fits").to_le_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// Writes a name; samples before the first name have empty ones.
    fn push_name(&mut self, name: &SampleName) -> DataResult<()> {
        if self.names.is_none() {
            let mut columns = (Column::create(self.dir.join(names::TEXTS))?, Column::create(self.dir.join(names::OFFSETS))?);
            columns.1.write(&0u64.to_le_bytes())?;
            self.names = Some(columns);
        }
        let (texts, offsets) = self.names.as_mut().expect("made above");
        while offsets.written < (2 * self.header.samples as u64 + 1) * 8 {
            offsets.write(&texts.written.to_le_bytes())?;
        }
        for text in [&name.key, &name.uid] {
            texts.write(text.as_bytes())?;
            offsets.write(&texts.written.to_le_bytes())?;
        }
        Ok(())
    }

    fn push_fields(&mut self, fields: &BTreeMap<String, f64>) -> DataResult<()> {
        for (name, value) in fields {
            if !self.fields.contains_key(name) {
                if self.fields.len() == MAX_FIELDS {
                    self.has_dropped_fields = true;
                    continue;
                }
                let index = self.fields.len() as u32;
                let column = Column::create(self.dir.join(column_file(index)))?;
                self.fields.insert(name.clone(), (index, column));
            }
            let (_, column) = self.fields.get_mut(name).expect("inserted above");
            column.pad_nan(self.header.samples)?;
            column.write(&value.to_le_bytes())?;
        }
        Ok(())
    }
}

/// A file being written.
#[derive(Debug)]
struct Column {
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
}

impl Column {
    fn create(path: PathBuf) -> DataResult<Self> {
        let file = File::create(&path).map_err(|e| DataError::io("create", &path, e))?;
        Ok(Self { path, file: BufWriter::with_capacity(1 << 16, file), written: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> DataResult<()> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| DataError::io("write", &self.path, e))
    }

    /// Fills an f64 column with NaN up to a row: the field was missing before.
    fn pad_nan(&mut self, rows: usize) -> DataResult<()> {
        while self.written < rows as u64 * 8 {
            self.write(&f64::NAN.to_le_bytes())?;
        }
        Ok(())
    }

    fn finish(self) -> DataResult<u64> {
        let Self { path, file, written } = self;
        let file = file.into_inner().map_err(|e| DataError::io("write", &path, e.into_error()))?;
        file.sync_all().map_err(|e| DataError::io("write", &path, e))?;
        Ok(written)
    }
}
