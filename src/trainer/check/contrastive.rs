//! `kernels/contrastive.cu` and its products against the CPU rows.

use crate::trainer::ops::contrastive::{self, Contrastive, Form, cuda, sigmoid};
use crate::trainer::ops::launch::{Real, View};
use crate::trainer::ops::{Sequential, normalize};

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

const FORMS: [Form; 2] = [Form::Softmax, Form::Sigmoid];

/// One loss to compute.
#[derive(Debug, Clone, Copy)]
struct Case {
    shape: Contrastive,
    form: Form,
    schedule: cuda::Schedule,
    real: Real,
    scale: f32,
    order: u32,
    /// Elements before the features in their buffers, so that rows are not aligned.
    skipped: usize,
}

struct Found {
    image: Vec<f32>,
    text: Vec<f32>,
    loss: f64,
    grad_log_scale: f64,
    grad_bias: f64,
}

/// Both losses agree with the cpu in both schedules on every shape.
pub(super) fn both_losses_agree_with_the_cpu_in_both_schedules_on_every_shape() {
    let mut turn = 0;
    for batch in [1, 2, 7, 64, 65, 130, 200] {
        for embed_dim in [1, 8, 20, 64, 96] {
            for (form, real) in FORMS.into_iter().flat_map(|form| REALS.map(|real| (form, real))) {
                for schedule in [cuda::Schedule::Fused, cuda::Schedule::Slabs { rows: 64 }] {
                    for scale in [14.0, 100.0] {
                        let shape = Contrastive { batch, embed_dim };
                        check(Case { shape, form, schedule, real, scale, order: ORDERS[turn % 3], skipped: 0 });
                        turn += 1;
                    }
                }
            }
        }
    }
}

/// Wide features long batches and views at odd places agree with the cpu.
pub(super) fn wide_features_long_batches_and_views_at_odd_places_agree_with_the_cpu() {
    let fused = cuda::Schedule::Fused;
    let slabs = |rows| cuda::Schedule::Slabs { rows };
    // Two groups of channels; several tiles for a share of the columns; several shares of a slab's columns; one slab; odd places.
    let shapes = [
        (70, 600, fused, 0),
        (65, 1024, fused, 0),
        (600, 4, fused, 0),
        (2100, 2, slabs(1088), 0),
        (130, 24, slabs(1000), 0),
        (65, 16, fused, 1),
        (65, 16, slabs(64), 3),
    ];
    for (i, (batch, embed_dim, schedule, skipped)) in shapes.into_iter().enumerate() {
        for (form, real) in FORMS.into_iter().flat_map(|form| REALS.map(|real| (form, real))) {
            let shape = Contrastive { batch, embed_dim };
            check(Case { shape, form, schedule, real, scale: 30.0, order: ORDERS[i % 3], skipped });
        }
    }
}

fn features(seed: u64, shape: Contrastive, real: Real) -> Vec<f32> {
    let x = random(seed, shape.batch * shape.embed_dim);
    let (mut y, mut norm) = (vec![0.0; x.len()], vec![0.0; shape.batch]);
    normalize::forward(shape.embed_dim, &x, &mut y, &mut norm);
    rounded(&y, real)
}

/// The start of SigLIP where the scale is small; where it is large, as many questions on either side.
fn bias(scale: f32) -> f32 {
    if scale < 50.0 { -10.0 } else { 0.5 }
}

fn check(case: Case) {
    let Case { shape, real, scale, .. } = case;
    let (image, text) = (features(1, shape, real), features(2, shape, real));
    let log_scale = scale.ln();
    let expected = on_the_cpu(case, &image, &text, log_scale.exp());
    let found = on_the_emulator(case, &image, &text, log_scale);
    // A logit is rounded to 2^-24 of the scale and the terms that a gradient adds up cancel, so f32 is compared with the size of
    // one term: scale / B of a feature. bf16 rounds every slope, 2^-9 of it; scalars are made from what is not rounded.
    let limit = if real == Real::F32 { 1e-5 } else { 5e-3 };
    let term = scale / shape.batch as f32 / (shape.embed_dim as f32).sqrt();
    for (what, found, expected) in [("image", &found.image, &expected.image), ("text", &found.text, &expected.text)] {
        let largest = expected.iter().fold(term, |m, v| m.max(v.abs()));
        let scaled = |values: &[f32]| values.iter().map(|v| v / largest).chain([1.0]).collect::<Vec<_>>();
        assert_near(&format!("{what} {case:?}"), &scaled(found), &scaled(expected), limit);
    }
    // Logits are products of the scale, ln(scale) and log2(e), each rounded: four units of the scale at most. A loss is off by that
    // much, a probability by a quarter of it.
    let logit = f64::from(scale) * 2.0_f64.powi(-22);
    let is_close = |found: f64, expected: f64, least: f64, rounded: f64| {
        (found - expected).abs() <= 2e-6 * expected.abs().max(least) + rounded
    };
    let scalars = |f: &Found| (f.loss, f.grad_log_scale, f.grad_bias);
    let what = || format!("{case:?}: {:?} for {:?}", scalars(&found), scalars(&expected));
    assert!(is_close(found.loss, expected.loss, 0.5, logit), "loss, {}", what());
    let of_scale = f64::from(scale) * logit / 4.0;
    assert!(is_close(found.grad_log_scale, expected.grad_log_scale, f64::from(scale), of_scale), "scale, {}", what());
    assert!(is_close(found.grad_bias, expected.grad_bias, 1.0, logit / 4.0), "bias, {}", what());
}

fn on_the_cpu(case: Case, image: &[f32], text: &[f32], scale: f32) -> Found {
    let (mut grad_image, mut grad_text) = (vec![0.0; image.len()], vec![0.0; text.len()]);
    let (loss, grad_log_scale, grad_bias) = match case.form {
        Form::Softmax => {
            let gradients = (&mut grad_image, &mut grad_text);
            let out = contrastive::forward_backward(&case.shape, image, text, scale, gradients.0, gradients.1, &Sequential);
            (out.loss, out.grad_log_scale, 0.0)
        }
        Form::Sigmoid => {
            let by = sigmoid::Logits { scale, bias: bias(case.scale) };
            let gradients = (&mut grad_image, &mut grad_text);
            let out = sigmoid::forward_backward(&case.shape, image, text, by, gradients.0, gradients.1, &Sequential);
            (out.loss, out.grad_log_scale, out.grad_bias)
        }
    };
    Found { image: grad_image, text: grad_text, loss, grad_log_scale, grad_bias }
}

fn on_the_emulator(case: Case, image: &[f32], text: &[f32], log_scale: f32) -> Found {
    let Case { shape, form, schedule, real, order, skipped, .. } = case;
    let mut bench = Bench::new(real, order);
    let is_sigmoid = form == Form::Sigmoid;
    let mut behind = |values: &[f32]| {
        let padded: Vec<f32> = vec![f32::NAN; skipped].into_iter().chain(values.iter().copied()).collect();
        bench.reals(&padded).at(skipped * real.bytes())
    };
    let [image_view, text_view] = [behind(image), behind(text)];
    let views = cuda::Views {
        image: image_view,
        text: text_view,
        log_scale: bench.floats(&[log_scale]),
        bias: is_sigmoid.then(|| bench.floats(&[bias(case.scale)])),
        grad_image: bench.unwritten_floats(image.len()),
        grad_text: bench.unwritten_floats(text.len()),
        loss: bench.unwritten_floats(1),
        logit_scale: bench.unwritten_floats(1),
        grad_log_scale: bench.unwritten_floats(1),
        grad_bias: is_sigmoid.then(|| bench.unwritten_floats(1)),
    };
    let scratch = bench.bytes(vec![0xff; cuda::scratch_bytes(&shape, form, schedule, real)]);
    bench.run(cuda::forward_backward(&shape, form, schedule, real, &views, scratch));
    let one = |view: View| f64::from(bench.read_floats(view, 1)[0]);
    assert!((one(views.logit_scale) / f64::from(log_scale.exp()) - 1.0).abs() < 1e-6, "{case:?}");
    Found {
        image: bench.read_floats(views.grad_image, image.len()),
        text: bench.read_floats(views.grad_text, text.len()),
        loss: one(views.loss),
        grad_log_scale: one(views.grad_log_scale),
        grad_bias: views.grad_bias.map_or(0.0, one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::ops::launch::{BufferIdx, Node};

    #[test]
    fn slabs_are_even_and_take_four_products_and_little_memory() {
        for (batch, embed_dim) in [(2048, 512), (2049, 512), (32_768, 512), (40_000, 768), (131_072, 512), (131_072, 1024)] {
            let shape = Contrastive { batch, embed_dim };
            let schedule = cuda::Schedule::for_batch(batch, embed_dim);
            let cuda::Schedule::Slabs { rows } = schedule else { panic!("{batch} pairs go through slabs") };
            let count = batch.div_ceil(rows);
            assert!(rows <= batch && (count == 1 || rows % 64 == 0) && batch - (count - 1) * rows > rows / 2, "{batch}: {rows}");
            for (form, products) in [(Form::Softmax, 4), (Form::Sigmoid, 3)] {
                let buffer = View { buffer: BufferIdx(0), offset: 0 };
                let views = cuda::Views {
                    image: buffer,
                    text: buffer,
                    log_scale: buffer,
                    bias: Some(buffer),
                    grad_image: buffer,
                    grad_text: buffer,
                    loss: buffer,
                    logit_scale: buffer,
                    grad_log_scale: buffer,
                    grad_bias: Some(buffer),
                };
                let bytes = cuda::scratch_bytes(&shape, form, schedule, Real::Bf16);
                let nodes = cuda::forward_backward(&shape, form, schedule, Real::Bf16, &views, buffer);
                let flops = nodes.iter().map(|node| if let Node::Product(p) = node { p.m * p.n * p.k } else { 0 }).sum::<usize>();
                // One slab keeps its similarities from the first pass.
                let products = if count == 1 { 3 } else { products };
                assert_eq!(flops, products * batch * batch * embed_dim, "{batch} {form:?}");
                assert!(bytes < 500 << 20, "{batch} {form:?}: {bytes}");
            }
        }
        assert_eq!(cuda::Schedule::for_batch(1024, 512), cuda::Schedule::Fused);
    }
}
