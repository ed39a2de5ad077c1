//! Depthwise convolutions against their definition, on every path.

use super::super::simd::tests::on_every_path;
use super::super::testing::{DIFFERENCE, SUM, assert_close, differences, random, widen};
use super::*;
use crate::reference::{Matrix, dot};

#[test]
fn maps_and_gradients_agree_with_the_definition_for_any_side_and_width() {
    let sides = (1..=14).chain([16, 19, 21]).map(|side| (side, 7));
    let mut s = Scratch::new();
    for (side, kernel) in sides.chain([(1, 1), (5, 1), (6, 3), (4, 5), (2, 9)]) {
        for channels in [3, 8, 12, 24, 37] {
            let (samples, shape) = (if side < 5 { 5 } else { 2 }, DepthwiseShape { side, channels, kernel });
            let (x, w) = (random(1, samples * shape.map()), random(2, shape.weight()));
            let (b, dy) = (random(3, channels), random(4, x.len()));
            let weight = Matrix::from_rows(channels, widen(&w));
            let (mut y64, mut dx64, mut dw64, mut db64) = (vec![], vec![], vec![0.0; w.len()], vec![0.0; channels]);
            for (x, dy) in x.chunks_exact(shape.map()).zip(dy.chunks_exact(shape.map())) {
                let (x, dy) = (Matrix::from_rows(channels, widen(x)), Matrix::from_rows(channels, widen(dy)));
                y64.extend(reference::forward(&shape, &weight, &widen(&b), &x).values);
                let (dx, dw, db) = reference::backward(&shape, &weight, &x, &dy);
                dx64.extend(dx.values);
                crate::reference::add(&dw.values, &mut dw64);
                crate::reference::add(&db, &mut db64);
            }
            on_every_path(|path| {
                let what = |name| format!("{name}, {path}, {samples} x {shape:?}");
                let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                forward(&shape, samples, &x, &w, Some(&b), &mut y, &mut s);
                assert_close(&what("y"), &y, &y64, SUM);
                let (mut dw, mut db) = (vec![f32::NAN; w.len()], vec![f32::NAN; channels]);
                for (mode, times) in [(Accumulation::Overwrite, 1.0), (Accumulation::Add, 2.0)] {
                    let scaled = |v: &[f64]| v.iter().map(|v| v * times).collect::<Vec<_>>();
                    backward_input(&shape, samples, &dy, &w, &mut dx, mode, &mut s);
                    assert_close(&what("dx"), &dx, &scaled(&dx64), SUM);
                    let accumulate = mode == Accumulation::Add;
                    backward_weight(&shape, samples, &x, &dy, &mut dw, Some(&mut db), accumulate, &mut s);
                    assert_close(&what("dw"), &dw, &scaled(&dw64), SUM);
                    assert_close(&what("db"), &db, &scaled(&db64), SUM);
                }
            });
        }
    }
}

#[test]
fn the_gradients_of_the_definition_are_its_slopes() {
    let shape = DepthwiseShape { side: 3, channels: 2, kernel: 5 };
    let (x, w, dy) = (widen(&random(1, 18)), widen(&random(2, 50)), widen(&random(3, 18)));
    let rows = |v: &[f64]| Matrix::from_rows(2, v.to_vec());
    let loss = |x: &[f64], w: &[f64]| dot(&reference::forward(&shape, &rows(w), &[0.0; 2], &rows(x)).values, &dy);
    let (dx, dw, _) = reference::backward(&shape, &rows(&w), &rows(&x), &rows(&dy));
    let narrow = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    assert_close("dx", &narrow(dx.values), &differences(&x, |x| loss(x, &w)), DIFFERENCE);
    assert_close("dw", &narrow(dw.values), &differences(&w, |w| loss(&x, w)), DIFFERENCE);
}

#[test]
fn a_sample_gives_the_same_bits_alone_and_among_others() {
    let shape = DepthwiseShape { side: 8, channels: 12, kernel: 7 };
    let (x, w, b, mut s) = (random(1, 5 * shape.map()), random(2, shape.weight()), random(3, 12), Scratch::new());
    on_every_path(|path| {
        let (mut together, mut alone) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        forward(&shape, 5, &x, &w, Some(&b), &mut together, &mut s);
        for (x, y) in x.chunks_exact(shape.map()).zip(alone.chunks_exact_mut(shape.map())) {
            forward(&shape, 1, x, &w, Some(&b), y, &mut s);
        }
        assert!(together == alone, "{path}");
    });
}
