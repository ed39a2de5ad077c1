//! NumPy's `.npy`, as far as lists of uids need it.
//!
//! Input: the bytes of a file. Output: its items, one after another. Invariants: a header of 64 KiB at most; nothing is stored; an array of
//! anything else than uids is an error that says what was found. Must not know: what the uids are for.
//!
//! **Source**: NumPy's format specification; the pairs are `DataComp`'s, whose subset files hold the high and the low 64 bits of
//! each uid.

use std::borrow::Cow;

/// First bytes of a file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header, bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// Longest text of an array, bytes of an item.
const MAX_ITEM_BYTES: usize = 1 << 14;

/// One item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A uid as a number.
    Uid(u128),
    /// A name.
    Name(Cow<'a, str>),
}

/// The type of the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two u64, the high bits first.
    Pair,
    /// A whole number of eight bytes.
    Whole { is_signed: bool },
    /// Bytes of a text, filled up with zeros.
    Bytes(usize),
    /// Characters of four bytes each, filled up with zeros.
    Characters(usize),
}

/// Type, order of bytes and number of the items.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    kind: Kind,
    is_big_endian: bool,
    count: usize,
}

/// Calls `take` with every item.
///
/// **Errors**: in words: another format; an array of another type or of more dimensions; a file that ends early.
pub(super) fn items(bytes: &[u8], mut take: impl FnMut(Item<'_>) -> Result<(), String>) -> Result<(), String> {
    let (header, data) = parts(bytes)?;
    let layout = layout(header)?;
    let width = match layout.kind {
        Kind::Pair => 16,
        Kind::Whole { .. } => 8,
        Kind::Bytes(len) => len,
        Kind::Characters(len) => 4 * len,
    };
    let expected = layout.count.checked_mul(width).ok_or_else(|| format!("an array of {} items", layout.count))?;
    let data = data.get(..expected).ok_or_else(|| {
        format!("truncated: its header says {} items of {width} bytes, and {} bytes follow", layout.count, data.len())
    })?;
    for (place, item) in data.chunks_exact(width).enumerate() {
        let item = of_bytes(item, &layout).ok_or_else(|| format!("item {}: no text", place + 1))?;
        take(item).map_err(|what| format!("item {}: {what}", place + 1))?;
    }
    Ok(())
}

/// Header and data.
fn parts(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let early = || "truncated: it ends within its header".to_owned();
    let rest = bytes.strip_prefix(MAGIC).ok_or("found no NumPy array: it does not begin with `\\x93NUMPY`")?;
    let ([major, _], rest) = rest.split_first_chunk::<2>().ok_or_else(early)?;
    let (len, rest) = match major {
        1 => rest.split_first_chunk().map(|(len, rest)| (u32::from(u16::from_le_bytes(*len)), rest)),
        2 | 3 => rest.split_first_chunk().map(|(len, rest)| (u32::from_le_bytes(*len), rest)),
        _ => return Err(format!("version {major} of the format, expected 1 to 3")),
    }
    .ok_or_else(early)?;
    if len as usize > MAX_HEADER_BYTES {
        return Err(format!("a header of {len} bytes, expected at most {MAX_HEADER_BYTES}"));
    }
    let (header, data) = rest.split_at_checked(len as usize).ok_or_else(early)?;
    Ok((std::str::from_utf8(header).map_err(|_| "a header that is no text")?, data))
}

/// What a header says: `{'descr': .., 'fortran_order': .., 'shape': (N,), }` in any order; order makes no difference to one dimension.
fn layout(header: &str) -> Result<Layout, String> {
    let header: String = header.chars().filter(|c| !c.is_whitespace()).map(|c| if c == '"' { '\'' } else { c }).collect();
    let value = |key: &str| header.split_once(key).map(|(_, value)| value).ok_or_else(|| format!("a header without {key}"));
    let (shape, kind) = (value("'shape':")?, value("'descr':")?);
    let shape = shape.strip_prefix('(').and_then(|shape| shape.split_once(')')).map_or(shape, |(shape, _)| shape);
    let count = shape.strip_suffix(',').and_then(|count| count.parse().ok());
    let count = count.ok_or_else(|| format!("an array of shape ({shape}), expected one dimension, (N,)"))?;
    let (kind, is_big_endian) = kind_of(kind)?;
    Ok(Layout { kind, is_big_endian, count })
}

/// The type that begins a text.
fn kind_of(text: &str) -> Result<(Kind, bool), String> {
    let end = match text.starts_with('[') {
        true => text.find(']').map(|at| at + 1),
        false => text.get(1..).and_then(|rest| rest.find('\'')).map(|at| at + 2),
    };
    let text = end.and_then(|end| text.get(..end)).unwrap_or(text);
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        format!(
            "an array of {shown}, expected uids: pairs of u64 (`u8,u8`), texts (`S32` or `U32`) or whole numbers (`u8` or `i8`)"
        )
    };
    let fields = text.strip_prefix("[(").and_then(|fields| fields.strip_suffix(")]"));
    let code = match fields {
        Some(fields) => {
            let codes: Vec<&str> = fields.split("),(").filter_map(|field| Some(field.split_once(',')?.1)).collect();
            return match codes[..] {
                ["'<u8'", "'<u8'"] => Ok((Kind::Pair, false)),
                ["'>u8'", "'>u8'"] => Ok((Kind::Pair, true)),
                _ => Err(wrong()),
            };
        }
        None => text.strip_prefix('\'').and_then(|code| code.strip_suffix('\'')).ok_or_else(wrong)?,
    };
    let code_kind = code.strip_prefix(['<', '>', '|', '=']).unwrap_or(code);
    let length = |letter| code_kind.strip_prefix(letter).and_then(|len: &str| len.parse().ok());
    let fits = |width: usize| move |len: &usize| (1..=MAX_ITEM_BYTES / width).contains(len);
    let kind = match (length('S').filter(fits(1)), length('U').filter(fits(4))) {
        (Some(len), _) => Kind::Bytes(len),
        (_, Some(len)) => Kind::Characters(len),
        _ if code_kind == "u8" => Kind::Whole { is_signed: false },
        _ if code_kind == "i8" => Kind::Whole { is_signed: true },
        _ => return Err(wrong()),
    };
    Ok((kind, code.starts_with('>')))
}

/// An item; `None` for bytes that are no text.
fn of_bytes<'a>(bytes: &'a [u8], layout: &Layout) -> Option<Item<'a>> {
    let eight = |at: usize| {
        let word: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
        if layout.is_big_endian { u64::from_be_bytes(word) } else { u64::from_le_bytes(word) }
    };
    Some(match layout.kind {
        Kind::Pair => Item::Uid(u128::from(eight(0)) << 64 | u128::from(eight(8))),
        Kind::Whole { is_signed: false } => Item::Name(Cow::Owned(eight(0).to_string())),
        Kind::Whole { is_signed: true } => Item::Name(Cow::Owned(eight(0).cast_signed().to_string())),
        Kind::Bytes(_) => {
            let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            Item::Name(Cow::Borrowed(std::str::from_utf8(&bytes[..len]).ok()?))
        }
        Kind::Characters(_) => {
            let (words, _) = bytes.as_chunks::<4>();
            let word = |word: &[u8; 4]| if layout.is_big_endian { u32::from_be_bytes(*word) } else { u32::from_le_bytes(*word) };
            let text: Option<String> = words.iter().map(|bytes| char::from_u32(word(bytes))).collect();
            Item::Name(Cow::Owned(text?.trim_end_matches('\0').to_owned()))
        }
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let len = header.len() as u32;
        let len = if version == 1 { len.to_le_bytes()[..2].to_vec() } else { len.to_le_bytes().to_vec() };
        [MAGIC, &[version, 0], &len, header.as_bytes(), data].concat()
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        items(bytes, |item| {
            all.push(match item {
                Item::Uid(uid) => format!("{uid:032x}"),
                Item::Name(name) => name.into_owned(),
            });
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn pairs_texts_and_numbers_are_read_in_both_orders_of_bytes() {
        let pair =
            |code: &str| format!("{{'descr': [('f0', '{code}'), ('f1', '{code}')], 'fortran_order': False, 'shape': (1,), }}  \n");
        let (little, big) =
            ([1_u64.to_le_bytes(), 0xab_u64.to_le_bytes()].concat(), [1_u64.to_be_bytes(), 0xab_u64.to_be_bytes()].concat());
        let uid = "000000000000000100000000000000ab";
        assert_eq!(read(&file(1, &pair("<u8"), &little)).unwrap(), [uid]);
        assert_eq!(read(&file(2, &pair(">u8"), &big)).unwrap(), [uid]);
        let of = |code: &str, data: &[u8]| {
            read(&file(3, &format!("{{\"shape\":(2,),\"descr\":\"{code}\",'fortran_order':True}}"), data))
        };
        assert_eq!(of("|S3", b"ab\0cde").unwrap(), ["ab", "cde"]);
        assert_eq!(of("<U1", &[0xe9, 0, 0, 0, 0, 0, 0, 0]).unwrap(), ["é", ""]);
        assert_eq!(of(">U1", &[0, 0, 0, b'a', 0, 0, 0, b'b']).unwrap(), ["a", "b"]);
        assert_eq!(of("<i8", &[[255; 8], [1, 0, 0, 0, 0, 0, 0, 0]].concat()).unwrap(), ["-1", "1"]);
        assert_eq!(of(">u8", &[[255; 8], [0; 8]].concat()).unwrap(), ["18446744073709551615", "0"]);
    }

    #[test]
    fn what_is_no_list_of_uids_says_what_it_is() {
        let says = |header: &str, data: &[u8]| read(&file(1, header, data)).unwrap_err();
        let of =
            |descr: &str, shape: &str| says(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"), &[0; 32]);
        assert!(of("'<f4'", "(2,)").starts_with("an array of '<f4', expected uids: pairs of u64"));
        assert!(of("'|O'", "(2,)").starts_with("an array of '|O', expected"));
        assert!(of("[('f0', '<u8')]", "(2,)").starts_with("an array of [('f0','<u8')], expected"));
        assert!(of("'|S0'", "(2,)").contains("expected uids") && of("'<U99999999999999999999'", "(2,)").contains("expected uids"));
        assert_eq!(of("'<u8'", "(2, 2)"), "an array of shape (2,2), expected one dimension, (N,)");
        assert_eq!(of("'<u8'", "()"), "an array of shape (), expected one dimension, (N,)");
        assert_eq!(of("'<u8'", "(5,)"), "truncated: its header says 5 items of 8 bytes, and 32 bytes follow");
        assert!(of("'<u8'", "(18446744073709551615,)").contains("18446744073709551615 items"));
    }

    #[test]
    fn cut_anywhere_it_is_an_error_and_no_panic() {
        let whole = file(1, "{'descr': '|S4', 'fortran_order': False, 'shape': (2,), }", b"abcdefgh");
        assert_eq!(read(&whole).unwrap(), ["abcd", "efgh"]);
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(read(&file(4, "", &[])).unwrap_err().contains("version 4"));
        let long = [MAGIC, &[2, 0, 255, 255, 255, 255]].concat();
        assert!(read(&long).unwrap_err().contains("a header of 4294967295 bytes"));
    }
}
