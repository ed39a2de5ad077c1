//! From a program to a recording: the nodes of a step, and the buffers that they work on.
//!
//! Input: a `Program`, the padded layout of its parameters, the compute type, what a step is asked for ([`StepShape`]). Output: a
//! [`Recording`]. Residual streams, statistics, features and gradients of parameters are f32; what products read and write is
//! the compute type. Invariant: pure; everything that changes from step to step is read from kept buffers. Must not know a
//! device.

mod ends;
mod part;
mod step;
mod tower;
mod transformer;

pub use step::{Batch, Encode, Images, Masking, Pool, StepShape, Update, encode, refresh, runs_side_by_side, training_step};

pub(super) use tower::without_form;

use super::buffers::{Arena, Buffers, Life, plan};
use super::layout::PaddedLayout;
use crate::trainer::ops::launch::{Factor, Node, Product, Real, Section, View};
use crate::trainer::ops::linear::LinearShape;
use crate::trainer::ops::{WeightLayout, elementwise, layer_norm};
use crate::trainer::program::{ParamIdx, Program};

/// A step, or a part of one, ready to be given to a device.
#[derive(Debug, Clone)]
pub struct Recording {
    /// All buffers; the first ones are the kept buffers of the session.
    pub buffers: Buffers,
    /// What runs, in order; no branch is empty.
    pub sections: Vec<Section>,
    /// Where the planned buffers lie.
    pub arena: Arena,
}

/// The buffers that live as long as a prepared program, the same in all its recordings.
#[derive(Debug, Clone)]
pub struct Session {
    /// The list that every recording starts with.
    pub buffers: Buffers,
    /// Parameters, f32, padded.
    pub params: View,
    /// Parameters in the compute type at the same places; `params` itself where that is f32.
    pub shadow: View,
    /// Gradients, f32, padded; absent where nothing is trained.
    pub training: Option<Training>,
}

/// What a session keeps for training.
#[derive(Debug, Clone)]
pub struct Training {
    /// Gradients, f32, padded.
    pub grads: View,
    /// First moment or momentum, f32, padded.
    pub first: View,
    /// Second moment, f32.
    pub second: View,
    /// The optimiser's work list.
    pub table: View,
    /// `f32[8]`, written by the host before a step: see `kernels/adamw.cu`.
    pub controls: View,
    /// `f32[8]`, written by the device: see `kernels/elementwise.cu`.
    pub report: View,
    /// `u32[2]`, behind the controls: number of the step, low and high word.
    pub step: View,
}

/// Collects nodes and buffers while a step is described.
pub(super) struct Recorder<'a> {
    pub program: &'a Program,
    pub layout: &'a PaddedLayout,
    pub session: &'a Session,
    pub real: Real,
    pub buffers: Buffers,
    /// At least one; nodes go to `branch` of the last.
    sections: Vec<Section>,
    branch: usize,
    /// Where the gradients of parameters wait that are recorded with the next section; `None` while they are recorded at once.
    aside: Option<Aside>,
}

/// Gradients of parameters, which nobody but the optimiser waits for.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Products, and what is short.
    pub products: Vec<Node>,
    /// Sums over rows.
    pub sums: Vec<Node>,
}

impl<'a> Recorder<'a> {
    pub fn new(program: &'a Program, layout: &'a PaddedLayout, session: &'a Session, real: Real) -> Self {
        let sections = vec![Section { branches: vec![Vec::new()] }];
        Self { program, layout, session, real, buffers: session.buffers.clone(), sections, branch: 0, aside: None }
    }

    pub fn finish(mut self) -> Recording {
        for section in &mut self.sections {
            section.branches.retain(|branch| !branch.is_empty());
        }
        self.sections.retain(|section| !section.branches.is_empty());
        let arena = plan(&self.buffers, &self.sections);
        Recording { buffers: self.buffers, sections: self.sections, arena }
    }

    /// Begins a section; what is pushed goes to its first branch.
    pub fn begin(&mut self, branches: usize) {
        self.sections.push(Section { branches: vec![Vec::new(); branches] });
        self.branch = 0;
    }

    /// What is pushed goes to this branch of the section; to the last where there are fewer.
    pub fn on(&mut self, branch: usize) {
        self.branch = branch.min(self.section().branches.len() - 1);
    }

    fn section(&mut self) -> &mut Section {
        self.sections.last_mut().expect("there is always a section")
    }

    pub fn push(&mut self, nodes: impl IntoIterator<Item = impl Into<Node>>) {
        let branch = self.branch;
        self.section().branches[branch].extend(nodes.into_iter().map(Into::into));
    }

    /// As `push` for gradients of parameters: they wait in `list` where they are set aside.
    fn push_aside(&mut self, list: fn(&mut Aside) -> &mut Vec<Node>, nodes: impl IntoIterator<Item = impl Into<Node>>) {
        match &mut self.aside {
            Some(aside) => list(aside).extend(nodes.into_iter().map(Into::into)),
            None => self.push(nodes),
        }
    }

    /// A buffer that lives from its first to its last use.
    pub fn temporary(&mut self, name: &str, bytes: usize) -> View {
        self.buffers.add(name, bytes, Life::Planned)
    }
    pub fn floats(&mut self, name: &str, len: usize) -> View {
        self.temporary(name, 4 * len)
    }
    pub fn reals(&mut self, name: &str, len: usize) -> View {
        self.temporary(name, self.real.bytes() * len)
    }

    /// A parameter in f32.
    pub fn param(&self, idx: ParamIdx) -> View {
        self.session.params.floats(self.layout.offset(idx))
    }
    /// A parameter in the compute type.
    pub fn shadow(&self, idx: ParamIdx) -> View {
        self.session.shadow.at(self.real.bytes() * self.layout.offset(idx))
    }
    /// The gradient of a parameter.
    pub fn grad(&self, idx: ParamIdx) -> View {
        self.training().grads.floats(self.layout.offset(idx))
    }
    pub fn training(&self) -> &'a Training {
        self.session.training.as_ref().expect("only a session for training records gradients")
    }

    fn linear(&self, weight: ParamIdx) -> LinearShape {
        self.program.params[weight].linear.expect("a linear map's view has a linear shape")
    }

    /// y = x W (+ bias) (+ addend); `y` is f32 where `out` says so.
    pub fn forward(&mut self, weight: ParamIdx, rows: usize, x: View, y: Out, bias: Option<ParamIdx>, addend: Option<View>) {
        let LinearShape { inputs, outputs, layout } = self.linear(weight);
        let b = self.weight(weight, layout == WeightLayout::OutIn);
        let out_real = y.real(self.real);
        // cuBLASLt reads a bias in the type of the output.
        let bias = bias.map(|bias| if out_real == Real::F32 { self.param(bias) } else { self.shadow(bias) });
        let a = Factor::plain(x, self.real);
        self.push([Product { m: rows, n: outputs, k: inputs, a, b, addend, bias, out: y.view(), out_real }]);
    }

    /// dx = dy Wᵀ.
    pub fn backward_input(&mut self, weight: ParamIdx, rows: usize, grad_y: View, grad_x: View) {
        let LinearShape { inputs, outputs, layout } = self.linear(weight);
        let b = self.weight(weight, layout == WeightLayout::InOut);
        let a = Factor::plain(grad_y, self.real);
        let (out, out_real) = (grad_x, self.real);
        self.push([Product { m: rows, n: inputs, k: outputs, a, b, addend: None, bias: None, out, out_real }]);
    }

    /// dW = xᵀ dy in the weight's layout and db = column sums of dy; added to both if `accumulate`.
    pub fn backward_weight(&mut self, map: (ParamIdx, Option<ParamIdx>), rows: usize, x: View, grad_y: View, accumulate: bool) {
        let LinearShape { inputs, outputs, layout } = self.linear(map.0);
        let (m, n, a, b) = match layout {
            WeightLayout::OutIn => (outputs, inputs, grad_y, x),
            WeightLayout::InOut => (inputs, outputs, x, grad_y),
        };
        let out = self.grad(map.0);
        let (a, b) = (Factor::transposed(a, self.real), Factor::plain(b, self.real));
        let addend = accumulate.then_some(out);
        let product = Product { m, n, k: rows, a, b, addend, bias: None, out, out_real: Real::F32 };
        self.push_aside(|aside| &mut aside.products, [product]);
        if let Some(bias) = map.1 {
            let scratch = self.temporary("column sums", elementwise::cuda::column_sums_scratch_bytes(rows, outputs));
            let sums = self.grad(bias);
            let nodes = elementwise::cuda::column_sums(rows, outputs, grad_y, self.real, sums, accumulate, scratch);
            self.push_aside(|aside| &mut aside.sums, nodes);
        }
    }

    /// A layer norm's gradients: of its input now, of gain and bias when those of parameters are recorded.
    fn norm_gradients(&mut self, args: &layer_norm::cuda::Backward) {
        let scratch = self.temporary("norm scratch", layer_norm::cuda::backward_scratch_bytes(args.rows, args.width));
        let [rows, sums] = layer_norm::cuda::backward(args, scratch);
        self.push([rows]);
        self.push_aside(|aside| &mut aside.products, [sums]);
    }

    fn weight(&self, weight: ParamIdx, transposed: bool) -> Factor {
        Factor { view: self.shadow(weight), transposed, real: self.real }
    }
}

/// Where a product writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Out {
    /// In f32: a residual stream.
    Floats(View),
    /// In the compute type: a branch.
    Reals(View),
}

impl Out {
    fn view(self) -> View {
        match self {
            Self::Floats(view) | Self::Reals(view) => view,
        }
    }
    fn real(self, real: Real) -> Real {
        match self {
            Self::Floats(_) => Real::F32,
            Self::Reals(_) => real,
        }
    }
}

/// A gradient of a residual stream: in f32, and in the compute type for products (the same place where that is f32).
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamGrad {
    pub floats: View,
    pub reals: View,
}

impl StreamGrad {
    /// The compute-type copy, where it is another buffer.
    pub fn copy(&self) -> Option<View> {
        (self.floats != self.reals).then_some(self.reals)
    }
}
