//! The values of a column's chunk, one row after another.
//!
//! Input: pages. Output: for each row the bytes of its value, or none. Invariants: one page and one dictionary are in memory at a
//! time; there are as many values as the chunk says, or an error. Must not know: what the values mean.

use std::ops::Range;

use super::Flaw;
use super::bits::{Differences, Runs};
use super::footer::{Chunk, Leaf};
use super::pages::{Page, PageKind, Pages};

/// Walks the values of a chunk.
pub(super) struct Values<'a> {
    pages: Pages<'a>,
    leaf: &'a Leaf,
    dictionary: Option<Dictionary<'a>>,
    page: Option<Current<'a>>,
    /// Rows of the chunk that no page so far holds.
    left: u64,
    /// The value at hand, where it lies in no page as such.
    made: Vec<u8>,
}

struct Dictionary<'a> {
    page: Page<'a>,
    values: Vec<Range<u32>>,
}

/// The page that is read.
struct Current<'a> {
    page: Page<'a>,
    /// Rows that are left of it.
    left: u64,
    /// 1 for a value, 0 for none; no levels where every row has one.
    levels: Option<Runs>,
    coder: Coder,
}

/// Where the next value is, by encoding.
enum Coder {
    Plain {
        at: usize,
    },
    Dictionary(Runs),
    Differences(Differences),
    /// Lengths, then texts end to end.
    Lengths {
        lengths: Differences,
        at: usize,
    },
    /// How much of the text before is kept, then as above what follows it.
    Prefixes {
        prefixes: Differences,
        lengths: Differences,
        at: usize,
    },
    /// The first bytes of all values, then the second ones.
    Streams {
        at: usize,
        next: usize,
    },
}

impl<'a> Values<'a> {
    /// The values of a column in a chunk of a file.
    pub fn new(file: &'a [u8], leaf: &'a Leaf, chunk: Chunk) -> Self {
        Self { pages: Pages::new(file, chunk), leaf, dictionary: None, page: None, left: chunk.values, made: Vec::new() }
    }

    /// The value of the next row; `None` for a row without.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Flaw> {
        while self.page.as_ref().is_none_or(|page| page.left == 0) {
            self.turn()?;
        }
        let current = self.page.as_mut().expect("a page was just turned to");
        current.left -= 1;
        let bytes: &[u8] = &current.page.bytes;
        if let Some(levels) = &mut current.levels
            && levels.next(bytes).map_err(of_values)? == 0
        {
            return Ok(None);
        }
        let place = match &mut current.coder {
            Coder::Plain { at } => {
                let place = plain(bytes, *at, self.leaf.width)?;
                *at = place.end;
                place
            }
            Coder::Dictionary(runs) => {
                let dictionary = self.dictionary.as_ref().ok_or_else(|| Flaw::damaged("values of a dictionary without one"))?;
                let index = runs.next(bytes).map_err(of_values)?;
                let place = dictionary.values.get(index as usize).ok_or_else(|| Flaw::damaged("a value outside its dictionary"))?;
                return Ok(Some(&dictionary.page.bytes[place.start as usize..place.end as usize]));
            }
            Coder::Differences(numbers) => {
                let number = numbers.next(bytes).map_err(of_values)?.to_le_bytes();
                self.made.clear();
                self.made.extend_from_slice(&number[..self.leaf.width.unwrap_or(8).min(8)]);
                return Ok(Some(&self.made));
            }
            Coder::Lengths { lengths, at } => text(bytes, lengths, at)?,
            Coder::Prefixes { prefixes, lengths, at } => {
                let kept = usize::try_from(prefixes.next(bytes).map_err(of_values)?).unwrap_or(usize::MAX);
                let rest = text(bytes, lengths, at)?;
                if kept > self.made.len() {
                    return Err(Flaw::damaged("a text that keeps more of the one before than there is"));
                }
                self.made.truncate(kept);
                self.made.extend_from_slice(&bytes[rest]);
                return Ok(Some(&self.made));
            }
            Coder::Streams { at, next } => {
                let width = self.leaf.width.filter(|width| *width > 0).unwrap_or(1);
                let count = (bytes.len() - *at) / width;
                if *next >= count {
                    return Err(of_values("it ends before its last value"));
                }
                self.made.clear();
                self.made.extend((0..width).map(|byte| bytes[*at + byte * count + *next]));
                *next += 1;
                return Ok(Some(&self.made));
            }
        };
        Ok(Some(&bytes[place]))
    }

    /// Goes on to the next page with values.
    fn turn(&mut self) -> Result<(), Flaw> {
        let page = self.pages.next()?.ok_or_else(|| Flaw::damaged("a column with fewer values than it says"))?;
        if page.kind == PageKind::Dictionary {
            self.dictionary = Some(dictionary(page, self.leaf.width)?);
            return Ok(());
        }
        self.left = self.left.checked_sub(page.values).ok_or_else(|| Flaw::damaged("a column with more values than it says"))?;
        self.made.clear();
        self.page = Some(self.current(page)?);
        Ok(())
    }

    fn current(&self, page: Page<'a>) -> Result<Current<'a>, Flaw> {
        let bytes: &[u8] = &page.bytes;
        let (levels, at) = match page.kind {
            PageKind::DataV2(len) => (0..len, len),
            _ if !self.leaf.is_optional => (0..0, 0),
            _ if page.level_encoding != 3 => return Err(Flaw::damaged("levels of an encoding that was given up")),
            _ => {
                let len = bytes.first_chunk().map(|len| u32::from_le_bytes(*len) as usize).unwrap_or(usize::MAX);
                (4..len.saturating_add(4), len.saturating_add(4))
            }
        };
        if at > bytes.len() {
            return Err(Flaw::damaged("levels that end behind their page"));
        }
        let levels = match self.leaf.is_optional {
            true => Some(Runs::new(levels.start, levels.end, 1).map_err(of_values)?),
            false => None,
        };
        let coder = self.coder(&page, at)?;
        Ok(Current { left: page.values, levels, coder, page })
    }

    fn coder(&self, page: &Page<'_>, at: usize) -> Result<Coder, Flaw> {
        let (bytes, end): (&[u8], usize) = (&page.bytes, page.bytes.len());
        let is_whole = self.leaf.form.is_whole();
        let lengths = |at| -> Result<(Differences, usize), Flaw> {
            let numbers = Differences::new(bytes, at, end).map_err(of_values)?;
            let mut behind = numbers.clone();
            while behind.left() > 0 {
                behind.next(bytes).map_err(of_values)?;
            }
            Ok((numbers, behind.at()))
        };
        Ok(match page.encoding {
            0 => Coder::Plain { at },
            2 | 8 => match bytes.get(at) {
                Some(&width) => Coder::Dictionary(Runs::new(at + 1, end, width.into()).map_err(of_values)?),
                // A page of nothing but missing values may hold no byte.
                None => Coder::Dictionary(Runs::new(end, end, 0).map_err(of_values)?),
            },
            5 if is_whole => Coder::Differences(match at < end {
                true => Differences::new(bytes, at, end).map_err(of_values)?,
                false => Differences::none(end),
            }),
            6 if self.leaf.width.is_none() => {
                let (lengths, at) = lengths(at)?;
                Coder::Lengths { lengths, at }
            }
            7 if !is_whole => {
                let (prefixes, at) = lengths(at)?;
                let (lengths, at) = lengths(at)?;
                Coder::Prefixes { prefixes, lengths, at }
            }
            9 if self.leaf.width.is_some() => Coder::Streams { at, next: 0 },
            other => {
                let what = format!("values of encoding {other}, which is none for them");
                return Err(Flaw::hinted(what, "write it again with the writer's own choice of encodings"));
            }
        })
    }
}

/// The place of a value that is written as it is: of fixed width, or with its length before it.
fn plain(bytes: &[u8], at: usize, width: Option<usize>) -> Result<Range<usize>, Flaw> {
    let early = || of_values("it ends before its last value");
    let (at, len) = match width {
        Some(width) => (at, width),
        None => {
            let len = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(early)?;
            (at + 4, u32::from_le_bytes(*len) as usize)
        }
    };
    at.checked_add(len).filter(|end| *end <= bytes.len()).map(|end| at..end).ok_or_else(early)
}

/// The place of the next text of a page of lengths.
fn text(bytes: &[u8], lengths: &mut Differences, at: &mut usize) -> Result<Range<usize>, Flaw> {
    let len = usize::try_from(lengths.next(bytes).map_err(of_values)?).unwrap_or(usize::MAX);
    let end = at.checked_add(len).filter(|end| *end <= bytes.len());
    let place = *at..end.ok_or_else(|| of_values("it ends before its last value"))?;
    *at = place.end;
    Ok(place)
}

fn dictionary(page: Page<'_>, width: Option<usize>) -> Result<Dictionary<'_>, Flaw> {
    if !matches!(page.encoding, 0 | 2) {
        return Err(Flaw::damaged("a dictionary of an unknown encoding"));
    }
    let (mut values, mut at) = (Vec::new(), 0);
    if width == Some(0) || page.bytes.len() > u32::MAX as usize {
        return Err(Flaw::damaged("a dictionary of no size"));
    }
    for _ in 0..page.values {
        // Each takes a byte at least, so there are no more of them than bytes.
        let place = plain(&page.bytes, at, width)?;
        at = place.end;
        values.push(place.start as u32..place.end as u32);
    }
    Ok(Dictionary { page, values })
}

fn of_values(what: &'static str) -> Flaw {
    Flaw::damaged(format!("a page of values: {what}"))
}
