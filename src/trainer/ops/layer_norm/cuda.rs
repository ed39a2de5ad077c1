//! Launches of `kernels/layer_norm.cu`.

use super::super::launch::{Arg, Launch, Module, Node, PartSums, Real, View, blocks, pack};
use super::{Accumulation, EPS};
use crate::recorder::{Recorder, Refusal};

/// The kernels.
pub const MODULE: Module = Module::new("layer_norm", include_str!("../../../../kernels/layer_norm.cu"));

const THREADS: usize = 128;
/// Rows of a block where a warp handles one.
const WARPS: usize = THREADS / 32;
/// Blocks that share the rows in backward: six for each of an H200's 132 multiprocessors.
const MOST_BLOCKS: usize = 6 * 132;
/// Widest row that the registers of a block hold.
pub const MOST_WIDTH: usize = 2048;

/// Refuses rows that are wider than the kernels take.
///
/// # Errors
/// [`Refusal::Beyond`].
pub fn check(width: usize) -> Result<(), Refusal> {
    Refusal::beyond("channels of a layer norm", width, MOST_WIDTH)
}

/// Which rows of x are normed: row r of the norm is row `r * stride + ends[r]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPick {
    /// Rows of x for each row of the norm.
    pub stride: usize,
    /// u32 `[rows]`; 0 where there is none.
    pub ends: Option<View>,
}

/// The pick as arguments: ends, stride.
fn pick_args(pick: Option<RowPick>) -> [Arg; 2] {
    let RowPick { stride, ends } = pick.unwrap_or(RowPick { stride: 1, ends: None });
    [Arg::maybe_in(ends), Arg::count(stride)]
}

/// Where [`forward`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Rows of the norm.
    pub rows: usize,
    /// Length of a row (C), up to 2048.
    pub width: usize,
    /// f32 rows of C; all of them, or those that `pick` names.
    pub x: View,
    /// Which rows of x; `None` for row r itself.
    pub pick: Option<RowPick>,
    /// f32 `[C]`.
    pub gain: View,
    /// f32 `[C]`.
    pub bias: View,
    /// `[rows, C]`.
    pub y: View,
    /// Element type of y: f32, or the module's.
    pub y_real: Real,
    /// f32 `[rows]`, written for backward.
    pub mean: View,
    /// f32 `[rows]`, written for backward.
    pub rstd: View,
}

/// y and the statistics that backward needs.
///
/// # Panics
/// If a row is empty or wider than 2048.
#[must_use]
pub fn forward(at: &Forward) -> Launch {
    let Forward { rows, width, x, pick, gain, bias, y, y_real, mean, rstd } = *at;
    let (kernel, a_block) = match width {
        0 => panic!("a layer norm of nothing"),
        1..=256 => ("layer_norm_forward_256", WARPS),
        257..=512 => ("layer_norm_forward_512", WARPS),
        513..=1024 => ("layer_norm_forward_1024", WARPS),
        1025..=MOST_WIDTH => ("layer_norm_forward_2048", 1),
        _ => panic!("a layer norm over {width} channels, up to {MOST_WIDTH} are supported"),
    };
    let pack = pack(width, &[(x, 4), (gain, 4), (bias, 4), (y, y_real.bytes())]);
    let mut args = vec![Arg::In(x)];
    args.extend(pick_args(pick));
    args.extend([Arg::In(gain), Arg::In(bias), Arg::Out(y), is_real(y_real), Arg::Out(mean), Arg::Out(rstd)]);
    args.extend([Arg::count(rows), Arg::count(width), Arg::F32(EPS), Arg::count(pack)]);
    launch(kernel, blocks(rows, a_block), args)
}

/// Where [`backward`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backward {
    /// Rows of the norm.
    pub rows: usize,
    /// Length of a row (C), up to 2048.
    pub width: usize,
    /// As in forward.
    pub x: View,
    /// As in forward; rows of `grad_x` and `grad_x_real` are picked alike, the others are left as they are.
    pub pick: Option<RowPick>,
    /// Gradient of y: `[rows / rows_per_grad, C]`.
    pub grad_y: View,
    /// Its element type: f32, or the module's.
    pub grad_y_real: Real,
    /// Row r has the gradient `grad_y[r / rows_per_grad] / rows_per_grad`: more than 1 where the mean of so many rows was taken.
    pub rows_per_grad: usize,
    /// f32 `[C]`.
    pub gain: View,
    /// f32 `[C]`, read where `normed` is wanted.
    pub bias: View,
    /// f32 `[rows]`, of forward.
    pub mean: View,
    /// f32 `[rows]`, of forward.
    pub rstd: View,
    /// f32, rows as in x. May be `grad_y` where that is f32, no row is picked and `rows_per_grad` is 1.
    pub grad_x: View,
    /// Whether `grad_x` is added to or overwritten.
    pub mode: Accumulation,
    /// real, rows as in x: a copy of the rows of `grad_x` after the update.
    pub grad_x_real: Option<View>,
    /// real `[rows, C]`: y again, for the weight gradient that follows.
    pub normed: Option<View>,
    /// f32 `[C]`.
    pub grad_gain: View,
    /// f32 `[C]`.
    pub grad_bias: View,
    /// Whether the gradients of gain and bias are added to what is there.
    pub accumulate: bool,
}

/// Kernel and blocks of backward.
fn share(rows: usize, width: usize) -> (&'static str, usize) {
    let (kernel, a_block) = match width {
        0 => panic!("a layer norm of nothing"),
        1..=256 => ("layer_norm_backward_256", WARPS),
        257..=1024 => ("layer_norm_backward_1024", 1),
        1025..=MOST_WIDTH => ("layer_norm_backward_2048", 1),
        _ => panic!("a layer norm over {width} channels, up to {MOST_WIDTH} are supported"),
    };
    (kernel, rows.div_ceil(a_block).clamp(1, MOST_BLOCKS))
}

/// Bytes of `scratch` for [`backward`].
#[must_use]
pub fn backward_scratch_bytes(rows: usize, width: usize) -> usize {
    PartSums { parts: share(rows, width).1, len: 2 * width }.bytes()
}

/// Gradients of input, then of gain and bias from what the first node leaves in `scratch`.
///
/// # Panics
/// If a row is empty or wider than 2048.
#[must_use]
pub fn backward(at: &Backward, scratch: View) -> [Node; 2] {
    let Backward { rows, width, pick, grad_y, grad_y_real, grad_x, mode, grad_x_real, normed, accumulate, .. } = *at;
    let (kernel, num_blocks) = share(rows, width);
    let mut views = [at.x, at.gain, at.bias, grad_x, scratch].map(|view| (view, 4)).to_vec();
    views.push((grad_y, grad_y_real.bytes()));
    views.extend([grad_x_real, normed].into_iter().flatten().map(|view| (view, 4)));
    // Rows that are not picked keep what they held.
    let write = if pick.is_some() { Arg::InOut } else { Arg::Out };
    let write_x = if mode == Accumulation::Add { Arg::InOut } else { write };
    let mut args = vec![Arg::In(at.x)];
    args.extend(pick_args(pick));
    args.extend([Arg::In(grad_y), is_real(grad_y_real), Arg::count(at.rows_per_grad), Arg::In(at.gain)]);
    args.extend([normed.map_or(Arg::Null, |_| Arg::In(at.bias)), Arg::In(at.mean), Arg::In(at.rstd)]);
    args.extend([write_x(grad_x), Arg::U32((mode == Accumulation::Add).into()), grad_x_real.map_or(Arg::Null, write)]);
    args.extend([Arg::maybe_out(normed), Arg::Out(scratch)]);
    args.extend([rows, width, pack(width, &views)].map(Arg::count));
    let rows = launch(kernel, num_blocks as u32, args);

    let parts = PartSums { parts: num_blocks, len: 2 * width };
    let write = if accumulate { Arg::InOut } else { Arg::Out };
    let mut args = vec![Arg::In(scratch)];
    args.extend([parts.parts, parts.len, parts.groups()].map(Arg::count));
    args.extend([write(at.grad_gain), write(at.grad_bias), Arg::U32(accumulate.into())]);
    let sums = Launch { grid: parts.grid(), threads: PartSums::THREADS, ..launch("layer_norm_columns_sum", 1, args) };
    [rows, sums].map(Node::from)
}

/// Records [`backward`]: the gradient of the input now, those of gain and bias when those of parameters are recorded.
pub fn record_backward(r: &mut Recorder, at: &Backward) {
    let scratch = r.scratch("norm scratch", backward_scratch_bytes(at.rows, at.width));
    let [rows, sums] = backward(at, scratch);
    r.push([rows]);
    r.push_aside(|aside| &mut aside.products, [sums]);
}

/// Whether a tensor has the module's type where that is not f32; where it is, both are one.
fn is_real(real: Real) -> Arg {
    Arg::U32((real == Real::Bf16).into())
}

fn launch(kernel: &'static str, blocks: u32, args: Vec<Arg>) -> Launch {
    Launch { module: MODULE, kernel, grid: [blocks, 1, 1], threads: THREADS as u32, shared_bytes: 0, args }
}
