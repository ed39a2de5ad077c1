//! Numbers packed into bits: run lengths and differences.
//!
//! Input: the bytes of a page and a range of them. Output: one number after another. Invariants: nothing is read behind the range;
//! nothing is stored but a place and the current run, whatever counts the bytes claim. Must not know: what the numbers mean.
//!
//! **Source**: `Encodings.md` of the format's specification: `RLE` with bit-packed runs, and `DELTA_BINARY_PACKED`.

use super::thrift::{Header, Reader};

/// Numbers of one width, as runs of one number and as packed groups of eight.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    at: usize,
    end: usize,
    /// Bits of a number, 32 at most.
    width: u32,
    /// Numbers left in the run.
    left: u64,
    /// The number of a run; of a packed one, the place of its next bit.
    run: Run,
}

#[derive(Debug, Clone)]
enum Run {
    Same(u32),
    Packed { first_byte: usize, bit: u64 },
}

impl Runs {
    /// Reads from `at` to `end`.
    pub fn new(at: usize, end: usize, width: u32) -> Header<Self> {
        if width > 32 {
            return Err("numbers of more than 32 bits");
        }
        Ok(Self { at, end, width, left: 0, run: Run::Same(0) })
    }

    /// The next number.
    pub fn next(&mut self, page: &[u8]) -> Header<u32> {
        while self.left == 0 {
            self.start(page)?;
        }
        self.left -= 1;
        match &mut self.run {
            Run::Same(value) => Ok(*value),
            Run::Packed { first_byte, bit } => {
                let value = packed(&page[*first_byte..self.end], *bit, self.width).ok_or("it ends within a run")?;
                *bit += u64::from(self.width);
                Ok(value as u32)
            }
        }
    }

    fn start(&mut self, page: &[u8]) -> Header<()> {
        let mut reader = Reader::new(&page[self.at..self.end]);
        let head = reader.varint().map_err(|_| "it ends before its last value")?;
        self.at += reader.at();
        let bytes = self.width.div_ceil(8) as usize;
        if head & 1 == 1 {
            (self.left, self.run) = ((head >> 1).saturating_mul(8), Run::Packed { first_byte: self.at, bit: 0 });
            // The last group may be cut where its values end.
            let len = (head >> 1).saturating_mul(u64::from(self.width));
            self.at = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len)).map_or(self.end, |at| at.min(self.end));
            return Ok(());
        }
        let stored = page[self.at..self.end].get(..bytes).ok_or("it ends within a run")?;
        let value = stored.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        (self.at, self.left, self.run) = (self.at + bytes, head >> 1, Run::Same(value));
        Ok(())
    }
}

/// The number of so many bits (64 at most) that starts at a bit, low bits first; `None` where it ends behind the bytes.
fn packed(bytes: &[u8], bit: u64, width: u32) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    let (first, shift) = (usize::try_from(bit / 8).ok()?, (bit % 8) as u32);
    let part = bytes.get(first..)?.get(..(shift + width).div_ceil(8) as usize)?;
    let whole = part.iter().rev().fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    Some((whole >> shift) as u64 & (u64::MAX >> (64 - width)))
}

/// Whole numbers as differences to the one before.
#[derive(Debug, Clone)]
pub(super) struct Differences {
    at: usize,
    end: usize,
    /// Numbers of a miniblock, and miniblocks of a block.
    miniblock: u64,
    miniblocks: u64,
    /// Numbers left, the next one included.
    left: u64,
    next: i64,
    least: i64,
    /// Widths of the miniblocks that are left of the block.
    widths: std::ops::Range<usize>,
    width: u32,
    /// Place of the next bit in the miniblock, its first byte, and numbers left in it.
    bit: u64,
    first_byte: usize,
    left_in_miniblock: u64,
}

impl Differences {
    /// Reads from `at` to `end`.
    pub fn new(page: &[u8], at: usize, end: usize) -> Header<Self> {
        let mut reader = Reader::new(page.get(at..end).ok_or("it ends early")?);
        let (block, miniblocks, left) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let next = reader.zigzag()?;
        let is_whole = miniblocks > 0 && block > 0 && block.is_multiple_of(miniblocks) && (block / miniblocks).is_multiple_of(8);
        if !is_whole || block > 1 << 24 {
            return Err("blocks of no size");
        }
        let (miniblock, at) = (block / miniblocks, at + reader.at());
        Ok(Self { at, miniblock, miniblocks, left, next, ..Self::none(end) })
    }

    /// No numbers at all.
    pub fn none(end: usize) -> Self {
        Self {
            at: end,
            end,
            miniblock: 8,
            miniblocks: 1,
            left: 0,
            next: 0,
            least: 0,
            widths: 0..0,
            width: 0,
            bit: 0,
            first_byte: end,
            left_in_miniblock: 0,
        }
    }

    /// Numbers that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Behind the last byte, once all numbers are read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next number.
    pub fn next(&mut self, page: &[u8]) -> Header<i64> {
        let value = self.next;
        self.left = self.left.checked_sub(1).ok_or("it ends before its last value")?;
        if self.left > 0 {
            self.advance(page)?;
        }
        Ok(value)
    }

    fn advance(&mut self, page: &[u8]) -> Header<()> {
        if self.left_in_miniblock == 0 {
            if self.widths.is_empty() {
                let mut reader = Reader::new(&page[self.at..self.end]);
                self.least = reader.zigzag()?;
                let from = self.at + reader.at();
                let to = usize::try_from(self.miniblocks).ok().and_then(|count| from.checked_add(count));
                let to = to.filter(|to| *to <= self.end).ok_or("it ends within a block")?;
                (self.widths, self.at) = (from..to, to);
            }
            self.width = u32::from(page[self.widths.start]);
            self.widths.start += 1;
            if self.width > 64 {
                return Err("differences of more than 64 bits");
            }
            let len = usize::try_from(self.miniblock / 8 * u64::from(self.width)).map_err(|_| "blocks of no size")?;
            (self.first_byte, self.bit, self.left_in_miniblock) = (self.at, 0, self.miniblock);
            // The last miniblock may be cut where its values end.
            self.at = self.at.saturating_add(len).min(self.end);
        }
        let difference = packed(&page[self.first_byte..self.end], self.bit, self.width).ok_or("it ends within a block")?;
        self.bit += u64::from(self.width);
        self.left_in_miniblock -= 1;
        self.next = self.next.wrapping_add(self.least).wrapping_add(difference.cast_signed());
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packed_groups_follow_each_other() {
        // A run of five 4s; the numbers 0 to 7 of 3 bits, as in the specification's example; a cut group.
        let bytes = [10, 4, 3, 0x88, 0xc6, 0xfa, 3, 0x88];
        let mut runs = Runs::new(0, bytes.len(), 3).unwrap();
        let all: Vec<u32> = (0..15).map(|_| runs.next(&bytes).unwrap()).collect();
        assert_eq!(all, [4, 4, 4, 4, 4, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
        assert_eq!(runs.next(&bytes), Err("it ends within a run"));
        assert!(Runs::new(0, 0, 3).unwrap().next(&[]).is_err() && Runs::new(0, 0, 33).is_err());
        let mut nothing = Runs::new(0, 1, 0).unwrap();
        assert_eq!(nothing.next(&[4]), Ok(0), "numbers of no bits are 0");
    }

    #[test]
    fn differences_are_added_up() {
        // The specification's examples: 1 to 5, of differences of no bits, and 7, 5, 3, 1, 2, 3, 4, 5 of two bits.
        for (bytes, expected) in [
            (&[128, 1, 4, 5, 2, 2, 0, 0, 0, 0][..], &[1, 2, 3, 4, 5][..]),
            (&[128, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0, 0, 0], &[7, 5, 3, 1, 2, 3, 4, 5]),
        ] {
            let mut all = Differences::new(bytes, 0, bytes.len()).unwrap();
            let found: Vec<i64> = (0..all.left()).map(|_| all.next(bytes).unwrap()).collect();
            assert_eq!((found.as_slice(), all.at()), (expected, bytes.len()));
            assert!(all.next(bytes).is_err());
        }
        for wrong in [&[128, 1, 0, 5, 2][..], &[0, 4, 5, 2], &[128, 1, 4, 5], &[3, 1, 5, 2]] {
            assert!(Differences::new(wrong, 0, wrong.len()).is_err(), "{wrong:?}");
        }
    }
}
