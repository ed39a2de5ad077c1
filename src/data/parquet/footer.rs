//! The footer of a Parquet file: its columns, and where their chunks lie.
//!
//! Input: the bytes of a file. Output: [`Footer`], and for each row group the [`Chunk`]s of the columns that are asked for. Invariants:
//! a chunk lies within the file; of a column without as many values as its group has rows nothing is read; only what was asked
//! for is kept, however many columns and groups there are. Must not know: pages, encodings.
//!
//! **Source**: `parquet.thrift` of the format's specification, whose field numbers these are.

use super::Flaw;
use super::form::Form;
use super::thrift::{Header, Reader, STRUCT};

/// First and last bytes of a file.
pub(in crate::data) const MAGIC: &[u8; 4] = b"PAR1";
/// The same of a file whose footer is encrypted.
const ENCRYPTED: &[u8; 4] = b"PARE";

/// A column of one value a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Its place among the chunks of a row group.
    pub place: usize,
    /// What it holds.
    pub form: Form,
    /// Bytes of a value; `None` where each has its own length.
    pub width: Option<usize>,
    /// Whether a row may be without a value.
    pub is_optional: bool,
}

/// A column by its name; `None` where it holds lists or records.
type Column = (String, Option<Leaf>);

/// What a file says of itself.
pub(super) struct Footer<'a> {
    /// Its outermost columns.
    pub columns: Vec<Column>,
    /// At the first row group.
    groups: Reader<'a>,
    num_groups: usize,
    /// Bytes before the footer.
    data_bytes: usize,
}

/// The values of a column in a row group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    /// Number of its codec.
    pub codec: i64,
    /// Values, missing ones included.
    pub values: u64,
    /// First byte of its pages.
    pub start: usize,
    /// Behind their last byte.
    pub end: usize,
}

/// One element of the flattened tree of columns.
#[derive(Default)]
struct Element {
    physical: Option<i64>,
    width: u64,
    repetition: i64,
    name: String,
    children: u64,
    converted: Option<i64>,
    logical: Option<(i64, bool)>,
}

impl<'a> Footer<'a> {
    /// Reads the footer, not yet its row groups.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Flaw> {
        if bytes.starts_with(ENCRYPTED) || bytes.ends_with(ENCRYPTED) {
            return Err(Flaw::hinted("its footer is encrypted", "write it again without encryption"));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(Flaw::hinted(
                "found no Parquet file: it does not begin with `PAR1`",
                "give it the suffix of what it holds",
            ));
        }
        let cut =
            || Flaw::hinted("a truncated Parquet file: its end holds no footer", "fetch or copy it again: the end is missing");
        let rest = bytes.strip_suffix(MAGIC).ok_or_else(cut)?;
        let (rest, len) = rest.split_last_chunk::<4>().ok_or_else(cut)?;
        let len = u32::from_le_bytes(*len) as usize;
        let data_bytes = rest.len().checked_sub(len).filter(|at| *at >= MAGIC.len()).ok_or_else(cut)?;
        Self::parse(&rest[data_bytes..], data_bytes).map_err(Flaw::footer)
    }

    fn parse(footer: &'a [u8], data_bytes: usize) -> Header<Self> {
        let (mut reader, mut last) = (Reader::new(footer), 0);
        let (mut columns, mut groups) = (None, None);
        while let Some((id, kind)) = reader.field(&mut last)? {
            match id {
                2 => {
                    let count = reader.list(kind, STRUCT)?;
                    columns = Some(columns_of(&mut reader, count)?);
                }
                4 => {
                    let num_groups = reader.list(kind, STRUCT)?;
                    groups = Some((reader.clone(), num_groups));
                    (0..num_groups).try_for_each(|_| reader.skip_struct())?;
                }
                _ => reader.skip(kind)?,
            }
        }
        let (columns, (groups, num_groups)) = (columns.ok_or("no columns")?, groups.ok_or("no list of row groups")?);
        Ok(Self { columns, groups, num_groups, data_bytes })
    }

    /// The rows of each row group, and the chunks of two columns there.
    pub fn groups(&self, wanted: [&Leaf; 2]) -> impl Iterator<Item = Result<(u64, [Chunk; 2]), Flaw>> {
        let mut reader = self.groups.clone();
        (0..self.num_groups).map(move |_| self.group(&mut reader, wanted))
    }

    fn group(&self, reader: &mut Reader<'_>, wanted: [&Leaf; 2]) -> Result<(u64, [Chunk; 2]), Flaw> {
        let mut chunks = [None; 2];
        let (mut rows, mut last) = (None, 0);
        while let Some((id, kind)) = reader.field(&mut last).map_err(Flaw::footer)? {
            match id {
                1 => {
                    for place in 0..reader.list(kind, STRUCT).map_err(Flaw::footer)? {
                        match wanted.map(|leaf| leaf.place == place) {
                            [false, false] => reader.skip_struct().map_err(Flaw::footer)?,
                            is_wanted => {
                                let chunk = self.chunk(reader).map_err(|flaw| self.of_column(place, flaw))?;
                                chunks.iter_mut().zip(is_wanted).filter(|(_, is)| *is).for_each(|(to, _)| *to = Some(chunk));
                            }
                        }
                    }
                }
                3 => rows = Some(reader.size(kind).map_err(Flaw::footer)?),
                _ => reader.skip(kind).map_err(Flaw::footer)?,
            }
        }
        let rows = rows.ok_or_else(|| Flaw::footer("a row group without its number of rows"))?;
        match chunks {
            [Some(one), Some(other)] if [one, other].iter().all(|chunk| chunk.values == rows) => Ok((rows, [one, other])),
            _ => Err(Flaw::footer("a row group without one value a row in each column")),
        }
    }

    /// A flaw with the name of the column in this place.
    fn of_column(&self, place: usize, flaw: Flaw) -> Flaw {
        let is_there = |column: &&Column| column.1.as_ref().is_some_and(|leaf| leaf.place == place);
        let name = self.columns.iter().find(is_there).map_or("", |(name, _)| name);
        Flaw { what: format!("column `{name}`: {}", flaw.what), ..flaw }
    }

    fn chunk(&self, reader: &mut Reader<'_>) -> Result<Chunk, Flaw> {
        let (mut found, mut is_elsewhere, mut is_encrypted, mut last) = (None, false, false, 0);
        while let Some((id, kind)) = reader.field(&mut last).map_err(Flaw::footer)? {
            match id {
                3 if kind == STRUCT => found = Some(self.chunk_data(reader).map_err(Flaw::footer)?),
                other => {
                    is_elsewhere |= other == 1;
                    is_encrypted |= matches!(other, 8 | 9);
                    reader.skip(kind).map_err(Flaw::footer)?;
                }
            }
        }
        match found {
            _ if is_encrypted => Err(Flaw::hinted("it is encrypted", "write it again without encryption")),
            _ if is_elsewhere => Err(Flaw::hinted("it lies in another file", "write the table as whole files")),
            Some(chunk) => Ok(chunk),
            None => Err(Flaw::footer("a column of a row group without its place")),
        }
    }

    fn chunk_data(&self, reader: &mut Reader<'_>) -> Header<Chunk> {
        let (mut codec, mut values, mut bytes, mut pages, mut dictionary, mut last) = (0, 0, 0, None, None, 0);
        while let Some((id, kind)) = reader.field(&mut last)? {
            match id {
                4 => codec = reader.int(kind)?,
                5 => values = reader.size(kind)?,
                7 => bytes = reader.size(kind)?,
                9 => pages = Some(reader.size(kind)?),
                11 => dictionary = Some(reader.size(kind)?),
                _ => reader.skip(kind)?,
            }
        }
        let pages = pages.ok_or("a column of a row group without its place")?;
        // Some writers state a dictionary at 0 where there is none.
        let start = dictionary.filter(|at| (1..pages).contains(at)).unwrap_or(pages);
        let end = start.checked_add(bytes).filter(|end| *end <= self.data_bytes as u64).ok_or("a column outside the file")?;
        Ok(Chunk { codec, values, start: start as usize, end: end as usize })
    }
}

/// The outermost columns of a schema, which lists a tree of elements, parents before their children.
fn columns_of(reader: &mut Reader<'_>, count: usize) -> Header<Vec<Column>> {
    let mut left = count.checked_sub(1).ok_or("no columns")?;
    let mut below = element(reader)?.children;
    let (mut columns, mut place) = (Vec::new(), 0);
    let mut next = |reader: &mut Reader<'_>| -> Header<Element> {
        left = left.checked_sub(1).ok_or("fewer columns than it says")?;
        element(reader)
    };
    while below > 0 {
        below -= 1;
        let outer = next(reader)?;
        if outer.physical.is_some() && outer.children == 0 {
            // Field 3 of the schema: 0 required, 1 optional, 2 repeated.
            let leaf = (outer.repetition < 2).then(|| leaf(&outer, place));
            columns.push((outer.name, leaf));
            place += 1;
            continue;
        }
        let mut inside = outer.children;
        while inside > 0 {
            let inner = next(reader)?;
            inside = (inside - 1).checked_add(inner.children).ok_or("fewer columns than it says")?;
            place += usize::from(inner.physical.is_some() && inner.children == 0);
        }
        columns.push((outer.name, None));
    }
    (0..left).try_for_each(|_| reader.skip_struct())?;
    Ok(columns)
}

fn element(reader: &mut Reader<'_>) -> Header<Element> {
    let (mut found, mut last) = (Element::default(), 0);
    while let Some((id, kind)) = reader.field(&mut last)? {
        match id {
            1 => found.physical = Some(reader.int(kind)?),
            2 => found.width = reader.size(kind)?,
            3 => found.repetition = reader.int(kind)?,
            4 => found.name = String::from_utf8_lossy(reader.binary(kind)?).into_owned(),
            5 => found.children = reader.size(kind)?,
            6 => found.converted = Some(reader.int(kind)?),
            10 if kind == STRUCT => found.logical = logical(reader)?,
            _ => reader.skip(kind)?,
        }
    }
    Ok(found)
}

/// The number of a logical type, and whether it is one of signed integers.
fn logical(reader: &mut Reader<'_>) -> Header<Option<(i64, bool)>> {
    let (mut found, mut last) = (None, 0);
    while let Some((id, kind)) = reader.field(&mut last)? {
        let mut is_signed = true;
        match id {
            10 if kind == STRUCT => {
                let mut last = 0;
                while let Some((id, kind)) = reader.field(&mut last)? {
                    match id {
                        2 => is_signed = Reader::truth(kind)?,
                        _ => reader.skip(kind)?,
                    }
                }
            }
            _ => reader.skip(kind)?,
        }
        found = Some((id, is_signed));
    }
    Ok(found)
}

/// What a column of this type holds.
fn leaf(element: &Element, place: usize) -> Leaf {
    let whole = || match (element.logical, element.converted) {
        (Some((10, false)), _) | (None, Some(11..=14)) => Form::Unsigned,
        (Some((10, true)), _) | (None, None | Some(15..=18)) => Form::Signed,
        (Some((5, _)), _) | (None, Some(5)) => Form::Other("decimal numbers"),
        _ => Form::Other("dates or times"),
    };
    let fixed = usize::try_from(element.width).unwrap_or(usize::MAX);
    let is_decimal = matches!(element.logical, Some((5, _))) || element.converted == Some(5);
    let (form, width) = match element.physical {
        Some(0) => (Form::Other("truth values"), Some(1)),
        Some(1) => (whole(), Some(4)),
        Some(2) => (whole(), Some(8)),
        Some(4) => (Form::Single, Some(4)),
        Some(5) => (Form::Double, Some(8)),
        Some(6 | 7) if is_decimal => (Form::Other("decimal numbers"), Some(fixed)),
        Some(6) => (Form::Text, None),
        Some(7) if matches!(element.logical, Some((15, _))) && fixed == 2 => (Form::Half, Some(2)),
        Some(7) => (Form::Text, Some(fixed)),
        _ => (Form::Other("values of an unknown type"), Some(fixed)),
    };
    Leaf { place, form, width, is_optional: element.repetition == 1 }
}
