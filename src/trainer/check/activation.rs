//! `kernels/activation.cu` against the CPU rows.

use crate::run::Activation;
use crate::trainer::ops::activation;
use crate::trainer::ops::launch::Real;

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

/// Values and slopes agree with the cpu for every kind and length.
pub(super) fn values_and_slopes_agree_with_the_cpu_for_every_kind_and_length() {
    for (real, limit) in REALS.into_iter().zip([2e-6, 5e-3]) {
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
            for (len, order) in [1, 7, 8, 2049, 5000].into_iter().zip(ORDERS.into_iter().cycle()) {
                check(real, limit, kind, len, order);
            }
        }
    }
}

fn check(real: Real, limit: f32, kind: Activation, len: usize, order: u32) {
    let x: Vec<f32> = rounded(&random(1, len).iter().map(|v| v * 6.0).collect::<Vec<_>>(), real);
    let upstream = rounded(&random(2, len), real);
    let (mut y, mut grad) = (vec![0.0; len], upstream.clone());
    activation::backward(kind, &x, &mut y, &mut grad);

    let mut bench = Bench::new(real, order);
    let (x, grad_view) = (bench.reals(&x), bench.reals(&upstream));
    let (forward, again) = (bench.unwritten_reals(len), bench.unwritten_reals(len));
    bench.run([activation::cuda::forward(kind, len, x, forward), activation::cuda::backward(kind, len, x, again, grad_view)]);
    let what = format!("{kind:?} {real:?} {len}");
    assert_near(&what, &bench.read_reals(forward, len), &y, limit);
    assert_near(&format!("{what} again"), &bench.read_reals(again, len), &y, limit);
    // The logistic function is made of a power of two and a reciprocal, each up to two units off in f32; its slope takes that times
    // x and the slope of the inner function, of which the product is up to about 10 where s (1 - s) counts.
    let limit = limit.max(5e-6);
    assert_near(&format!("{what} gradient"), &bench.read_reals(grad_view, len), &grad, limit);
}
