//! Launches of `kernels/elementwise.cu`.

use super::super::launch::{Arg, Launch, Module, Node, Real, View, blocks};

/// The kernels.
pub const MODULE: Module = Module::new("elementwise", include_str!("../../../../kernels/elementwise.cu"));

const THREADS: usize = 256;
/// Elements that a block of a cast or sum handles.
const CAST: usize = 8 * THREADS;
/// Floats of a stretch of the global norm.
const STRETCH: usize = 4096;
/// Blocks of a reduction, at most about: four for each of the 132 multiprocessors of an H100 or H200, all there at once.
const BLOCKS: usize = 528;

/// y = x. **Shapes** x `len` elements of f32, y as many of real.
#[must_use]
pub fn cast(len: usize, x: View, y: View) -> Launch {
    launch("cast", [blocks(len, CAST), 1, 1], THREADS, vec![Arg::In(x), Arg::Out(y), Arg::count(len)])
}

/// Elements of f32, or of the real that the kernels compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements {
    /// First element.
    pub view: View,
    /// Their type.
    pub real: Real,
}

/// z = x + y, or x alone, in f32, in real, or in both. **Shapes** `len` elements each; z may be where x or y is, in the same type.
///
/// # Panics
/// If z goes nowhere.
#[must_use]
pub fn sum(len: usize, x: Elements, y: Option<Elements>, z: Option<View>, z_real: Option<View>) -> Launch {
    assert!(z.is_some() || z_real.is_some(), "a sum that goes nowhere");
    let is_read = |view: View| [Some(x), y].into_iter().flatten().any(|read| read.view == view);
    let out = |view: Option<View>| match view {
        None => Arg::Null,
        Some(view) if is_read(view) => Arg::InOut(view),
        Some(view) => Arg::Out(view),
    };
    let read = |elements: Option<Elements>| {
        let is_real = elements.is_some_and(|elements| elements.real != Real::F32);
        [Arg::maybe_in(elements.map(|elements| elements.view)), Arg::U32(is_real.into())]
    };
    let args = [&read(Some(x))[..], &read(y), &[out(z), out(z_real), Arg::count(len)]].concat();
    launch("sum", [blocks(len, CAST), 1, 1], THREADS, args)
}

/// How column sums are spread over a GPU.
struct Split {
    /// Threads side by side in a row.
    lanes: usize,
    /// Blocks side by side.
    tiles: usize,
    /// Rows of a block, and blocks one above another.
    chunk: usize,
    chunks: usize,
}

impl Split {
    fn new(rows: usize, columns: usize, per_thread: usize) -> Self {
        let vectors = columns.div_ceil(per_thread).max(1);
        let lanes = vectors.next_power_of_two().min(32);
        let (tiles, groups) = (vectors.div_ceil(lanes), THREADS / lanes);
        // At least four rows a thread, so that small matrices need no second stage.
        let chunk = rows.div_ceil((BLOCKS / tiles).max(1)).max(4 * groups).next_multiple_of(groups);
        Self { lanes, tiles, chunk, chunks: rows.div_ceil(chunk).max(1) }
    }

    fn scratch_bytes(&self, columns: usize) -> usize {
        if self.chunks == 1 { 0 } else { 4 * self.chunks * columns }
    }
}

/// Bytes of the scratch of [`column_sums`], whatever the type and place of x.
#[must_use]
pub fn column_sums_scratch_bytes(rows: usize, columns: usize) -> usize {
    let needs = [1, 4, 8].map(|per_thread| Split::new(rows, columns, per_thread).scratch_bytes(columns));
    needs.into_iter().max().unwrap_or(0)
}

/// sums\[j\] = sum over rows of x\[row, j\], added to what is there if `accumulate`. **Shapes** x `[rows, columns]` of `x_real`
/// (f32, or the real that the kernels compute in), sums `[columns]` of f32, scratch [`column_sums_scratch_bytes`].
#[must_use]
pub fn column_sums(rows: usize, columns: usize, x: View, x_real: Real, sums: View, accumulate: bool, scratch: View) -> Vec<Node> {
    let wide = 16 / x_real.bytes();
    let is_wide = columns.is_multiple_of(wide) && x.offset.is_multiple_of(16);
    let kernel = match (x_real, is_wide) {
        (Real::F32, true) => "column_sums_float_wide",
        (Real::F32, false) => "column_sums_float",
        (Real::Bf16, true) => "column_sums_real_wide",
        (Real::Bf16, false) => "column_sums_real",
    };
    let split = Split::new(rows, columns, if is_wide { wide } else { 1 });
    assert!(sums.offset.is_multiple_of(4) && scratch.offset.is_multiple_of(4), "column sums are f32");
    let (added, sums) = (u32::from(accumulate), if accumulate { Arg::InOut(sums) } else { Arg::Out(sums) });
    let stage = |out: Arg, added: u32| {
        let sizes = [rows, columns, split.chunk, split.lanes].map(Arg::count);
        let args = [Arg::In(x), out].into_iter().chain(sizes).chain([Arg::U32(added)]).collect();
        let grid = [blocks(split.tiles, 1), blocks(split.chunks, 1), 1];
        launch(kernel, grid, THREADS, args).into()
    };
    if split.chunks == 1 {
        return vec![stage(sums, added)];
    }
    let args = vec![Arg::In(scratch), sums, Arg::count(split.chunks), Arg::count(columns), Arg::U32(added)];
    vec![stage(Arg::Out(scratch), 0), launch("column_sums_merge", [blocks(columns, 32), 1, 1], 512, args).into()]
}

/// Blocks of the first stage of the global norm.
fn norm_blocks(len: usize) -> usize {
    len.div_ceil(STRETCH).clamp(1, 2 * BLOCKS)
}

/// Bytes of the scratch of [`global_norm`], to start at a multiple of 8.
#[must_use]
pub fn global_norm_scratch_bytes(len: usize) -> usize {
    8 * norm_blocks(len)
}

/// Norm of the gradient, clip factor and whether the step is fit, into `report` (see [`super::super::flat::report`]).
/// **Shapes** grad `len` floats with zeros between views, controls and report 8 floats; report holds the loss.
#[must_use]
pub fn global_norm(len: usize, grad: View, grad_clip_norm: Option<f32>, controls: View, report: View, scratch: View) -> Vec<Node> {
    assert!(scratch.offset.is_multiple_of(8), "partial sums are doubles");
    let count = norm_blocks(len);
    let squares = vec![Arg::In(grad), Arg::Out(scratch), Arg::count(len)];
    let limit = grad_clip_norm.unwrap_or(f32::INFINITY);
    let merge = vec![Arg::In(scratch), Arg::In(controls), Arg::InOut(report), Arg::count(count), Arg::F32(limit)];
    vec![
        launch("squares_of_stretches", [blocks(count, 1), 1, 1], THREADS, squares).into(),
        launch("norm_report", [1, 1, 1], THREADS, merge).into(),
    ]
}

/// Clamps the learnt logarithm of the logit scale to 0..=`max_log`, unless the report says unfit. **Shapes** param one f32.
#[must_use]
pub fn clamp_logit_scale(param: View, max_log: f32, report: View) -> Launch {
    launch("clamp_logit_scale", [1, 1, 1], 32, vec![Arg::InOut(param), Arg::In(report), Arg::F32(max_log)])
}

fn launch(kernel: &'static str, grid: [u32; 3], threads: usize, args: Vec<Arg>) -> Launch {
    Launch { module: MODULE, kernel, grid, threads: threads as u32, shared_bytes: 0, args }
}
