//! Ops one after another, in their fast form and in their f64 form, on the same samples.

use super::op::{oracle, rows};
use super::{CHAIN, DIFFERENCE, Tolerance, assert_close, differences, random, widen};
use crate::linear;
use crate::op::{Backward, Forward, GradInput, GradLane, In, Op, Params, Read, Value, Workspace};
use crate::params::{ParamList, ParamView};
use crate::reference::{Gradients, Matrix, Parameters};
use crate::simd::tests::on_every_path;

/// Ops that each read what the one before gives, and their parameters.
pub(crate) struct Chain {
    pub ops: Vec<Box<dyn Op>>,
    pub views: Vec<ParamView>,
    pub flat: Vec<f32>,
}

/// Output of the last op, gradient of the first one's input (empty where that is bytes), gradients of all parameters.
pub(crate) struct Outcome<T> {
    pub y: Vec<T>,
    pub grad_x: Vec<T>,
    pub grads: Vec<T>,
}

/// What the first op reads, `samples` of it.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub x: In<'a>,
    pub samples: usize,
    /// Of a row, where there are rows.
    pub columns: usize,
}

impl<'a> Batch<'a> {
    fn part(self, first: usize, samples: usize) -> In<'a> {
        part(self.x, self.samples, first, samples)
    }
}

fn part(x: In, all: usize, first: usize, samples: usize) -> In {
    let range = |len: usize| len / all * first..len / all * (first + samples);
    match x {
        Read::Rows(rows) => Read::Rows(&rows[range(rows.len())]),
        Read::Words(words) => Read::Words(&words[range(words.len())]),
        Read::Bytes(bytes) => Read::Bytes(&bytes[range(bytes.len())]),
    }
}

/// What one call of the fast form keeps for the whole batch.
struct Kept {
    y: Vec<f32>,
    saved: Vec<Vec<f32>>,
}

impl Chain {
    /// One op with random parameters: gains about 1, matrices that keep the size of their input.
    pub(crate) fn of(op: impl Op, params: ParamList) -> Self {
        Self::new(vec![Box::new(op)], params)
    }

    /// Several ops, as [`Self::of`].
    pub(crate) fn new(ops: Vec<Box<dyn Op>>, params: ParamList) -> Self {
        let views = params.finish();
        let flat = views.iter().enumerate().flat_map(|(i, view)| {
            let is_gain = view.shape.len() == 1 && view.name.ends_with("weight");
            let (start, size) = if is_gain { (1.0, 0.4) } else { (0.0, (2.0 / view.matrix.columns as f32).sqrt().max(0.3)) };
            random(100 + i as u64, view.len()).into_iter().map(move |v| start + size * v)
        });
        let flat = flat.collect();
        Self { ops, views, flat }
    }

    /// The fast form on one lane, `chunk` samples at a time.
    pub(crate) fn fast(&self, batch: Batch, grad_y: &[f32], chunk: usize) -> Outcome<f32> {
        let (packed, packed_ranges) = self.pack();
        let params = Params { views: &self.views, flat: &self.flat, packed: &packed, packed_ranges: &packed_ranges };
        let mut work = Workspace::default();
        let mut kept: Vec<Kept> = Vec::new();
        for op in &self.ops {
            let inputs = kept.last().map_or(batch.x, |before| Read::Rows(&before.y));
            let now = Self::forward(op.as_ref(), &params, Batch { x: inputs, ..batch }, chunk, &mut work);
            kept.push(now);
        }
        let y = kept.last().expect("a chain of something").y.clone();
        // Nothing may be read before it is written: the lane begins with what an earlier batch could have left.
        let (mut grads, mut grad) = (vec![f32::NAN; self.flat.len()], grad_y.to_vec());
        for (idx, op) in self.ops.iter().enumerate().rev() {
            let (before, now) = kept.split_at_mut(idx);
            let inputs = before.last().map_or(batch.x, |before| Read::Rows(&before.y));
            let whole = Batch { x: inputs, ..batch };
            grad = self.backward(op.as_ref(), &params, whole, chunk, (&mut now[0], &mut grads), grad, &mut work);
        }
        Outcome { y, grad_x: grad, grads }
    }

    fn pack(&self) -> (Vec<f32>, Vec<std::ops::Range<usize>>) {
        let (mut packed, mut ranges) = (Vec::new(), Vec::new());
        for view in &self.views {
            let start = packed.len();
            if let Some(shape) = &view.linear {
                packed.resize(start + linear::packed_len(shape), 0.0);
                linear::pack(shape, &self.flat[view.range()], &mut packed[start..]);
            }
            ranges.push(start..packed.len());
        }
        (packed, ranges)
    }

    fn forward(op: &dyn Op, params: &Params, batch: Batch, chunk: usize, work: &mut Workspace) -> Kept {
        let shape = op.shape();
        let size = |rows: usize, channels: usize| vec![f32::NAN; batch.samples * rows * channels];
        let mut kept = Kept {
            y: size(shape.output.rows, shape.output.channels),
            saved: shape.saved.iter().map(|(_, slot)| size(slot.rows, slot.channels)).collect(),
        };
        for first in (0..batch.samples).step_by(chunk) {
            let samples = chunk.min(batch.samples - first);
            let mut saved: Vec<&mut [f32]> =
                kept.saved.iter_mut().map(|slot| samples_mut(slot, batch.samples, first, samples)).collect();
            let output = samples_mut(&mut kept.y, batch.samples, first, samples);
            let inputs = [batch.part(first, samples)];
            rows(op).forward(params, &mut Forward { samples, inputs: &inputs, output, saved: &mut saved }, work);
        }
        kept
    }

    #[expect(clippy::too_many_arguments, reason = "what a call reads, what it keeps, what it writes")]
    fn backward(
        &self,
        op: &dyn Op,
        params: &Params,
        batch: Batch,
        chunk: usize,
        (kept, grads): (&mut Kept, &mut [f32]),
        mut grad: Vec<f32>,
        work: &mut Workspace,
    ) -> Vec<f32> {
        let is_in_place = op.shape().is_in_place;
        let mut grad_x = match batch.x {
            Read::Rows(rows) if !is_in_place => vec![f32::NAN; rows.len()],
            _ => Vec::new(),
        };
        for first in (0..batch.samples).step_by(chunk) {
            let samples = chunk.min(batch.samples - first);
            let mut saved: Vec<&mut [f32]> =
                kept.saved.iter_mut().map(|slot| samples_mut(slot, batch.samples, first, samples)).collect();
            let grad_own = match grad_x.is_empty() {
                true => GradInput::None,
                false => GradInput::Overwrite(samples_mut(&mut grad_x, batch.samples, first, samples)),
            };
            let mut back = Backward {
                samples,
                inputs: &[batch.part(first, samples)],
                grad_output: samples_mut(&mut grad, batch.samples, first, samples),
                grad_inputs: &mut [grad_own],
                saved: &mut saved,
            };
            let mut lane = GradLane { views: &self.views, flat: grads, first: first == 0 };
            rows(op).backward(params, &mut back, &mut lane, work);
        }
        if is_in_place { grad } else { grad_x }
    }

    /// The f64 form, sample by sample.
    pub(crate) fn plain(&self, batch: Batch, grad_y: &[f32]) -> Outcome<f64> {
        let flat = widen(&self.flat);
        let params = Parameters { views: &self.views, flat: &flat };
        let mut out = Outcome { y: Vec::new(), grad_x: Vec::new(), grads: vec![0.0; flat.len()] };
        for sample in 0..batch.samples {
            let x = batch.part(sample, 1);
            let first = match x {
                Read::Rows(rows) => Some(Matrix::from_rows(batch.columns, widen(rows))),
                _ => None,
            };
            let mut values: Vec<Matrix> = Vec::new();
            for op in &self.ops {
                let before = values.last().or(first.as_ref());
                let y = oracle(op.as_ref()).forward(&params, &[value(x, before)]);
                values.push(y);
            }
            let y = values.last().expect("a chain of something");
            out.y.extend(&y.values);
            let upstream = widen(&grad_y[sample * y.values.len()..][..y.values.len()]);
            let mut grad = Some(Matrix { values: upstream, ..*y });
            for (idx, op) in self.ops.iter().enumerate().rev() {
                let before = if idx > 0 { Some(&values[idx - 1]) } else { first.as_ref() };
                let mut grads = Gradients { views: &self.views, flat: &mut out.grads };
                let above = grad.take().expect("an op that reads rows gives their gradient");
                grad = oracle(op.as_ref()).backward(&params, &[value(x, before)], &above, &mut grads).remove(0);
            }
            out.grad_x.extend(grad.iter().flat_map(|grad| &grad.values));
        }
        out
    }

    /// Both forms agree on every path, whatever the chunk.
    pub(crate) fn check(&self, what: &str, batch: Batch, tolerance: Tolerance) {
        let shape = self.ops.last().expect("a chain of something").shape();
        let grad_y = random(77, batch.samples * shape.output.rows * shape.output.channels);
        let expected = self.plain(batch, &grad_y);
        on_every_path(|path| {
            for chunk in [1, 2, batch.samples] {
                let found = self.fast(batch, &grad_y, chunk);
                self.compare(&format!("{what}, {path}, chunks of {chunk}"), &found, &expected, tolerance);
            }
        });
    }

    /// Output, gradient of the input, gradient of each parameter.
    pub(crate) fn compare(&self, what: &str, found: &Outcome<f32>, expected: &Outcome<f64>, tolerance: Tolerance) {
        assert_close(&format!("y, {what}"), &found.y, &expected.y, tolerance);
        assert_close(&format!("dx, {what}"), &found.grad_x, &expected.grad_x, tolerance);
        for view in &self.views {
            let (found, expected) = (&found.grads[view.range()], &expected.grads[view.range()]);
            assert_close(&format!("gradient of {}, {what}", view.name), found, expected, tolerance);
        }
    }

    /// The f64 form's gradients are the slopes of its output.
    pub(crate) fn check_slopes(&self, what: &str, x: &[f32], columns: usize) {
        let batch = Batch { x: Read::Rows(x), samples: 1, columns };
        let shape = self.ops.last().expect("a chain of something").shape();
        let grad_y = random(78, shape.output.rows * shape.output.channels);
        let found = self.plain(batch, &grad_y);
        let loss = |x: &[f64], flat: &[f64]| {
            let params = Parameters { views: &self.views, flat };
            let mut at = Matrix::from_rows(columns, x.to_vec());
            for op in &self.ops {
                at = oracle(op.as_ref()).forward(&params, &[Read::Rows(&at)]);
            }
            at.values.iter().zip(&grad_y).map(|(y, g)| y * f64::from(*g)).sum::<f64>()
        };
        let (wide_x, wide_flat) = (widen(x), widen(&self.flat));
        let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
        let slopes = differences(&wide_x, |x| loss(x, &wide_flat));
        assert_close(&format!("dx, {what}"), &narrow(&found.grad_x), &slopes, DIFFERENCE);
        let slopes = differences(&wide_flat, |flat| loss(&wide_x, flat));
        for view in &self.views {
            let what = format!("gradient of {}, {what}", view.name);
            assert_close(&what, &narrow(&found.grads[view.range()]), &slopes[view.range()], DIFFERENCE);
        }
    }
}

/// What an op of a chain reads in the f64 form: rows, or what the batch brings.
fn value<'a>(x: In<'a>, before: Option<&'a Matrix>) -> Value<'a> {
    match (before, x) {
        (Some(rows), _) => Read::Rows(rows),
        (None, Read::Words(words)) => Read::Words(words),
        (None, Read::Bytes(bytes)) => Read::Bytes(bytes),
        (None, Read::Rows(_)) => unreachable!("rows are a matrix"),
    }
}

fn samples_mut(buffer: &mut [f32], all: usize, first: usize, samples: usize) -> &mut [f32] {
    let per_sample = buffer.len() / all;
    &mut buffer[first * per_sample..(first + samples) * per_sample]
}

/// A block's gradients pass through about ten sums and functions.
pub(crate) const BLOCK: Tolerance = Tolerance { atol: 2.0 * CHAIN.atol, rtol: CHAIN.rtol };
