//! Backward of attention: scores and their gradients as `[queries][keys]`, a block of queries at a time.

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::super::Scratch;
use super::super::product::pack::transpose;
use super::super::product::tile::{Seed, Tile};
use super::super::simd::{dispatch, for_vectors, math};
use super::AttentionShape;
use super::bias::Bias;
use super::plan::{Plan, Rows, as_b, copy_rows, product};

/// What backward reads.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a> {
    pub qkv: &'a [f32],
    pub out: &'a [f32],
    pub grad_out: &'a [f32],
    pub lse: &'a [f32],
}

dispatch! {
    pub(super) fn backward(
        a: &AttentionShape,
        saved: Saved,
        grad_qkv: &mut [f32],
        bias: Option<Biased>,
        scratch: &mut Scratch,
    ) = backward_on;
}

/// What was added to scores, and the sum over sequences of the gradient of scores times 1 / sqrt(D), `[H, T, T]`.
pub(super) struct Biased<'a> {
    pub bias: Bias<'a>,
    pub grad: &'a mut [f32],
}

/// Temporary matrices of one head.
struct Room<'a> {
    queries: Rows<*mut f32>,
    grads: Rows<*mut f32>,
    keys: Rows<*mut f32>,
    values: Rows<*mut f32>,
    probabilities: Rows<*mut f32>,
    grad_scores: Rows<*mut f32>,
    grad_scores_transposed: Rows<*mut f32>,
    copies: [&'a mut [f32]; 3],
}

impl<'a> Room<'a> {
    fn new(p: &Plan, scratch: &'a mut Scratch) -> Self {
        let (by_block, by_key) = (p.dim * p.block_stride, p.dim * p.keys_stride);
        let (scores, copy) = (p.block * p.keys_stride, p.copy_len());
        let lens = [by_block, by_block, by_key, by_key, scores, scores, p.tokens * p.block_stride, copy, copy, copy];
        let [queries, grads, keys, values, probabilities, grad_scores, transposed, c0, c1, c2] = scratch.floats(lens);
        let rows = |room: &mut [f32], stride| Rows { start: room.as_mut_ptr(), stride };
        Self {
            queries: rows(queries, p.block_stride),
            grads: rows(grads, p.block_stride),
            keys: rows(keys, p.keys_stride),
            values: rows(values, p.keys_stride),
            probabilities: rows(probabilities, p.keys_stride),
            grad_scores: rows(grad_scores, p.keys_stride),
            grad_scores_transposed: rows(transposed, p.block_stride),
            copies: [c0, c1, c2],
        }
    }
}

/// The rows of one head: q, k, v, out and dout as they lie, q, k and dout also as B of a product.
struct Head<'a> {
    q: Rows<*const f32>,
    out: Rows<*const f32>,
    grad_out: Rows<*const f32>,
    q_as_b: Rows<*const f32>,
    k_as_b: Rows<*const f32>,
    grad_out_as_b: Rows<*const f32>,
    lse: &'a [f32],
    /// Added to the scores, `[queries][keys]`, in units of ln 2.
    bias: Option<&'a [f32]>,
    /// Gradients of q, k and v.
    grad: [Rows<*mut f32>; 3],
    /// What gradients of k and v start from in every block.
    seed: Seed,
}

/// As many sequences as `saved.lse` has room for.
#[inline(always)]
fn backward_on<S: Tile>(
    s: S,
    a: &AttentionShape,
    saved: Saved,
    grad_qkv: &mut [f32],
    mut bias: Option<Biased>,
    scratch: &mut Scratch,
) {
    let p = Plan::new::<S>(a);
    let mut room = Room::new(&p, scratch);
    let several = p.tokens > p.block;
    if several {
        grad_qkv.fill(0.0);
    }
    for (index, grad_qkv) in grad_qkv.chunks_exact_mut(p.tokens * p.qkv_stride).enumerate() {
        let grad_qkv = grad_qkv.as_mut_ptr();
        for head_index in 0..a.heads {
            // SAFETY: the door has checked all lengths; the scratch is measured by the same plan.
            unsafe {
                let part = |part: usize| part * p.out_stride + head_index * p.dim;
                let first = index * p.tokens;
                let input = |i: usize| Rows { start: saved.qkv.as_ptr().add(first * p.qkv_stride + part(i)), stride: p.qkv_stride };
                let output = |rows: &[f32]| Rows { start: rows.as_ptr().add(first * p.out_stride + part(0)), stride: p.out_stride };
                let (q, k, v) = (input(0), input(1), input(2));
                let grad_out = output(saved.grad_out);
                transpose(s, (k.start, k.stride), (p.tokens, p.dim), 1.0, (room.keys.start, room.keys.stride));
                transpose(s, (v.start, v.stride), (p.tokens, p.dim), 1.0, (room.values.start, room.values.stride));
                let [c0, c1, c2] = &mut room.copies;
                let head = Head {
                    q,
                    out: output(saved.out),
                    grad_out,
                    q_as_b: as_b(s, &p, q, c0),
                    k_as_b: as_b(s, &p, k, c1),
                    grad_out_as_b: as_b(s, &p, grad_out, c2),
                    lse: &saved.lse[(index * a.heads + head_index) * p.tokens..][..p.tokens],
                    bias: bias.as_ref().map(|biased| biased.bias.of(index, head_index)),
                    grad: [0, 1, 2].map(|i| Rows { start: grad_qkv.add(part(i)), stride: p.qkv_stride }),
                    seed: if several { Seed::C } else { Seed::Zero },
                };
                for block in p.blocks() {
                    scores(s, &p, &block, &head, &room);
                    for query in block.clone() {
                        grad_scores(s, &p, query - block.start, query, &head, &room);
                    }
                    if let Some(biased) = &mut bias {
                        let sums = &mut biased.grad[(head_index * p.tokens + block.start) * p.tokens..];
                        add_rows(s, &p, block.len(), room.grad_scores.read(), sums);
                    }
                    gradients(s, &p, &block, &head, &room);
                }
            }
        }
    }
}

/// Adds the first T floats of each of the block's rows to the rows of `sums`.
///
/// # Safety
/// The block's rows can be read.
#[inline(always)]
unsafe fn add_rows<S: Tile>(s: S, p: &Plan, rows: usize, from: Rows<*const f32>, sums: &mut [f32]) {
    for (row, sums) in sums.chunks_exact_mut(p.tokens).take(rows).enumerate() {
        // SAFETY: the caller's promise.
        let from = unsafe { std::slice::from_raw_parts(from.at(row, 0), p.tokens) };
        for_vectors!(s: S, p.tokens, |at| {
            at.store(sums, s.add(at.load(sums), at.load(from)));
        });
    }
}

/// Scores times log2(e) / sqrt(D) into `probabilities`, `dout vᵀ` into `grad_scores`.
///
/// # Safety
/// All matrices are as large as the plan says, and those of the room do not overlap.
#[inline(always)]
unsafe fn scores<S: Tile>(s: S, p: &Plan, block: &Range<usize>, head: &Head, room: &Room) {
    let factor = LOG2_E / (p.dim as f32).sqrt();
    let columns = p.tokens.next_multiple_of(S::LANES);
    let steps = |queries: Range<usize>, keys: Range<usize>| {
        let seen = keys.start < p.visible(block.start + queries.end - 1);
        0..if seen { p.dim } else { 0 }
    };
    // SAFETY: the caller's promise; whole vectors fit because strides are whole vectors.
    unsafe {
        let (q, grad) = (head.q.at(block.start, 0), head.grad_out.at(block.start, 0));
        let size = (block.len(), p.dim);
        transpose(s, (q, head.q.stride), size, factor, (room.queries.start, room.queries.stride));
        transpose(s, (grad, head.grad_out.stride), size, 1.0, (room.grads.start, room.grads.stride));
        let size = (block.len(), columns);
        let seed = head.bias.map_or(Seed::Zero, |bias| {
            let rows = Rows { start: bias.as_ptr().add(block.start * p.tokens), stride: p.tokens };
            copy_rows(s, (block.len(), p.tokens), rows, room.probabilities);
            Seed::C
        });
        product(s, size, (room.queries.read(), room.keys.read()), (room.probabilities, seed), steps);
        product(s, size, (room.grads.read(), room.values.read()), (room.grad_scores, Seed::Zero), steps);
    }
}

/// One row of scores becomes probabilities, one row of `dout vᵀ` the gradient of the unscaled scores.
///
/// # Safety
/// As for [`scores`].
#[inline(always)]
unsafe fn grad_scores<S: Tile>(s: S, p: &Plan, row: usize, query: usize, head: &Head, room: &Room) {
    let scale = s.splat(1.0 / (p.dim as f32).sqrt());
    let end = p.visible(query);
    // SAFETY: the caller's promise.
    unsafe {
        let out = std::slice::from_raw_parts(head.out.at(query, 0), p.dim);
        let grad_out = std::slice::from_raw_parts(head.grad_out.at(query, 0), p.dim);
        let delta = s.splat(dot(s, out, grad_out));
        let lse = s.splat(head.lse[query] * LOG2_E);
        for j in (0..end).step_by(S::LANES) {
            let (at_p, at_ds) = (room.probabilities.at(row, j), room.grad_scores.at(row, j));
            let mut prob = math::exp2(s, s.sub(s.load(at_p), lse));
            let mut ds = s.mul(s.mul(prob, scale), s.sub(s.load(at_ds), delta));
            if end - j < S::LANES {
                let mask = s.mask(end - j);
                (prob, ds) = (s.keep(prob, mask), s.keep(ds, mask));
            }
            s.store(at_p, prob);
            s.store(at_ds, ds);
        }
        let computed = end.next_multiple_of(S::LANES);
        if p.causal && computed < p.keys_stride {
            // A tile at the diagonal reads up to one vector further.
            s.store(room.probabilities.at(row, computed), s.splat(0.0));
            s.store(room.grad_scores.at(row, computed), s.splat(0.0));
        }
    }
}

#[inline(always)]
fn dot<S: Tile>(s: S, x: &[f32], y: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for_vectors!(s: S, x.len(), |at| {
        sum = s.mul_add(at.load(x), at.load(y), sum);
    });
    s.sum(sum)
}

/// Gradients of q, k and v from the block's probabilities and gradients of scores.
///
/// # Safety
/// As for [`scores`].
#[inline(always)]
unsafe fn gradients<S: Tile>(s: S, p: &Plan, block: &Range<usize>, head: &Head, room: &Room) {
    let from_diagonal = |keys: Range<usize>, _: Range<usize>| {
        let first = if p.causal { keys.start.saturating_sub(block.start) } else { 0 };
        first..block.len().max(first)
    };
    let [grad_q, grad_k, grad_v] = head.grad;
    // SAFETY: the caller's promise.
    unsafe {
        let of_block = |rows: Rows<*const f32>| Rows { start: rows.at(block.start, 0), stride: rows.stride };
        let size = (p.tokens, p.dim);
        let b = of_block(head.grad_out_as_b);
        product(s, size, (room.probabilities.read(), b), (grad_v, head.seed), from_diagonal);
        let b = of_block(head.q_as_b);
        product(s, size, (room.grad_scores.read(), b), (grad_k, head.seed), from_diagonal);

        let (ds, transposed) = (room.grad_scores, room.grad_scores_transposed);
        for i in (0..block.len()).step_by(S::LANES) {
            let rows = S::LANES.min(block.len() - i);
            let keys = p.tokens.min(p.visible(block.start + i + rows - 1) + S::ROWS);
            transpose(s, (ds.at(i, 0), ds.stride), (rows, keys), 1.0, (transposed.at(0, i), transposed.stride));
        }
        let rows = Rows { start: grad_q.at(block.start, 0), stride: grad_q.stride };
        product(s, (block.len(), p.dim), (transposed.read(), head.k_as_b), (rows, Seed::Zero), |queries, _| {
            0..p.visible(block.start + queries.end - 1)
        });
    }
}
