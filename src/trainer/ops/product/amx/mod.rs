//! Products on the tiles of AMX, which multiply bf16 only: every f32 is split into three bf16.
//!
//! With a = a1 + a2 + a3 and b likewise, 8 bits each, a b is the sum of the six products a3 b1, a2 b1, a2 b2, a1 b2, a1 b3 and
//! a1 b1; the three that are left out are below 2^-23 of it, and mostly far below. Sums are f32 in tile registers. Errors are
//! smaller than those of a chain of fused multiply-adds, because 32 steps of the inner dimension reach C in six additions.
//!
//! An element of C is one chain: for every 32 steps of the inner dimension, counted from the start of the call, the six
//! products in that order, each the sum of 32 terms that the CPU forms before it adds them to C. Where the call ends within 32
//! steps, zeros stand for the rest.
//!
//! Tiles take numbers below the normal range for 0, so the third term of |x| < 2^-110 gets lost, and all of |x| < 2^-126. A
//! NaN or an infinity in A (B) makes its whole row (column) of C NaN, as does a number of 2^128 - 2^119 or more, which rounds
//! to an infinity.

mod kernel;
mod pack;

use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};

use super::super::Scratch;
use super::super::simd::{Amx, Avx512};
use super::tile::Seed;
use super::{Dims, Mat, Start, Target};
use kernel::{Block, Tiles};
use pack::Side;

/// Rows of a tile; f32 columns of a tile of C.
const TILE: usize = 16;
/// Steps of the inner dimension that a tile of A or B holds.
const STEP_K: usize = 32;
/// Floats' worth of one tile.
const PLANE: usize = TILE * TILE;
/// Floats' worth of the three tiles of one operand.
const STEP: usize = 3 * PLANE;
/// Floats of a block of C, and of what is needed beside it: one more tile.
const BLOCK: usize = 4 * PLANE;
const EDGE: usize = BLOCK + PLANE;

/// Floats' worth of packed A: a fifth of a 2 MiB L2.
const A_FLOATS: usize = 96 * 1024;
/// Floats' worth of packed B that A passes by at a time: half of it.
const B_FLOATS: usize = 96 * 1024;
/// Steps of the inner dimension between two visits of C, when both operands are packed on the fly; whole tiles.
const K_BLOCK: usize = 512;

/// What the kernels are called with.
#[derive(Clone, Copy)]
pub(super) struct Engine {
    pub amx: Amx,
    pub vectors: Avx512,
}

/// Whether products with a packed B are faster here than with vectors: where at most a third of its tiles is padding.
pub(super) fn suits_packed(n: usize, k: usize) -> bool {
    2 * n.next_multiple_of(TILE) * k.next_multiple_of(STEP_K) <= 3 * n * k
}

/// Whether products of unpacked operands are computed here. The inner dimension, which a caller may cut, has no say.
pub(super) fn suits(n: usize) -> bool {
    n >= TILE
}

/// Floats' worth of `len` rows of A, or columns of B.
pub(super) fn packed_len(len: usize, k: usize) -> usize {
    len.div_ceil(TILE) * k.div_ceil(STEP_K) * STEP
}

/// Packs B for [`multiply_packed`].
///
/// # Safety
/// B covers its elements.
pub(super) unsafe fn pack_whole(engine: Engine, n: usize, k: usize, b: Mat, out: &mut [f32]) {
    assert_eq!(out.len(), packed_len(n, k), "packed B of a product");
    // SAFETY: the caller's promise, and the assertion.
    unsafe { pack_on(engine, Side::B, b, (0, n), (0, k), out.as_mut_ptr()) };
}

/// C from A and a packed B.
///
/// # Safety
/// A, C and the bias cover their elements.
pub(super) unsafe fn multiply_packed(
    engine: Engine,
    dims: Dims,
    a: Mat,
    packed: &[f32],
    start: Start,
    c: Target,
    scratch: &mut Scratch,
) {
    assert_eq!(packed.len(), packed_len(dims.n, dims.k), "packed B of a product");
    let [edge, room] = scratch.floats([EDGE, a_room(dims.m, dims.k)]);
    let walk = Walk { engine, tiles: Tiles::new(engine.amx), a, from_k: 0, b: packed.as_ptr() };
    // SAFETY: the caller's promise, and the assertion.
    unsafe { walk.blocks(dims, start.seed(), (c.data.as_mut_ptr(), c.stride), room, edge) };
}

/// C from A and B as they are.
///
/// # Safety
/// A, B, C and the bias cover their elements.
pub(super) unsafe fn multiply(engine: Engine, dims: Dims, a: Mat, b: Mat, start: Start, c: Target, scratch: &mut Scratch) {
    let Dims { m, n, k } = dims;
    let deepest = K_BLOCK.min(k);
    let cols = b_cols(deepest);
    let lens = [EDGE, a_room(m, deepest), packed_len(cols.min(n), deepest)];
    let [edge, room_a, room_b] = scratch.floats(lens);
    let room_b = room_b.as_mut_ptr();
    let mut walk = Walk { engine, tiles: Tiles::new(engine.amx), a, from_k: 0, b: room_b };
    for p in (0..k.max(1)).step_by(K_BLOCK) {
        let depth = K_BLOCK.min(k - p);
        walk.from_k = p;
        for j in (0..n).step_by(cols) {
            let cols = cols.min(n - j);
            let seed = if p == 0 { start.seed_at(j) } else { Seed::C };
            // SAFETY: the caller's promise; the rooms were measured for the deepest block.
            unsafe {
                pack_on(engine, Side::B, b, (j, cols), (p, depth), room_b);
                let c = (c.data.as_mut_ptr().add(j), c.stride);
                walk.blocks(Dims { m, n: cols, k: depth }, seed, c, room_a, edge);
            }
        }
    }
}

/// Columns of B that A passes by at a time: whole blocks.
fn b_cols(k: usize) -> usize {
    (B_FLOATS / packed_len(1, k).max(1) / 2).clamp(1, 1 << 16) * 2 * TILE
}

/// Rows of A that are packed at a time: whole blocks.
fn a_rows(k: usize) -> usize {
    (A_FLOATS / packed_len(1, k).max(1) / 2).clamp(1, 8) * 2 * TILE
}

fn a_room(m: usize, k: usize) -> usize {
    packed_len(m.min(a_rows(k)), k)
}

/// # Safety
/// As for [`pack::pack`].
unsafe fn pack_on(engine: Engine, side: Side, from: Mat, across: (usize, usize), along: (usize, usize), out: *mut f32) {
    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn on(s: Avx512, side: Side, from: Mat, across: (usize, usize), along: (usize, usize), out: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            match side {
                Side::A => pack::pack(s, Side::A, from, across, along, out),
                Side::B => pack::pack(s, Side::B, from, across, along, out),
            }
        }
    }
    // SAFETY: the caller's promise; the token proves the instructions.
    unsafe { on(engine.vectors, side, from, across, along, out) };
}

/// The order in which blocks are computed.
struct Walk<'a> {
    engine: Engine,
    tiles: Tiles,
    a: Mat<'a>,
    /// The step of the inner dimension of A at which packed B begins.
    from_k: usize,
    b: *const f32,
}

/// Asks for the lines of a block of C, which would otherwise all be waited for when they are stored.
#[inline]
fn prefetch(c: *const f32, c_stride: usize, rows: usize) {
    for row in 0..rows {
        let first = c.wrapping_add(row * c_stride).cast::<i8>();
        for byte in [0, 64, 127] {
            // SAFETY: a hint, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(first.wrapping_add(byte)) };
        }
    }
}

impl Walk<'_> {
    /// All of C: some rows of A are packed, then B passes by.
    ///
    /// # Safety
    /// A covers its elements, packed B, C and the bias too; `room` has room for [`a_rows`] rows, `edge` has [`EDGE`].
    unsafe fn blocks(&self, dims: Dims, seed: Seed, (c, c_stride): (*mut f32, usize), room: &mut [f32], edge: &mut [f32]) {
        let Dims { m, n, k } = dims;
        let (steps, next) = (k.div_ceil(STEP_K), packed_len(1, k));
        for first in (0..m).step_by(a_rows(k)) {
            let rows = a_rows(k).min(m - first);
            // SAFETY: the caller's promise.
            unsafe { pack_on(self.engine, Side::A, self.a, (first, rows), (self.from_k, k), room.as_mut_ptr()) };
            for group in (0..n).step_by(b_cols(k)) {
                for i in (0..rows).step_by(2 * TILE) {
                    for j in (group..n.min(group + b_cols(k))).step_by(2 * TILE) {
                        // SAFETY: the caller's promise.
                        unsafe {
                            let c = c.add((first + i) * c_stride + j);
                            let block = Block {
                                steps,
                                a: room.as_ptr().add(i / TILE * next),
                                a_next: next,
                                b: self.b.add(j / TILE * next),
                                b_next: next,
                                seed: c,
                                seed_stride: c_stride,
                                c,
                                c_stride,
                                spill: edge.as_mut_ptr().add(BLOCK),
                            };
                            self.block((rows - i, n - j), block, seed.at(j), edge);
                        }
                    }
                }
            }
        }
    }

    /// A block of up to 32 rows and columns, of which C has `left`.
    ///
    /// # Safety
    /// See [`Block`], where the seed is C; `edge` has [`EDGE`] floats.
    #[inline]
    unsafe fn block(&self, left: (usize, usize), mut block: Block, seed: Seed, edge: &mut [f32]) {
        let (rows, cols) = (left.0.min(2 * TILE), left.1.min(2 * TILE));
        let (c, c_stride) = (block.c, block.c_stride);
        let is_whole = rows.is_multiple_of(TILE) && cols.is_multiple_of(TILE);
        let edge = edge.as_mut_ptr();
        // SAFETY: the caller's promise. A part of a tile of C is computed as a whole one in `edge`.
        unsafe {
            match seed {
                Seed::Zero => block.seed = std::ptr::null(),
                Seed::Bias(bias) if is_whole => (block.seed, block.seed_stride) = (bias, 0),
                Seed::Bias(bias) => {
                    bias.copy_to_nonoverlapping(edge, cols);
                    (block.seed, block.seed_stride) = (edge, 0);
                }
                Seed::C if is_whole => {}
                Seed::C => {
                    (block.seed, block.seed_stride) = (edge, 2 * TILE);
                    for row in 0..rows {
                        c.add(row * c_stride).copy_to_nonoverlapping(edge.add(row * 2 * TILE), cols);
                    }
                }
            }
            if !is_whole {
                (block.c, block.c_stride) = (edge, 2 * TILE);
            }
            prefetch(c, c_stride, rows);
            self.tiles.multiply((rows.div_ceil(TILE), cols.div_ceil(TILE)), &block);
            if !is_whole {
                for row in 0..rows {
                    edge.add(row * 2 * TILE).copy_to_nonoverlapping(c.add(row * c_stride), cols);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::simd::tests::on_every_path;
    use super::super::super::testing::random;
    use super::super::cpu;
    use super::*;

    fn product(dims: Dims, a: &[f32], b: &[f32]) -> Vec<f32> {
        let mut c = vec![f32::NAN; dims.m * dims.n];
        let target = Target { data: &mut c, stride: dims.n };
        cpu::multiply(dims, Mat::rows(a, dims.k), Mat::rows(b, dims.n), Start::Zero, target, &mut Scratch::new());
        c
    }

    /// Largest error, as a share of the root of the sum of squares of what is summed.
    fn error(dims: Dims, a: &[f32], b: &[f32], c: &[f32]) -> f64 {
        let mut largest = 0.0f64;
        for (i, row) in c.chunks_exact(dims.n).enumerate() {
            for (j, &found) in row.iter().enumerate() {
                let terms = (0..dims.k).map(|p| f64::from(a[i * dims.k + p]) * f64::from(b[p * dims.n + j]));
                let (sum, squares) = terms.fold((0.0, 0.0), |(sum, squares), term| (sum + term, squares + term * term));
                largest = largest.max((f64::from(found) - sum).abs() / squares.sqrt());
            }
        }
        largest
    }

    #[test]
    fn sums_are_as_exact_as_those_of_vectors_at_any_magnitude() {
        for k in [192, 768, 3072] {
            let dims = Dims { m: 40, n: 48, k };
            for (of_a, of_b) in [(1.0, 1.0), (1e-12, 3e-2), (1e-20, 1e-6), (1e15, 1e-8)] {
                let a: Vec<f32> = random(1, dims.m * k).into_iter().map(|v| v * of_a).collect();
                let b: Vec<f32> = random(2, k * dims.n).into_iter().map(|v| v * of_b).collect();
                let mut errors = Vec::new();
                on_every_path(|path| errors.push((path.to_string(), error(dims, &a, &b, &product(dims, &a, &b)))));
                let of = |name: &str| errors.iter().find(|(path, _)| path == name).map(|(_, error)| *error);
                if let (Some(tiles), Some(vectors)) = (of("avx512+amx"), of("avx512")) {
                    assert!(tiles <= vectors, "k = {k}, magnitudes {of_a} and {of_b}: {tiles:e}, with vectors {vectors:e}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_never_becomes_finite() {
        let dims = Dims { m: 20, n: 33, k: 50 };
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            let (mut a, mut b) = (random(1, dims.m * dims.k), random(2, dims.k * dims.n));
            a[17 * dims.k + 49] = bad;
            b[dims.n + 32] = bad;
            on_every_path(|path| {
                for (at, found) in product(dims, &a, &b).into_iter().enumerate() {
                    let is_reached = at / dims.n == 17 || at % dims.n == 32;
                    assert_eq!(found.is_finite(), !is_reached, "{path}, {bad}: element {at} is {found}");
                }
            });
        }
    }
}
