//! What kernels and products take on a device: whole recordings timed, many runs each.
//!
//! Input: a device. Output: rows for people and for `results/gpu/`. Figures are medians of groups of runs, so that the time to
//! start a run is not counted. Must not assert: a benchmark is not a test.

use std::time::Instant;

use serde::Serialize;

use crate::run::Activation;
use crate::trainer::TrainerError;
use crate::trainer::backend::cuda::device::Device;
use crate::trainer::ops::attention::AttentionShape;
use crate::trainer::ops::contrastive::cuda::{Schedule, Views};
use crate::trainer::ops::contrastive::{Contrastive, Form};
use crate::trainer::ops::launch::{Factor, Node, Product, Real, Section, View};
use crate::trainer::ops::recorder::{Buffers, Life};
use crate::trainer::ops::{activation, attention, contrastive, elementwise, layer_norm};

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// What was timed, with its shape.
    pub what: String,
    /// Median time of one run.
    pub ms: f64,
    /// Arithmetic of the products in it, where that is what it does.
    pub tflop_per_s: Option<f64>,
    /// Bytes that it has to move, where that is what it does.
    pub gbyte_per_s: Option<f64>,
    /// Time as a multiple of another row's.
    pub ratio: Option<(String, f64)>,
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
}

/// Runs of a group, and groups.
const GROUP: usize = 10;
const GROUPS: usize = 9;

/// Times one case; buffers hold small numbers, not zeros, since zeros save power and so time.
fn time<D: Device>(device: &mut D, case: &Case) -> Result<Speed, TrainerError> {
    let mut addresses = Vec::new();
    for buffer in case.buffers.all() {
        let address = device.allocate(buffer.bytes)?;
        // Every other byte pair is a small bf16 or the upper half of a small f32.
        let pattern: Vec<u8> = (0..buffer.bytes.min(1 << 22)).map(|idx| [0x35, 0x3c, 0x9d, 0x3b][idx % 4]).collect();
        for start in (0..buffer.bytes).step_by(pattern.len().max(1)) {
            let len = pattern.len().min(buffer.bytes - start);
            device.write(address.at(start), &pattern[..len])?;
        }
        addresses.push(address);
    }
    let graph = device.prepare(&[Section::serial(case.nodes.iter().cloned())], &addresses)?;
    let mut times = Vec::new();
    for group in 0..=GROUPS {
        device.synchronize()?;
        let begun = Instant::now();
        for _ in 0..GROUP {
            device.run(&graph)?;
        }
        device.synchronize()?;
        // The first group warms up.
        if group > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a small count")]
            times.push(begun.elapsed().as_secs_f64() / GROUP as f64);
        }
    }
    drop(graph);
    addresses.iter().for_each(|address| device.free(*address));
    times.sort_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    let rate = |amount: f64, unit: f64| (amount > 0.0).then(|| amount / seconds / unit);
    let (tflop_per_s, gbyte_per_s) = (rate(case.flop, 1e12), rate(case.bytes, 1e9));
    Ok(Speed { what: case.what.clone(), ms: seconds * 1e3, tflop_per_s, gbyte_per_s, ratio: None })
}

/// Times everything that fits the device; `show` gets each row as it is found. A case that does not fit is a row of its own in
/// the second list.
///
/// # Errors
/// What the device says, but for memory.
pub fn run<D: Device>(device: &mut D, show: &mut dyn FnMut(&Speed)) -> Result<(Vec<Speed>, Vec<String>), TrainerError> {
    let real = device.real();
    let (mut rows, mut left_out): (Vec<Speed>, Vec<String>) = (Vec::new(), Vec::new());
    for (case, against) in others(real).into_iter().map(|case| (case, None)).chain(losses(real)) {
        match time(device, &case) {
            Ok(mut row) => {
                let base = against.and_then(|name: String| rows.iter().find(|row| row.what == name).map(|row| (name, row.ms)));
                row.ratio = base.map(|(name, ms)| (name, row.ms / ms));
                show(&row);
                rows.push(row);
            }
            Err(TrainerError::DeviceMemory { .. }) => left_out.push(case.what),
            Err(error) => return Err(error),
        }
    }
    Ok((rows, left_out))
}

/// A product m x n x k with an output of the compute type or f32.
fn product(case: &mut Case, (m, n, k): (usize, usize, usize), real: Real, out_real: Real) {
    let (a, b) = (case.buffer(m * k * real.bytes()), case.buffer(n * k * real.bytes()));
    let out = case.buffer(m * n * out_real.bytes());
    push_product(case, (m, n, k), (a, b, out), real, out_real);
}

#[expect(clippy::cast_precision_loss, reason = "an amount of work")]
fn push_product(case: &mut Case, (m, n, k): (usize, usize, usize), (a, b, out): (View, View, View), real: Real, out_real: Real) {
    let (a, b) = (Factor::plain(a, real), Factor::transposed(b, real));
    case.push([Product { m, n, k, a, b, addend: None, bias: None, out, out_real }]);
    case.flop += 2.0 * (m * n) as f64 * k as f64;
}

/// The loss in its schedules, against four plain products of the same shapes: logits twice, both gradients.
fn losses(real: Real) -> Vec<(Case, Option<String>)> {
    let mut cases = Vec::new();
    for (batch, embed_dim) in [(4096, 512), (32_768, 512), (131_072, 512)] {
        let shape = Contrastive { batch, embed_dim };
        let base = format!("four products of a loss, B {batch}, E {embed_dim}");
        // Beyond this the logits of one plain product do not fit.
        if batch <= 65_536 {
            cases.push((four_products(base.clone(), &shape, real), None));
        }
        for schedule in [Schedule::Fused, Schedule::slabs(batch)] {
            let what = format!("contrastive loss, {schedule:?}, B {batch}, E {embed_dim}");
            cases.push((loss(what, &shape, schedule, real), Some(base.clone())));
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
fn loss(what: String, shape: &Contrastive, schedule: Schedule, real: Real) -> Case {
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
        bias: None,
        grad_image,
        grad_text,
        loss: scalars.floats(1),
        logit_scale: scalars.floats(2),
        grad_log_scale: scalars.floats(3),
        grad_bias: None,
    };
    let scratch = case.buffer(contrastive::cuda::scratch_bytes(shape, Form::Softmax, schedule, real));
    case.push(contrastive::cuda::forward_backward(shape, Form::Softmax, schedule, real, &views, scratch));
    // What the four products cost; a schedule that computes tiles more often does more than it is credited for.
    case.flop = 8.0 * (batch * batch) as f64 * embed_dim as f64;
    case
}

/// Products, attention and the memory-bound kernels, at the shapes of a ViT-B/32 with 4,096 images.
#[expect(clippy::cast_precision_loss, reason = "amounts of work")]
fn others(real: Real) -> Vec<Case> {
    let (rows, width) = (204_800, 768);
    let wide = rows * width * real.bytes();
    let mut cases = Vec::new();
    for (m, n, k) in [(rows, 4 * width, width), (rows, width, 4 * width), (4 * width, width, rows)] {
        let mut case = Case::new(format!("product {m} x {n} x {k}"));
        product(&mut case, (m, n, k), real, if k == rows { Real::F32 } else { real });
        cases.push(case);
    }
    for (samples, tokens) in [(4096, 50), (1024, 197), (4096, 77)] {
        cases.extend(attention_cases(samples, tokens, real));
    }
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
