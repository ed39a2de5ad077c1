//! Launches of `kernels/normalize.cu`: mean pooling and L2 normalisation.

use super::super::launch::{Arg, Launch, Module, View, blocks, pack};
use super::EPS;

/// The kernels.
pub const MODULE: Module = Module::new("normalize", include_str!("../../../../kernels/normalize.cu"));

const THREADS: usize = 128;
/// Rows of a block.
const WARPS: usize = THREADS / 32;
const POOL_THREADS: usize = 256;

/// y\[b\] = mean over the tokens of x\[b, t\]. **Shapes** x real `[B, T, C]`, y real `[B, C]`.
#[must_use]
pub fn mean_rows(samples: usize, tokens: usize, width: usize, x: View, y: View) -> Launch {
    let pack = pack(width, &[(x, 4), (y, 4)]);
    let tiles = width.div_ceil(pack * POOL_THREADS);
    let args = [vec![Arg::In(x), Arg::Out(y)], [tokens, width, tiles, pack].map(Arg::count).to_vec()].concat();
    Launch { threads: POOL_THREADS as u32, ..launch("normalize_mean_rows", blocks(samples * tiles, 1), args) }
}

/// y = x / max(|x|, eps), once in f32 and once in real, and the floored norms.
///
/// **Shapes** x, y f32 `[rows, width]`; `y_real` real `[rows, width]` (may be y where real is f32); norm f32 `[rows]`.
#[must_use]
pub fn forward(rows: usize, width: usize, x: View, y: View, y_real: View, norm: View) -> Launch {
    let pack = pack(width, &[(x, 4), (y, 4), (y_real, 4)]);
    let args = vec![Arg::In(x), Arg::Out(y), Arg::Out(y_real), Arg::Out(norm)];
    launch("normalize_forward", blocks(rows, WARPS), [args, sizes(rows, width, pack)].concat())
}

/// Gradient of the input, from the normalised rows and the norms.
///
/// **Shapes** y, `grad_y` f32 `[rows, width]`; norm f32 `[rows]`; `grad_x` real `[rows, width]`.
#[must_use]
pub fn backward(rows: usize, width: usize, y: View, norm: View, grad_y: View, grad_x: View) -> Launch {
    let pack = pack(width, &[(y, 4), (grad_y, 4), (grad_x, 4)]);
    let args = vec![Arg::In(y), Arg::In(norm), Arg::In(grad_y), Arg::Out(grad_x)];
    launch("normalize_backward", blocks(rows, WARPS), [args, sizes(rows, width, pack)].concat())
}

fn sizes(rows: usize, width: usize, pack: usize) -> Vec<Arg> {
    vec![Arg::count(rows), Arg::count(width), Arg::F32(EPS), Arg::count(pack)]
}

fn launch(kernel: &'static str, blocks: u32, args: Vec<Arg>) -> Launch {
    Launch { module: MODULE, kernel, grid: [blocks, 1, 1], threads: THREADS as u32, shared_bytes: 0, args }
}
