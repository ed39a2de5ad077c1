//! Pictures of a pool that also stand in an evaluation set, by perceptual hash.
//!
//! The hash is the difference hash (dHash): the grey central square of a picture, averaged to 8 rows of 9 cells; a bit says whether a
//! cell is darker than the one to its right. It survives resizing, re-encoding and changes of brightness, not crops and mirroring.

use rayon::prelude::*;

use super::super::pack::{Pack, PictureView};

/// Cells of a row; one more than bits.
const COLUMNS: usize = 9;
/// Rows of cells.
const ROWS: usize = 8;
/// A hash with fewer bits set, or fewer left clear, is that of a flat picture or of one ramp and says too little.
pub const MIN_BITS: u32 = 4;

/// The difference hash of a picture's central square: bit `8 y + x` is set where cell (x, y) is darker than cell (x + 1, y).
#[must_use]
pub fn difference_hash(picture: PictureView<'_>) -> u64 {
    let PictureView { width, height, pixels } = picture;
    let side = width.min(height);
    let (left, top) = ((width - side) / 2, (height - side) / 2);
    let grey = |x: usize, y: usize| {
        let at = ((top + y) * width + left + x) * 3;
        f64::from(299 * u32::from(pixels[at]) + 587 * u32::from(pixels[at + 1]) + 114 * u32::from(pixels[at + 2]))
    };
    let (across, down) = (shares(side, COLUMNS), shares(side, ROWS));
    let mut cells = [[0.0f64; COLUMNS]; ROWS];
    for (row, ys) in cells.iter_mut().zip(&down) {
        for (cell, xs) in row.iter_mut().zip(&across) {
            *cell = ys.iter().map(|(y, of_y)| of_y * xs.iter().map(|(x, of_x)| of_x * grey(*x, *y)).sum::<f64>()).sum();
        }
    }
    let mut hash = 0;
    for (y, row) in cells.iter().enumerate() {
        for x in 0..COLUMNS - 1 {
            // A difference below that of one grey level over the cell is rounding.
            hash |= u64::from(row[x] + 1e-6 < row[x + 1]) << (8 * y + x);
        }
    }
    hash
}

/// Of each of `cells` equal parts of `side` pixels, the pixels in it and how much of the part each covers.
fn shares(side: usize, cells: usize) -> Vec<Vec<(usize, f64)>> {
    let length = side as f64 / cells as f64;
    let of = |cell: usize| {
        let (from, to) = (cell as f64 * length, (cell + 1) as f64 * length);
        let pixels = from.floor() as usize..(to.ceil() as usize).min(side);
        pixels.map(|pixel| (pixel, (to.min(pixel as f64 + 1.0) - from.max(pixel as f64)).max(0.0) / length)).collect()
    };
    (0..cells).map(of).collect()
}

/// The hashes of a pack's pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// One a sample; `None` for a picture that says too little.
    pub of_sample: Vec<Option<u64>>,
}

impl Hashes {
    /// Hashes every picture of a pack.
    #[must_use]
    pub fn of(pack: &Pack) -> Self {
        let says_enough = |hash: &u64| (MIN_BITS..=64 - MIN_BITS).contains(&hash.count_ones());
        let hash = |sample| Some(difference_hash(pack.picture(sample))).filter(says_enough);
        Self { of_sample: (0..pack.len()).into_par_iter().map(hash).collect() }
    }

    /// Pictures that say too little.
    #[must_use]
    pub fn without(&self) -> usize {
        self.of_sample.iter().filter(|hash| hash.is_none()).count()
    }
}

/// A picture of a pool that is one of an evaluation set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Sample of the pool.
    pub of_pool: usize,
    /// Image of the set.
    pub of_set: usize,
    /// Bits that differ.
    pub bits: u32,
}

/// Every pair whose hashes differ in at most `most` bits, by sample of the pool and then of the set.
#[must_use]
pub fn pairs(pool: &Hashes, set: &Hashes, most: u32) -> Vec<Pair> {
    let set: Vec<(usize, u64)> = set.of_sample.iter().enumerate().filter_map(|(idx, hash)| Some((idx, (*hash)?))).collect();
    let of_sample = |(of_pool, hash): (usize, &Option<u64>)| {
        let near = |hash: u64| {
            let pair = move |&(of_set, other): &(usize, u64)| Pair { of_pool, of_set, bits: (hash ^ other).count_ones() };
            set.iter().map(pair).filter(|pair| pair.bits <= most).collect::<Vec<_>>()
        };
        hash.map_or(Vec::new(), near)
    };
    pool.of_sample.par_iter().enumerate().flat_map_iter(of_sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of smooth waves, brighter by `offset`.
    fn waves(width: usize, height: usize, phase: f64, offset: f64) -> Vec<u8> {
        let side = width.min(height) as f64;
        let (left, top) = ((width as f64 - side) / 2.0, (height as f64 - side) / 2.0);
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let (u, v) = ((x as f64 + 0.5 - left) / side, (y as f64 + 0.5 - top) / side);
                let wave = (9.0 * u + phase).sin() * (7.0 * v + 2.0 * phase).cos() + (5.0 * u * v + phase).sin();
                pixels.extend([(100.0 + offset + 40.0 * wave) as u8; 3]);
            }
        }
        pixels
    }

    fn hash(width: usize, height: usize, phase: f64, offset: f64) -> u64 {
        difference_hash(PictureView { width, height, pixels: &waves(width, height, phase, offset) })
    }

    #[test]
    fn a_picture_of_another_size_brightness_or_frame_is_the_same_and_another_is_not() {
        let one = hash(64, 64, 0.3, 0.0);
        for (width, height, offset) in [(32, 32, 0.0), (64, 64, 30.0), (96, 64, 0.0), (48, 80, -15.0)] {
            let bits = (one ^ hash(width, height, 0.3, offset)).count_ones();
            assert!(bits <= 3, "{width} x {height}: {bits} bits");
        }
        let others = [1.4, 2.6, 4.0].map(|phase| (one ^ hash(64, 64, phase, 0.0)).count_ones());
        assert!(others.iter().all(|bits| *bits > 12), "{others:?}");
    }

    #[test]
    fn cells_are_averages_and_bits_say_which_is_darker() {
        // Brighter from left to right in the upper half, darker in the lower one.
        let pixels: Vec<u8> =
            (0..18 * 16).flat_map(|i| [if i / 18 < 8 { i % 18 * 14 } else { 255 - i % 18 * 14 } as u8; 3]).collect();
        assert_eq!(difference_hash(PictureView { width: 18, height: 16, pixels: &pixels }), 0xffff_ffff);
        for side in [1, 5, 9, 32] {
            let whole: f64 = shares(side, COLUMNS).iter().flatten().map(|(_, share)| share).sum();
            assert!((whole - 9.0).abs() < 1e-9, "{side}");
        }
    }

    #[test]
    fn pairs_are_those_within_the_threshold_and_flat_pictures_make_none() {
        let of = |hashes: &[u64]| Hashes { of_sample: hashes.iter().map(|hash| Some(*hash).filter(|hash| *hash != 0)).collect() };
        let (pool, set) = (of(&[0xff00, 0, 0xff07]), of(&[0, 0xff01, 0xffff_0000]));
        let found = pairs(&pool, &set, 2);
        assert_eq!(found, [Pair { of_pool: 0, of_set: 1, bits: 1 }, Pair { of_pool: 2, of_set: 1, bits: 2 }]);
        assert_eq!((pairs(&pool, &set, 1).len(), pool.without()), (1, 1));
    }
}
