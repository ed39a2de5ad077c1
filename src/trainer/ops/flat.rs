//! What the steps of GPU optimisers share: views of the flat buffers, the scalars of a step, lists of pieces.
//!
//! On a GPU parameters, gradients and moments are flat f32 buffers in which every view starts at a multiple of [`ALIGN`] floats;
//! the padding between views is zero and stays zero. Learning rate and the like come to a step in eight floats (`controls`), and
//! what became of it leaves in eight more (`report`). Must not know: a program, a schedule.

use super::factor_view::FactorView;
use super::launch::{Arg, View};

/// Views start at multiples of this many floats.
pub const ALIGN: usize = 64;

/// Floats that a block of an optimiser updates at most: a thread of 256 four times four.
pub(super) const PIECE: usize = 4096;

/// One parameter in flat buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlatView {
    /// First float, a multiple of [`ALIGN`].
    pub offset: usize,
    /// Its shape as optimisers see it.
    pub matrix: FactorView,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// Indices of `controls`, written by the host before every step.
pub mod control {
    /// Floats of the buffer.
    pub const LEN: usize = 8;
    /// Learning rate.
    pub const LR: usize = 0;
    /// What decayed parameters are multiplied by.
    pub const KEEP: usize = 1;
    /// `AdamW`: 1 / (1 - beta1^t).
    pub const UNBIAS1: usize = 2;
    /// `AdamW`: 1 / (1 - beta2^t).
    pub const UNBIAS2: usize = 3;
    /// Adafactor: decay of the second moment.
    pub const DECAY: usize = 4;
    /// Number of the step; exact below 2^24.
    pub const STEP: usize = 5;
}

/// Indices of `report`, written by the step.
pub mod report {
    /// Floats of the buffer.
    pub const LEN: usize = 8;
    /// Loss.
    pub const LOSS: usize = 0;
    /// Multiplier of the logits.
    pub const LOGIT_SCALE: usize = 1;
    /// Norm of the gradient before clipping.
    pub const GRAD_NORM: usize = 2;
    /// What the gradient is multiplied by; 1 where it is not clipped.
    pub const CLIP: usize = 3;
    /// 1 from the first step on whose loss or gradient norm is not finite, else 0. From then on no parameter changes.
    pub const UNFIT: usize = 4;
    /// Number of that step.
    pub const UNFIT_STEP: usize = 5;
    /// Loss of that step.
    pub const UNFIT_LOSS: usize = 6;
    /// Gradient norm of that step.
    pub const UNFIT_NORM: usize = 7;
}

/// What an optimiser's step reads and writes; every view starts at a multiple of 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepBuffers {
    /// Parameters, flat f32.
    pub params: View,
    /// Their gradients, flat f32; not changed.
    pub grads: View,
    /// Momentum or first moment, flat f32.
    pub first: View,
    /// Second moment, f32: flat for `AdamW`, as `adafactor::cuda::second_layout` says for Adafactor.
    pub second: View,
    /// The parameters once more, rounded to real and flat: what products read.
    pub shadow: Option<View>,
    /// The optimiser's work list.
    pub table: View,
    /// See [`control`].
    pub controls: View,
    /// See [`report`].
    pub report: View,
}

impl StepBuffers {
    /// Checks that 16-byte accesses are possible.
    pub(super) fn check(&self) {
        let Self { params, grads, first, second, shadow, table, controls: _, report: _ } = *self;
        let views = [Some(params), Some(grads), Some(first), Some(second), shadow, Some(table)];
        assert!(
            views.iter().flatten().all(|view| view.offset.is_multiple_of(16)),
            "a flat buffer starts at a multiple of 16 bytes"
        );
    }

    /// The shadow is kept from step to step: a step may leave it as it is.
    pub(super) fn shadow_arg(&self) -> Arg {
        self.shadow.map_or(Arg::Null, Arg::InOut)
    }
}

/// Words of a `Piece` (`common.cuh`).
pub(super) const PIECE_WORDS: usize = 4;

/// Appends the pieces of a view whose second moment lies element by element at `second`.
pub(super) fn push_pieces(words: &mut Vec<u32>, view: &FlatView, second: usize) {
    let FlatView { offset, matrix, decay } = *view;
    assert!(offset.is_multiple_of(ALIGN) && second.is_multiple_of(ALIGN), "a view starts at a multiple of {ALIGN} floats");
    for from in (0..matrix.len()).step_by(PIECE) {
        let len = PIECE.min(matrix.len() - from);
        words.extend([word(offset + from), word(len), u32::from(decay), word(second + from)]);
    }
}

/// A number in a table.
pub(super) fn word(value: usize) -> u32 {
    u32::try_from(value).expect("flat buffers have fewer than 2^32 floats")
}
