//! Convolutions against their definition, on every path.

use super::super::simd::tests::on_every_path;
use super::super::testing::{DIFFERENCE, SUM, assert_close, differences, random, widen};
use super::*;
use crate::reference::{Matrix, dot};

/// (samples, side, inputs, outputs, kernel, stride, padding)
const SHAPES: [(usize, usize, usize, usize, usize, usize, usize); 13] = [
    (1, 1, 1, 1, 1, 1, 0),
    (2, 5, 7, 9, 1, 1, 0),
    (2, 5, 7, 9, 1, 2, 0),
    (3, 4, 5, 6, 3, 1, 1),
    (2, 7, 16, 24, 3, 1, 1),
    (2, 8, 12, 20, 3, 2, 1),
    (1, 9, 8, 33, 3, 2, 1),
    (2, 16, 3, 8, 7, 2, 3),
    (3, 2, 17, 5, 3, 1, 1),
    (2, 6, 10, 12, 2, 2, 0),
    (1, 16, 40, 32, 3, 1, 1),
    (2, 5, 4, 3, 5, 1, 1),
    (1, 3, 2, 4, 3, 1, 3),
];

fn shape_of((_, side, inputs, outputs, kernel, stride, padding): (usize, usize, usize, usize, usize, usize, usize)) -> ConvShape {
    ConvShape { side, inputs, outputs, kernel, stride, padding }
}

#[test]
fn maps_and_gradients_agree_with_the_definition_for_any_kernel_stride_and_padding() {
    let mut s = Scratch::new();
    for case in SHAPES {
        let (samples, shape) = (case.0, shape_of(case));
        let (x, w) = (random(1, samples * shape.pixels() * shape.inputs), random(2, shape.outputs * shape.patch()));
        let (b, dy) = (random(3, shape.outputs), random(4, samples * shape.out_pixels() * shape.outputs));
        let weight = Matrix::from_rows(shape.patch(), widen(&w));
        let (mut y64, mut dx64, mut dw64, mut db64) = (vec![], vec![], vec![0.0; w.len()], vec![0.0; shape.outputs]);
        let per_sample = x.chunks_exact(x.len() / samples).zip(dy.chunks_exact(dy.len() / samples));
        for (x, dy) in per_sample {
            let (x, dy) = (Matrix::from_rows(shape.inputs, widen(x)), Matrix::from_rows(shape.outputs, widen(dy)));
            y64.extend(reference::forward(&shape, &weight, Some(&widen(&b)), &x).values);
            let (dx, dw, db) = reference::backward(&shape, &weight, &x, &dy);
            dx64.extend(dx.values);
            crate::reference::add(&dw.values, &mut dw64);
            crate::reference::add(&db, &mut db64);
        }
        on_every_path(|path| {
            let what = |name| format!("{name}, {path}, {samples} x {shape:?}");
            let mut packed = vec![f32::NAN; linear::packed_len(&shape.linear())];
            linear::pack(&shape.linear(), &w, &mut packed);
            for packed in [&packed[..], &[]] {
                let l = Linear { shape: shape.linear(), weight: &w, packed };
                let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                forward(&shape, &l, samples, &x, Some(&b), &mut y, &mut s);
                assert_close(&what("y"), &y, &y64, SUM);
                for (mode, times) in [(Accumulation::Overwrite, 1.0), (Accumulation::Add, 2.0)] {
                    backward_input(&shape, &l, samples, &dy, &mut dx, mode, &mut s);
                    assert_close(&what("dx"), &dx, &dx64.iter().map(|v| v * times).collect::<Vec<_>>(), SUM);
                }
            }
            let (mut dw, mut db) = (vec![f32::NAN; w.len()], vec![f32::NAN; shape.outputs]);
            for (accumulate, times) in [(false, 1.0), (true, 2.0)] {
                backward_weight(&shape, samples, &x, &dy, &mut dw, Some(&mut db), accumulate, &mut s);
                assert_close(&what("dw"), &dw, &dw64.iter().map(|v| v * times).collect::<Vec<_>>(), SUM);
                assert_close(&what("db"), &db, &db64.iter().map(|v| v * times).collect::<Vec<_>>(), SUM);
            }
        });
    }
}

#[test]
fn the_gradients_of_the_definition_are_its_slopes() {
    let shape = ConvShape { side: 4, inputs: 2, outputs: 3, kernel: 3, stride: 2, padding: 1 };
    let (x, w, dy) = (widen(&random(1, 32)), widen(&random(2, 54)), widen(&random(3, 12)));
    let loss = |x: &[f64], w: &[f64]| {
        let y = reference::forward(&shape, &Matrix::from_rows(18, w.to_vec()), None, &Matrix::from_rows(2, x.to_vec()));
        dot(&y.values, &dy)
    };
    let (matrix, dy) = (Matrix::from_rows(18, w.clone()), Matrix::from_rows(3, dy.clone()));
    let (dx, dw, _) = reference::backward(&shape, &matrix, &Matrix::from_rows(2, x.clone()), &dy);
    let narrow = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    assert_close("dx", &narrow(dx.values), &differences(&x, |x| loss(x, &w)), DIFFERENCE);
    assert_close("dw", &narrow(dw.values), &differences(&w, |w| loss(&x, w)), DIFFERENCE);
}

#[test]
fn vector_paths_give_the_same_bits_for_samples_alone_and_together() {
    let shape = ConvShape { side: 8, inputs: 12, outputs: 20, kernel: 3, stride: 1, padding: 1 };
    let (samples, mut s) = (9, Scratch::new());
    let (x, w) = (random(1, samples * 64 * 12), random(2, 20 * shape.patch()));
    let dy = random(3, samples * 64 * 20);
    on_every_path(|path| {
        if matches!(path, "portable" | "neon") {
            return;
        }
        let mut packed = vec![f32::NAN; linear::packed_len(&shape.linear())];
        linear::pack(&shape.linear(), &w, &mut packed);
        let l = Linear { shape: shape.linear(), weight: &w, packed: &packed };
        let mut run = |chunk: usize| {
            let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            for from in (0..samples).step_by(chunk) {
                let n = chunk.min(samples - from);
                let (ins, outs) = (from * 768..(from + n) * 768, from * 1280..(from + n) * 1280);
                forward(&shape, &l, n, &x[ins.clone()], None, &mut y[outs.clone()], &mut s);
                backward_input(&shape, &l, n, &dy[outs], &mut dx[ins], Accumulation::Overwrite, &mut s);
            }
            (y, dx)
        };
        assert!(run(1) == run(9) && run(4) == run(9), "{path}");
    });
}

#[test]
fn stored_weights_go_to_the_exported_form_and_back() {
    let stored: Vec<u32> = (0..2 * 4 * 3).collect();
    let exported = transposed((2, 4, 3), &stored);
    assert_eq!(exported[..8], [0, 3, 6, 9, 1, 4, 7, 10]);
    assert_eq!(transposed((2, 3, 4), &exported), stored);
}
