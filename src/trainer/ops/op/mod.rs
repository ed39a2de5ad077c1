//! What an op is to a program: its shapes ([`Op`]), its fast rows on a CPU ([`Rows`]), its f64 loops ([`Reference`]), its nodes on a
//! GPU ([`Record`]).
//!
//! On a CPU an op works on a chunk: a few samples whose rows fit the cache. It reads parameters through [`Params`], keeps what its
//! backward needs in the saved slots of the program, and accumulates parameter gradients into one lane ([`GradLane`]).
//! Invariant: what an op in [`Rows`] computes for a sample does not depend on the other samples of the batch; ops in which samples
//! meet take a whole part ([`whole`]). Must not know threads.

pub mod whole;

use std::fmt::Debug;

use crate::linear::Linear;
use crate::params::{ParamIdx, ParamView};
use crate::recorder::{Record, Refusal};
use crate::reference::{Gradients, Matrix, Parameters};
use crate::{Accumulation, Scratch};
use whole::{Whole, WholeReference};

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

/// What a call reads: one of its inputs, for a chunk of samples ([`In`]) or for one in the f64 form ([`Value`]).
#[derive(Debug)]
pub enum Read<'a, R: ?Sized> {
    /// Rows of an earlier call.
    Rows(&'a R),
    /// Token ids, positions or indices of the batch.
    Words(&'a [u32]),
    /// Pixels of the batch.
    Bytes(&'a [u8]),
}

/// What a call reads of a chunk; rows are [samples * rows, channels].
pub type In<'a> = Read<'a, [f32]>;

/// What a call reads of one sample, in the f64 form.
pub type Value<'a> = Read<'a, Matrix>;

impl<R: ?Sized> Clone for Read<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: ?Sized> Copy for Read<'_, R> {}

impl<'a, R: ?Sized> Read<'a, R> {
    /// Rows.
    ///
    /// # Panics
    /// If it is something else: a program gives a call what its op reads.
    #[must_use]
    pub fn rows(self) -> &'a R {
        let Self::Rows(rows) = self else { panic!("the program gives this call rows") };
        rows
    }
    /// Words of the batch.
    ///
    /// # Panics
    /// As [`Self::rows`].
    #[must_use]
    pub fn words(self) -> &'a [u32] {
        let Self::Words(words) = self else { panic!("the program gives this call words") };
        words
    }
    /// Bytes of the batch.
    ///
    /// # Panics
    /// As [`Self::rows`].
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("the program gives this call bytes") };
        bytes
    }
}

/// A chunk of samples on its way forward.
pub struct Forward<'a, 'b> {
    /// Samples in the chunk.
    pub samples: usize,
    /// Read, in the order of the call's inputs.
    pub inputs: &'b [In<'a>],
    /// Written whole.
    pub output: &'a mut [f32],
    /// The chunk's part of each saved slot, in the op's order.
    pub saved: &'b mut [&'a mut [f32]],
}

/// A chunk of samples on its way back.
pub struct Backward<'a, 'b> {
    /// Samples in the chunk.
    pub samples: usize,
    /// What forward read.
    pub inputs: &'b [In<'a>],
    /// Gradient of the output. An op that works in place turns it into that of its first input.
    pub grad_output: &'a mut [f32],
    /// Where the gradient of each input goes, in their order.
    pub grad_inputs: &'b mut [GradInput<'a>],
    /// What forward saved.
    pub saved: &'b mut [&'a mut [f32]],
}

/// Where the gradient of one input of a chunk goes.
#[derive(Debug)]
pub enum GradInput<'a> {
    /// Nowhere: the input comes with the batch, or the op turns the output's gradient into it.
    None,
    /// Written whole; what it holds before is left over from earlier use.
    Overwrite(&'a mut [f32]),
    /// Added to what later readers of the slot wrote.
    Add(&'a mut [f32]),
}

impl GradInput<'_> {
    /// The slice, and whether it is added to.
    ///
    /// # Panics
    /// If there is none: a program asks an op for the gradients of the rows that it reads.
    pub fn rows(&mut self) -> (&mut [f32], Accumulation) {
        match self {
            Self::None => panic!("the program asks for this gradient"),
            Self::Overwrite(rows) => (rows, Accumulation::Overwrite),
            Self::Add(rows) => (rows, Accumulation::Add),
        }
    }
    /// The slice to add to, zeroed where nothing was written before; for ops that write a part of it, or in several passes.
    ///
    /// # Panics
    /// As [`Self::rows`].
    pub fn summed(&mut self) -> &mut [f32] {
        let (rows, accumulation) = self.rows();
        if accumulation == Accumulation::Overwrite {
            rows.fill(0.0);
        }
        rows
    }
}

/// Elements of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows (tokens, or 1).
    pub rows: usize,
    /// Elements of a row.
    pub channels: usize,
}

/// What an op gives and keeps, and what it costs; all for one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpShape {
    /// The output.
    pub output: Size,
    /// Kept from forward to backward, with names.
    pub saved: Vec<(&'static str, Size)>,
    /// Forward multiply-accumulates: products only, no norms, biases or activations.
    pub macs: u64,
    /// Whether backward turns the gradient of the output into that of the first input, which is as large.
    pub is_in_place: bool,
}

impl OpShape {
    /// Of an op with an output and saved slots of these names, rows and channels.
    #[must_use]
    pub fn new(output: (usize, usize), saved: &[(&'static str, usize, usize)], macs: usize) -> Self {
        Self {
            output: Size { rows: output.0, channels: output.1 },
            saved: saved.iter().map(|(name, rows, channels)| (*name, Size { rows: *rows, channels: *channels })).collect(),
            macs: macs as u64,
            is_in_place: false,
        }
    }
}

/// What a program calls: shapes, and its forms.
pub trait Op: Debug + Send + Sync + 'static {
    /// Sizes and cost.
    fn shape(&self) -> OpShape;
    /// The fast form for a CPU.
    fn cpu(&self) -> Cpu<'_>;
    /// The form that the others are tested against.
    fn reference(&self) -> Oracle<'_>;
    /// Its parameters.
    fn params(&self) -> Vec<ParamIdx>;
    /// The form for a GPU.
    ///
    /// # Errors
    /// If it has none, or none of its size.
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        Err(Refusal::NoForm)
    }
    /// Parameters whose gradients are summed over the whole batch in the order of samples, not by lanes. Where there are some,
    /// backward takes the whole batch at once.
    fn summed_whole(&self) -> Vec<ParamIdx> {
        Vec::new()
    }
    /// Samples that a result depends on: contiguous groups of this size; 1 where samples do not meet.
    fn group(&self) -> usize {
        1
    }
}

/// Parameters of an op whose gradients are not summed by lanes; its backward takes a whole part at once.
#[must_use]
pub fn not_by_lanes(op: &dyn Op) -> Vec<ParamIdx> {
    match op.cpu() {
        Cpu::Rows(_) => op.summed_whole(),
        Cpu::Whole(_) => op.params(),
    }
}

/// An op's fast form for a CPU.
#[derive(Clone, Copy)]
pub enum Cpu<'a> {
    /// Samples do not meet: any chunk of them alone.
    Rows(&'a dyn Rows),
    /// A whole part of the batch at once.
    Whole(&'a dyn Whole),
}

/// An op's f64 form.
#[derive(Clone, Copy)]
pub enum Oracle<'a> {
    /// One sample at a time.
    Sample(&'a dyn Reference),
    /// All samples at once.
    Whole(&'a dyn WholeReference),
}

/// An op on rows of f32, chunk by chunk.
pub trait Rows: Sync {
    /// One chunk forward.
    fn forward(&self, params: &Params, chunk: &mut Forward, work: &mut Workspace);
    /// One chunk back: gradients of parameters are added to the lane's, or written on its first chunk.
    fn backward(&self, params: &Params, chunk: &mut Backward, grads: &mut GradLane, work: &mut Workspace);
}

/// An op in plain f64 loops on one sample.
pub trait Reference {
    /// The output.
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix;
    /// Adds the parameters' gradients; the gradient of each input, `None` for what comes with the batch.
    fn backward(&self, params: &Parameters, inputs: &[Value], grad_output: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>>;
}

/// A thread's working memory: the ops' own, and a few buffers for what an op does not keep.
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
            let buffer = buffers.next().expect("an op asks for at most six buffers");
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
            &mut buffer[..len]
        });
        (&mut self.ops, slices)
    }
}
