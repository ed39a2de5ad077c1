//! Splitting f32 into three bf16 and laying them out as tiles.

use std::arch::x86_64::*;

use super::super::super::simd::{Avx512, Simd};
use super::super::Mat;
use super::super::tile::{self, Tile};
use super::{PLANE, STEP, STEP_K, TILE};

/// Which operand a matrix is: what its tiles hold.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// A row of a tile is a row of the matrix, 32 steps of the inner dimension.
    A,
    /// A row of a tile is two steps of the inner dimension, 16 columns of the matrix.
    B,
}

/// Up to 16 by 16 floats; what is missing is zero.
#[derive(Clone, Copy)]
struct Part {
    from: *const f32,
    stride: usize,
    rows: usize,
    cols: usize,
}

/// Room for a transposed part.
#[repr(align(64))]
struct Room([f32; TILE * TILE]);

/// Writes `len` rows (of A) or columns (of B) from `first` on, `k` steps of the inner dimension from `from_k` on.
///
/// # Safety
/// The matrix covers those elements; `out` has room for [`super::packed_len`] floats.
#[inline(always)]
pub(super) unsafe fn pack(
    s: Avx512,
    side: Side,
    from: Mat,
    (first, len): (usize, usize),
    (from_k, k): (usize, usize),
    out: *mut f32,
) {
    let mut rooms = [const { Room([0.0; TILE * TILE]) }; 2];
    let steps = k.div_ceil(STEP_K);
    // Memory is read in its own order, tiles are written in whatever order that gives.
    let (stride, runs_along_k) = match side {
        Side::A if from.col_stride == 1 => (from.row_stride, true),
        Side::A => (from.col_stride, false),
        Side::B if from.col_stride == 1 => (from.row_stride, false),
        Side::B => (from.col_stride, true),
    };
    let (outer, inner, ahead) =
        if runs_along_k { (len.div_ceil(TILE), steps, TILE * stride) } else { (steps, len.div_ceil(TILE), STEP_K * stride) };
    for x in 0..outer {
        for y in 0..inner {
            let (i, step) = if runs_along_k { (x, y) } else { (y, x) };
            let (at, p) = (first + i * TILE, step * STEP_K);
            let across = (at, TILE.min(len - i * TILE));
            let (near, far) = ((from_k + p, TILE.min(k - p)), (from_k + p + TILE, TILE.min((k - p).saturating_sub(TILE))));
            let [room, other] = &mut rooms;
            // SAFETY: the parts lie in the matrix, the tiles in `out`.
            unsafe {
                let (low, high) = match side {
                    Side::A => (part(s, from, across, near, ahead, room), part(s, from, across, far, ahead, other)),
                    Side::B => (part(s, from, near, across, ahead, room), part(s, from, far, across, ahead, other)),
                };
                split(s, low, high, out.add((i * steps + step) * STEP));
            }
        }
    }
}

/// Part of a matrix, in place or transposed into `room`. Asks for the part that lies `ahead` floats behind it, which is wanted
/// in the next round.
///
/// # Safety
/// The part lies in the matrix.
#[inline(always)]
unsafe fn part(
    s: Avx512,
    from: Mat,
    (row, rows): (usize, usize),
    (col, cols): (usize, usize),
    ahead: usize,
    room: &mut Room,
) -> Part {
    let at = from.data.as_ptr().wrapping_add(row * from.row_stride + col * from.col_stride);
    let (stride, lines) = if from.col_stride == 1 { (from.row_stride, rows) } else { (from.col_stride, cols) };
    for line in 0..lines {
        // SAFETY: a hint, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead + line * stride).cast()) };
    }
    if from.col_stride == 1 || rows == 0 || cols == 0 {
        return Part { from: at, stride: from.row_stride, rows, cols };
    }
    let block = tile::Block { from: at, stride, rows: cols, cols: rows, factor: 1.0 };
    let room = room.0.as_mut_ptr();
    // SAFETY: the caller's promise; `room` has 16 rows of 16 floats.
    unsafe { s.transpose(block, room, TILE) };
    Part { from: room, stride: TILE, rows, cols }
}

/// Writes the three tiles of bf16 of two parts: each 32-bit unit holds an element of `low` and the one at the same place of
/// `high`.
///
/// # Safety
/// The parts can be read, and `STEP` floats can be written.
#[inline(always)]
unsafe fn split(s: Avx512, low: Part, high: Part, out: *mut f32) {
    let is_whole = low.rows == TILE && low.cols == TILE && high.rows == TILE && high.cols == TILE;
    // SAFETY: the caller's promise.
    unsafe {
        if is_whole {
            for row in 0..TILE {
                let at = |part: Part| part.from.wrapping_add(row * part.stride);
                pair(s.load(at(low)), s.load(at(high)), out.add(row * TILE));
            }
        } else {
            for row in 0..TILE {
                pair(row_of(s, low, row), row_of(s, high, row), out.add(row * TILE));
            }
        }
    }
}

/// # Safety
/// The part can be read.
#[inline(always)]
unsafe fn row_of(s: Avx512, part: Part, row: usize) -> __m512 {
    if row >= part.rows {
        return s.splat(0.0);
    }
    // SAFETY: the caller's promise.
    unsafe { s.load_part(part.from.add(row * part.stride), s.mask(part.cols)) }
}

/// Writes the terms of two vectors to the same row of three tiles.
///
/// # Safety
/// Those rows can be written.
#[inline(always)]
unsafe fn pair(low: __m512, high: __m512, out: *mut f32) {
    // SAFETY: the caller's promise, where AVX-512 is proven.
    unsafe {
        let (low, high) = (terms(low), terms(high));
        let upper = _mm512_set1_epi32(!0xffff);
        for plane in 0..3 {
            let both = _mm512_ternarylogic_epi32::<0xca>(upper, high[plane], _mm512_srli_epi32::<16>(low[plane]));
            _mm512_storeu_si512(out.add(plane * PLANE).cast(), both);
        }
    }
}

/// Three bf16 whose sum is x, each in the upper half of its lane.
///
/// x1 is x rounded to 8 bits, x2 the remainder rounded to 8, x3 what is left, which has no more than 8. Both differences are
/// exact, so x = x1 + x2 + x3, down to where x3 is too small to be a normal number (|x| < 2^-110). The third is cut, not
/// rounded, so that a NaN stays one whatever its bits; x2 and x3 of an infinity are NaN.
#[inline(always)]
fn terms(x: __m512) -> [__m512i; 3] {
    // SAFETY: called where AVX-512 is proven.
    unsafe {
        let (half, upper) = (_mm512_set1_epi32(0x8000), _mm512_set1_epi32(!0xffff));
        let first = _mm512_add_epi32(_mm512_castps_si512(x), half);
        let rest = _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(first, upper)));
        let second = _mm512_add_epi32(_mm512_castps_si512(rest), half);
        let third = _mm512_sub_ps(rest, _mm512_castsi512_ps(_mm512_and_si512(second, upper)));
        [first, second, _mm512_castps_si512(third)]
    }
}
