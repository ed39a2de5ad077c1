//! Steps of an optimiser on flat buffers with padding, through the kernels and through the CPU ops, compared after every step.

use std::ops::Range;

use crate::trainer::ops::adafactor::FactorView;
use crate::trainer::ops::elementwise::{self, cuda};
use crate::trainer::ops::flat::{ALIGN, FlatView, StepBuffers, control, report};
use crate::trainer::ops::launch::{Node, Real, View};

use super::lab::{Bench, assert_near, random, rounded};

/// An optimiser, as kernels and on the CPU.
pub(super) trait Method {
    /// Where each view's second moment lies, and the floats of all.
    fn second(&self, views: &[FlatView]) -> (Vec<Range<usize>>, usize);
    /// The work list, and bytes of scratch.
    fn table(&self, views: &[FlatView]) -> (Vec<u32>, usize);
    /// Fills in what depends on the number of steps done.
    fn control(&self, step: u64, controls: &mut [f32; control::LEN]);
    /// The kernels of a step.
    fn nodes(&self, views: &[FlatView], buffers: &StepBuffers, scratch: View) -> Vec<Node>;
    /// A step of one view on the CPU.
    fn on_cpu(&self, view: &FlatView, step: u64, lr: f32, keep: f32, state: Cut);
}

/// One view's part of the buffers.
pub(super) struct Cut<'a> {
    pub params: &'a mut [f32],
    pub grads: &'a [f32],
    pub first: &'a mut [f32],
    pub second: &'a mut [f32],
}

/// What the host decides about a step.
#[derive(Clone, Copy)]
pub(super) struct FlatStep {
    pub loss: f32,
    pub lr: f32,
    pub keep: f32,
    /// Gradients are uniform in plus or minus this.
    pub size: f32,
}

/// Number of the first step as `controls` says it.
const FIRST_STEP: u64 = 10;
/// Limit of the gradient norm.
const LIMIT: f32 = 1.0;

/// Views one after another: stacks, rows, columns, and decay for those that have more than one row, but not 33 or 65.
pub(super) fn views(shapes: &[[usize; 3]]) -> Vec<FlatView> {
    let mut end = 0_usize;
    let place = |&[leading, rows, cols]: &[usize; 3]| {
        let offset = end.next_multiple_of(ALIGN);
        let matrix = FactorView { leading, rows, cols };
        end = offset + matrix.len();
        FlatView { offset, matrix, decay: ![1, 33, 65].contains(&rows) }
    };
    shapes.iter().map(place).collect()
}

fn range(view: &FlatView) -> Range<usize> {
    view.offset..view.offset + view.matrix.len()
}

fn spread(views: &[FlatView], len: usize, values: &[f32]) -> Vec<f32> {
    let mut flat = vec![0.0; len];
    views.iter().for_each(|view| flat[range(view)].copy_from_slice(&values[range(view)]));
    flat
}

#[track_caller]
fn assert_zero_between(what: &str, ranges: &[Range<usize>], values: &[f32]) {
    let is_used = |idx: &usize| ranges.iter().any(|range| range.contains(idx));
    let touched = (0..values.len()).filter(|idx| !is_used(idx)).find(|idx| values[*idx].to_bits() != 0);
    assert!(touched.is_none(), "{what}: padding at {touched:?}");
}

/// Parameters, both moments and the shadow, which is empty where there is none.
#[derive(Clone)]
pub(super) struct State {
    params: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    shadow: Vec<f32>,
}

impl State {
    fn bits(&self) -> Vec<u32> {
        let Self { params, first, second, shadow } = self;
        [params, first, second, shadow].into_iter().flatten().map(|value| value.to_bits()).collect()
    }
}

/// A training on the bench.
struct Device<'a> {
    bench: Bench,
    method: &'a dyn Method,
    views: &'a [FlatView],
    len: usize,
    second_len: usize,
    buffers: StepBuffers,
    scratch: View,
    norm_scratch: View,
    clip: bool,
}

impl<'a> Device<'a> {
    fn new(real: Real, order: u32, method: &'a dyn Method, views: &'a [FlatView], params: &[f32], clip: bool) -> Self {
        let (len, second_len) = (params.len(), method.second(views).1);
        let (table, scratch_bytes) = method.table(views);
        let mut bench = Bench::new(real, order);
        let buffers = StepBuffers {
            params: bench.floats(params),
            grads: bench.floats(&[]),
            first: bench.floats(&vec![0.0; len]),
            second: bench.floats(&vec![0.0; second_len]),
            // Without one in one order.
            shadow: (order != 1).then(|| bench.unwritten_reals(len)),
            table: bench.words(&table),
            controls: bench.floats(&[]),
            report: bench.floats(&[0.0; report::LEN]),
        };
        if let Some(shadow) = buffers.shadow {
            bench.run([cuda::cast(len, buffers.params, shadow)]);
        }
        let scratch = bench.unwritten_floats(scratch_bytes / 4);
        let norm_scratch = bench.unwritten_floats(cuda::global_norm_scratch_bytes(len) / 4);
        Self { bench, method, views, len, second_len, buffers, scratch, norm_scratch, clip }
    }

    fn step(&mut self, done: u64, step: &FlatStep, grads: &[f32]) {
        let mut controls = [0.0; control::LEN];
        controls[control::LR] = step.lr;
        controls[control::KEEP] = step.keep;
        controls[control::STEP] = (FIRST_STEP + done) as f32;
        self.method.control(done, &mut controls);
        let bench = &mut self.bench;
        let buffers = StepBuffers { grads: bench.floats(grads), controls: bench.floats(&controls), ..self.buffers };
        let loss = Node::Copy { from: bench.floats(&[step.loss]), to: buffers.report, bytes: 4 };
        let limit = self.clip.then_some(LIMIT);
        let norm = cuda::global_norm(self.len, buffers.grads, limit, buffers.controls, buffers.report, self.norm_scratch);
        let update = self.method.nodes(self.views, &buffers, self.scratch);
        bench.run([loss].into_iter().chain(norm).chain(update));
    }

    fn state(&self) -> State {
        let StepBuffers { params, first, second, shadow, .. } = self.buffers;
        State {
            params: self.bench.read_floats(params, self.len),
            first: self.bench.read_floats(first, self.len),
            second: self.bench.read_floats(second, self.second_len),
            shadow: shadow.map_or(Vec::new(), |shadow| self.bench.read_reals(shadow, self.len)),
        }
    }

    fn report(&self) -> Vec<f32> {
        self.bench.read_floats(self.buffers.report, report::LEN)
    }
}

fn flat_len(views: &[FlatView]) -> usize {
    views.last().map_or(0, |view| range(view).end.next_multiple_of(ALIGN))
}

/// Uniform in plus or minus `size`; in the first step half of every view is zero and all of the last view, as where a token of
/// a table does not occur.
fn gradient(views: &[FlatView], len: usize, done: u64, size: f32) -> Vec<f32> {
    let drawn: Vec<f32> = random(100 + done, len).iter().map(|value| value * size).collect();
    let mut grads = spread(views, len, &drawn);
    if done == 0 {
        for (idx, view) in (1..).zip(views) {
            let zeros = if idx == views.len() { view.matrix.len() } else { view.matrix.len() / 2 };
            grads[view.offset..][..zeros].fill(0.0);
        }
    }
    grads
}

/// Sums of squares keep their relative precision, down to the eps of Adafactor. The CPU adds rows one after another and is
/// itself 9e-6 off where 1,100 of them are alike.
#[track_caller]
fn assert_relative(what: &str, found: &[f32], expected: &[f32], rows: usize) {
    let limit = 5e-6 + 1e-8 * rows as f32;
    for (idx, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= limit * expected, "{what}: element {idx}: {found} for {expected}");
    }
}

/// Several steps agree with the CPU: parameters and state of every view, norm and clip factor; the shadow is the rounded
/// parameters and padding is left alone. Returns the bits of the final state.
pub(super) fn check_steps(method: &dyn Method, views: &[FlatView], real: Real, order: u32, clip: bool) -> Vec<u32> {
    let len = flat_len(views);
    let (second, second_len) = method.second(views);
    let mut params = spread(views, len, &random(1, len));
    let (mut first, mut moments) = (vec![0.0; len], vec![0.0; second_len]);
    let mut device = Device::new(real, order, method, views, &params, clip);
    let ranges: Vec<_> = views.iter().map(range).collect();
    // The second step is under the limit of the norm.
    for (done, (size, lr)) in (0_u64..).zip([(1.0, 0.01), (2e-3, 0.02), (3.0, 0.005)]) {
        let step = FlatStep { loss: 2.0, lr, keep: 1.0 - lr / 2.0, size };
        let grads = gradient(views, len, done, step.size);
        device.step(done, &step, &grads);

        let norm = ranges.iter().map(|range| elementwise::sum_of_squares(&grads[range.clone()])).sum::<f64>().sqrt();
        let factor = if clip && norm > f64::from(LIMIT) { (f64::from(LIMIT) / norm) as f32 } else { 1.0 };
        let mut scaled = grads.clone();
        elementwise::scale(factor, &mut scaled);
        for (view, second) in views.iter().zip(&second) {
            let cut = Cut {
                params: &mut params[range(view)],
                grads: &scaled[range(view)],
                first: &mut first[range(view)],
                second: &mut moments[second.clone()],
            };
            method.on_cpu(view, done, lr, if view.decay { step.keep } else { 1.0 }, cut);
        }

        let (found, said) = (device.state(), device.report());
        for (view, second) in views.iter().zip(&second) {
            let what = format!("{view:?}, {real:?}, step {done}");
            assert_near(&format!("{what}: params"), &found.params[range(view)], &params[range(view)], 1e-6);
            assert_near(&format!("{what}: first"), &found.first[range(view)], &first[range(view)], 5e-6);
            let (found, moments) = (&found.second[second.clone()], &moments[second.clone()]);
            assert_relative(&format!("{what}: second"), found, moments, view.matrix.rows);
        }
        assert_zero_between("params", &ranges, &found.params);
        assert_zero_between("first", &ranges, &found.first);
        assert_zero_between("second", &second, &found.second);
        assert!(found.shadow.is_empty() || found.shadow == rounded(&found.params, real), "shadow of step {done}");
        assert_near("norm", &said[report::GRAD_NORM..=report::CLIP], &[norm as f32, factor], 1e-6);
        assert_eq!([said[report::LOSS], said[report::UNFIT]], [2.0, 0.0]);
        assert!(done == 1 || !clip || factor < 0.5, "clipping is tried");
    }
    device.state().bits()
}

/// A loss or a gradient that is not finite stops all change for good, and the first such step is kept in the report.
pub(super) fn check_unfit(method: &dyn Method, views: &[FlatView], real: Real) {
    let len = flat_len(views);
    let fit = FlatStep { loss: 2.0, lr: 0.01, keep: 0.9, size: 1.0 };
    for is_loss in [true, false] {
        let params = spread(views, len, &random(1, len));
        let mut device = Device::new(real, 0, method, views, &params, true);
        device.step(0, &fit, &gradient(views, len, 0, 1.0));
        let good = device.state().bits();
        assert_eq!(device.report()[report::UNFIT], 0.0);

        let mut grads = gradient(views, len, 1, 1.0);
        let loss = if is_loss { f32::NAN } else { 3.0 };
        if !is_loss {
            grads[views[1].offset] = f32::NEG_INFINITY;
        }
        device.step(1, &FlatStep { loss, ..fit }, &grads);
        assert!(device.state().bits() == good, "an unfit step changes nothing");
        let first = device.report();
        assert_eq!(first[report::UNFIT..=report::UNFIT_STEP], [1.0, (FIRST_STEP + 1) as f32]);
        assert_eq!(first[report::UNFIT_LOSS].to_bits(), loss.to_bits());
        assert_eq!(first[report::UNFIT_NORM].is_finite(), is_loss);

        // Once more unfit, then fit again.
        device.step(2, &FlatStep { loss: f32::INFINITY, ..fit }, &gradient(views, len, 2, 1.0));
        device.step(3, &fit, &gradient(views, len, 3, 1.0));
        assert!(device.state().bits() == good, "nor does any step after it");
        let bits = |report: &[f32]| report[report::UNFIT..].iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&device.report()), bits(&first), "the first unfit step is kept");
    }
}
