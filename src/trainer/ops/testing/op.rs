//! Runs an op that a program calls in both of its forms, and holds them against each other.

use super::{CHAIN, DIFFERENCE, assert_close, differences, random, widen};
use crate::linear;
use crate::op::{Backward, Cpu, Forward, GradInput, GradLane, Op, Oracle, Params, Read, Reference, Rows, Workspace};
use crate::params::ParamView;
use crate::reference::{Gradients, Matrix, Parameters, dot};
use crate::simd::tests::on_every_path;

/// What an op reads of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given {
    /// Rows, channels.
    Rows(usize, usize),
    /// Bytes.
    Bytes(usize),
}

/// What an op reads of all samples.
pub(crate) enum Input<'a> {
    Rows(&'a [f32]),
    Bytes(&'a [u8]),
}

/// Output, gradient of the input (empty for bytes), flat gradient of the parameters.
pub(crate) struct Found {
    pub output: Vec<f32>,
    pub grad_input: Vec<f32>,
    pub grads: Vec<f32>,
}

/// The fast rows of `samples` samples, `chunk` at a time, forward and back from `upstream`.
pub(crate) fn run_rows(
    op: &dyn Op,
    views: &[ParamView],
    flat: &[f32],
    input: &Input,
    upstream: &[f32],
    (samples, chunk): (usize, usize),
) -> Found {
    let shape = op.shape();
    let (packed, packed_ranges) = pack(views, flat);
    let params = Params { views, flat, packed: &packed, packed_ranges: &packed_ranges };
    let per_output = shape.output.rows * shape.output.channels;
    let per_input = match input {
        Input::Rows(rows) => rows.len() / samples,
        Input::Bytes(bytes) => bytes.len() / samples,
    };
    let mut found = Found { output: vec![f32::NAN; samples * per_output], grad_input: vec![], grads: vec![f32::NAN; flat.len()] };
    let mut work = Workspace::default();
    for from in (0..samples).step_by(chunk) {
        let num = chunk.min(samples - from);
        let read = match input {
            Input::Rows(rows) => Read::Rows(&rows[from * per_input..(from + num) * per_input]),
            Input::Bytes(bytes) => Read::Bytes(&bytes[from * per_input..(from + num) * per_input]),
        };
        let mut slots: Vec<Vec<f32>> =
            shape.saved.iter().map(|(_, size)| vec![f32::NAN; num * size.rows * size.channels]).collect();
        let mut saved: Vec<&mut [f32]> = slots.iter_mut().map(Vec::as_mut_slice).collect();
        let outputs = from * per_output..(from + num) * per_output;
        let output = &mut found.output[outputs.clone()];
        rows(op).forward(&params, &mut Forward { samples: num, inputs: &[read], output, saved: &mut saved }, &mut work);
        let mut grad_output = upstream[outputs].to_vec();
        let has_own = matches!(input, Input::Rows(_)) && !shape.is_in_place;
        // Added to what is there in every other chunk, written over what is not a number in the others.
        let adds = from / chunk % 2 == 1;
        let mut grad_input = vec![if adds { 0.5 } else { f32::NAN }; if has_own { num * per_input } else { 0 }];
        let grad = match (has_own, adds) {
            (false, _) => GradInput::None,
            (true, false) => GradInput::Overwrite(&mut grad_input),
            (true, true) => GradInput::Add(&mut grad_input),
        };
        let mut lane = GradLane { views, flat: &mut found.grads, first: from == 0 };
        let mut back =
            Backward { samples: num, inputs: &[read], grad_output: &mut grad_output, grad_inputs: &mut [grad], saved: &mut saved };
        rows(op).backward(&params, &mut back, &mut lane, &mut work);
        if adds {
            grad_input.iter_mut().for_each(|grad| *grad -= 0.5);
        }
        found.grad_input.extend(if shape.is_in_place { grad_output } else { grad_input });
    }
    found
}

/// Packed panels of all linear weights, and where each view's are.
pub(super) fn pack(views: &[ParamView], flat: &[f32]) -> (Vec<f32>, Vec<std::ops::Range<usize>>) {
    let (mut packed, mut packed_ranges) = (Vec::new(), Vec::new());
    for view in views {
        let start = packed.len();
        if let Some(shape) = &view.linear {
            packed.resize(start + linear::packed_len(shape), f32::NAN);
            linear::pack(shape, &flat[view.range()], &mut packed[start..]);
        }
        packed_ranges.push(start..packed.len());
    }
    (packed, packed_ranges)
}

pub(super) fn rows(op: &dyn Op) -> &dyn Rows {
    let Cpu::Rows(rows) = op.cpu() else { panic!("an op on chunks") };
    rows
}

pub(super) fn oracle(op: &dyn Op) -> &dyn Reference {
    let Oracle::Sample(reference) = op.reference() else { panic!("an op on samples") };
    reference
}

/// The f64 form of one sample: output, gradient of the input where there is one; the parameters' are added to `grads`.
fn run_reference(
    op: &dyn Op,
    views: &[ParamView],
    flat: &[f64],
    input: Read<Matrix>,
    upstream: &[f64],
    grads: &mut [f64],
) -> (Matrix, Option<Matrix>) {
    let params = Parameters { views, flat };
    let output = oracle(op).forward(&params, &[input]);
    let upstream = Matrix::from_rows(output.columns, upstream.to_vec());
    let mut found = oracle(op).backward(&params, &[input], &upstream, &mut Gradients { views, flat: grads });
    (output, found.pop().expect("one gradient an input"))
}

/// Holds the f64 form against finite differences, and the fast rows against the f64 form, on every path and in chunks.
pub(crate) fn check(op: &dyn Op, views: &[ParamView], given: Given, samples: usize) {
    let len = views.last().map_or(0, |view| view.range().end);
    // Norm gains and gamma are as large as everything else, so that no gradient is small by accident.
    let flat = random(11, len);
    let shape = op.shape();
    let upstream = random(12, samples * shape.output.rows * shape.output.channels);
    let (values, bytes) = match given {
        Given::Rows(rows, channels) => (random(13, samples * rows * channels), vec![]),
        Given::Bytes(len) => (vec![], (0..samples * len).map(|i| (i * 37 % 251) as u8).collect::<Vec<_>>()),
    };
    let (flat64, upstream64) = (widen(&flat), widen(&upstream));
    let (mut output64, mut grad64, mut grads64) = (vec![], vec![], vec![0.0; len]);
    let per_output = upstream.len() / samples;
    for sample in 0..samples {
        let upstream = &upstream64[sample * per_output..(sample + 1) * per_output];
        let matrix;
        let input = match given {
            Given::Rows(n, channels) => {
                matrix = Matrix::from_rows(channels, widen(&values[sample * n * channels..(sample + 1) * n * channels]));
                Read::Rows(&matrix)
            }
            Given::Bytes(len) => Read::Bytes(&bytes[sample * len..(sample + 1) * len]),
        };
        let mut own = vec![0.0; len];
        let (output, grad) = run_reference(op, views, &flat64, input, upstream, &mut own);
        // Differences where they are cheap.
        if sample == 0 && len < 700 {
            let loss = |flat: &[f64]| dot(&oracle(op).forward(&Parameters { views, flat }, &[input]).values, upstream);
            let narrow = |v: &[f64]| v.iter().map(|v| *v as f32).collect::<Vec<_>>();
            assert_close("slopes of parameters", &narrow(&own), &differences(&flat64, loss), DIFFERENCE);
            if let (Some(grad), Read::Rows(x)) = (&grad, input) {
                let params = Parameters { views, flat: &flat64 };
                let loss = |x_values: &[f64]| {
                    let x = Matrix::from_rows(x.columns, x_values.to_vec());
                    dot(&oracle(op).forward(&params, &[Read::Rows(&x)]).values, upstream)
                };
                assert_close("slopes of the input", &narrow(&grad.values), &differences(&x.values, loss), DIFFERENCE);
            }
        }
        crate::reference::add(&own, &mut grads64);
        output64.extend(output.values);
        grad64.extend(grad.map(|grad| grad.values).unwrap_or_default());
    }
    let input = match given {
        Given::Rows(..) => Input::Rows(&values),
        Given::Bytes(_) => Input::Bytes(&bytes),
    };
    on_every_path(|path| {
        for chunk in [samples, 1, 2] {
            let found = run_rows(op, views, &flat, &input, &upstream, (samples, chunk));
            assert_close(&format!("{path}, chunks of {chunk}: output"), &found.output, &output64, CHAIN);
            assert_close(&format!("{path}, chunks of {chunk}: gradient of the input"), &found.grad_input, &grad64, CHAIN);
            for view in views {
                let what = format!("{path}, chunks of {chunk}: gradient of {}", view.name);
                assert_close(&what, &found.grads[view.range()], &grads64[view.range()], CHAIN);
            }
        }
    });
}
