//! `kernels/adamw.cu` against the CPU op.

use std::ops::Range;

use crate::trainer::ops::adamw::{self, AdamW, Update};
use crate::trainer::ops::flat::{FlatView, StepBuffers, control};
use crate::trainer::ops::launch::{Node, Real, View};

use super::flat::{Cut, Method, check_steps, check_unfit, views};
use super::lab::{ORDERS, REALS};

const H: AdamW = AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8 };

struct Kernels;

impl Method for Kernels {
    fn second(&self, views: &[FlatView]) -> (Vec<Range<usize>>, usize) {
        let ranges: Vec<_> = views.iter().map(|view| view.offset..view.offset + view.matrix.len()).collect();
        let end = ranges.last().map_or(0, |range| range.end);
        (ranges, end.next_multiple_of(64))
    }
    fn table(&self, views: &[FlatView]) -> (Vec<u32>, usize) {
        (adamw::cuda::table(views), 0)
    }
    fn control(&self, step: u64, controls: &mut [f32; control::LEN]) {
        controls[control::UNBIAS1..=control::UNBIAS2].copy_from_slice(&adamw::unbias(&H, step));
    }
    fn nodes(&self, views: &[FlatView], buffers: &StepBuffers, _: View) -> Vec<Node> {
        adamw::cuda::update(views, &H, buffers)
    }
    fn on_cpu(&self, _: &FlatView, step: u64, lr: f32, keep: f32, state: Cut) {
        let Cut { params, grads, first, second } = state;
        adamw::update(&H, &Update { step, lr, keep }, params, grads, first, second);
    }
}

/// The last two are longer than a piece of 4096.
const SHAPES: [[usize; 3]; 9] =
    [[1, 1, 1], [1, 1, 7], [1, 1, 64], [1, 1, 1000], [1, 32, 32], [1, 40, 33], [3, 32, 40], [1, 31, 133], [1, 200, 64]];

/// Several steps of adamw agree with the cpu for every view.
pub(super) fn several_steps_of_adamw_agree_with_the_cpu_for_every_view() {
    let views = views(&SHAPES);
    for real in REALS {
        for (order, clip) in ORDERS.into_iter().zip([true, false, true]) {
            check_steps(&Kernels, &views, real, order, clip);
        }
    }
}

/// Adamw stops at the first step that is not finite.
pub(super) fn adamw_stops_at_the_first_step_that_is_not_finite() {
    check_unfit(&Kernels, &views(&[[1, 1, 1], [1, 33, 9]]), Real::F32);
    check_unfit(&Kernels, &views(&[[1, 1, 1], [1, 33, 9]]), Real::Bf16);
}
