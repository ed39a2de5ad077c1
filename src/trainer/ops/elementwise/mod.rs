//! Sums, scalings and reductions of plain slices.
//!
//! Reductions add in a fixed order that depends on the length alone.

/// y += x.
pub fn add(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of a sum");
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// y *= factor.
pub fn scale(factor: f32, y: &mut [f32]) {
    for y in y {
        *y *= factor;
    }
}

/// Sum of x\[i\] y\[i\], accumulated in f64.
#[must_use]
pub fn dot(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len(), "lengths of a dot product");
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Sum of squares, accumulated in f64.
#[must_use]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    dot(x, x)
}

/// sums\[j\] += sum over rows of x\[row, j\], rows in order; rows are as long as `sums`.
pub fn column_sums(x: &[f32], sums: &mut [f32]) {
    assert!(x.is_empty() || x.len().is_multiple_of(sums.len()), "rows of column sums");
    for row in x.chunks_exact(sums.len().max(1)) {
        add(row, sums);
    }
}
