//! Ridge regression in closed form.
//!
//! W = (X^T X + l2 I)^-1 X^T Y, which is X^T (X X^T + l2 I)^-1 Y: whichever matrix is smaller is factored.

use crate::trainer::ops::product_f64::{MatF64, product};

/// Weights [D, C] of rows [N, D] and targets [N, C].
pub(super) fn ridge(rows: &[f64], width: usize, targets: &[f64], classes: usize, l2: f64) -> Vec<f64> {
    let (x, y) = (MatF64::new(rows, width), MatF64::new(targets, classes));
    let mut weights = vec![0.0; width * classes];
    let samples = rows.len() / width;
    if samples < width {
        let mut gram = vec![0.0; samples * samples];
        product(x, x.transposed(), &mut gram);
        let mut shares = targets.to_vec();
        solve(&mut gram, samples, l2, &mut shares, classes);
        product(x.transposed(), MatF64::new(&shares, classes), &mut weights);
    } else {
        let mut gram = vec![0.0; width * width];
        product(x.transposed(), x, &mut gram);
        product(x.transposed(), y, &mut weights);
        solve(&mut gram, width, l2, &mut weights, classes);
    }
    weights
}

/// Solves (G + l2 I) W = B for W, which takes the place of B [n, columns]; G [n, n] is symmetric and gives way to its factor L,
/// where L L^T = G + l2 I (Cholesky).
fn solve(g: &mut [f64], n: usize, l2: f64, b: &mut [f64], columns: usize) {
    for row in 0..n {
        g[row * n + row] += l2;
        let (above, from_row) = g.split_at_mut(row * n);
        let here = &mut from_row[..n];
        for column in 0..row {
            let other = &above[column * n..][..n];
            let sum: f64 = here[..column].iter().zip(&other[..column]).map(|(a, b)| a * b).sum();
            here[column] = (here[column] - sum) / other[column];
        }
        let sum: f64 = here[..row].iter().map(|value| value * value).sum();
        here[row] = (here[row] - sum).sqrt();
    }
    for row in 0..n {
        let (above, from_row) = b.split_at_mut(row * columns);
        let here = &mut from_row[..columns];
        for (other, factor) in above.chunks_exact(columns).zip(&g[row * n..][..row]) {
            here.iter_mut().zip(other).for_each(|(value, other)| *value -= factor * other);
        }
        here.iter_mut().for_each(|value| *value /= g[row * n + row]);
    }
    for row in (0..n).rev() {
        let (here, below) = b[row * columns..].split_at_mut(columns);
        for (other, next) in below.chunks_exact(columns).zip(row + 1..n) {
            let factor = g[next * n + row];
            here.iter_mut().zip(other).for_each(|(value, other)| *value -= factor * other);
        }
        here.iter_mut().for_each(|value| *value /= g[row * n + row]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_leave_no_gradient() {
        // Of |X W - Y|^2 + l2 |W|^2: X^T (X W - Y) + l2 W = 0, for fewer rows than columns and for more.
        for (samples, width) in [(4, 9), (9, 9), (23, 6)] {
            let rows: Vec<f64> = (0..samples * width).map(|i| ((i * 29 % 31) as f64) * 0.2 - 3.0).collect();
            let targets: Vec<f64> = (0..samples * 3).map(|i| if i % 3 == (i / 3) % 3 { 1.0 } else { -1.0 }).collect();
            let weights = ridge(&rows, width, &targets, 3, 0.7);
            let at = |row: usize, class: usize| (0..width).map(|k| rows[row * width + k] * weights[k * 3 + class]).sum::<f64>();
            for (k, class) in (0..width).flat_map(|k| (0..3).map(move |class| (k, class))) {
                let pull: f64 = (0..samples).map(|row| rows[row * width + k] * (at(row, class) - targets[row * 3 + class])).sum();
                let left = pull + 0.7 * weights[k * 3 + class];
                assert!(left.abs() < 1e-9, "{samples} x {width}, {k} {class}: {left}");
            }
        }
    }
}
