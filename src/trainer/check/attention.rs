//! `kernels/attention.cu` against the CPU rows, sample by sample.

use crate::trainer::ops::Scratch;
use crate::trainer::ops::attention::cuda::{self, BackwardViews};
use crate::trainer::ops::attention::{self, AttentionShape};
use crate::trainer::ops::launch::{Real, View};

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

/// Tokens, heads, channels of a head, samples. Every padded head size; whole and partial 16-byte pieces; too few heads and
/// samples for a block of several; from 82 tokens of 128 channels and 129 of fewer on, dq by a launch of its own.
const SHAPES: [(usize, usize, usize, usize); 20] = [
    (1, 1, 1, 1),
    (1, 3, 64, 3),
    (2, 3, 8, 2),
    (2, 1, 32, 1),
    (15, 1, 13, 3),
    (16, 3, 16, 2),
    (16, 1, 128, 1),
    (17, 3, 32, 1),
    (17, 1, 72, 2),
    (31, 1, 20, 3),
    (50, 1, 64, 2),
    (50, 3, 13, 1),
    (64, 1, 128, 1),
    (65, 1, 64, 1),
    (65, 2, 90, 1),
    (77, 1, 32, 1),
    (82, 1, 128, 1),
    (130, 1, 64, 1),
    (130, 2, 13, 1),
    (197, 1, 16, 1),
];

struct Case {
    shape: AttentionShape,
    samples: usize,
    real: Real,
    /// Factor of q, k and v.
    large: f32,
    order: u32,
    /// Elements before every array of the compute type.
    offset: usize,
}

/// Output, log-sum-exp and gradient.
type Found = [Vec<f32>; 3];

/// Output and gradient agree with the cpu in any shape full and causal.
pub(super) fn output_and_gradient_agree_with_the_cpu_in_any_shape_full_and_causal() {
    for_every_shape(2.0);
}

/// Large scores neither overflow nor lose the winner.
pub(super) fn large_scores_neither_overflow_nor_lose_the_winner() {
    for_every_shape(8.0);
}

fn for_every_shape(large: f32) {
    let mut turn = 0;
    for real in REALS {
        for (tokens, heads, head_dim, samples) in SHAPES {
            for causal in [false, true] {
                let shape = AttentionShape { tokens, heads, head_dim, causal };
                check(&Case { shape, samples, real, large, order: ORDERS[turn % 3], offset: 0 });
                turn += 1;
            }
        }
    }
}

/// Arrays may start at any element.
pub(super) fn arrays_may_start_at_any_element() {
    for (real, order) in REALS.into_iter().zip(ORDERS) {
        for (tokens, head_dim) in [(19, 16), (150, 32)] {
            let shape = AttentionShape { tokens, heads: 2, head_dim, causal: true };
            check(&Case { shape, samples: 2, real, large: 2.0, order, offset: 1 });
        }
    }
}

/// Every order of threads gives the same bytes.
pub(super) fn every_order_of_threads_gives_the_same_bytes() {
    for real in REALS {
        for tokens in [33, 140] {
            let shape = AttentionShape { tokens, heads: 1, head_dim: 24, causal: true };
            let found = ORDERS.map(|order| {
                let case = Case { shape, samples: 2, real, large: 2.0, order, offset: 0 };
                let (qkv, upstream) = inputs(&case);
                run(&case, &qkv, &upstream).map(|values| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
            });
            assert!(found.iter().all(|other| *other == found[0]), "{real:?} {shape:?}");
        }
    }
}

fn inputs(case: &Case) -> (Vec<f32>, Vec<f32>) {
    let len = case.samples * case.shape.tokens * case.shape.width();
    let qkv: Vec<f32> = random(1, 3 * len).iter().map(|v| v * case.large).collect();
    (rounded(&qkv, case.real), rounded(&random(2, len), case.real))
}

fn check(case: &Case) {
    let (qkv, upstream) = inputs(case);
    let found = run(case, &qkv, &upstream);
    let expected = on_cpu(case, &qkv, &upstream, &found);
    // bf16: out and gradients are rounded, and p and ds before, as factors. f32: scores are up to 500 where values are large, and an
    // exponential has their absolute error.
    let limits = match case.real {
        Real::F32 => [2e-5, 5e-6, 2e-5],
        Real::Bf16 => [8e-3, 5e-6, 1.5e-2],
    };
    let Case { shape, samples, real, large, order, .. } = case;
    for (i, name) in ["out", "lse", "dqkv"].into_iter().enumerate() {
        assert_near(
            &format!("{name}, {samples} x {shape:?}, {real:?}, {large}, order {order}"),
            &found[i],
            &expected[i],
            limits[i],
        );
    }
}

/// Backward starts from what the kernel left of forward: the rounding of the output moves a gradient by up to 3% of the largest where
/// the softmax is saturated, since its probability is near 1 and the gradient of a score is a difference from delta.
fn on_cpu(case: &Case, qkv: &[f32], upstream: &[f32], [found_out, found_lse, _]: &Found) -> Found {
    let AttentionShape { tokens, heads, .. } = case.shape;
    let row = tokens * case.shape.width();
    let mut expected = [vec![0.0; upstream.len()], vec![0.0; case.samples * heads * tokens], vec![0.0; qkv.len()]];
    let [out, lse, grad_qkv] = &mut expected;
    let mut scratch = Scratch::new();
    for sample in 0..case.samples {
        let part = |len: usize| sample * len..(sample + 1) * len;
        let (once, thrice, stats) = (part(row), part(3 * row), part(heads * tokens));
        let qkv = &qkv[thrice.clone()];
        attention::forward(&case.shape, qkv, &mut out[once.clone()], &mut lse[stats.clone()], &mut scratch);
        let (out, upstream, lse) = (&found_out[once.clone()], &upstream[once], &found_lse[stats]);
        attention::backward(&case.shape, qkv, out, upstream, lse, &mut grad_qkv[thrice], &mut scratch);
    }
    expected
}

fn run(case: &Case, qkv: &[f32], upstream: &[f32]) -> Found {
    let Case { shape, samples, real, order, offset, .. } = case;
    let mut bench = Bench::new(*real, *order);
    let mut reals = |values: &[f32]| -> View {
        let padded: Vec<f32> = std::iter::repeat_n(f32::NAN, *offset).chain(values.iter().copied()).collect();
        bench.reals(&padded).at(offset * real.bytes())
    };
    let (qkv_view, grad_out) = (reals(qkv), reals(upstream));
    let (out, grad_qkv) = (reals(&vec![f32::NAN; upstream.len()]), reals(&vec![f32::NAN; qkv.len()]));
    let stats = samples * shape.heads * shape.tokens;
    let lse = bench.unwritten_floats(stats);
    let scratch = bench.unwritten_floats(cuda::backward_scratch_bytes(shape, *real, *samples) / 4);
    bench.run([cuda::forward(shape, *real, *samples, qkv_view, out, lse)]);
    let views = BackwardViews { qkv: qkv_view, out, lse, grad_out, grad_qkv, scratch };
    bench.run(cuda::backward(shape, *real, *samples, views));
    [bench.read_reals(out, upstream.len()), bench.read_floats(lse, stats), bench.read_reals(grad_qkv, qkv.len())]
}
