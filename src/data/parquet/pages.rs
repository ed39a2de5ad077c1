//! The pages of a column's chunk, decompressed one at a time.
//!
//! Input: the bytes of a chunk. Output: [`Page`]s. Invariants: a page is as long as its header says, and no longer than
//! [`MAX_PAGE_BYTES`]; memory for it grows with what is decompressed, not with what a header claims. Must not know: what values are.

use std::borrow::Cow;
use std::io::Read;

use super::Flaw;
use super::footer::Chunk;
use super::thrift::{Header, Reader, STRUCT};

/// Most bytes of one page. Writers make pages of about 1 MB; some put a whole row group into one.
const MAX_PAGE_BYTES: usize = 256 << 20;

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    /// The values that others refer to.
    Dictionary,
    /// Values, after levels with their length before them.
    Data,
    /// Values, after levels of so many bytes.
    DataV2(usize),
}

/// A page.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub kind: PageKind,
    /// Values, missing ones included.
    pub values: u64,
    /// Number of the encoding of its values.
    pub encoding: i64,
    /// Number of the encoding of its levels.
    pub level_encoding: i64,
    /// Levels and values.
    pub bytes: Cow<'a, [u8]>,
}

/// Walks the pages of a chunk.
pub(super) struct Pages<'a> {
    bytes: &'a [u8],
    codec: i64,
}

/// What a header says.
#[derive(Default)]
struct PageHeader {
    kind: i64,
    raw_bytes: u64,
    stored_bytes: u64,
    values: u64,
    encoding: i64,
    level_encoding: i64,
    level_bytes: u64,
    repetition_bytes: u64,
    is_stored_raw: bool,
}

impl<'a> Pages<'a> {
    /// The pages of a chunk of a file.
    pub fn new(file: &'a [u8], chunk: Chunk) -> Self {
        Self { bytes: &file[chunk.start..chunk.end], codec: chunk.codec }
    }

    /// The next page with values; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Page<'a>>, Flaw> {
        while !self.bytes.is_empty() {
            let mut reader = Reader::new(self.bytes);
            let header = page_header(&mut reader).map_err(|what| Flaw::damaged(format!("the header of a page: {what}")))?;
            let rest = &self.bytes[reader.at()..];
            let stored = usize::try_from(header.stored_bytes).ok().and_then(|len| rest.split_at_checked(len));
            let (stored, rest) = stored.ok_or_else(|| Flaw::damaged("a page that ends behind its column"))?;
            self.bytes = rest;
            let kind = match header.kind {
                0 => PageKind::Data,
                2 => PageKind::Dictionary,
                3 => PageKind::DataV2(usize::try_from(header.level_bytes).unwrap_or(usize::MAX)),
                _ => continue,
            };
            let bytes = self.raw(&header, kind, stored)?;
            let PageHeader { values, encoding, level_encoding, .. } = header;
            return Ok(Some(Page { kind, values, encoding, level_encoding, bytes }));
        }
        Ok(None)
    }

    /// The bytes of a page as they were before they were compressed.
    fn raw(&self, header: &PageHeader, kind: PageKind, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, Flaw> {
        let len = usize::try_from(header.raw_bytes).unwrap_or(usize::MAX);
        // Levels of the second version are never compressed.
        let levels = match kind {
            PageKind::DataV2(_) if header.repetition_bytes > 0 => return Err(Flaw::damaged("levels of lists in a column without")),
            PageKind::DataV2(levels) => levels,
            _ => 0,
        };
        if self.codec == 0 || header.is_stored_raw {
            return Ok(Cow::Borrowed(stored));
        }
        if len > MAX_PAGE_BYTES {
            let what = format!("a page of {len} bytes, expected at most {MAX_PAGE_BYTES}");
            return Err(Flaw::hinted(what, "write it again with smaller row groups or pages"));
        }
        let parts = stored.split_at_checked(levels).zip(len.checked_sub(levels));
        let ((levels, packed), len) = parts.ok_or_else(|| Flaw::damaged("levels that end behind their page"))?;
        let values = if packed.is_empty() && len == 0 { Vec::new() } else { decompressed(self.codec, packed, len)? };
        Ok(Cow::Owned(if levels.is_empty() { values } else { [levels, &values].concat() }))
    }
}

/// So many bytes, decompressed.
fn decompressed(codec: i64, packed: &[u8], len: usize) -> Result<Vec<u8>, Flaw> {
    let wrong = |why: String| Flaw::damaged(format!("a page that cannot be decompressed: {why}"));
    let whole = |decoder: &mut dyn Read| {
        let mut bytes = Vec::new();
        // One byte more tells a page that is too long.
        decoder.take(len as u64 + 1).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
        Ok(bytes)
    };
    let bytes = match codec {
        1 => {
            // Snappy makes no more than 64 bytes of 3.
            let says = snap::raw::decompress_len(packed).map_err(|e| wrong(e.to_string()))?;
            if says != len || len / 32 > packed.len() {
                return Err(wrong(format!("{} bytes are no {len} bytes by Snappy", packed.len())));
            }
            snap::raw::Decoder::new().decompress_vec(packed).map_err(|e| wrong(e.to_string()))?
        }
        2 => whole(&mut flate2::read::MultiGzDecoder::new(packed))?,
        6 => whole(&mut ruzstd::decoding::StreamingDecoder::new(packed).map_err(|e| wrong(e.to_string()))?)?,
        other => {
            let name = match other {
                3 => "LZO",
                4 => "Brotli",
                5 | 7 => "LZ4",
                _ => "an unknown codec",
            };
            let what = format!("compressed by {name}, expected Snappy, gzip, Zstandard or none");
            return Err(Flaw::hinted(what, "write it again, such as by `df.to_parquet(path, compression=\"zstd\")`"));
        }
    };
    if bytes.len() == len { Ok(bytes) } else { Err(wrong(format!("it is no page of {len} bytes"))) }
}

fn page_header(reader: &mut Reader<'_>) -> Header<PageHeader> {
    // A page of the second version is compressed unless it says otherwise.
    let (mut found, mut last) = (PageHeader::default(), 0);
    while let Some((id, kind)) = reader.field(&mut last)? {
        match id {
            1 => found.kind = reader.int(kind)?,
            2 => found.raw_bytes = reader.size(kind)?,
            3 => found.stored_bytes = reader.size(kind)?,
            5 | 7 | 8 if kind == STRUCT => inner_header(reader, id, &mut found)?,
            _ => reader.skip(kind)?,
        }
    }
    Ok(found)
}

/// The header of a data page, a dictionary or a data page of the second version (fields 5, 7 and 8).
fn inner_header(reader: &mut Reader<'_>, of: i64, found: &mut PageHeader) -> Header<()> {
    let mut last = 0;
    // Levels are run lengths in the second version, and where nothing else is stated.
    found.level_encoding = 3;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (of, id) {
            (_, 1) => found.values = reader.size(kind)?,
            (5 | 7, 2) | (8, 4) => found.encoding = reader.int(kind)?,
            (5, 3) => found.level_encoding = reader.int(kind)?,
            (8, 5) => found.level_bytes = reader.size(kind)?,
            (8, 6) => found.repetition_bytes = reader.size(kind)?,
            (8, 7) => found.is_stored_raw = !Reader::truth(kind)?,
            _ => reader.skip(kind)?,
        }
    }
    Ok(())
}
