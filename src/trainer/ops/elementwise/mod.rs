//! Sums, scalings and reductions of plain slices.
//!
//! Reductions add in an order that depends on the length alone.

mod cpu;
pub mod cuda;

/// y += x.
pub fn add(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of a sum");
    cpu::add(x, y);
}

/// y *= factor.
pub fn scale(factor: f32, y: &mut [f32]) {
    cpu::scale(factor, y);
}

/// Sum of x\[i\] y\[i\]: f32 within blocks of 1024, f64 across them.
#[must_use]
pub fn dot(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len(), "lengths of a dot product");
    cpu::dot(x, y)
}

/// Sum of squares, as [`dot`] of a slice with itself.
#[must_use]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    cpu::dot(x, x)
}

/// sums\[j\] += sum over rows of x\[row, j\], rows in order; rows are as long as `sums`.
pub fn column_sums(x: &[f32], sums: &mut [f32]) {
    assert!(x.is_empty() || (!sums.is_empty() && x.len().is_multiple_of(sums.len())), "rows of column sums");
    if !x.is_empty() {
        cpu::column_sums(x, sums);
    }
}

/// sums\[i\] += sum of row i of x, which has as many rows as `sums` has elements.
pub fn row_sums(x: &[f32], sums: &mut [f32]) {
    assert!(sums.is_empty() || x.len().is_multiple_of(sums.len()), "rows of row sums");
    if !x.is_empty() {
        cpu::row_sums(x, sums);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::tests::on_every_path;
    use super::super::testing::{SUM, assert_close, random, widen};
    use super::*;

    #[test]
    fn sums_and_products_agree_with_f64_loops_for_any_length() {
        for len in [0, 1, 5, 16, 33, 64, 1023, 5000] {
            let (x, y) = (random(1, len), random(2, len));
            let dot64: f64 = widen(&x).iter().zip(widen(&y)).map(|(x, y)| x * y).sum();
            let squares64: f64 = widen(&x).iter().map(|x| x * x).sum();
            on_every_path(|path| {
                let mut z = y.clone();
                add(&x, &mut z);
                scale(0.5, &mut z);
                let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| (y + x) * 0.5).collect();
                assert!(z == expected, "{path} {len}");
                assert!((dot(&x, &y) - dot64).abs() <= 1e-6 * (len as f64).sqrt(), "{path} {len}");
                assert!((sum_of_squares(&x) / squares64.max(1e-300) - 1.0).abs() <= 1e-6 || len == 0, "{path} {len}");
            });
        }
    }

    #[test]
    fn sums_of_columns_and_rows_add_to_what_is_there_and_columns_do_not_depend_on_how_rows_are_cut() {
        for (rows, width) in [(1, 1), (3, 7), (4, 16), (9, 50), (37, 96)] {
            let x = random(5, rows * width);
            let start = random(6, width);
            let expected: Vec<f64> =
                (0..width).map(|j| f64::from(start[j]) + (0..rows).map(|r| f64::from(x[r * width + j])).sum::<f64>()).collect();
            on_every_path(|path| {
                let (mut sums, mut cut) = (start.clone(), start.clone());
                column_sums(&x, &mut sums);
                assert_close(path, &sums, &expected, SUM);
                x.chunks(2 * width).for_each(|rows| column_sums(rows, &mut cut));
                assert!(sums == cut, "{path}");
                let mut sums: Vec<f32> = random(7, rows);
                let expected: Vec<f64> =
                    sums.iter().zip(x.chunks_exact(width)).map(|(s, row)| f64::from(*s) + widen(row).iter().sum::<f64>()).collect();
                row_sums(&x, &mut sums);
                assert_close(path, &sums, &expected, SUM);
            });
        }
    }
}
