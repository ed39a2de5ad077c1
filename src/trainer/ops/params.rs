//! The parameters of a program: named views of one flat buffer, their shapes, and how they start.
//!
//! Must not know blocks or calls.

use std::borrow::Cow;

use crate::WeightLayout;
use crate::linear::LinearShape;

/// Index of a parameter view in a program's list.
pub type ParamIdx = usize;
/// One named parameter inside the flat buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamView {
    /// `open_clip`'s name of it, such as `visual.transformer.resblocks.0.attn.in_proj_weight`.
    pub name: String,
    /// First element in the flat buffer.
    pub offset: usize,
    /// Shape as exported.
    pub shape: Vec<usize>,
    /// Shape that optimisers see: leading dims, rows, columns (q, k and v of an attention input are three matrices).
    pub matrix: Matrix,
    /// How it starts.
    pub init: Init,
    /// Whether weight decay applies (matrices do; norms, biases, positions and the scale do not).
    pub decay: bool,
    /// Set where the parameter is the weight of a linear map.
    pub linear: Option<LinearShape>,
    /// Set where it is stored in another order than it is exported in: [outer, rows, columns] is exported as [outer, columns, rows].
    pub permuted: Option<(usize, usize, usize)>,
}

impl ParamView {
    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether it has no element; a program never holds such a view.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Its stored values in the order of its exported shape.
    #[must_use]
    pub fn to_exported<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        self.permuted.map_or(Cow::Borrowed(values), |stored| Cow::Owned(transposed(stored, values)))
    }
    /// Values in the order of its exported shape as they are stored.
    #[must_use]
    pub fn from_exported(&self, values: Vec<f32>) -> Vec<f32> {
        match self.permuted {
            Some((outer, rows, columns)) => transposed((outer, columns, rows), &values),
            None => values,
        }
    }
    /// Range in the flat buffer.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// A parameter as a stack of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Matrices in the stack.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Every element this value.
    Constant(f32),
    /// Gaussian with mean 0.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Uniform in (-bound, bound).
    Uniform {
        /// Half width.
        bound: f32,
    },
}

/// Collects views, in flat order, while a model is described.
#[derive(Debug, Default)]
pub struct ParamList(Vec<ParamView>);

impl ParamList {
    /// Adds a parameter view at the end of the flat buffer.
    pub fn param(&mut self, name: String, shape: &[usize], matrix: Matrix, init: Init, decay: bool) -> ParamIdx {
        let offset = self.0.last().map_or(0, |view| view.range().end);
        self.0.push(ParamView { name, offset, shape: shape.to_vec(), matrix, init, decay, linear: None, permuted: None });
        self.0.len() - 1
    }
    /// Adds a vector (norm gain, bias, position): no decay.
    pub fn vector(&mut self, name: String, len: usize, init: Init) -> ParamIdx {
        self.param(name, &[len], Matrix { count: 1, rows: 1, columns: len }, init, false)
    }
    /// Says that a parameter is stored as [outer, rows, columns] and exported as [outer, columns, rows].
    ///
    /// # Panics
    /// If those are not its elements.
    pub fn permute(&mut self, idx: ParamIdx, stored: (usize, usize, usize)) {
        let (outer, rows, columns) = stored;
        assert_eq!(self.0[idx].len(), outer * rows * columns, "elements of `{}`", self.0[idx].name);
        self.0[idx].permuted = Some(stored);
    }
    /// Adds the weight of a linear map of the given exported shape.
    pub fn linear(&mut self, name: String, shape: &[usize], stack: usize, linear: LinearShape, init: Init) -> ParamIdx {
        let (rows, columns) = match linear.layout {
            WeightLayout::OutIn => (linear.outputs, linear.inputs),
            WeightLayout::InOut => (linear.inputs, linear.outputs),
        };
        let idx = self.param(name, shape, Matrix { count: stack, rows: rows / stack, columns }, init, true);
        self.0[idx].linear = Some(linear);
        idx
    }

    /// The views.
    #[must_use]
    pub fn finish(self) -> Vec<ParamView> {
        self.0
    }
}

/// `[outer, rows, columns]` as `[outer, columns, rows]`: between a stored weight and the one that is exported.
#[must_use]
pub fn transposed<T: Copy>((outer, rows, columns): (usize, usize, usize), values: &[T]) -> Vec<T> {
    assert_eq!(values.len(), outer * rows * columns, "elements of a weight");
    let at = |o: usize, c: usize| (0..rows).map(move |r| values[(o * rows + r) * columns + c]);
    (0..outer).flat_map(|o| (0..columns).flat_map(move |c| at(o, c))).collect()
}
