//! The units of the tape: patch embedding, token embedding, transformer block, head; each with its own forward and backward
//! on the CPU, made of `ops`.
//!
//! A block works on a chunk: a few samples whose rows fit the cache. It reads parameters through [`Params`], keeps what its
//! backward needs in the saved slots of the program, and accumulates parameter gradients into one lane ([`GradLane`]).
//! Invariant: what a block computes for a sample does not depend on the other samples of the batch. Must not know threads.

use crate::Scratch;
use crate::linear::Linear;
use crate::params::{ParamIdx, ParamView};

/// The parameters of a program with the packed forms of its linear weights.
#[derive(Clone, Copy)]
pub struct Params<'a> {
    /// Views of the program.
    pub views: &'a [ParamView],
    /// The flat buffer.
    pub flat: &'a [f32],
    /// Packed panels of all linear weights, one after another.
    pub packed: &'a [f32],
    /// Range of each view's panels in `packed`; empty where it has none.
    pub packed_ranges: &'a [std::ops::Range<usize>],
}

impl<'a> Params<'a> {
    /// Values of one view.
    #[must_use]
    pub fn view(&self, idx: ParamIdx) -> &'a [f32] {
        &self.flat[self.views[idx].range()]
    }
    /// A linear map.
    #[must_use]
    pub fn linear(&self, idx: ParamIdx) -> Linear<'a> {
        let shape = self.views[idx].linear.expect("a linear map's view has a linear shape");
        Linear { shape, weight: self.view(idx), packed: &self.packed[self.packed_ranges[idx].clone()] }
    }
}

/// One lane's parameter gradients: the sum over a contiguous part of the batch.
pub struct GradLane<'a> {
    /// Views of the program.
    pub views: &'a [ParamView],
    /// The lane's flat buffer; where this batch has not written yet, it holds what an earlier one left.
    pub flat: &'a mut [f32],
    /// Whether this is the lane's first chunk, which overwrites instead of adding.
    pub first: bool,
}

impl GradLane<'_> {
    /// Gradients of two different views.
    ///
    /// # Panics
    /// If `a` does not lie before `b` in the flat buffer.
    pub fn pair(&mut self, a: ParamIdx, b: ParamIdx) -> (&mut [f32], &mut [f32]) {
        let (range_a, range_b) = (self.views[a].range(), self.views[b].range());
        let (head, tail) = self.flat.split_at_mut(range_b.start);
        (&mut head[range_a], &mut tail[..range_b.end - range_b.start])
    }
    /// As [`Self::pair`], set to zero on the lane's first chunk: for ops that only ever add.
    pub fn pair_zeroed(&mut self, a: ParamIdx, b: ParamIdx) -> (&mut [f32], &mut [f32]) {
        let first = self.first;
        let (a, b) = self.pair(a, b);
        if first {
            a.fill(0.0);
            b.fill(0.0);
        }
        (a, b)
    }
    /// Gradient of one view.
    pub fn view(&mut self, idx: ParamIdx) -> &mut [f32] {
        &mut self.flat[self.views[idx].range()]
    }
}

/// What a call reads: rows of an earlier call, or its part of the batch.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// [samples * rows, channels].
    Rows(&'a [f32]),
    /// [samples, S, S, 3] and, where patches are masked, the kept patch indices [samples, kept].
    Images {
        /// Pixels.
        pixels: &'a [u8],
        /// Kept patches in ascending order.
        keep: Option<&'a [u32]>,
    },
    /// Token ids [samples, T] and the end-of-text position of each sample.
    Tokens(&'a [u32]),
}

impl<'a> Input<'a> {
    /// The rows.
    ///
    /// # Panics
    /// If this is part of the batch: the program wires blocks so that it is not.
    #[must_use]
    pub fn rows(&self) -> &'a [f32] {
        match self {
            Self::Rows(rows) => rows,
            Self::Images { .. } | Self::Tokens(_) => panic!("the program wires rows to this block"),
        }
    }
}

/// A chunk of samples on its way forward.
pub struct Forward<'a, 'b> {
    /// Samples in the chunk.
    pub samples: usize,
    /// End-of-text position of each sample (text encoder only).
    pub ends: &'a [u32],
    /// Read.
    pub input: Input<'a>,
    /// Written whole.
    pub output: &'a mut [f32],
    /// The chunk's part of each saved slot, in the block's order.
    pub saved: &'b mut [&'a mut [f32]],
}

/// A chunk of samples on its way back.
pub struct Backward<'a, 'b> {
    /// Samples in the chunk.
    pub samples: usize,
    /// End-of-text position of each sample (text encoder only).
    pub ends: &'a [u32],
    /// What forward read.
    pub input: Input<'a>,
    /// Gradient of the output. A block whose input has the same shape (a residual block) turns it into the input's, in place.
    pub grad_output: &'a mut [f32],
    /// Gradient of the input, zero on entry; empty where the input is the batch or the block works in place.
    pub grad_input: &'a mut [f32],
    /// What forward saved.
    pub saved: &'b mut [&'a mut [f32]],
}

/// A thread's working memory: the ops' own, and a few buffers for what a block does not keep.
#[derive(Default)]
pub struct Workspace {
    /// Handed to ops.
    pub ops: Scratch,
    buffers: [Vec<f32>; 6],
}

impl Workspace {
    /// Splits into the ops' scratch and buffers of the given lengths; contents are left over from earlier use.
    pub fn split<const N: usize>(&mut self, lengths: [usize; N]) -> (&mut Scratch, [&mut [f32]; N]) {
        let mut buffers = self.buffers.iter_mut();
        let slices = lengths.map(|len| {
            let buffer = buffers.next().expect("a block asks for at most six buffers");
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
            &mut buffer[..len]
        });
        (&mut self.ops, slices)
    }
}
