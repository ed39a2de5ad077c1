//! Changes to inputs: bytes, numbers, words of a format, lines and parts taken out, doubled or put elsewhere.

use scaledown::data::philox4x32;

use super::rooms::Input;

/// Numbers at which readers fail.
const NUMBERS: [&str; 17] = [
    "0",
    "-1",
    "1",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e999",
    "-0.0",
    "NaN",
    "Infinity",
];

/// Makes inputs from a seed.
pub struct Mutator {
    key: [u32; 2],
    counter: u64,
    words: &'static [&'static str],
}

impl Mutator {
    /// A sequence of its own for every seed and room.
    pub fn new(seed: u64, room: &str, words: &'static [&'static str]) -> Self {
        let room = room.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        Self { key: [seed as u32 ^ room, (seed >> 32) as u32], counter: 0, words }
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.counter += 1;
        let [a, b, ..] = philox4x32([self.counter as u32, (self.counter >> 32) as u32, 0, 0], self.key);
        ((u64::from(a) | u64::from(b) << 32) % n.max(1) as u64) as usize
    }

    /// The seed with one to six changes in one of its files, seldom in two.
    pub fn mutate(&mut self, seed: &Input) -> Input {
        let mut input = seed.clone();
        for _ in 0..1 + usize::from(self.below(8) == 0) {
            let file = self.below(input.len());
            for _ in 0..1 + self.below(6) {
                self.change(&mut input[file].1);
            }
            // Headers with a wrong checksum are refused at once; what lies behind them is to be reached, too.
            if input[file].0.ends_with(".tar") && self.below(4) > 0 {
                mend_checksums(&mut input[file].1);
            }
        }
        input
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let at = self.below(len + 1);
        match self.below(12) {
            0 if len > 0 => bytes[at % len] ^= 1 << self.below(8),
            1 if len > 0 => bytes[at % len] = self.below(256) as u8,
            2 => bytes.truncate(at),
            3 => self.drop_part(bytes, at),
            4 => self.double_part(bytes, at),
            5 => {
                let word = NUMBERS[self.below(NUMBERS.len())];
                self.put_number(bytes, at, word.as_bytes());
            }
            6 | 7 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                bytes.splice(at..at, word.bytes());
            }
            8 => self.line(bytes),
            9 => {
                let odd = ["\u{feff}", "\0", "\r", "\"", "é", "\u{202e}", "\u{1f600}", "\t", "\n\n", "../", "%s", "\\"];
                let word = odd[self.below(odd.len())];
                bytes.splice(at..at, word.bytes());
            }
            10 => {
                let byte = bytes.get(at).copied().unwrap_or(b' ');
                let times = 1 << self.below(11);
                bytes.splice(at..at, std::iter::repeat_n(byte, times));
            }
            _ => bytes.insert(at, self.below(256) as u8),
        }
    }

    fn part(&mut self, len: usize, at: usize) -> std::ops::Range<usize> {
        let at = at.min(len);
        let most = (len - at).min(1 << self.below(12));
        at..at + self.below(most + 1)
    }

    fn drop_part(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let part = self.part(bytes.len(), at);
        bytes.drain(part);
    }

    fn double_part(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let part = self.part(bytes.len(), at);
        let copy = bytes[part].to_vec();
        let to = self.below(bytes.len() + 1);
        bytes.splice(to..to, copy);
    }

    /// Replaces the run of digits at or after a place.
    fn put_number(&mut self, bytes: &mut Vec<u8>, at: usize, number: &[u8]) {
        let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else { return };
        let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |i| start + i);
        bytes.splice(start..end, number.iter().copied());
    }

    /// Takes a line out, doubles it, or puts it at another place.
    fn line(&mut self, bytes: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        let (from, to) = (self.below(lines.len()), self.below(lines.len()));
        match self.below(3) {
            0 => drop(lines.remove(from)),
            1 => lines.insert(to, lines[from].clone()),
            _ => lines.swap(from, to),
        }
        *bytes = lines.join(&b'\n');
    }
}

/// Writes right checksums into what looks like a tar header.
fn mend_checksums(bytes: &mut [u8]) {
    for header in bytes.as_chunks_mut::<512>().0 {
        if &header[257..262] == b"ustar" {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}
