//! The micro-kernel: up to `ROWS` rows by two vectors of C stay in registers while the inner dimension runs.

use super::super::simd::Simd;

/// A path with a micro-kernel of its own.
pub(crate) trait Tile: Simd {
    /// Rows of a full tile.
    const ROWS: usize;
    /// Columns of a full tile: two vectors.
    const COLS: usize = 2 * Self::LANES;

    /// Computes one tile of `rows` (1 to `ROWS`) by `strip.cols` (1 to `COLS`).
    ///
    /// # Safety
    /// See [`Strip`].
    unsafe fn tile(self, rows: usize, strip: &Strip);

    /// Writes the transpose of `rows` x `cols` floats, both 1 to `LANES`: for each column of the source a whole vector, whose
    /// lanes beyond `rows` repeat the last row.
    ///
    /// # Safety
    /// The source can be read, and `LANES` floats can be written at each `to + j * to_stride` for `j < cols`.
    unsafe fn transpose(self, from: Block, to: *mut f32, to_stride: usize);
}

/// A small matrix to be transposed.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub from: *const f32,
    pub stride: usize,
    pub rows: usize,
    pub cols: usize,
    /// Every element is multiplied by this.
    pub factor: f32,
}

/// What an element of a tile starts from.
#[derive(Clone, Copy)]
pub(crate) enum Seed {
    /// 0.
    Zero,
    /// What C holds.
    C,
    /// The bias of its column.
    Bias(*const f32),
}

/// Operands of one tile.
///
/// Valid when for each of `k` steps p the floats `a + p a_step + 0..rows` and the whole vectors from `b + p b_step` that cover
/// `cols` columns can be read, and for each row i the floats `c + i c_stride + 0..cols` can be read and written; a bias holds
/// `cols` floats.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    pub k: usize,
    pub a: *const f32,
    pub a_step: usize,
    pub b: *const f32,
    pub b_step: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    pub cols: usize,
    pub seed: Seed,
}

/// A tile of `M` rows by `N` vectors.
///
/// # Safety
/// `strip` is valid for `M` rows, and its columns end in vector `N`.
#[inline(always)]
pub(super) unsafe fn compute<S: Simd, const M: usize, const N: usize>(s: S, strip: &Strip) {
    let left = strip.cols - (N - 1) * S::LANES;
    // SAFETY: all pointers below stay where `Strip` says.
    unsafe {
        let mut acc = seeded::<S, M, N>(s, strip, left);
        let (mut a, mut b) = (strip.a, strip.b);
        for _ in 0..strip.k {
            let mut columns = [s.splat(0.0); N];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = s.load(b.add(j * S::LANES));
            }
            for (i, row) in acc.iter_mut().enumerate() {
                let x = s.splat(*a.add(i));
                for (sum, column) in row.iter_mut().zip(columns) {
                    *sum = s.mul_add(x, column, *sum);
                }
            }
            a = a.wrapping_add(strip.a_step);
            b = b.wrapping_add(strip.b_step);
        }
        for (i, sums) in acc.into_iter().enumerate() {
            let row = strip.c.add(i * strip.c_stride);
            for (j, sum) in sums.into_iter().enumerate() {
                put(s, row.add(j * S::LANES), sum, if j + 1 < N { S::LANES } else { left });
            }
        }
    }
}

/// # Safety
/// As for [`compute`].
#[inline(always)]
unsafe fn seeded<S: Simd, const M: usize, const N: usize>(s: S, strip: &Strip, left: usize) -> [[S::V; N]; M] {
    let mut acc = [[s.splat(0.0); N]; M];
    let lanes = |j: usize| if j + 1 < N { S::LANES } else { left };
    // SAFETY: the caller's promise.
    unsafe {
        match strip.seed {
            Seed::Zero => {}
            Seed::C => {
                for (i, sums) in acc.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = get(s, strip.c.add(i * strip.c_stride + j * S::LANES), lanes(j));
                    }
                }
            }
            Seed::Bias(bias) => {
                let mut row = [s.splat(0.0); N];
                for (j, v) in row.iter_mut().enumerate() {
                    *v = get(s, bias.add(j * S::LANES), lanes(j));
                }
                acc = [row; M];
            }
        }
    }
    acc
}

/// # Safety
/// `lanes` floats can be read.
#[inline(always)]
unsafe fn get<S: Simd>(s: S, p: *const f32, lanes: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if lanes == S::LANES { s.load(p) } else { s.load_part(p, s.mask(lanes)) } }
}

/// # Safety
/// `lanes` floats can be written.
#[inline(always)]
unsafe fn put<S: Simd>(s: S, p: *mut f32, v: S::V, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe { if lanes == S::LANES { s.store(p, v) } else { s.store_part(p, s.mask(lanes), v) } }
}

/// Calls `compute` with the numbers of rows and vectors as constants.
macro_rules! by_shape {
    ($s:ident, $S:ty, $rows:ident, $strip:ident, [$($m:literal)*]) => {
        match ($rows, $strip.cols > <$S as Simd>::LANES) {
            $(($m, false) => compute::<$S, $m, 1>($s, $strip), ($m, true) => compute::<$S, $m, 2>($s, $strip),)*
            _ => unreachable!("a tile has 1 to {} rows", <$S as Tile>::ROWS),
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::super::simd::{Avx2, Avx512, Simd};
    use super::{Block, Strip, Tile, compute};

    impl Tile for Avx512 {
        const ROWS: usize = 12;

        #[inline(always)]
        unsafe fn tile(self, rows: usize, strip: &Strip) {
            #[target_feature(enable = "avx512f,avx512dq")]
            unsafe fn tail(s: Avx512, rows: usize, strip: &Strip) {
                // SAFETY: the caller's promise.
                unsafe { by_shape!(s, Avx512, rows, strip, [1 2 3 4 5 6 7 8 9 10 11 12]) }
            }
            // SAFETY: the caller's promise; `self` proves the instructions.
            unsafe { if rows == 12 && strip.cols > 16 { compute::<Avx512, 12, 2>(self, strip) } else { tail(self, rows, strip) } }
        }

        #[inline(always)]
        unsafe fn transpose(self, from: Block, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller's promise; rows beyond the block repeat its last one, columns beyond it are masked.
            unsafe {
                let mut rows = [_mm512_setzero_ps(); 16];
                let row = |i: usize| from.from.add(i.min(from.rows - 1) * from.stride);
                if from.cols == 16 {
                    for (i, v) in rows.iter_mut().enumerate() {
                        *v = self.load(row(i));
                    }
                } else {
                    let mask = self.mask(from.cols);
                    for (i, v) in rows.iter_mut().enumerate() {
                        *v = self.load_part(row(i), mask);
                    }
                }
                let columns = transpose16(rows);
                let factor = self.splat(from.factor);
                if from.cols == 16 {
                    for (j, column) in columns.into_iter().enumerate() {
                        self.store(to.add(j * to_stride), self.mul(column, factor));
                    }
                } else {
                    for (j, column) in columns.into_iter().enumerate().take(from.cols) {
                        self.store(to.add(j * to_stride), self.mul(column, factor));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose16(r: [__m512; 16]) -> [__m512; 16] {
        let mut pairs = r;
        let mut quads = r;
        let mut out = r;
        // SAFETY: called where AVX-512 is proven.
        unsafe {
            for i in 0..8 {
                pairs[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..4 {
                let d = |k: usize| _mm512_castps_pd(pairs[4 * i + k]);
                quads[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(d(0), d(2)));
                quads[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(d(0), d(2)));
                quads[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(d(1), d(3)));
                quads[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(d(1), d(3)));
            }
            // Lane l of quads[4 g + q] holds column 4 l + q of rows 4 g to 4 g + 3.
            for q in 0..4 {
                let (a, b, c, d) = (quads[q], quads[4 + q], quads[8 + q], quads[12 + q]);
                let even_ab = _mm512_shuffle_f32x4::<0x88>(a, b);
                let odd_ab = _mm512_shuffle_f32x4::<0xdd>(a, b);
                let even_cd = _mm512_shuffle_f32x4::<0x88>(c, d);
                let odd_cd = _mm512_shuffle_f32x4::<0xdd>(c, d);
                out[q] = _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd);
                out[8 + q] = _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd);
                out[4 + q] = _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd);
                out[12 + q] = _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd);
            }
        }
        out
    }

    impl Tile for Avx2 {
        const ROWS: usize = 6;

        #[inline(always)]
        unsafe fn tile(self, rows: usize, strip: &Strip) {
            #[target_feature(enable = "avx2,fma")]
            unsafe fn tail(s: Avx2, rows: usize, strip: &Strip) {
                // SAFETY: the caller's promise.
                unsafe { by_shape!(s, Avx2, rows, strip, [1 2 3 4 5 6]) }
            }
            // SAFETY: the caller's promise; `self` proves the instructions.
            unsafe { if rows == 6 && strip.cols > 8 { compute::<Avx2, 6, 2>(self, strip) } else { tail(self, rows, strip) } }
        }

        #[inline(always)]
        unsafe fn transpose(self, from: Block, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller's promise; rows beyond the block repeat its last one, columns beyond it are masked.
            unsafe {
                let mut rows = [_mm256_setzero_ps(); 8];
                let row = |i: usize| from.from.add(i.min(from.rows - 1) * from.stride);
                if from.cols == 8 {
                    for (i, v) in rows.iter_mut().enumerate() {
                        *v = self.load(row(i));
                    }
                } else {
                    let mask = self.mask(from.cols);
                    for (i, v) in rows.iter_mut().enumerate() {
                        *v = self.load_part(row(i), mask);
                    }
                }
                let columns = transpose8(rows);
                let factor = self.splat(from.factor);
                if from.cols == 8 {
                    for (j, column) in columns.into_iter().enumerate() {
                        self.store(to.add(j * to_stride), self.mul(column, factor));
                    }
                } else {
                    for (j, column) in columns.into_iter().enumerate().take(from.cols) {
                        self.store(to.add(j * to_stride), self.mul(column, factor));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose8(r: [__m256; 8]) -> [__m256; 8] {
        let mut pairs = r;
        let mut quads = r;
        let mut out = r;
        // SAFETY: called where AVX2 is proven.
        unsafe {
            for i in 0..4 {
                pairs[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                pairs[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..2 {
                let d = |k: usize| _mm256_castps_pd(pairs[4 * i + k]);
                quads[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(d(0), d(2)));
                quads[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(d(0), d(2)));
                quads[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(d(1), d(3)));
                quads[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(d(1), d(3)));
            }
            for q in 0..4 {
                out[q] = _mm256_permute2f128_ps::<0x20>(quads[q], quads[4 + q]);
                out[4 + q] = _mm256_permute2f128_ps::<0x31>(quads[q], quads[4 + q]);
            }
        }
        out
    }
}

impl Tile for super::super::simd::Portable {
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn tile(self, rows: usize, strip: &Strip) {
        use super::super::simd::Portable;
        // SAFETY: the caller's promise.
        unsafe { by_shape!(self, Portable, rows, strip, [1 2 3 4]) }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: Block, to: *mut f32, to_stride: usize) {
        for j in 0..from.cols {
            for i in 0..Self::LANES {
                // SAFETY: the caller's promise.
                unsafe { *to.add(j * to_stride + i) = *from.from.add(i.min(from.rows - 1) * from.stride + j) * from.factor };
            }
        }
    }
}
