//! Matrix products C (+)= A B on the calling thread, over strided views of slices.

use gemm::Parallelism;

/// A strided view of a matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Rows of `stride` floats, one after another.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, row_stride: stride, col_stride: 1 }
    }

    /// The transpose of `self`.
    pub(crate) fn transposed(self) -> Self {
        Self { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn covers(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row_stride + (cols - 1) * self.col_stride < self.data.len()
    }
}

/// Shape of a product: C is `m` by `n`, the inner dimension is `k`.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// C = A B, or C += A B; rows of C are `c_stride` floats apart.
pub(crate) fn multiply(dims: Dims, a: Mat, b: Mat, c: &mut [f32], c_stride: usize, accumulate: bool) {
    let Dims { m, n, k } = dims;
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.covers(m, k) && b.covers(k, n) && (m - 1) * c_stride + n <= c.len() && n <= c_stride, "product out of bounds");
    // SAFETY: the assertion above says that every element addressed by the strides lies in its slice, and rows of C do not
    // overlap because n <= c_stride.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            c_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
