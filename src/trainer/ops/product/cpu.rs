//! The order in which tiles are computed, and the two ways a product is called: with B packed before, or with nothing packed.

use super::super::Scratch;
use super::super::simd::{self, SimdPath, dispatch};
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::pack::{Packed, a_len, b_len, pack_a, pack_b};
use super::tile::{Seed, Strip, Tile};
use super::{Dims, Mat, Start, Target};

/// Floats of A that are packed at a time: a quarter of a 1 MiB L2.
const A_FLOATS: usize = 64 * 1024;
/// Steps of the inner dimension between two visits of C, when both operands are packed on the fly.
#[cfg(target_arch = "x86_64")]
const K_BLOCK: usize = 512;

/// The tiles of this CPU, where it has them. The number of rows of A never decides whether they are used, so that it does not
/// matter how rows are cut into calls.
#[cfg(target_arch = "x86_64")]
fn tile_engine() -> Option<amx::Engine> {
    match simd::path() {
        SimdPath::Avx512(vectors, Some(amx)) => Some(amx::Engine { amx, vectors }),
        _ => None,
    }
}

/// As [`tile_engine`], for products with a packed B.
#[cfg(target_arch = "x86_64")]
fn packed_engine(n: usize, k: usize) -> Option<amx::Engine> {
    tile_engine().filter(|_| amx::suits_packed(n, k))
}

/// Floats of a packed B; 0 on the path that does not pack.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only the paths of x86 pack"))]
pub(crate) fn packed_len(n: usize, k: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    if packed_engine(n, k).is_some() {
        return amx::packed_len(n, k);
    }
    match simd::path() {
        #[cfg(target_arch = "x86_64")]
        SimdPath::Avx512(..) => b_len::<simd::Avx512>(n, k),
        #[cfg(target_arch = "x86_64")]
        SimdPath::Avx2(_) => b_len::<simd::Avx2>(n, k),
        SimdPath::Portable(_) => 0,
    }
}

/// Packs B for [`multiply_packed`]; writes all of `out`, which has [`packed_len`] floats.
pub(crate) fn pack(n: usize, k: usize, b: Mat, out: &mut [f32]) {
    assert!(b.covers(k, n), "B of a product out of bounds");
    assert_eq!(out.len(), packed_len(n, k), "packed B of a product");
    #[cfg(target_arch = "x86_64")]
    if let Some(engine) = packed_engine(n, k) {
        // SAFETY: the first assertion.
        return unsafe { amx::pack_whole(engine, n, k, b, out) };
    }
    if !out.is_empty() {
        pack_whole(n, k, b, out);
    }
}

dispatch! {
    fn pack_whole(n: usize, k: usize, b: Mat, out: &mut [f32]) = pack_whole_on;
}

#[inline(always)]
fn pack_whole_on<S: Tile>(s: S, n: usize, k: usize, b: Mat, out: &mut [f32]) {
    assert!(out.len() >= b_len::<S>(n, k));
    // SAFETY: `pack` has checked B, the assertion above `out`.
    unsafe { pack_b(s, n, k, b, 0, out.as_mut_ptr()) };
}

/// C from A (rows of floats one after another) and a packed B, which must not be empty.
pub(crate) fn multiply_packed(dims: Dims, a: Mat, packed: &[f32], start: Start, c: Target, scratch: &mut Scratch) {
    assert!(a.covers(dims.m, dims.k) && c.covers(dims) && start.covers(dims.n), "product out of bounds");
    assert_eq!(packed.len(), packed_len(dims.n, dims.k), "packed B of a product");
    #[cfg(target_arch = "x86_64")]
    if let Some(engine) = packed_engine(dims.n, dims.k) {
        // SAFETY: the first assertion.
        return unsafe { amx::multiply_packed(engine, dims, a, packed, start, c, scratch) };
    }
    packed_on_path(dims, a, packed, start, c, scratch);
}

dispatch! {
    fn packed_on_path(dims: Dims, a: Mat, packed: &[f32], start: Start, c: Target, scratch: &mut Scratch) = packed_on;
}

#[inline(always)]
fn packed_on<S: Tile>(s: S, dims: Dims, a: Mat, packed: &[f32], start: Start, c: Target, scratch: &mut Scratch) {
    let Dims { m, n, k } = dims;
    assert!(packed.len() >= b_len::<S>(n, k));
    let block = (A_FLOATS / k.max(1) / S::ROWS).clamp(1, 8) * S::ROWS;
    let [room] = scratch.floats([a_len::<S>(block.min(m), k)]);
    let b = Packed { start: packed.as_ptr(), step: S::COLS, next: S::COLS * k };
    for i in (0..m).step_by(block) {
        let rows = block.min(m - i);
        // SAFETY: `multiply_packed` has checked A, C and the bias; `room` was measured for a block of A.
        unsafe {
            let a = pack_a(s, (i, rows), (0, k), a, room.as_mut_ptr());
            tiles(s, Dims { m: rows, n, k }, a, b, start.seed(), (c.data.as_mut_ptr().add(i * c.stride), c.stride));
        }
    }
}

/// C from A and B as they are.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only the paths of x86 pack, into scratch"))]
pub(crate) fn multiply(dims: Dims, a: Mat, b: Mat, start: Start, c: Target, scratch: &mut Scratch) {
    assert!(a.covers(dims.m, dims.k) && b.covers(dims.k, dims.n), "product out of bounds");
    assert!(c.covers(dims) && start.covers(dims.n), "product out of bounds");
    #[cfg(target_arch = "x86_64")]
    if let Some(engine) = tile_engine().filter(|_| amx::suits(dims.n)) {
        // SAFETY: the assertions.
        return unsafe { amx::multiply(engine, dims, a, b, start, c, scratch) };
    }
    match simd::path() {
        SimdPath::Portable(_) => by_matrixmultiply(dims, a, b, start, c),
        #[cfg(target_arch = "x86_64")]
        _ => on_path(dims, a, b, start, c, scratch),
    }
}

#[cfg(target_arch = "x86_64")]
dispatch! {
    fn on_path(dims: Dims, a: Mat, b: Mat, start: Start, c: Target, scratch: &mut Scratch) = on;
}

/// Both operands are packed on the fly, `K_BLOCK` steps at a time: all of A, then B panel by panel.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn on<S: Tile>(s: S, dims: Dims, a: Mat, b: Mat, start: Start, c: Target, scratch: &mut Scratch) {
    let Dims { m, n, k } = dims;
    let depth = K_BLOCK.min(k);
    let [room_a, room_b] = scratch.floats([a_len::<S>(m, depth), b_len::<S>(S::COLS, depth)]);
    for p in (0..k.max(1)).step_by(K_BLOCK) {
        let depth = K_BLOCK.min(k - p);
        // SAFETY: `multiply` has checked A, B, C and the bias; the rooms were measured for the deepest block.
        unsafe {
            let a = pack_a(s, (0, m), (p, depth), a, room_a.as_mut_ptr());
            for j in (0..n).step_by(S::COLS) {
                let cols = S::COLS.min(n - j);
                // Nothing is read of an empty B, whose panels would begin beyond its end.
                let panel = Mat { data: b.data.get(j * b.col_stride..).unwrap_or_default(), ..b };
                let panel = pack_b(s, cols, depth, panel, p, room_b.as_mut_ptr());
                let seed = if p == 0 { start.seed_at(j) } else { Seed::C };
                tiles(s, Dims { m, n: cols, k: depth }, a, panel, seed, (c.data.as_mut_ptr().add(j), c.stride));
            }
        }
    }
}

/// All tiles of a product, panel by panel.
///
/// # Safety
/// The tiles of A, the panels of B and C are readable and writable as [`Strip`] asks.
#[inline(always)]
pub(crate) unsafe fn tiles<S: Tile>(s: S, dims: Dims, a: Packed, b: Packed, seed: Seed, (c, c_stride): (*mut f32, usize)) {
    for (panel, j) in (0..dims.n).step_by(S::COLS).enumerate() {
        for (tile, i) in (0..dims.m).step_by(S::ROWS).enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let strip = Strip {
                    k: dims.k,
                    a: a.start.add(tile * a.next),
                    a_step: a.step,
                    b: b.start.add(panel * b.next),
                    b_step: b.step,
                    c: c.add(i * c_stride + j),
                    c_stride,
                    cols: S::COLS.min(dims.n - j),
                    seed: seed.at(j),
                };
                s.tile(S::ROWS.min(dims.m - i), &strip);
            }
        }
    }
}

impl Seed {
    pub(super) fn at(self, column: usize) -> Self {
        match self {
            Seed::Bias(bias) => Seed::Bias(bias.wrapping_add(column)),
            other => other,
        }
    }
}

impl Start<'_> {
    fn covers(&self, n: usize) -> bool {
        !matches!(self, Start::Bias(bias) if bias.len() != n)
    }

    pub(super) fn seed(self) -> Seed {
        match self {
            Start::Zero => Seed::Zero,
            Start::Add => Seed::C,
            Start::Bias(bias) => Seed::Bias(bias.as_ptr()),
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn seed_at(self, column: usize) -> Seed {
        self.seed().at(column)
    }
}

fn by_matrixmultiply(dims: Dims, a: Mat, b: Mat, start: Start, c: Target) {
    let Dims { m, n, k } = dims;
    if let Start::Bias(bias) = start {
        for row in 0..m {
            c.data[row * c.stride..][..n].copy_from_slice(bias);
        }
    }
    let beta = if matches!(start, Start::Zero) { 0.0 } else { 1.0 };
    // SAFETY: `multiply` has checked that every element addressed by the strides lies in its slice, and rows of C do not
    // overlap because `n <= stride`.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            beta,
            c.data.as_mut_ptr(),
            c.stride as isize,
            1,
        );
    }
}
