//! Launches of `kernels/bias.cu`.

use super::super::launch::{Arg, Launch, Module, View, blocks};

/// The kernels.
pub const MODULE: Module = Module { name: "bias", source: include_str!("../../../../kernels/bias.cu") };

const THREADS: usize = 256;

/// `out` = `bias` rounded to bf16. **Shapes** `len` elements, f32 in, bf16 out.
#[must_use]
pub fn round(len: usize, bias: View, out: View) -> Launch {
    let args = vec![Arg::In(bias), Arg::Out(out), Arg::count(len)];
    Launch {
        module: MODULE,
        kernel: "bias_round",
        grid: [blocks(len, THREADS), 1, 1],
        threads: THREADS as u32,
        shared_bytes: 0,
        args,
    }
}
