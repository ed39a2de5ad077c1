//! Thrift's compact protocol, as far as the headers of Parquet need it.
//!
//! Input: bytes. Output: fields of structs, numbers, texts. Invariants: never a byte past the end; a list is no longer than the bytes
//! that are left; what is skipped nests to a fixed depth. Must not know: what the fields mean.

/// Structs, lists and maps within each other.
const MAX_DEPTH: usize = 32;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
/// Kind of a struct, as a list states its elements.
pub(super) const STRUCT: u8 = 12;

/// Why bytes are no header.
pub(super) type Header<T> = Result<T, &'static str>;

/// A place in bytes.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Header<u8> {
        let byte = *self.bytes.get(self.at).ok_or("it ends early")?;
        self.at += 1;
        Ok(byte)
    }

    /// A number of seven bits a byte, low bits first.
    pub fn varint(&mut self) -> Header<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits")
    }

    /// A signed number: 0, -1, 1, -2, ... are 0, 1, 2, 3, ...
    pub fn zigzag(&mut self) -> Header<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next field of a struct, its number and kind, after the field `last`, which it replaces; `None` at the end.
    pub fn field(&mut self, last: &mut i64) -> Header<Option<(i64, u8)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        let id = match byte >> 4 {
            0 => self.zigzag()?,
            step => last.checked_add(i64::from(step)).ok_or("a field of no number")?,
        };
        *last = id;
        Ok(Some((id, byte & 0xf)))
    }

    /// A whole number of any width.
    pub fn int(&mut self, kind: u8) -> Header<i64> {
        match kind {
            3 => self.byte().map(|byte| i64::from(byte.cast_signed())),
            4..=6 => self.zigzag(),
            _ => Err("a field of another kind than a number"),
        }
    }

    /// A whole number that cannot be negative.
    pub fn size(&mut self, kind: u8) -> Header<u64> {
        u64::try_from(self.int(kind)?).map_err(|_| "a negative size")
    }

    /// A truth value, which stands in the kind of its field.
    pub fn truth(kind: u8) -> Header<bool> {
        match kind {
            TRUE => Ok(true),
            FALSE => Ok(false),
            _ => Err("a field of another kind than a truth value"),
        }
    }

    /// Bytes with their length before them.
    pub fn binary(&mut self, kind: u8) -> Header<&'a [u8]> {
        if kind != BINARY {
            return Err("a field of another kind than a text");
        }
        let len = usize::try_from(self.varint()?).map_err(|_| "a text of no length")?;
        let bytes = self.bytes[self.at..].get(..len).ok_or("a text that ends early")?;
        self.at += len;
        Ok(bytes)
    }

    /// How many elements a list has, which must be of this kind.
    pub fn list(&mut self, kind: u8, of: u8) -> Header<usize> {
        if kind != LIST {
            return Err("a field of another kind than a list");
        }
        match self.list_head()? {
            (0, _) => Ok(0),
            (count, found) if found == of => Ok(count),
            _ => Err("a list of another kind"),
        }
    }

    fn list_head(&mut self) -> Header<(usize, u8)> {
        let byte = self.byte()?;
        let count = match byte >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((self.count(count)?, byte & 0xf))
    }

    /// Each element takes a byte at least.
    fn count(&self, count: u64) -> Header<usize> {
        let left = self.bytes.len() - self.at;
        usize::try_from(count).ok().filter(|count| *count <= left).ok_or("a list that ends early")
    }

    /// Passes over a struct.
    pub fn skip_struct(&mut self) -> Header<()> {
        self.skip_element(STRUCT, 0)
    }

    /// Passes over the value of a field.
    pub fn skip(&mut self, kind: u8) -> Header<()> {
        if matches!(kind, TRUE | FALSE) { Ok(()) } else { self.skip_element(kind, 0) }
    }

    fn skip_element(&mut self, kind: u8, depth: usize) -> Header<()> {
        if depth > MAX_DEPTH {
            return Err("too many structs within each other");
        }
        match kind {
            TRUE | FALSE | 3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            DOUBLE => (0..8).try_for_each(|_| self.byte().map(drop)),
            BINARY => self.binary(kind).map(drop),
            LIST | SET => {
                let (count, kind) = self.list_head()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth + 1))
            }
            MAP => {
                let count = self.varint()?;
                let count = self.count(count)?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth + 1)?;
                    self.skip_element(kinds & 0xf, depth + 1)
                })
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    if !matches!(kind, TRUE | FALSE) {
                        self.skip_element(kind, depth + 1)?;
                    }
                }
                Ok(())
            }
            _ => Err("a field of unknown kind"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_written_and_no_further_than_the_bytes_go() {
        let of = |bytes: &[u8]| Reader::new(bytes).zigzag();
        assert_eq!([&[0][..], &[1], &[2], &[0xac, 2]].map(|bytes| of(bytes).unwrap()), [0, -1, 1, 150]);
        assert_eq!(of(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).unwrap(), i64::MIN);
        assert!(of(&[0x80]).is_err() && of(&[0xff; 11]).is_err());
    }

    #[test]
    fn structs_are_passed_over_and_what_lies_about_its_size_is_refused() {
        // Fields 1 (i32 150), 2 (true), 4 (text "ab"), 5 (list of two i32), 6 (map of a byte to a byte), 7 (a struct), end.
        let bytes = [0x15, 0xac, 2, 0x11, 0x28, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x1b, 1, 0x33, 7, 8, 0x1c, 0x15, 2, 0, 0, 9];
        let mut reader = Reader::new(&bytes);
        reader.skip_struct().unwrap();
        assert_eq!(reader.at(), bytes.len() - 1);
        let (mut reader, mut last) = (Reader::new(&bytes), 0);
        assert_eq!(reader.field(&mut last).unwrap(), Some((1, 5)));
        assert_eq!(reader.int(5).unwrap(), 150);
        assert_eq!(reader.field(&mut last).unwrap(), Some((2, 1)));
        assert_eq!(reader.field(&mut last).unwrap(), Some((4, 8)));
        assert_eq!(reader.binary(8).unwrap(), b"ab");
        for cut in 0..bytes.len() - 1 {
            assert!(Reader::new(&bytes[..cut]).skip_struct().is_err(), "{cut}");
        }
        assert!(Reader::new(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0xf]).skip_struct().is_err(), "a list of 2^32 numbers");
        assert!(Reader::new(&[0x1c; 100]).skip_struct().is_err(), "structs without end");
    }
}
