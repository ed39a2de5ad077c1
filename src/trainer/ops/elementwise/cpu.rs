//! Sums, scalings and reductions on vectors.

use super::super::simd::{Simd, dispatch, for_vectors};

/// Products that one f32 partial sum takes before it is added to the f64 total.
const BLOCK: usize = 1024;

dispatch! {
    pub(super) fn add(x: &[f32], y: &mut [f32]) = add_on;
}

dispatch! {
    pub(super) fn scale(factor: f32, y: &mut [f32]) = scale_on;
}

dispatch! {
    pub(super) fn dot(x: &[f32], y: &[f32]) -> f64 = dot_on;
}

dispatch! {
    pub(super) fn column_sums(x: &[f32], sums: &mut [f32]) = column_sums_on;
}

dispatch! {
    pub(super) fn row_sums(x: &[f32], sums: &mut [f32]) = row_sums_on;
}

#[inline(always)]
fn row_sums_on<S: Simd>(s: S, x: &[f32], sums: &mut [f32]) {
    let width = x.len() / sums.len();
    for (row, out) in x.chunks_exact(width).zip(sums) {
        let mut sum = s.splat(0.0);
        for_vectors!(s: S, width, |at| {
            sum = s.add(sum, at.load(row));
        });
        *out += s.sum(sum);
    }
}

#[inline(always)]
fn add_on<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    let (n, y) = (x.len(), &mut y[..x.len()]);
    for_vectors!(s: S, n, |at| {
        at.store(y, s.add(at.load(y), at.load(x)));
    });
}

#[inline(always)]
fn scale_on<S: Simd>(s: S, factor: f32, y: &mut [f32]) {
    let factor = s.splat(factor);
    for_vectors!(s: S, y.len(), |at| {
        at.store(y, s.mul(at.load(y), factor));
    });
}

#[inline(always)]
fn dot_on<S: Simd>(s: S, x: &[f32], y: &[f32]) -> f64 {
    let mut total = 0.0;
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        let y = &y[..x.len()];
        let mut sum = s.splat(0.0);
        for_vectors!(s: S, x.len(), |at| {
            sum = s.mul_add(at.load(x), at.load(y), sum);
        });
        total += f64::from(s.sum(sum));
    }
    total
}

/// Four rows a pass, each column still summed row by row.
#[inline(always)]
fn column_sums_on<S: Simd>(s: S, x: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    let mut fours = x.chunks_exact(4 * width);
    for rows in &mut fours {
        let (a, rest) = rows.split_at(width);
        let (b, rest) = rest.split_at(width);
        let (c, d) = rest.split_at(width);
        let d = &d[..width];
        for_vectors!(s: S, width, |at| {
            let sum = s.add(s.add(at.load(sums), at.load(a)), at.load(b));
            at.store(sums, s.add(s.add(sum, at.load(c)), at.load(d)));
        });
    }
    for row in fours.remainder().chunks_exact(width) {
        add_on(s, row, sums);
    }
}
