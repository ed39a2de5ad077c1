//! The 7 x 7 kernel on one vector of channels: strips of up to eight neighbouring columns of the map, from top to bottom.
//!
//! On maps of the usual sides the width of a strip, and whether it touches the left and the right edge, are constants of its
//! code: taps that would read beyond the map are left out of it, so nothing is padded, and small maps cost only the taps that
//! they have. On other maps x has zeros on the left and right. Lines beyond the map are left out by the loop everywhere.

use super::super::simd::Simd;

/// Side of the kernel.
pub(super) const KERNEL: usize = 7;
/// Its taps.
pub(super) const TAPS: usize = KERNEL * KERNEL;
/// Zeros on each side of the map.
const HALF: usize = KERNEL / 2;

/// How maps lie in memory: pixels are `stride` floats apart, lines `side` pixels; those of x have `margin` zeros on both sides.
#[derive(Clone, Copy)]
pub(super) struct Maps {
    pub side: usize,
    pub stride: usize,
    pub margin: usize,
}

impl Maps {
    /// Floats from one line of x to the next.
    fn pitch(&self) -> usize {
        (self.side + 2 * self.margin) * self.stride
    }
}

/// What a vector of the output starts from.
#[derive(Clone, Copy)]
pub(super) enum Seed {
    /// 0.
    Zero,
    /// What is stored there.
    Stored,
    /// A vector that can be read.
    Bias(*const f32),
}

/// Whether a map of this side is cut into strips whose edges are constants of their code: those of small maps, and eights.
///
/// Other maps, and all maps where vectors are arrays, are read with [`HALF`] zeros on the left and right of each line.
pub(super) fn knows_edges<S: Simd>(side: usize) -> bool {
    S::IS_REGISTER && (matches!(side, 2 | 4) || side.is_multiple_of(8))
}

/// Zeros that `x` has on the left and right of each line.
pub(super) fn margin<S: Simd>(side: usize) -> usize {
    if knows_edges::<S>(side) { 0 } else { HALF }
}

/// Calls `$known` with the strips of a map that knows its edges: (first column, columns, at the left edge, at the right edge),
/// the last three constants.
macro_rules! strips {
    ($side:expr, $known:ident) => {
        match $side {
            2 => $known!(0, 2, true, true),
            4 => $known!(0, 4, true, true),
            8 => $known!(0, 8, true, true),
            side => {
                $known!(0, 8, true, false);
                for at in (8..side - 8).step_by(8) {
                    $known!(at, 8, false, false);
                }
                $known!(side - 8, 8, false, true);
            }
        }
    };
}

/// y = seed + sum of taps, for one vector of channels of one sample.
///
/// # Safety
/// For each pixel of the map a vector can be read at `x` and written at `y`, pixels as `maps` says, and the margins of x can be
/// read; a vector can be read at `w.0`, `w.0 + w.1`, ... for all taps, and at a bias.
#[inline(always)]
pub(super) unsafe fn correlate<S: Simd>(s: S, maps: Maps, x: *const f32, w: (*const f32, isize), seed: Seed, y: *mut f32) {
    macro_rules! known {
        ($at:expr, $cols:literal, $left:literal, $right:literal) => {
            // SAFETY: the caller's promise; the strip lies in the map.
            unsafe { correlate_strip::<S, $cols, $left, $right>(s, maps, $at, x, w, seed, y) }
        };
    }
    if maps.margin == 0 {
        strips!(maps.side, known);
        return;
    }
    let mut at = 0;
    // SAFETY: the caller's promise; the strips lie in the map, and its margins can be read.
    unsafe {
        while at + 8 <= maps.side {
            padded_strip::<S, 8>(s, maps, at, x, w, seed, y);
            at += 8;
        }
        if at + 4 <= maps.side {
            padded_strip::<S, 4>(s, maps, at, x, w, seed, y);
            at += 4;
        }
        while at < maps.side {
            padded_strip::<S, 1>(s, maps, at, x, w, seed, y);
            at += 1;
        }
    }
}

/// # Safety
/// As for [`correlate`]; columns `at..at + COLS` lie in the map.
#[inline(always)]
unsafe fn padded_strip<S: Simd, const COLS: usize>(
    s: S,
    maps: Maps,
    at: usize,
    x: *const f32,
    w: (*const f32, isize),
    seed: Seed,
    y: *mut f32,
) {
    let Maps { side, stride, .. } = maps;
    for line in 0..side {
        let y = y.wrapping_add((line * side + at) * stride);
        // SAFETY: the caller's promise.
        let mut sums = unsafe { seeded::<S, COLS>(s, seed, y, stride) };
        for ky in HALF.saturating_sub(line)..KERNEL.min(side + HALF - line) {
            // Columns of x are counted from its margin, which is as wide as the kernel's half.
            let row = x.wrapping_add((line + ky - HALF) * maps.pitch() + at * stride).wrapping_sub(HALF * stride);
            for kx in 0..KERNEL {
                // SAFETY: the caller's promise.
                unsafe {
                    let weight = s.load(w.0.wrapping_offset((ky * KERNEL + kx) as isize * w.1));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = s.mul_add(weight, s.load(row.wrapping_add((i + kx) * stride)), *sum);
                    }
                }
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { s.store(y.add(i * stride), sum) };
        }
    }
}

/// # Safety
/// `COLS` vectors, `stride` apart, can be read at `y`, and one at a bias.
#[inline(always)]
unsafe fn seeded<S: Simd, const COLS: usize>(s: S, seed: Seed, y: *const f32, stride: usize) -> [S::V; COLS] {
    let mut sums = [s.splat(0.0); COLS];
    // SAFETY: the caller's promise.
    unsafe {
        match seed {
            Seed::Zero => {}
            Seed::Stored => {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = s.load(y.add(i * stride));
                }
            }
            Seed::Bias(bias) => sums = [s.load(bias); COLS],
        }
    }
    sums
}

/// # Safety
/// As for [`correlate`] without margins; columns `at..at + COLS` lie in the map, with [`HALF`] more on each side that is no
/// edge.
#[inline(always)]
unsafe fn correlate_strip<S: Simd, const COLS: usize, const LEFT: bool, const RIGHT: bool>(
    s: S,
    maps: Maps,
    at: usize,
    x: *const f32,
    w: (*const f32, isize),
    seed: Seed,
    y: *mut f32,
) {
    let Maps { side, stride, .. } = maps;
    for line in 0..side {
        let y = y.wrapping_add((line * side + at) * stride);
        // SAFETY: the caller's promise.
        let mut sums = unsafe { seeded::<S, COLS>(s, seed, y, stride) };
        for ky in HALF.saturating_sub(line)..KERNEL.min(side + HALF - line) {
            let row = x.wrapping_add(((line + ky - HALF) * side + at) * stride);
            macro_rules! tap {
                ($kx:literal) => {{
                    // SAFETY: the caller's promise.
                    let weight = unsafe { s.load(w.0.wrapping_offset((ky * KERNEL + $kx) as isize * w.1)) };
                    for (i, sum) in sums.iter_mut().enumerate() {
                        if (LEFT && i + $kx < HALF) || (RIGHT && i + $kx >= COLS + HALF) {
                            continue;
                        }
                        let from = row.wrapping_offset((i + $kx) as isize * stride as isize - (HALF * stride) as isize);
                        // SAFETY: the caller's promise; taps beyond an edge are left out.
                        *sum = s.mul_add(weight, unsafe { s.load(from) }, *sum);
                    }
                }};
            }
            tap!(0);
            tap!(1);
            tap!(2);
            tap!(3);
            tap!(4);
            tap!(5);
            tap!(6);
        }
        for (i, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { s.store(y.add(i * stride), sum) };
        }
    }
}

/// dw += sum over pixels of dy x, for one vector of channels of some samples.
///
/// # Safety
/// For each pixel of the maps a vector can be read at `x` and `dy`, pixels as `maps` says, samples one after another, and the
/// margins of x can be read; a vector can be read and written at `dw.0`, `dw.0 + dw.1`, ... for all taps.
#[inline(always)]
pub(super) unsafe fn gradient<S: Simd>(s: S, maps: Maps, samples: usize, x: *const f32, dy: *const f32, dw: (*mut f32, usize)) {
    macro_rules! known {
        ($at:expr, $cols:literal, $left:literal, $right:literal) => {
            // SAFETY: the caller's promise; the strip lies in the map.
            unsafe { gradient_strip::<S, $cols, $left, $right>(s, maps, $at, samples, x, dy, dw) }
        };
    }
    if maps.margin == 0 {
        strips!(maps.side, known);
    } else {
        // SAFETY: the caller's promise.
        unsafe { padded_gradient(s, maps, samples, x, dy, dw) };
    }
}

/// # Safety
/// As for [`gradient`].
#[inline(always)]
unsafe fn padded_gradient<S: Simd>(s: S, maps: Maps, samples: usize, x: *const f32, dy: *const f32, dw: (*mut f32, usize)) {
    let Maps { side, stride, .. } = maps;
    for ky in 0..KERNEL {
        let mut sums = [s.splat(0.0); KERNEL];
        for sample in 0..samples {
            for line in HALF.saturating_sub(ky)..side.min((side + HALF).saturating_sub(ky)) {
                let dy = dy.wrapping_add((sample * side + line) * side * stride);
                let row = x.wrapping_add((sample * side + line + ky - HALF) * maps.pitch()).wrapping_sub(HALF * stride);
                for column in 0..side {
                    // SAFETY: the caller's promise; columns of x are counted from its margin.
                    unsafe {
                        let d = s.load(dy.wrapping_add(column * stride));
                        for (kx, sum) in sums.iter_mut().enumerate() {
                            *sum = s.mul_add(d, s.load(row.wrapping_add((column + kx) * stride)), *sum);
                        }
                    }
                }
            }
        }
        for (kx, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = dw.0.add((ky * KERNEL + kx) * dw.1);
                s.store(to, s.add(s.load(to), sum));
            }
        }
    }
}

/// # Safety
/// As for [`gradient`], and for columns as in [`correlate_strip`].
#[inline(always)]
unsafe fn gradient_strip<S: Simd, const COLS: usize, const LEFT: bool, const RIGHT: bool>(
    s: S,
    maps: Maps,
    at: usize,
    samples: usize,
    x: *const f32,
    dy: *const f32,
    dw: (*mut f32, usize),
) {
    let Maps { side, stride, .. } = maps;
    for ky in 0..KERNEL {
        // Lines whose tap lies in the map.
        let lines = HALF.saturating_sub(ky)..side.min((side + HALF).saturating_sub(ky));
        if lines.is_empty() {
            continue;
        }
        let mut sums = [s.splat(0.0); KERNEL];
        for sample in 0..samples {
            for line in lines.clone() {
                let pixel = (sample * side + line) * side + at;
                let dy = dy.wrapping_add(pixel * stride);
                let row = x.wrapping_add((pixel + ky * side) * stride).wrapping_sub(HALF * side * stride);
                macro_rules! column {
                    ($i:literal) => {
                        if $i < COLS {
                            // SAFETY: the caller's promise.
                            let d = unsafe { s.load(dy.wrapping_add($i * stride)) };
                            for (kx, sum) in sums.iter_mut().enumerate() {
                                if (LEFT && $i + kx < HALF) || (RIGHT && $i + kx >= COLS + HALF) {
                                    continue;
                                }
                                let from = row.wrapping_offset(($i + kx) as isize * stride as isize - (HALF * stride) as isize);
                                // SAFETY: the caller's promise; taps beyond an edge are left out.
                                *sum = s.mul_add(d, unsafe { s.load(from) }, *sum);
                            }
                        }
                    };
                }
                column!(0);
                column!(1);
                column!(2);
                column!(3);
                column!(4);
                column!(5);
                column!(6);
                column!(7);
            }
        }
        for (kx, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = dw.0.add((ky * KERNEL + kx) * dw.1);
                s.store(to, s.add(s.load(to), sum));
            }
        }
    }
}
