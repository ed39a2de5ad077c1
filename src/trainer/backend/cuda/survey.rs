//! How long the products of programs take, algorithm by algorithm: what decides most of a step's time, known within seconds.
//!
//! Input: programs, or the shapes of products. Output: for each distinct shape what the library suggests, how long it takes and
//! what it computes a second. Shapes are those of the recordings, with the alignments of their places. Must not know which models
//! are asked about.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Instant;

use cudarc::cublaslt::sys;
use serde::Serialize;

use super::device::{Address, Device};
use super::driver::OpenDevice;
use super::products::Reductions;
use super::record::Recording;
use super::replay::operands;
use super::shape::Shape;
use crate::data::{Philox, Stream};
use crate::run::TrainConfig;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{BufferIdx, Factor, Node, Product, Real, View};
use crate::trainer::ops::recorder::{Buffer, Life};
use crate::trainer::program::Program;

/// The distinct products of a training step of a program, in their order.
///
/// # Errors
/// As [`super::planned_bytes`].
pub fn products_of(program: &Program, train: &TrainConfig, real: Real) -> Result<Vec<Shape>, TrainerError> {
    let recording = super::step::planned_step(program, train, real)?;
    let addresses = addresses(&recording);
    let nodes = recording.sections.iter().flat_map(|section| &section.branches).flatten();
    let mut seen = HashSet::new();
    let mut shapes = Vec::new();
    for node in nodes {
        if let Node::Product(product) = node {
            let shape = Shape::new(product, &operands(&addresses, product))?;
            if seen.insert(shape) {
                shapes.push(shape);
            }
        }
    }
    Ok(shapes)
}

/// Places that have the alignments of those that a step has: every buffer that is kept, and the arena, begin at a multiple of 256.
fn addresses(recording: &Recording) -> Vec<Address> {
    const APART: u64 = 1 << 44;
    let place = |(idx, (buffer, offset)): (usize, (&Buffer, &Option<usize>))| match buffer.life {
        Life::Kept => Address(APART * (idx as u64 + 2)),
        Life::Planned => Address(APART).at(offset.unwrap_or(0)),
    };
    recording.buffers.all().iter().zip(&recording.arena.offsets).enumerate().map(place).collect()
}

/// A product of matrices that begin where rows are aligned.
#[must_use]
pub fn plain(m: usize, n: usize, k: usize, real: Real, out: Real) -> Shape {
    let view = View { buffer: BufferIdx(0), offset: 0 };
    let (a, b) = (Factor::plain(view, real), Factor::transposed(view, real));
    let product = Product { m, n, k, a, b, addend: None, bias: None, out: view, out_real: out };
    Shape::new(&product, &operands(&[Address(256)], &product)).expect("a product of one type")
}

/// What was found of a shape.
#[derive(Debug, Clone, Serialize)]
pub struct Surveyed {
    /// Its sizes, types, layouts, what is added, alignments.
    pub shape: String,
    /// Operations: two a multiply-accumulate.
    pub flop: f64,
    /// With partial sums in the type of the sums alone; with those in the type of an f32 output, too, where the output is f32.
    pub by_reductions: Vec<Suggested>,
    /// Why there is no time; absent where there is one.
    pub failure: Option<String>,
}

/// The library's first suggestion that runs.
#[derive(Debug, Clone, Serialize)]
pub struct Suggested {
    /// What partial sums are kept in.
    pub reductions: String,
    /// Suggestions that there were.
    pub suggestions: usize,
    /// Its number, tile, how often the inner dimension is split, how the parts are added.
    pub algorithm: String,
    /// Median time of a run.
    pub ms: f64,
    /// Runs that were timed.
    pub runs: usize,
}

/// Times the first suggestion for a shape that runs, for about `seconds` for each way to add partial sums.
///
/// # Errors
/// Only where the device no longer answers: a shape without an algorithm, or without memory for it, is what was found.
pub(super) fn survey(device: &mut OpenDevice, shape: &Shape, seconds: f64) -> Result<Surveyed, TrainerError> {
    let mut found = Surveyed { shape: shape.in_full(), flop: shape.flop(), by_reductions: Vec::new(), failure: None };
    let bytes = shape.scratch(Address(0)).1;
    let base = match device.allocate(bytes) {
        Ok(base) => base,
        Err(error) => return Ok(Surveyed { failure: Some(error.to_string()), ..found }),
    };
    let filled = fill_with_noise(device, base, bytes);
    let ways: &[Reductions] = match shape.out {
        Real::F32 => &[Reductions::InComputeType, Reductions::InOutputTypeToo],
        Real::Bf16 => &[Reductions::InComputeType],
    };
    let (lane, products) = device.lane_and_products();
    for way in ways {
        let synchronize = || lane.stream.synchronize().map_err(super::kernels::failed(&shape.describe()));
        match products.suggestions(*shape, *way, base) {
            Err(code) => found.failure = Some(code),
            Ok(plan) => {
                let timed = plan.algorithms().iter().find_map(|algorithm| {
                    let timed = repeat(seconds, &mut |runs| {
                        let begun = Instant::now();
                        (0..runs).try_for_each(|_| products.run_suggestion(&plan, algorithm, base, lane))?;
                        synchronize()?;
                        Ok(begun.elapsed().as_secs_f64())
                    });
                    timed.ok().map(|timed| (algorithm, timed))
                });
                // A refusal leaves the device as it was.
                synchronize()?;
                match timed {
                    None => found.failure = Some("no algorithm that was suggested runs".into()),
                    Some((algorithm, (seconds, runs))) => found.by_reductions.push(Suggested {
                        reductions: way.in_words().into(),
                        suggestions: plan.algorithms().len(),
                        algorithm: describe(algorithm),
                        ms: seconds * 1e3,
                        runs,
                    }),
                }
            }
        }
    }
    device.free(base);
    filled.map(|()| found)
}

/// What the library says of an algorithm.
fn describe(algorithm: &sys::cublasLtMatmulAlgo_t) -> String {
    use sys::cublasLtMatmulAlgoConfigAttributes_t as Attribute;
    let attribute = |which| {
        let mut value = 0_u32;
        // SAFETY: an algorithm that the library made; each of these attributes is a 32-bit number; no size is asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoConfigGetAttribute(
                algorithm,
                which,
                (&raw mut value).cast(),
                size_of::<u32>(),
                std::ptr::null_mut(),
            )
        };
        status.result().map_or_else(|_| "?".to_string(), |_| value.to_string())
    };
    format!(
        "{}, tile {}, split {}, reduction {}",
        attribute(Attribute::CUBLASLT_ALGO_CONFIG_ID),
        attribute(Attribute::CUBLASLT_ALGO_CONFIG_TILE_ID),
        attribute(Attribute::CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
        attribute(Attribute::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME)
    )
}

/// Most groups of runs, most runs of a group, and seconds of a group where runs are short.
const GROUPS: usize = 9;
const GROUP: usize = 10;
const GROUP_S: f64 = 0.02;

/// The median seconds of a run, and how many were timed: groups of runs for about `seconds`, at least one run. `group` does so many
/// and returns the seconds they took. The first run warms up.
///
/// # Errors
/// What `group` says.
pub fn repeat(seconds: f64, group: &mut dyn FnMut(usize) -> Result<f64, TrainerError>) -> Result<(f64, usize), TrainerError> {
    group(1)?;
    let begun = Instant::now();
    let first = group(1)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a small count")]
    let runs = (GROUP_S / first).clamp(1.0, GROUP as f64) as usize;
    let (mut times, mut timed) = (Vec::new(), 0);
    while times.len() < GROUPS && begun.elapsed().as_secs_f64() + first * runs as f64 <= seconds {
        times.push(group(runs)? / runs as f64);
        timed += runs;
    }
    if times.is_empty() {
        return Ok((first, 1));
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], timed))
}

/// Bytes of noise, which longer memory repeats.
const NOISE_BYTES: usize = 1 << 22;

/// Fills memory with random numbers of either sign from 2^-7 to 2 in both types: pairs of bytes are bf16, and the upper halves of f32.
///
/// # Errors
/// What the device says.
pub fn fill_with_noise<D: Device>(device: &mut D, base: Address, bytes: usize) -> Result<(), TrainerError> {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut draws = Philox::new(1, Stream::Scenes).at(0, 1);
        let words = std::iter::repeat_with(|| draws.word() & 0x83ff_83ff | 0x3c00_3c00);
        words.take(NOISE_BYTES / 4).flat_map(u32::to_le_bytes).collect()
    });
    (0..bytes).step_by(NOISE_BYTES).try_for_each(|at| device.write(base.at(at), &NOISE[..NOISE_BYTES.min(bytes - at)]))
}
