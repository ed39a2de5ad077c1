//! Rearranging operands into what the micro-kernel reads: A as tiles `[k][ROWS]`, B as panels `[k][COLS]`.

use super::super::simd::Simd;
use super::Mat;
use super::tile::{Block, Tile};

/// Where the tiles of A, or the panels of B, lie.
#[derive(Clone, Copy)]
pub(crate) struct Packed {
    /// The first one.
    pub start: *const f32,
    /// Floats from one step of the inner dimension to the next.
    pub step: usize,
    /// Floats from one tile or panel to the next.
    pub next: usize,
}

/// Floats that `n` columns of B take as panels, `k` steps each.
pub(crate) fn b_len<S: Tile>(n: usize, k: usize) -> usize {
    n.next_multiple_of(S::COLS) * k
}

/// Floats that `m` rows of A take as tiles, `k` steps each; the last store may reach one vector beyond the last tile.
pub(crate) fn a_len<S: Tile>(m: usize, k: usize) -> usize {
    m.next_multiple_of(S::ROWS) * k + S::LANES
}

/// Writes rows `from_k..from_k + k` of B (`n` columns) as panels.
///
/// # Safety
/// B covers those elements; `out` has room for `b_len(n, k)` floats.
#[inline(always)]
pub(crate) unsafe fn pack_b<S: Tile>(s: S, n: usize, k: usize, b: Mat, from_k: usize, out: *mut f32) -> Packed {
    let packed = Packed { start: out, step: S::COLS, next: S::COLS * k };
    for (panel, j) in (0..n).step_by(S::COLS).enumerate() {
        for half in (j..n.min(j + S::COLS)).step_by(S::LANES) {
            // SAFETY: the element lies in B, the place in the panel.
            unsafe {
                let from = b.data.as_ptr().add(from_k * b.row_stride + half * b.col_stride);
                let to = out.add(panel * packed.next + half - j);
                pack_vector(s, from, b, (k, n - half), to, S::COLS);
            }
        }
    }
    packed
}

/// Writes columns `from_k..from_k + k` of the `m` rows of A from `from_m` as tiles.
///
/// # Safety
/// A covers those elements; `out` has room for `a_len(m, k)` floats.
#[inline(always)]
pub(crate) unsafe fn pack_a<S: Tile>(
    s: S,
    (from_m, m): (usize, usize),
    (from_k, k): (usize, usize),
    a: Mat,
    out: *mut f32,
) -> Packed {
    let packed = Packed { start: out, step: S::ROWS, next: S::ROWS * k };
    let a = a.transposed();
    for (tile, i) in (0..m).step_by(S::ROWS).enumerate() {
        for part in (i..m.min(i + S::ROWS)).step_by(S::LANES) {
            // SAFETY: the element lies in A. Whole vectors are written over narrower rows, in order, so that the next row mends
            // what the last one spilt; the last of all spills into the slack.
            unsafe {
                let from = a.data.as_ptr().add(from_k * a.row_stride + (from_m + part) * a.col_stride);
                let width = (i + S::ROWS).min(m) - part;
                pack_vector(s, from, a, (k, width), out.add(tile * packed.next + part - i), S::ROWS);
            }
        }
    }
    packed
}

/// Writes the transpose of `rows` by `cols` floats that lie `stride` apart, times `factor`: `cols` rows, `to_stride` apart, each
/// a whole number of vectors.
///
/// # Safety
/// The floats can be read; `rows` rounded up to whole vectors can be written at each `to + j * to_stride`.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Tile>(
    s: S,
    (from, stride): (*const f32, usize),
    (rows, cols): (usize, usize),
    factor: f32,
    (to, to_stride): (*mut f32, usize),
) {
    for i in (0..rows).step_by(S::LANES) {
        for j in (0..cols).step_by(S::LANES) {
            let (rows, cols) = ((rows - i).min(S::LANES), (cols - j).min(S::LANES));
            // SAFETY: the caller's promise.
            unsafe {
                let block = Block { from: from.add(i * stride + j), stride, rows, cols, factor };
                s.transpose(block, to.add(j * to_stride + i), to_stride);
            }
        }
    }
}

/// Writes one vector of up to `LANES` of `width` columns for each of `k` rows of `b`, starting at `from`.
///
/// # Safety
/// The elements can be read; whole vectors can be written at `to`, `to + to_step`, ...
#[inline(always)]
unsafe fn pack_vector<S: Tile>(s: S, from: *const f32, b: Mat, (k, width): (usize, usize), to: *mut f32, to_step: usize) {
    let lanes = width.min(S::LANES);
    // SAFETY: the caller's promise.
    unsafe {
        if b.col_stride == 1 {
            copy(s, (from, b.row_stride), k, lanes, to, to_step);
        } else {
            for p in (0..k).step_by(S::LANES) {
                let cols = (k - p).min(S::LANES);
                let block = Block { from: from.add(p), stride: b.col_stride, rows: lanes, cols, factor: 1.0 };
                s.transpose(block, to.add(p * to_step), to_step);
            }
        }
    }
}

/// # Safety
/// As for [`pack_vector`].
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, (from, stride): (*const f32, usize), k: usize, lanes: usize, to: *mut f32, to_step: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if lanes == S::LANES {
            for p in 0..k {
                s.store(to.add(p * to_step), s.load(from.add(p * stride)));
            }
        } else {
            let mask = s.mask(lanes);
            for p in 0..k {
                s.store(to.add(p * to_step), s.load_part(from.add(p * stride), mask));
            }
        }
    }
}
