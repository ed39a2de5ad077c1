//! Lengths and matrices that both directions of an attention share, and the walk over tiles of a product.

use std::ops::Range;

use super::super::product::tile::{Seed, Strip, Tile};
use super::AttentionShape;

/// Queries of a block where there are more than `WHOLE` tokens; a multiple of every path's lanes and tile rows.
const QUERIES: usize = 96;
/// Up to here all queries are one block.
const WHOLE: usize = 128;

/// Lengths that all heads share.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub tokens: usize,
    pub dim: usize,
    /// Floats between rows of qkv, and of out.
    pub qkv_stride: usize,
    pub out_stride: usize,
    pub causal: bool,
    /// Queries of a block.
    pub block: usize,
    /// Floats between rows of a matrix with a column a key, and with a column a query of the block.
    pub keys_stride: usize,
    pub block_stride: usize,
    /// `dim` rounded up to whole vectors.
    pub padded_dim: usize,
}

impl Plan {
    pub(super) fn new<S: Tile>(a: &AttentionShape) -> Self {
        let block = if a.tokens <= WHOLE { a.tokens } else { QUERIES };
        Self {
            tokens: a.tokens,
            dim: a.head_dim,
            qkv_stride: 3 * a.width(),
            out_stride: a.width(),
            causal: a.causal,
            block,
            keys_stride: stride::<S>(a.tokens),
            block_stride: stride::<S>(block),
            padded_dim: a.head_dim.next_multiple_of(S::LANES),
        }
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (tokens, block) = (self.tokens, self.block);
        (0..tokens).step_by(block).map(move |first| first..tokens.min(first + block))
    }

    /// Keys that a query sees.
    pub(super) fn visible(&self, query: usize) -> usize {
        if self.causal { self.tokens.min(query + 1) } else { self.tokens }
    }

    /// Whether rows of a head are read as B where they are, because they are whole vectors.
    pub(super) fn reads_in_place(&self) -> bool {
        self.padded_dim == self.dim
    }

    /// Floats of a padded copy of one head's rows.
    pub(super) fn copy_len(&self) -> usize {
        if self.reads_in_place() { 0 } else { self.tokens * self.padded_dim }
    }
}

/// Whole vectors, and not a multiple of the distance at which cache sets repeat.
fn stride<S: Tile>(cols: usize) -> usize {
    let whole = cols.next_multiple_of(S::LANES);
    if whole.is_multiple_of(128) { whole + S::LANES } else { whole }
}

/// A matrix in memory that this module knows to be large enough: rows are `stride` floats apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<P> {
    pub start: P,
    pub stride: usize,
}

impl Rows<*const f32> {
    /// # Safety
    /// The element lies in the matrix.
    pub(super) unsafe fn at(self, row: usize, col: usize) -> *const f32 {
        // SAFETY: the caller's promise.
        unsafe { self.start.add(row * self.stride + col) }
    }
}

impl Rows<*mut f32> {
    /// # Safety
    /// The element lies in the matrix.
    pub(super) unsafe fn at(self, row: usize, col: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.start.add(row * self.stride + col) }
    }

    pub(super) fn read(self) -> Rows<*const f32> {
        Rows { start: self.start.cast_const(), stride: self.stride }
    }
}

/// A head's rows as B of a product: where they are, or copied and padded with zeros.
///
/// # Safety
/// `rows` has a row of `dim` floats for every token.
#[inline(always)]
pub(super) unsafe fn as_b<S: Tile>(s: S, p: &Plan, rows: Rows<*const f32>, copy: &mut [f32]) -> Rows<*const f32> {
    if p.reads_in_place() {
        return rows;
    }
    for (t, to) in copy.chunks_exact_mut(p.padded_dim).enumerate() {
        for j in (0..p.dim).step_by(S::LANES) {
            // SAFETY: the caller's promise; a chunk has `padded_dim` floats.
            unsafe {
                let lanes = (p.dim - j).min(S::LANES);
                s.store(to.as_mut_ptr().add(j), s.load_part(rows.at(t, j), s.mask(lanes)));
            }
        }
    }
    Rows { start: copy.as_ptr(), stride: p.padded_dim }
}

/// Copies rows of floats into rows of whole vectors, whose lanes beyond `cols` become zero.
///
/// # Safety
/// `from` has `rows` by `cols` floats, and whole vectors that cover `cols` can be written in as many rows of `to`.
#[inline(always)]
pub(super) unsafe fn copy_rows<S: Tile>(s: S, (rows, cols): (usize, usize), from: Rows<*const f32>, to: Rows<*mut f32>) {
    let whole = cols / S::LANES * S::LANES;
    for row in 0..rows {
        // SAFETY: the caller's promise.
        unsafe {
            for j in (0..whole).step_by(S::LANES) {
                s.store(to.at(row, j), s.load(from.at(row, j)));
            }
            if whole < cols {
                s.store(to.at(row, whole), s.load_part(from.at(row, whole), s.mask(cols - whole)));
            }
        }
    }
}

/// The tiles of C (`m` by `n`) from A, whose rows are steps of the inner dimension, and B; `steps(rows, cols)` says which steps
/// a tile needs, and a tile that needs none is skipped.
///
/// # Safety
/// A, B and C are readable and writable as [`Strip`] asks.
#[inline(always)]
pub(super) unsafe fn product<S: Tile>(
    s: S,
    (m, n): (usize, usize),
    (a, b): (Rows<*const f32>, Rows<*const f32>),
    (c, seed): (Rows<*mut f32>, Seed),
    steps: impl Fn(Range<usize>, Range<usize>) -> Range<usize>,
) {
    for j in (0..n).step_by(S::COLS) {
        for i in (0..m).step_by(S::ROWS) {
            let (rows, cols) = (S::ROWS.min(m - i), S::COLS.min(n - j));
            let steps = steps(i..i + rows, j..j + cols);
            if steps.is_empty() {
                continue;
            }
            // SAFETY: the caller's promise.
            unsafe {
                let strip = Strip {
                    k: steps.len(),
                    a: a.at(steps.start, i),
                    a_step: a.stride,
                    b: b.at(steps.start, j),
                    b_step: b.stride,
                    c: c.at(i, j),
                    c_stride: c.stride,
                    cols,
                    seed,
                };
                s.tile(rows, &strip);
            }
        }
    }
}
