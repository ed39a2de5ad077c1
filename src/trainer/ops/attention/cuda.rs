//! Launches of `kernels/attention.cu`: tiles, shared memory and grids.

use super::super::launch::{Arg, Launch, Module, Node, Real, View, blocks};
use super::AttentionShape;
use crate::recorder::Refusal;

/// The kernels of a head size.
fn module(size: usize) -> Module {
    let source = include_str!("../../../../kernels/attention.cu");
    Module { define: Some(("HEAD_DIM", size as u32)), ..Module::new("attention", source) }
}

/// The kernels of every head size.
pub fn modules() -> impl Iterator<Item = Module> {
    SIZES.into_iter().map(module)
}

/// Channels of a head at most.
pub const MOST_HEAD_DIM: usize = 128;

/// Refuses heads that are wider than the kernels take.
///
/// # Errors
/// [`Refusal::Beyond`].
pub fn check(shape: &AttentionShape) -> Result<(), Refusal> {
    Refusal::beyond("channels of a head", shape.head_dim, MOST_HEAD_DIM)
}

/// Head sizes that kernels are compiled for, each by itself; a smaller head is padded with zeros to the next one.
const SIZES: [usize; 6] = [16, 32, 64, 80, 96, MOST_HEAD_DIM];

/// Tokens that one warp owns.
const ROWS: usize = 16;
/// Most warps of a group, and those of a block of several groups.
const MAX_WARPS: usize = 8;
const WARPS: usize = 4;
/// Keys of a tile in the forward kernel.
const KEYS: usize = 64;

/// out = softmax(q kᵀ / sqrt(D)) v of every sample, and the log-sum-exp of the scaled scores.
///
/// **Shapes** qkv real `[B, T, 3C]` with rows q | k | v, out real `[B, T, C]`, lse f32 `[B, H, T]`; B is `samples`. Views need no
/// alignment beyond their element's; 16-byte accesses are used where they are aligned and D fills whole ones. Shared memory is over
/// 48 KiB for long heads: 51 KiB in bf16, up to 104 KiB in f32.
///
/// # Panics
/// If a head has over 128 channels.
#[must_use]
pub fn forward(shape: &AttentionShape, real: Real, samples: usize, qkv: View, out: View, lse: View) -> Launch {
    let plan = Plan::new(shape, real, samples);
    // Registers of two blocks fit a multiprocessor.
    let most = if plan.is_small() { MAX_WARPS } else { WARPS };
    let keys = KEYS.min(shape.tokens.next_multiple_of(ROWS));
    plan.launch(
        "attention_forward",
        most,
        |rows| (rows + 2 * keys) * plan.row_bytes(),
        vec![Arg::In(qkv), Arg::Out(out), Arg::Out(lse)],
    )
}

/// Bytes that [`backward`] needs beside its arguments; 0 where one kernel does everything.
#[must_use]
pub fn backward_scratch_bytes(shape: &AttentionShape, real: Real, samples: usize) -> usize {
    let plan = Plan::new(shape, real, samples);
    if plan.is_whole() { 0 } else { 4 * plan.pairs() * shape.tokens }
}

/// What backward reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct BackwardViews {
    /// Input of the forward pass, real `[B, T, 3C]`.
    pub qkv: View,
    /// Its output, real `[B, T, C]`.
    pub out: View,
    /// Its log-sum-exp, f32 `[B, H, T]`.
    pub lse: View,
    /// dL/dout, real `[B, T, C]`.
    pub grad_out: View,
    /// dL/dqkv, real `[B, T, 3C]`, overwritten.
    pub grad_qkv: View,
    /// [`backward_scratch_bytes`] bytes, aligned to 4.
    pub scratch: View,
}

/// Gradient of qkv: one launch for sequences that fit a block, else one for dq and one for dk and dv.
///
/// Alignment as for [`forward`]; shared memory up to 160 KiB in f32, 112 KiB in bf16.
///
/// # Panics
/// If a head has over 128 channels.
#[must_use]
pub fn backward(shape: &AttentionShape, real: Real, samples: usize, views: BackwardViews) -> Vec<Node> {
    let BackwardViews { qkv, out, lse, grad_out, grad_qkv, scratch } = views;
    let plan = Plan::new(shape, real, samples);
    let row_bytes = plan.row_bytes();
    if plan.is_whole() {
        let args = vec![Arg::In(qkv), Arg::In(out), Arg::In(grad_out), Arg::In(lse), Arg::Out(grad_qkv)];
        return vec![plan.launch("attention_backward", MAX_WARPS, |rows| plan.whole_bytes(rows), args).into()];
    }
    // Tiles of the other side, two at a time.
    let step = if plan.size * real.bytes() > 128 { 32 } else { 64 };
    let shared = |rows: usize| (2 * rows + 4 * step) * row_bytes;
    let args = vec![Arg::In(qkv), Arg::In(out), Arg::In(grad_out), Arg::In(lse), Arg::Out(scratch), Arg::Out(grad_qkv)];
    let most = if plan.is_small() { MAX_WARPS } else { WARPS };
    let queries = plan.launch("attention_backward_queries", most, shared, args);
    // The launch before has written the part of dq.
    let args = vec![Arg::In(qkv), Arg::In(grad_out), Arg::In(lse), Arg::In(scratch), Arg::InOut(grad_qkv)];
    let most = if plan.is_small() && plan.size < 64 { MAX_WARPS } else { WARPS };
    let keys = plan.launch("attention_backward_keys", most, |rows| shared(rows) + 16 * step, args);
    vec![queries.into(), keys.into()]
}

/// Sizes that all launches of an attention share.
struct Plan<'a> {
    shape: &'a AttentionShape,
    real: Real,
    samples: usize,
    /// The padded head size.
    size: usize,
}

impl<'a> Plan<'a> {
    fn new(shape: &'a AttentionShape, real: Real, samples: usize) -> Self {
        let size = SIZES.into_iter().find(|size| shape.head_dim <= *size).expect("a head has at most 128 channels");
        Self { shape, real, samples, size }
    }

    fn pairs(&self) -> usize {
        self.samples * self.shape.heads
    }

    /// Bytes of a row of a head in shared memory: 16 more than it holds.
    fn row_bytes(&self) -> usize {
        self.size * self.real.bytes() + 16
    }

    /// Whether the kernels keep to 128 registers, so that blocks of 8 warps come in pairs.
    fn is_small(&self) -> bool {
        self.real == Real::Bf16 && self.size <= 64
    }

    /// Whether one block holds a sequence in backward: its matrices let two blocks (in f32 one) be on a multiprocessor.
    fn is_whole(&self) -> bool {
        let limit = match self.real {
            Real::Bf16 => 112 << 10,
            Real::F32 => 160 << 10,
        };
        let warps = self.shape.tokens.div_ceil(ROWS);
        warps <= MAX_WARPS && self.whole_bytes(warps * ROWS) + self.room_bytes(warps) <= limit
    }

    /// q, k, v, grad_out, the gradients of scores with their padding, lse and delta.
    fn whole_bytes(&self, rows: usize) -> usize {
        rows * (4 * self.row_bytes() + rows * self.real.bytes() + 16 + 8)
    }

    /// Where f32 blocks of 16 x 16 move between the lanes of a warp.
    fn room_bytes(&self, warps: usize) -> usize {
        match self.real {
            Real::Bf16 => 0,
            Real::F32 => warps * 16 * 20 * 4,
        }
    }

    /// A launch whose groups have up to `most` warps, evenly spread over the tiles of a sequence. `shared_bytes` gives a group's
    /// shared memory from the rows of its tile.
    fn launch(&self, kernel: &'static str, most: usize, shared_bytes: impl Fn(usize) -> usize, mut args: Vec<Arg>) -> Launch {
        let AttentionShape { tokens, heads, head_dim, causal } = *self.shape;
        let owners = tokens.div_ceil(ROWS);
        let tiles = owners.div_ceil(most);
        let warps = owners.div_ceil(tiles);
        let groups = if tiles == 1 { (WARPS / warps).max(1) } else { 1 };
        let counts = [self.pairs(), heads, tokens, head_dim, usize::from(causal), warps];
        args.extend(counts.map(Arg::count));
        args.push(Arg::F32(1.0 / (head_dim as f32).sqrt()));
        Launch {
            module: module(self.size),
            kernel,
            grid: [blocks(self.pairs().div_ceil(groups) * tiles, 1), 1, 1],
            threads: (32 * warps * groups) as u32,
            shared_bytes: (groups * (shared_bytes(warps * ROWS) + self.room_bytes(warps))) as u32,
            args,
        }
    }
}
