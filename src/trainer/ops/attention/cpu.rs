//! Attention head by head, in blocks of queries whose scores stay in L1 or L2.
//!
//! Forward computes the scores transposed, `[keys][queries]`: then maxima and sums of the softmax run down the rows without
//! a horizontal step, and the probabilities are already what the micro-kernel reads as A of `p v`. `backward` computes them as
//! `[queries][keys]`, which serves `pᵀ do` and `dsᵀ q`; only `ds k` needs a transpose.
//!
//! Scores are kept times log2(e) / sqrt(D), so that the exponential is a power of 2. Under a causal mask tiles above the
//! diagonal are skipped and the inner dimension ends at it; every score that a tile at the diagonal reads beyond the mask is
//! exactly zero.

use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

use super::super::Scratch;
use super::super::product::pack::transpose;
use super::super::product::tile::{Seed, Tile};
use super::super::simd::{dispatch, for_vectors, math};
use super::AttentionShape;
use super::bias::Bias;
use super::plan::{Plan, Rows, as_b, copy_rows, product};

/// A score that no maximum takes.
const HIDDEN: f32 = -1e30;

dispatch! {
    pub(super) fn forward(
        a: &AttentionShape,
        qkv: &[f32],
        out: &mut [f32],
        lse: &mut [f32],
        bias: Option<Bias>,
        scratch: &mut Scratch,
    ) = forward_on;
}

/// As many sequences as `lse` has room for.
#[inline(always)]
fn forward_on<S: Tile>(
    s: S,
    a: &AttentionShape,
    qkv: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
    bias: Option<Bias>,
    scratch: &mut Scratch,
) {
    let p = Plan::new::<S>(a);
    let lens = [p.dim * p.block_stride, p.dim * p.keys_stride, p.tokens * p.block_stride, p.block_stride, p.copy_len()];
    let [queries, keys, scores, sums, copy] = scratch.floats(lens);
    let queries = Rows { start: queries.as_mut_ptr(), stride: p.block_stride };
    let keys = Rows { start: keys.as_mut_ptr(), stride: p.keys_stride };
    let scores = Rows { start: scores.as_mut_ptr(), stride: p.block_stride };
    let factor = LOG2_E / (p.dim as f32).sqrt();
    let sequences = qkv.chunks_exact(p.tokens * p.qkv_stride).zip(out.chunks_exact_mut(p.tokens * p.out_stride));
    for (index, ((qkv, out), lse)) in sequences.zip(lse.chunks_exact_mut(p.tokens * a.heads)).enumerate() {
        for head in 0..a.heads {
            // SAFETY: the door has checked the lengths of qkv, out, lse and bias; the scratch is measured by the same plan.
            unsafe {
                let at = |part: usize| qkv.as_ptr().add(part * p.out_stride + head * p.dim);
                transpose(s, (at(1), p.qkv_stride), (p.tokens, p.dim), 1.0, (keys.start, keys.stride));
                let values = as_b(s, &p, Rows { start: at(2), stride: p.qkv_stride }, copy);
                for block in p.blocks() {
                    let from = at(0).add(block.start * p.qkv_stride);
                    transpose(s, (from, p.qkv_stride), (block.len(), p.dim), factor, (queries.start, queries.stride));
                    let seed = bias.map_or(Seed::Zero, |bias| {
                        let rows = Rows { start: bias.of(index, head).as_ptr().add(block.start), stride: p.tokens };
                        copy_rows(s, (p.tokens, block.len()), rows, scores);
                        Seed::C
                    });
                    transposed_scores(s, &p, &block, (keys.read(), queries.read()), (scores, seed));
                    softmax(s, &p, &block, scores, &mut lse[head * p.tokens..][block.clone()], sums);
                    let out = Rows { start: out.as_mut_ptr().add(head * p.dim), stride: p.out_stride };
                    outputs(s, &p, &block, scores.read(), values, (out, &*sums));
                }
            }
        }
    }
}

/// `[keys][queries of the block]`; under a causal mask only tiles that reach the diagonal or lie before it.
///
/// # Safety
/// All three matrices are as large as the plan says.
#[inline(always)]
unsafe fn transposed_scores<S: Tile>(
    s: S,
    p: &Plan,
    block: &Range<usize>,
    (keys, queries): (Rows<*const f32>, Rows<*const f32>),
    (scores, seed): (Rows<*mut f32>, Seed),
) {
    let columns = block.len().next_multiple_of(S::LANES);
    // SAFETY: the caller's promise; whole vectors fit because strides are whole vectors.
    unsafe {
        product(s, (p.tokens, columns), (keys, queries), (scores, seed), |keys, queries| {
            let seen = keys.start < p.visible(block.start + queries.end - 1);
            0..if seen { p.dim } else { 0 }
        });
    }
}

/// Scores become exponentials of their distance to the maximum, down each column; `inverse` gets one over their sums.
///
/// # Safety
/// `scores` holds the block's transposed scores; `inverse` has a whole vector for every vector of queries.
#[inline(always)]
unsafe fn softmax<S: Tile>(s: S, p: &Plan, block: &Range<usize>, scores: Rows<*mut f32>, lse: &mut [f32], inverse: &mut [f32]) {
    for j in (0..block.len()).step_by(S::LANES) {
        let first = block.start + j;
        let end = p.visible(first + S::LANES - 1);
        // SAFETY: the caller's promise.
        unsafe {
            if p.causal {
                fill_hidden(s, first..end, scores, j, HIDDEN);
            }
            let mut max = s.splat(f32::MIN);
            for key in 0..end {
                max = s.max(max, s.load(scores.at(key, j)));
            }
            let mut sum = s.splat(0.0);
            for key in 0..end {
                let e = math::exp2(s, s.sub(s.load(scores.at(key, j)), max));
                sum = s.add(sum, e);
                s.store(scores.at(key, j), e);
            }
            if p.causal {
                fill_hidden(s, first..end, scores, j, 0.0);
                for key in end..p.tokens.min(end + S::ROWS) {
                    s.store(scores.at(key, j), s.splat(0.0));
                }
            }
            s.store(inverse.as_mut_ptr().add(j), s.div(s.splat(1.0), sum));
            let total = s.mul(s.add(max, math::log2(s, sum)), s.splat(LN_2));
            let lanes = S::LANES.min(lse.len() - j);
            s.store_part(lse.as_mut_ptr().add(j), s.mask(lanes), total);
        }
    }
}

/// Writes `value` where a key of the range comes after the query of its lane; the first lane's query is the first key.
///
/// # Safety
/// The vectors lie in `scores`.
#[inline(always)]
unsafe fn fill_hidden<S: Tile>(s: S, keys: Range<usize>, scores: Rows<*mut f32>, j: usize, value: f32) {
    for (lane, key) in keys.enumerate().skip(1) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = scores.at(key, j);
            s.store_part(at, s.mask(lane), s.splat(value));
        }
    }
}

/// out = p v for the block's rows, normalised.
///
/// # Safety
/// All matrices are as large as the plan says.
#[inline(always)]
unsafe fn outputs<S: Tile>(
    s: S,
    p: &Plan,
    block: &Range<usize>,
    scores: Rows<*const f32>,
    values: Rows<*const f32>,
    (out, inverse): (Rows<*mut f32>, &[f32]),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let rows = Rows { start: out.at(block.start, 0), stride: out.stride };
        product(s, (block.len(), p.dim), (scores, values), (rows, Seed::Zero), |queries, _| {
            0..p.visible(block.start + queries.end - 1)
        });
    }
    for (r, &inverse) in block.clone().zip(inverse) {
        // SAFETY: the caller's promise: the row has `dim` floats that no one else holds.
        let row = unsafe { std::slice::from_raw_parts_mut(out.at(r, 0), p.dim) };
        scale_row(s, row, inverse);
    }
}

#[inline(always)]
fn scale_row<S: Tile>(s: S, row: &mut [f32], factor: f32) {
    for_vectors!(s: S, row.len(), |at| {
        at.store(row, s.mul(at.load(row), s.splat(factor)));
    });
}
