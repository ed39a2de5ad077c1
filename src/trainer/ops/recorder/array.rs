//! Arrays of a recording, and what a slot of the program is in one.

use std::ops::Range;

use crate::launch::{Real, View};

/// Type of the elements of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elem {
    /// Token ids, positions, indices.
    U32,
    /// Residual streams, statistics, features, gradients of parameters.
    F32,
    /// What products read and write where the compute type is bf16.
    Bf16,
}

impl Elem {
    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U32 | Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
    /// The type as products know it.
    ///
    /// # Panics
    /// If no product takes it.
    #[must_use]
    pub fn real(self) -> Real {
        match self {
            Self::F32 => Real::F32,
            Self::Bf16 => Real::Bf16,
            Self::U32 => panic!("a product of u32"),
        }
    }
}

impl From<Real> for Elem {
    fn from(real: Real) -> Self {
        match real {
            Real::F32 => Self::F32,
            Real::Bf16 => Self::Bf16,
        }
    }
}

/// Rows of elements without gaps, at a place of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    /// First element.
    pub view: View,
    /// Type of the elements.
    pub elem: Elem,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub channels: usize,
}

impl Array {
    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows * self.channels
    }
    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * self.elem.bytes()
    }
    /// Some of the rows.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn part(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        Self { view: self.view.at(rows.start * self.channels * self.elem.bytes()), rows: rows.len(), ..self }
    }
    /// As many rows of another length.
    ///
    /// # Panics
    /// If an array of so many elements is not cut evenly.
    #[must_use]
    pub fn reshaped(self, rows: usize, channels: usize) -> Self {
        assert_eq!(self.len(), rows * channels, "an array in another shape");
        Self { rows, channels, ..self }
    }
}

/// What a slot holds, or its gradient: rows in f32, in the compute type, or in both with the same values but for rounding. Where the
/// compute type is f32, rows in f32 are both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    floats: Option<Array>,
    reals: Option<Array>,
}

impl Value {
    /// Rows in f32.
    ///
    /// # Panics
    /// If they are not.
    #[must_use]
    pub fn floats(rows: Array) -> Self {
        assert_eq!(rows.elem, Elem::F32, "rows in f32");
        Self { floats: Some(rows), reals: None }
    }
    /// Rows in the compute type.
    #[must_use]
    pub fn reals(rows: Array) -> Self {
        match rows.elem {
            Elem::F32 => Self::floats(rows),
            _ => Self { floats: None, reals: Some(rows) },
        }
    }
    /// Rows in f32 and in the compute type; both may be in the same place where that is f32.
    ///
    /// # Panics
    /// If the first are not in f32, or both differ in size.
    #[must_use]
    pub fn both(floats: Array, reals: Array) -> Self {
        assert_eq!((floats.elem, floats.len()), (Elem::F32, reals.len()), "the same rows twice");
        Self { floats: Some(floats), reals: Some(reals) }
    }
    /// The rows in f32, where they are there.
    #[must_use]
    pub fn in_floats(&self) -> Option<Array> {
        self.floats
    }
    /// The rows in a compute type, where they are there.
    #[must_use]
    pub fn in_reals(&self, real: Real) -> Option<Array> {
        self.reals.or(self.floats).filter(|rows| rows.elem == real.into())
    }
    /// The rows in either type, f32 where there is a choice.
    #[must_use]
    pub fn in_either(&self) -> Array {
        self.floats.or(self.reals).expect("a value has rows")
    }
    /// The rows in the compute type, where they are in a place of their own.
    #[must_use]
    pub fn copy(&self) -> Option<Array> {
        self.reals.filter(|reals| self.floats.is_some_and(|floats| floats.view != reals.view))
    }
}

/// Where a call writes its output: once in f32, once in the compute type. An op writes one of them or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Rows in f32.
    pub floats: Array,
    /// Rows in the compute type; may be the same place where that is f32.
    pub reals: Array,
}

impl Output {
    /// Some of the rows.
    #[must_use]
    pub fn part(self, rows: Range<usize>) -> Self {
        Self { floats: self.floats.part(rows.clone()), reals: self.reals.part(rows) }
    }
}

/// Images of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pixels {
    /// u8 [N, S, S, 3].
    pub bytes: View,
    /// `u32 [samples]`, the image of each sample; its own number where `None`.
    pub index: Option<View>,
}

/// Where a call reads one of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Output of an earlier call, [samples * rows, channels].
    Rows(Value),
    /// Words of the batch, u32 [samples, words].
    Words(Array),
    /// Images of the batch.
    Pixels(Pixels),
}

impl Source {
    /// Output of an earlier call.
    ///
    /// # Panics
    /// If it is something else: a program gives a call what its op reads.
    #[must_use]
    pub fn rows(self) -> Value {
        let Self::Rows(rows) = self else { panic!("the program gives this call rows") };
        rows
    }
    /// Words of the batch.
    ///
    /// # Panics
    /// As [`Self::rows`].
    #[must_use]
    pub fn words(self) -> Array {
        let Self::Words(words) = self else { panic!("the program gives this call words") };
        words
    }
    /// Images of the batch.
    ///
    /// # Panics
    /// As [`Self::rows`].
    #[must_use]
    pub fn pixels(self) -> Pixels {
        let Self::Pixels(pixels) = self else { panic!("the program gives this call pixels") };
        pixels
    }
}
