//! Inner products of many features with many others, in slabs of fixed size.

use rayon::prelude::*;
use scaledown_ops::linear::{self, Linear, LinearShape};
use scaledown_ops::{AlignedFloats, Scratch, WeightLayout};

use super::Features;

/// Query rows of a slab.
const SLAB: usize = 64;

/// What `visit(query, products)` makes of every query and its inner products with all keys, in the order of queries. Slabs are
/// computed in parallel; their size, and so every product, does not depend on the number of threads.
pub(super) fn map_products<R: Send>(
    queries: Features<'_>,
    keys: Features<'_>,
    visit: impl Fn(usize, &[f32]) -> R + Sync,
) -> Vec<R> {
    assert_eq!(queries.width, keys.width, "features of one encoder");
    let width = queries.width;
    let shape = LinearShape { inputs: width, outputs: keys.len(), layout: WeightLayout::OutIn };
    if keys.is_empty() {
        return (0..queries.len()).map(|query| visit(query, &[])).collect();
    }
    let mut packed = AlignedFloats::zeros(linear::packed_len(&shape));
    linear::pack(&shape, keys.rows, &mut packed);
    let keys = Linear { shape, weight: keys.rows, packed: &packed };
    let slabs: Vec<Vec<R>> = queries
        .rows
        .par_chunks(SLAB * width)
        .enumerate()
        .map_init(
            || (Scratch::default(), vec![0.0; SLAB * shape.outputs]),
            |(scratch, products), (slab, queries)| {
                let rows = queries.len() / width;
                let products = &mut products[..rows * shape.outputs];
                linear::forward(&keys, rows, queries, None, products, scratch);
                let rows = products.chunks_exact(shape.outputs).enumerate();
                rows.map(|(row, products)| visit(slab * SLAB + row, products)).collect()
            },
        )
        .collect();
    slabs.into_iter().flatten().collect()
}

/// The inner product of two rows in f64.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Place of the largest value, the first where several are equal.
pub(super) fn argmax(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (idx, value) in values.enumerate() {
        if value > best.1 {
            best = (idx, value);
        }
    }
    best.0
}
