//! Batch norm against its f64 form, on every path and however a group is cut into slabs.

use super::super::simd::tests::on_every_path;
use super::super::testing::{CHAIN, DIFFERENCE, SUM, assert_close, differences, random, widen};
use super::*;
use crate::reference::{Matrix, dot};

const EPS: f32 = 1e-5;

/// A whole group, slab by slab: y, dx, dgain, dbias, residual's gradient, merged record.
fn run(rows: usize, width: usize, slab: usize, given: &[Vec<f32>; 5], relu: bool, has_add: bool) -> ([Vec<f32>; 5], Vec<f64>) {
    let [x, gain, bias, add, dy] = given;
    let (step, len) = (slab * width, record_len(width));
    let (num, mut s) = (rows.div_ceil(slab), Scratch::new());
    let mut records = vec![0.0; num * len];
    // Last slab first: the order must not matter.
    for i in (0..num).rev() {
        moments(width, x.chunks(step).nth(i).expect("a slab"), &mut records[i * len..(i + 1) * len], &mut s);
    }
    merge(width, &mut records);
    let stats = Statistics::of(&records[..len], EPS);
    let (mut y, mut dx, mut dz) = (vec![f32::NAN; x.len()], vec![0.0; x.len()], dy.clone());
    for (i, (x, y)) in x.chunks(step).zip(y.chunks_mut(step)).enumerate() {
        let add = has_add.then(|| add.chunks(step).nth(i).expect("a slab"));
        normalise(x, &stats, gain, bias, After { add, relu }, y);
    }
    let mut sums = vec![0.0; num * 2 * width];
    for (i, (x, dz)) in x.chunks(step).zip(dz.chunks_mut(step)).enumerate() {
        let y = relu.then(|| y.chunks(step).nth(i).expect("a slab"));
        gradient_sums(x, &stats, y, dz, &mut sums[i * 2 * width..(i + 1) * 2 * width], &mut s);
    }
    add_up(width, &mut sums);
    let sums = &sums[..2 * width];
    for mode in [Accumulation::Overwrite, Accumulation::Add] {
        for ((x, dz), dx) in x.chunks(step).zip(dz.chunks(step)).zip(dx.chunks_mut(step)) {
            backward(x, &stats, gain, (rows, sums), dz, dx, mode, &mut s);
        }
    }
    let (mut dgain, mut dbias) = (vec![0.0; width], vec![0.0; width]);
    add_parameter_gradients(sums, &mut dgain, &mut dbias);
    ([y, dx, dgain, dbias, dz], records[..len].to_vec())
}

#[test]
fn groups_agree_with_the_f64_form_whatever_their_slabs() {
    for (rows, width, slab) in [(6, 3, 6), (40, 12, 8), (70, 37, 16), (128, 24, 9)] {
        let far: Vec<f32> = random(1, rows * width).iter().map(|v| v * 2.0 + 5.0).collect();
        let given = [far, random(2, width), random(3, width), random(4, rows * width), random(5, rows * width)];
        for (relu, has_add) in [(false, false), (true, false), (true, true)] {
            let [x, gain, bias, add, dy] = &given;
            let (gain, bias, add) = (widen(gain), widen(bias), Matrix::from_rows(width, widen(add)));
            let group = reference::Group { gain: &gain, bias: &bias, eps: f64::from(EPS), add: has_add.then_some(&add), relu };
            let (x, dy) = (Matrix::from_rows(width, widen(x)), Matrix::from_rows(width, widen(dy)));
            let y = reference::forward(&group, &x);
            let (dx, dgain, dbias, dz) = reference::backward(&group, &x, &dy);
            let twice: Vec<f64> = dx.values.iter().map(|v| 2.0 * v).collect();
            let (mean, variance) = reference::statistics(&x);
            on_every_path(|path| {
                let (found, record) = run(rows, width, slab, &given, relu, has_add);
                let expected = [&y.values, &twice, &dgain, &dbias, &dz.values];
                for ((found, expected), name) in found.iter().zip(expected).zip(["y", "dx", "dgain", "dbias", "dadd"]) {
                    assert_close(&format!("{path}, {rows} x {width}, slabs of {slab}: {name}"), found, expected, CHAIN);
                }
                let (found, mut variances) = observed(&record);
                let narrow = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v as f32).collect::<Vec<_>>();
                assert_close(&format!("{path}: observed mean"), &narrow(&mut found.iter().copied()), &mean, SUM);
                let unbiased = rows as f64 / (rows as f64 - 1.0);
                let expected: Vec<f64> = variance.iter().map(|v| v * unbiased).collect();
                assert_close(&format!("{path}: observed variance"), &narrow(&mut variances), &expected, SUM);
            });
        }
    }
}

#[test]
fn the_gradient_of_the_f64_form_is_its_slope() {
    let (gain, bias, add) = (widen(&random(2, 3)), widen(&random(3, 3)), Matrix::from_rows(3, widen(&random(4, 15))));
    let group = reference::Group { gain: &gain, bias: &bias, eps: 1e-5, add: Some(&add), relu: true };
    let (x, dy) = (widen(&random(1, 15)), widen(&random(5, 15)));
    let loss = |x: &[f64]| dot(&reference::forward(&group, &Matrix::from_rows(3, x.to_vec())).values, &dy);
    let (dx, ..) = reference::backward(&group, &Matrix::from_rows(3, x.clone()), &Matrix::from_rows(3, dy.clone()));
    assert_close("dx", &dx.values.iter().map(|v| *v as f32).collect::<Vec<_>>(), &differences(&x, loss), DIFFERENCE);
}

#[test]
fn evaluation_takes_the_running_statistics() {
    let stats = Statistics::running(&[1.0, -1.0], &[4.0, 0.25], 0.0);
    let mut y = [0.0; 4];
    normalise(&[3.0, 0.0, 1.0, -2.0], &stats, &[2.0, 1.0], &[0.5, 0.0], After { add: None, relu: true }, &mut y);
    assert_eq!(y, [2.5, 2.0, 0.5, 0.0]);
}
