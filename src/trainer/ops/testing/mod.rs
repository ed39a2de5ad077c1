//! What the tests of the operations share: random rows, tolerances, finite differences; checks of whole ops, alone and one after
//! another.

pub(crate) mod chain;
pub(crate) mod graph;
pub(crate) mod op;

/// Numbers in [-1, 1) that depend on the seed alone.
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..20).for_each(|_| {
        next();
    });
    (0..len).map(|_| next()).collect()
}

pub(crate) fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Allowed error of one element: `atol * largest + rtol * |reference|`, with the largest magnitude of the reference tensor
/// (at least 1e-3).
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
}

/// One rounding or few: half an ulp is 6e-8.
pub(crate) const ROUNDED: Tolerance = Tolerance { atol: 0.0, rtol: 3e-7 };
/// One vector function: its stated error (2e-6 for the normal distribution), cancellation next to zeros of the result.
pub(crate) const FUNCTION: Tolerance = Tolerance { atol: 5e-7, rtol: 3e-6 };
/// A sum of up to a few thousand products: chains of rounding errors, 6e-8 times the root of the length and some cancellation.
pub(crate) const SUM: Tolerance = Tolerance { atol: 3e-6, rtol: 3e-6 };
/// Several sums and functions after one another, as the gradient of an attention.
pub(crate) const CHAIN: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-5 };
/// A central difference in f64 with a step of 1e-5: truncation and cancellation.
pub(crate) const DIFFERENCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: Tolerance) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        let limit = tolerance.atol * largest + tolerance.rtol * expected.abs();
        assert!(error <= limit, "{what}: element {i}: {found} for {expected}, error {error:e} over {limit:e}");
    }
}

/// Gradient of a scalar function by central differences.
pub(crate) fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let (at, step) = (x[i], 1e-5);
            x[i] = at + step;
            let above = f(&x);
            x[i] = at - step;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2.0 * step)
        })
        .collect()
}
