//! Launches of `kernels/adamw.cu`.

use super::super::flat::{FlatView, PIECE_WORDS, StepBuffers, push_pieces};
use super::super::launch::{Arg, Launch, Module, Node};
use super::AdamW;

/// The kernels.
pub const MODULE: Module = Module::new("adamw", include_str!("../../../../kernels/adamw.cu"));

/// Words of [`StepBuffers::table`], uploaded once: the pieces of the views.
#[must_use]
pub fn table(views: &[FlatView]) -> Vec<u32> {
    let mut words = Vec::new();
    for view in views {
        push_pieces(&mut words, view, view.offset);
    }
    words
}

/// One step of all views, after the report of the gradient norm ([`super::super::elementwise::cuda::global_norm`]): nothing
/// happens where that says unfit. **Shapes** both moments are flat f32 with the offsets of the parameters.
#[must_use]
pub fn update(views: &[FlatView], h: &AdamW, buffers: &StepBuffers) -> Vec<Node> {
    buffers.check();
    let pieces = table(views).len() / PIECE_WORDS;
    if pieces == 0 {
        return Vec::new();
    }
    let StepBuffers { params, grads, first, second, shadow: _, table, controls, report } = *buffers;
    let AdamW { beta1, beta2, eps } = *h;
    let args = vec![
        Arg::In(table),
        Arg::InOut(params),
        Arg::In(grads),
        Arg::InOut(first),
        Arg::InOut(second),
        buffers.shadow_arg(),
        Arg::In(controls),
        Arg::In(report),
        Arg::F32(beta1),
        Arg::F32(beta2),
        Arg::F32(eps),
    ];
    let grid = [u32::try_from(pieces).expect("a grid has fewer than 2^31 blocks"), 1, 1];
    vec![Launch { module: MODULE, kernel: "adamw_update", grid, threads: 256, shared_bytes: 0, args }.into()]
}
