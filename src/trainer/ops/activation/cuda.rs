//! Launches of `kernels/activation.cu`.

use super::super::launch::{Arg, Launch, Module, View, blocks};
use crate::Activation;

/// The kernels.
pub const MODULE: Module = Module::new("activation", include_str!("../../../../kernels/activation.cu"));

/// Elements that a thread handles.
const PER_THREAD: usize = 8;
const THREADS: usize = 256;

/// y = f(x). **Shapes** `len` elements of real each.
#[must_use]
pub fn forward(kind: Activation, len: usize, x: View, y: View) -> Launch {
    launch("activation_forward", kind, len, vec![Arg::In(x), Arg::Out(y)])
}

/// y = f(x) once more, and `grad` from dL/dy to dL/dx in place. **Shapes** `len` elements of real each.
#[must_use]
pub fn backward(kind: Activation, len: usize, x: View, y: View, grad: View) -> Launch {
    launch("activation_backward", kind, len, vec![Arg::In(x), Arg::Out(y), Arg::InOut(grad)])
}

fn launch(kernel: &'static str, kind: Activation, len: usize, mut args: Vec<Arg>) -> Launch {
    let kind = match kind {
        Activation::Gelu => 0,
        Activation::GeluTanh => 1,
        Activation::QuickGelu => 2,
    };
    args.extend([Arg::U32(kind), Arg::count(len)]);
    let grid = [blocks(len, THREADS * PER_THREAD), 1, 1];
    Launch { module: MODULE, kernel, grid, threads: THREADS as u32, shared_bytes: 0, args }
}
