//! `kernels/adafactor.cu` against the CPU op.

use std::ops::Range;

use crate::trainer::ops::Scratch;
use crate::trainer::ops::adafactor::{self, Adafactor, Slices, Update, cuda};
use crate::trainer::ops::flat::{FlatView, StepBuffers, control};
use crate::trainer::ops::launch::{Node, Real, View};

use super::flat::{Cut, Method, check_steps, check_unfit, views};
use super::lab::{ORDERS, REALS};

const H: Adafactor = Adafactor { beta1: 0.9, beta2_cap: 0.5 };

struct Kernels;

impl Method for Kernels {
    fn second(&self, views: &[FlatView]) -> (Vec<Range<usize>>, usize) {
        (cuda::second_layout(views), cuda::second_len(views))
    }
    fn table(&self, views: &[FlatView]) -> (Vec<u32>, usize) {
        (cuda::table(views), cuda::scratch_bytes(views))
    }
    fn control(&self, step: u64, controls: &mut [f32; control::LEN]) {
        controls[control::DECAY] = adafactor::decay(&H, step);
    }
    fn nodes(&self, views: &[FlatView], buffers: &StepBuffers, scratch: View) -> Vec<Node> {
        cuda::update(views, &H, buffers, scratch)
    }
    fn on_cpu(&self, view: &FlatView, step: u64, lr: f32, keep: f32, state: Cut) {
        let Cut { params, grads, first: momentum, second } = state;
        let slices = Slices { params, grads, momentum, second };
        adafactor::update(&H, &Update { step, lr, keep }, &view.matrix, slices, &mut Scratch::default());
    }
}

/// Not factored and factored; wide rows and rows that are no multiple of 4.
const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 1, 7],
    [1, 1, 64],
    [1, 1, 1000],
    [1, 32, 32],
    [1, 40, 33],
    [3, 32, 40],
    [1, 31, 150],
    [1, 200, 64],
    [2, 33, 37],
];

/// Several steps of adafactor agree with the cpu for every view.
pub(super) fn several_steps_of_adafactor_agree_with_the_cpu_for_every_view() {
    let views = views(&SHAPES);
    for real in REALS {
        for (order, clip) in ORDERS.into_iter().zip([true, false, true]) {
            check_steps(&Kernels, &views, real, order, clip);
        }
    }
}

/// More than 512 columns make several tiles side by side, more than 1024 rows several merged stretches.
pub(super) fn large_matrices_spread_over_many_blocks_give_the_same_bytes_in_every_order() {
    let views = views(&[[1, 65, 1028], [1, 33, 518], [1, 1100, 36]]);
    let found = [0, 7].map(|order| check_steps(&Kernels, &views, Real::Bf16, order, true));
    assert!(found[0] == found[1]);
}

/// Adafactor stops at the first step that is not finite.
pub(super) fn adafactor_stops_at_the_first_step_that_is_not_finite() {
    check_unfit(&Kernels, &views(&[[1, 1, 1], [1, 33, 40]]), Real::F32);
    check_unfit(&Kernels, &views(&[[1, 1, 1], [1, 33, 40]]), Real::Bf16);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A view's state is as long as on the CPU and starts at a multiple of 64 floats.
    #[test]
    fn second_moments_lie_one_after_another() {
        let views = views(&[[1, 1, 7], [2, 33, 40], [1, 1, 64], [1, 1, 1]]);
        assert_eq!(cuda::second_layout(&views), [0..7, 64..210, 256..320, 320..321]);
        assert_eq!(cuda::second_len(&views), 384);
    }
}
