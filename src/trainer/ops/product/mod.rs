//! Matrix products C = A B, C += A B or C = bias + A B on the calling thread.
//!
//! Owns the micro-kernel (`tile`: a tile of C in registers), the packed forms its operands are read in (`pack`) and the
//! order tiles are visited in (`cpu`); on a GPU, the kernels for what the library lacks ([`cuda`]). Knows matrices, not layers.
//!
//! Invariant of the AVX-512 and AVX2 paths: an element of C is one chain of fused multiply-adds over the inner dimension in
//! order, started from 0, from the bias or from C. So its bits depend neither on how rows are cut into calls nor on blocking,
//! and adding a second product to C continues the chain of the first.
//!
//! Products on AMX tiles (`amx`) are such chains too, whose links are 32 steps of the inner dimension: their bits depend
//! neither on how rows are cut nor on blocking, and a second product continues the first if that had a multiple of 32 steps.
//! Whether a product goes to tiles depends on its columns, and with a packed B on its inner dimension, never on its rows.
//!
//! Elsewhere products are those of the `matrixmultiply` crate (NEON kernels on Arm), which promises nothing of this; there the
//! bits depend on the shape of each call.

#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod cpu;
pub mod cuda;
pub(crate) mod pack;
pub(crate) mod tile;

/// A strided view of a matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Rows that are `stride` floats apart.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row_stride: stride, col_stride: 1 }
    }

    /// The transpose of `self`.
    pub(crate) fn transposed(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Whether all elements of a `rows` by `cols` matrix lie in the slice, and one of the strides is 1.
    fn covers(&self, rows: usize, cols: usize) -> bool {
        let last = rows.saturating_sub(1) * self.row_stride + cols.saturating_sub(1) * self.col_stride;
        (rows == 0 || cols == 0 || last < self.data.len()) && (self.row_stride == 1 || self.col_stride == 1)
    }
}

/// Shape of a product: C is `m` by `n`, the inner dimension is `k`.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// What an element of C starts from.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// 0.
    Zero,
    /// What C holds.
    Add,
    /// The bias of its column.
    Bias(&'a [f32]),
}

/// The matrix that a product writes: rows are `stride` floats apart.
pub(crate) struct Target<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

impl Target<'_> {
    fn covers(&self, dims: Dims) -> bool {
        dims.m == 0 || dims.n == 0 || ((dims.m - 1) * self.stride + dims.n <= self.data.len() && dims.n <= self.stride)
    }
}
