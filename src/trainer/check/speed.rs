//! What kernels and products take on a device: whole recordings timed, each within its share of a budget.
//!
//! Input: a device, a [`Budget`]. Output: rows for people and for `results/gpu/`, each given away as soon as it is known. A figure
//! is the median of groups of runs, so that the time to start a run is not counted; where a run is long there are fewer, down to
//! one, and where there is no time for that, or no memory, the row says so. Data are random: constants save power and so time.
//! Must not assert: a benchmark is not a test.

use std::time::Instant;

use serde::Serialize;

use crate::run::Activation;
use crate::trainer::TrainerError;
use crate::trainer::backend::cuda::device::{Address, Device};
use crate::trainer::backend::cuda::survey::{fill_with_noise, repeat};
use crate::trainer::ops::attention::AttentionShape;
use crate::trainer::ops::contrastive::cuda::{Schedule, Views};
use crate::trainer::ops::contrastive::{Contrastive, Form};
use crate::trainer::ops::launch::{Factor, Node, Product, Real, Section, View};
use crate::trainer::ops::recorder::{Buffers, Life};
use crate::trainer::ops::{activation, attention, contrastive, elementwise, layer_norm};

/// Seconds that a benchmark may take, and those that a row of it may.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    begun: Instant,
    seconds: f64,
}

/// Seconds that the runs of a row take where there is enough time.
const ROW_S: f64 = 0.3;

impl Budget {
    /// One that begins now.
    #[must_use]
    pub fn new(seconds: f64) -> Self {
        Self { begun: Instant::now(), seconds }
    }

    /// Seconds that are left; 0 where there are none.
    #[must_use]
    pub fn left(&self) -> f64 {
        (self.seconds - self.begun.elapsed().as_secs_f64()).max(0.0)
    }

    /// Seconds for the runs of the next of `rows` rows: half of its share of the time left, since data and memory take time too.
    #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
    #[must_use]
    pub fn of_row(&self, rows: usize) -> f64 {
        (self.left() / (2 * rows.max(1)) as f64).min(ROW_S)
    }
}

/// A figure, or why there is none.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// What was timed, with its shape.
    pub what: String,
    /// The compute type.
    pub real: String,
    /// The figure; absent where nothing was timed.
    pub time: Option<Time>,
    /// Why nothing was timed.
    pub left_out: Option<String>,
    /// Bytes of its buffers.
    pub planned_bytes: u64,
    /// Bytes of device memory that were left beside them.
    pub free_bytes: Option<u64>,
    /// Time as a multiple of another row's.
    pub ratio: Option<(String, f64)>,
}

/// What the runs of a row took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// Median time of a run.
    pub ms: f64,
    /// Runs that were timed.
    pub runs: usize,
    /// Arithmetic of the products in it, where that is what it does.
    pub tflop_per_s: Option<f64>,
    /// Bytes that it has to move, where that is what it does.
    pub gbyte_per_s: Option<f64>,
}

/// A recording that is timed.
struct Case {
    what: String,
    buffers: Buffers,
    nodes: Vec<Node>,
    flop: f64,
    bytes: f64,
}

impl Case {
    fn new(what: String) -> Self {
        Self { what, buffers: Buffers::default(), nodes: Vec::new(), flop: 0.0, bytes: 0.0 }
    }

    fn buffer(&mut self, bytes: usize) -> View {
        self.buffers.add("timed", bytes, Life::Kept)
    }

    fn push(&mut self, nodes: impl IntoIterator<Item = impl Into<Node>>) {
        self.nodes.extend(nodes.into_iter().map(Into::into));
    }

    fn planned_bytes(&self) -> u64 {
        self.buffers.all().iter().map(|buffer| buffer.bytes as u64).sum()
    }

    /// Seconds of a run at a rate that any GPU which this is meant for reaches.
    fn longest_s(&self, real: Real) -> f64 {
        let flop_per_s = if real == Real::F32 { 1e13 } else { 1e14 };
        (self.flop / flop_per_s).max(self.bytes / 3e11)
    }
}

/// Times one case for about `seconds`.
fn time<D: Device>(device: &mut D, case: &Case, seconds: f64) -> Result<(Time, Option<u64>), TrainerError> {
    let mut addresses = Vec::new();
    let timed = allocate(device, case, &mut addresses).and_then(|()| {
        let free = device.available_bytes();
        let graph = device.prepare(&[Section::serial(case.nodes.iter().cloned())], &addresses)?;
        let (seconds, runs) = repeat(seconds, &mut |runs| {
            device.synchronize()?;
            let begun = Instant::now();
            (0..runs).try_for_each(|_| device.run(&graph))?;
            device.synchronize()?;
            Ok(begun.elapsed().as_secs_f64())
        })?;
        let rate = |amount: f64, unit: f64| (amount > 0.0).then(|| amount / seconds / unit);
        let (tflop_per_s, gbyte_per_s) = (rate(case.flop, 1e12), rate(case.bytes, 1e9));
        Ok((Time { ms: seconds * 1e3, runs, tflop_per_s, gbyte_per_s }, free))
    });
    addresses.iter().for_each(|address| device.free(*address));
    timed
}

/// Buffers of random numbers of either type.
fn allocate<D: Device>(device: &mut D, case: &Case, addresses: &mut Vec<Address>) -> Result<(), TrainerError> {
    for buffer in case.buffers.all() {
        let address = device.allocate(buffer.bytes)?;
        addresses.push(address);
        fill_with_noise(device, address, buffer.bytes)?;
    }
    Ok(())
}

/// What is timed in a compute type, with its operations and the bytes that it has to move; 0 where they are not what it does.
#[must_use]
pub fn amounts(real: Real) -> Vec<(String, f64, f64)> {
    cases(real).into_iter().map(|(case, _)| (case.what, case.flop, case.bytes)).collect()
}

/// Every case, losses first, each with the row that it is held against.
fn cases(real: Real) -> Vec<(Case, Option<String>)> {
    losses(real).into_iter().chain(others(real).into_iter().map(|case| (case, None))).collect()
}

/// Times kernels, attention and losses in the device's compute type; `show` gets each row as it is found.
///
/// # Errors
/// What the device says, but for memory.
pub fn run<D: Device>(device: &mut D, budget: &Budget, show: &mut dyn FnMut(&Speed)) -> Result<(), TrainerError> {
    let real = device.real();
    let cases = cases(real);
    let mut rows: Vec<Speed> = Vec::new();
    let num = cases.len();
    for (idx, (case, against)) in cases.into_iter().enumerate() {
        let mut row = Speed {
            what: case.what.clone(),
            real: format!("{real:?}").to_lowercase(),
            time: None,
            left_out: None,
            planned_bytes: case.planned_bytes(),
            free_bytes: None,
            ratio: None,
        };
        if 2.0 * case.longest_s(real) > budget.left() {
            row.left_out = Some(format!("{:.1} s are left", budget.left()));
        } else {
            match time(device, &case, budget.of_row(num - idx)) {
                Ok((time, free)) => (row.time, row.free_bytes) = (Some(time), free),
                Err(error @ TrainerError::DeviceMemory { .. }) => row.left_out = Some(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let base = against.and_then(|name: String| rows.iter().find(|row| row.what == name));
        row.ratio = base.and_then(|base| Some((base.what.clone(), row.time?.ms / base.time?.ms)));
        show(&row);
        rows.push(row);
    }
    Ok(())
}

/// A product m x n x k with an output of the compute type or f32.
#[expect(clippy::cast_precision_loss, reason = "an amount of work")]
fn push_product(case: &mut Case, (m, n, k): (usize, usize, usize), (a, b, out): (View, View, View), real: Real, out_real: Real) {
    let (a, b) = (Factor::plain(a, real), Factor::transposed(b, real));
    case.push([Product { m, n, k, a, b, addend: None, bias: None, out, out_real }]);
    case.flop += 2.0 * (m * n) as f64 * k as f64;
}

/// Batches and widths of losses that are timed.
const LOSSES: [(usize, usize); 4] = [(65_536, 768), (32_768, 512), (4096, 512), (131_072, 768)];
/// Beyond this the fused schedule, which no run uses from 2,048 samples on, takes seconds.
const FUSED_UP_TO: usize = 4096;

/// Both forms of the loss, in the schedule that a run uses and in the fused one, against four plain products of the same shapes:
/// logits twice, both gradients.
fn losses(real: Real) -> Vec<(Case, Option<String>)> {
    let mut cases = Vec::new();
    for (batch, embed_dim) in LOSSES {
        let shape = Contrastive { batch, embed_dim };
        let base = format!("four products of a loss, B {batch}, E {embed_dim}");
        // Beyond this the logits of one plain product do not fit.
        if batch <= 65_536 {
            cases.push((four_products(base.clone(), &shape, real), None));
        }
        let used = Schedule::for_batch(batch, embed_dim);
        let fused = Some(Schedule::Fused).filter(|fused| batch <= FUSED_UP_TO && *fused != used);
        for schedule in [Some(used), fused].into_iter().flatten() {
            for form in [Form::Softmax, Form::Sigmoid] {
                let what = format!("{form:?} loss, {schedule:?}, B {batch}, E {embed_dim}");
                cases.push((loss(what, &shape, form, schedule, real), Some(base.clone())));
            }
        }
    }
    cases
}

fn four_products(what: String, shape: &Contrastive, real: Real) -> Case {
    let Contrastive { batch, embed_dim } = *shape;
    let mut case = Case::new(what);
    let features = [case.buffer(batch * embed_dim * real.bytes()), case.buffer(batch * embed_dim * real.bytes())];
    let logits = case.buffer(batch * batch * real.bytes());
    let grad = case.buffer(4 * batch * embed_dim);
    for _ in 0..2 {
        push_product(&mut case, (batch, batch, embed_dim), (features[0], features[1], logits), real, real);
    }
    for _ in 0..2 {
        push_product(&mut case, (batch, embed_dim, batch), (logits, features[1], grad), real, Real::F32);
    }
    case
}

#[expect(clippy::cast_precision_loss, reason = "an amount of work")]
fn loss(what: String, shape: &Contrastive, form: Form, schedule: Schedule, real: Real) -> Case {
    let Contrastive { batch, embed_dim } = *shape;
    let mut case = Case::new(what);
    let mut features = || case.buffer(batch * embed_dim * real.bytes());
    let (image, text) = (features(), features());
    let (grad_image, grad_text) = (case.buffer(4 * batch * embed_dim), case.buffer(4 * batch * embed_dim));
    let scalars = case.buffer(64);
    let views = Views {
        image,
        text,
        log_scale: scalars,
        bias: (form == Form::Sigmoid).then(|| scalars.floats(4)),
        grad_image,
        grad_text,
        loss: scalars.floats(1),
        logit_scale: scalars.floats(2),
        grad_log_scale: scalars.floats(3),
        grad_bias: (form == Form::Sigmoid).then(|| scalars.floats(5)),
    };
    let scratch = case.buffer(contrastive::cuda::scratch_bytes(shape, form, schedule, real));
    case.push(contrastive::cuda::forward_backward(shape, form, schedule, real, &views, scratch));
    // What the four products cost; a schedule that computes tiles more often does more than it is credited for.
    case.flop = 8.0 * (batch * batch) as f64 * embed_dim as f64;
    case
}

/// Attention and the memory-bound kernels, at the shapes of a ViT-B/32 with 4,096 images.
#[expect(clippy::cast_precision_loss, reason = "amounts of work")]
fn others(real: Real) -> Vec<Case> {
    let (rows, width) = (204_800, 768);
    let wide = rows * width * real.bytes();
    let mut cases = Vec::new();
    for (samples, tokens) in [(4096, 50), (1024, 197), (4096, 77)] {
        cases.extend(attention_cases(samples, tokens, real));
    }
    let mut case = Case::new("copy of 1 GiB".into());
    let (from, to) = (case.buffer(1 << 30), case.buffer(1 << 30));
    case.push([Node::Copy { from, to, bytes: 1 << 30 }]);
    case.bytes = 2.0 * f64::from(1 << 30);
    cases.push(case);
    let mut case = Case::new(format!("layer norm forward {rows} x {width}"));
    let (x, y) = (case.buffer(4 * rows * width), case.buffer(wide));
    let (gain, bias, mean, rstd) = (case.buffer(4 * width), case.buffer(4 * width), case.buffer(4 * rows), case.buffer(4 * rows));
    case.push([layer_norm::cuda::forward(&layer_norm::cuda::Forward {
        rows,
        width,
        x,
        pick: None,
        gain,
        bias,
        y,
        y_real: real,
        mean,
        rstd,
    })]);
    case.bytes = (4 * rows * width + wide) as f64;
    cases.push(case);
    let mut case = Case::new(format!("gelu forward {rows} x {}", 4 * width));
    let (x, y) = (case.buffer(4 * wide), case.buffer(4 * wide));
    case.push([activation::cuda::forward(Activation::Gelu, 4 * rows * width, x, y)]);
    case.bytes = 8.0 * wide as f64;
    cases.push(case);
    let mut case = Case::new(format!("column sums {rows} x {}", 4 * width));
    let (x, sums) = (case.buffer(4 * wide), case.buffer(16 * width));
    let scratch = case.buffer(elementwise::cuda::column_sums_scratch_bytes(rows, 4 * width));
    case.push(elementwise::cuda::column_sums(rows, 4 * width, x, real, sums, false, scratch));
    case.bytes = 4.0 * wide as f64;
    cases.push(case);
    cases
}

/// Forward and backward of an attention with 12 heads of 64 channels.
#[expect(clippy::cast_precision_loss, reason = "an amount of work")]
fn attention_cases(samples: usize, tokens: usize, real: Real) -> [Case; 2] {
    let shape = AttentionShape { tokens, heads: 12, head_dim: 64, causal: false };
    let row = samples * tokens * shape.width() * real.bytes();
    let work = 4.0 * (samples * tokens * tokens) as f64 * shape.width() as f64;
    let mut forward = Case::new(format!("attention forward, {samples} x {tokens} tokens, 12 x 64"));
    let (qkv, out) = (forward.buffer(3 * row), forward.buffer(row));
    let lse = forward.buffer(4 * samples * tokens * 12);
    forward.push([attention::cuda::forward(&shape, real, samples, qkv, out, lse)]);
    (forward.flop, forward.bytes) = (work, 4.0 * row as f64);
    let mut backward = Case::new(format!("attention backward, {samples} x {tokens} tokens, 12 x 64"));
    let views = attention::cuda::BackwardViews {
        qkv: backward.buffer(3 * row),
        out: backward.buffer(row),
        grad_out: backward.buffer(row),
        lse: backward.buffer(4 * samples * tokens * 12),
        grad_qkv: backward.buffer(3 * row),
        scratch: backward.buffer(attention::cuda::backward_scratch_bytes(&shape, real, samples)),
    };
    backward.push(attention::cuda::backward(&shape, real, samples, views));
    (backward.flop, backward.bytes) = (2.5 * work, 8.0 * row as f64);
    [forward, backward]
}
