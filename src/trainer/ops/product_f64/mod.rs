//! Products of matrices of f64, for what is solved and not trained: linear probes, ridge classifiers.
//!
//! C = A B, or C += A B, row-major, on the calling thread, by the `matrixmultiply` crate; the same bytes for the same operands on
//! the same machine. There is no form for a GPU.

/// A matrix that is read: as it is stored, or transposed.
#[derive(Debug, Clone, Copy)]
pub struct MatF64<'a> {
    values: &'a [f64],
    rows: usize,
    columns: usize,
    /// Elements from a row to the next, and from a column to the next.
    strides: (usize, usize),
}

impl<'a> MatF64<'a> {
    /// Row-major values with so many columns.
    ///
    /// # Panics
    /// If `columns` is 0 or does not divide the number of values.
    #[must_use]
    pub fn new(values: &'a [f64], columns: usize) -> Self {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "{} values in rows of {columns}", values.len());
        Self { values, rows: values.len() / columns, columns, strides: (columns, 1) }
    }

    /// Its transpose, of the same values.
    #[must_use]
    pub fn transposed(self) -> Self {
        let Self { values, rows, columns, strides: (row, column) } = self;
        Self { values, rows: columns, columns: rows, strides: (column, row) }
    }
}

/// C += A B. **Shapes**: A \[M, K\], B \[K, N\], C \[M, N\] row-major.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn add_product(a: MatF64<'_>, b: MatF64<'_>, c: &mut [f64]) {
    by_matrixmultiply(a, b, 1.0, c);
}

/// C = A B. **Shapes**: A \[M, K\], B \[K, N\], C \[M, N\] row-major.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn product(a: MatF64<'_>, b: MatF64<'_>, c: &mut [f64]) {
    by_matrixmultiply(a, b, 0.0, c);
}

/// C = A B + `keep` C; what C held is not read where `keep` is 0.
fn by_matrixmultiply(a: MatF64<'_>, b: MatF64<'_>, keep: f64, c: &mut [f64]) {
    assert!(a.columns == b.rows && c.len() == a.rows * b.columns, "{a:?} times {b:?} into {} values", c.len());
    let stride = |stride: usize| isize::try_from(stride).expect("a slice has at most isize::MAX bytes");
    // SAFETY: `MatF64` is made by `new` and `transposed` alone, so (rows - 1) * row stride + (columns - 1) * column stride lies
    // within `values` for `a` and `b`. `c` has `a.rows * b.columns` elements by the assertion above, its strides are those of
    // row-major rows of `b.columns`, so every element is addressed once; it is borrowed mutably and overlaps neither operand.
    unsafe {
        matrixmultiply::dgemm(
            a.rows,
            a.columns,
            b.columns,
            1.0,
            a.values.as_ptr(),
            stride(a.strides.0),
            stride(a.strides.1),
            b.values.as_ptr(),
            stride(b.strides.0),
            stride(b.strides.1),
            keep,
            c.as_mut_ptr(),
            stride(b.columns),
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, from: usize) -> Vec<f64> {
        (from..from + count).map(|i| ((i * 37) % 19) as f64 * 0.25 - 2.0).collect()
    }

    #[test]
    fn products_are_those_of_plain_loops_in_every_orientation() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (17, 33, 9), (40, 7, 65)] {
            let (a, b) = (values(m * k, 1), values(k * n, 5));
            let mut expected = vec![0.0; m * n];
            for i in 0..m {
                for j in 0..n {
                    expected[i * n + j] = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
                }
            }
            // Quarters of small whole numbers add up without rounding: every order of sums gives the same bits.
            let mut found = vec![f64::NAN; m * n];
            product(MatF64::new(&a, k), MatF64::new(&b, n), &mut found);
            assert_eq!(found, expected, "{m} {k} {n}");
            let turned = |values: &[f64], rows: usize, columns: usize| {
                (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect::<Vec<_>>()
            };
            let (at, bt) = (turned(&a, m, k), turned(&b, k, n));
            add_product(MatF64::new(&at, m).transposed(), MatF64::new(&bt, k).transposed(), &mut found);
            let doubled: Vec<f64> = expected.iter().map(|value| 2.0 * value).collect();
            assert_eq!(found, doubled, "{m} {k} {n}");
        }
    }

    #[test]
    fn no_term_leaves_nothing() {
        let mut found = vec![1.0; 6];
        product(MatF64::new(&[], 2).transposed(), MatF64::new(&[], 3), &mut found);
        assert_eq!(found, [0.0; 6]);
    }
}
