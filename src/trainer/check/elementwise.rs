//! `kernels/elementwise.cu` against the CPU ops.

use crate::trainer::ops::elementwise::{self, cuda};
use crate::trainer::ops::flat::{control, report};
use crate::trainer::ops::launch::Real;

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

/// Casts round to the nearest wherever they start.
pub(super) fn casts_round_to_the_nearest_wherever_they_start() {
    for real in REALS {
        for (len, order) in [1, 7, 64, 2048, 2053].into_iter().zip(ORDERS.into_iter().cycle()) {
            for skipped in [0, 1] {
                let x = random(1, len + skipped);
                let mut bench = Bench::new(real, order);
                let (from, to) = (bench.floats(&x), bench.unwritten_reals(len + skipped));
                bench.run([cuda::cast(len, from.floats(skipped), to.at(skipped * real.bytes()))]);
                let found = bench.read_reals(to.at(skipped * real.bytes()), len);
                assert!(found == rounded(&x[skipped..], real), "{len} from {skipped}");
            }
        }
    }
}

/// Sums take and give both types, also in place.
pub(super) fn sums_take_and_give_both_types_also_in_place() {
    for (idx, len) in [1, 255, 2048, 2053].into_iter().enumerate() {
        for (real, x_real, y_real) in [
            (Real::F32, Real::F32, Some(Real::F32)),
            (Real::Bf16, Real::F32, Some(Real::Bf16)),
            (Real::Bf16, Real::Bf16, Some(Real::F32)),
            (Real::Bf16, Real::Bf16, None),
        ] {
            let mut bench = Bench::new(real, ORDERS[idx % ORDERS.len()]);
            let mut operand = |seed: u64, of: Real| {
                let values = rounded(&random(seed, len), of);
                let view = if of == Real::F32 { bench.floats(&values) } else { bench.reals(&values) };
                (cuda::Elements { view, real: of }, values)
            };
            let (x, xs) = operand(1, x_real);
            let y = y_real.map(|of| operand(2, of));
            let expected: Vec<f32> = match &y {
                Some((_, ys)) => xs.iter().zip(ys).map(|(x, y)| x + y).collect(),
                None => xs,
            };
            let (z, z_real) = (bench.unwritten_floats(len), bench.unwritten_reals(len));
            let y = y.map(|(elements, _)| elements);
            bench.run([cuda::sum(len, x, y, Some(z), None), cuda::sum(len, x, y, None, Some(z_real))]);
            assert_eq!(bench.read_floats(z, len), expected, "{len} {x_real:?} {y_real:?}");
            assert_eq!(bench.read_reals(z_real, len), rounded(&expected, real), "{len} {x_real:?} {y_real:?}");
            if let Some(in_place) = [Some(x), y].into_iter().flatten().find(|elements| elements.real == Real::F32) {
                let copy = bench.unwritten_reals(len);
                bench.run([cuda::sum(len, x, y, Some(in_place.view), Some(copy))]);
                assert_eq!(bench.read_floats(in_place.view, len), expected, "{len} {x_real:?} {y_real:?} in place");
                assert_eq!(bench.read_reals(copy, len), rounded(&expected, real), "{len} {x_real:?} {y_real:?} in place");
            }
        }
    }
}

/// Column sums agree with the cpu for both inputs and any shape.
pub(super) fn column_sums_agree_with_the_cpu_for_both_inputs_and_any_shape() {
    // In bf16 the last three are read 16 bytes at a time, in f32 the last four.
    let shapes = [(1, 1), (7, 13), (300, 65), (1000, 3), (513, 260), (513, 264), (300, 64), (40, 1288)];
    for (real, x_real) in [(Real::F32, Real::F32), (Real::Bf16, Real::F32), (Real::Bf16, Real::Bf16)] {
        for (idx, (rows, columns)) in shapes.into_iter().enumerate() {
            for accumulate in [false, true] {
                let skipped = usize::from(rows == 40 && accumulate);
                let orders = [ORDERS[0], ORDERS[1 + idx % 2]];
                let found = orders.map(|order| sums(real, x_real, order, rows, columns, accumulate, skipped));
                assert!(found[0] == found[1], "the same bytes in every order: {rows} x {columns}");
            }
        }
    }
}

/// Checks the column sums of a matrix that starts `skipped` elements into its buffer.
fn sums(real: Real, x_real: Real, order: u32, rows: usize, columns: usize, accumulate: bool, skipped: usize) -> Vec<f32> {
    let x = rounded(&random(1, rows * columns + skipped), x_real);
    let start = random(2, columns);
    let mut expected = if accumulate { start.clone() } else { vec![0.0; columns] };
    elementwise::column_sums(&x[skipped..], &mut expected);

    let mut bench = Bench::new(real, order);
    let from = if x_real == Real::F32 { bench.floats(&x) } else { bench.reals(&x) };
    let to = if accumulate { bench.floats(&start) } else { bench.unwritten_floats(columns) };
    let scratch = bench.unwritten_floats(cuda::column_sums_scratch_bytes(rows, columns) / 4);
    bench.run(cuda::column_sums(rows, columns, from.at(skipped * x_real.bytes()), x_real, to, accumulate, scratch));
    let found = bench.read_floats(to, columns);
    assert_near(&format!("{rows} x {columns} {x_real:?} {accumulate}"), &found, &expected, 3e-6);
    found
}

/// The norm is that of the cpu with and without a limit.
pub(super) fn the_norm_is_that_of_the_cpu_with_and_without_a_limit() {
    // The last has more stretches than blocks, and starts off a multiple of 16 bytes as the third does.
    let lens = [1, 64, 4097, 10_000, 1060 * 4096 + 5];
    for ((len, skipped), order) in lens.into_iter().zip([0, 0, 1, 0, 0]).zip([0, 1, 7, 7, 0]) {
        let mut drawn = random(1, 5001);
        drawn.push(1.5);
        let x: Vec<f32> = (0..len + skipped).map(|idx| drawn[idx % drawn.len()]).collect();
        let norm = elementwise::sum_of_squares(&x[skipped..]).sqrt();
        for limit in [None, Some(0.25_f32), Some(1e9)] {
            let mut bench = Bench::new(Real::F32, order);
            let (grad, scratch) = (bench.floats(&x), bench.unwritten_floats(cuda::global_norm_scratch_bytes(len) / 4));
            let (controls, said) = (bench.floats(&[0.0; control::LEN]), bench.floats(&[0.5; report::LEN]));
            let fit = crate::trainer::ops::launch::Node::Zero { view: said.floats(report::UNFIT), bytes: 4 };
            bench.run([fit]);
            bench.run(cuda::global_norm(len, grad.floats(skipped), limit, controls, said, scratch));
            let clip = if limit == Some(0.25) { (0.25 / norm) as f32 } else { 1.0 };
            let found = bench.read_floats(said, report::LEN);
            assert_near(&format!("norm of {len}"), &found[report::GRAD_NORM..report::CLIP], &[norm as f32], 1e-6);
            assert_near(&format!("clip of {len}"), &found[report::CLIP..report::UNFIT], &[clip], 1e-6);
            assert_eq!([&found[..2], &found[4..]].concat(), [0.5, 0.5, 0.0, 0.5, 0.5, 0.5], "the rest is left alone");
        }
    }
}

/// The logit scale is clamped unless a step was unfit.
pub(super) fn the_logit_scale_is_clamped_unless_a_step_was_unfit() {
    for unfit in [0.0, 1.0] {
        let values = [-1.0, 0.0, 0.5, 4.0, 9.0];
        let mut bench = Bench::new(Real::F32, 0);
        let (params, said) = (bench.floats(&values), bench.floats(&[0.0, 0.0, 0.0, 0.0, unfit, 0.0, 0.0, 0.0]));
        bench.run((0..values.len()).map(|idx| cuda::clamp_logit_scale(params.floats(idx), 4.0, said)));
        let expected = values.map(|value: f32| if unfit == 0.0 { value.clamp(0.0, 4.0) } else { value });
        assert_eq!(bench.read_floats(params, values.len()), expected);
    }
}
