//! The buffers of a recording: names, sizes, and whether they outlive it.

use crate::launch::{BufferIdx, View};

/// How long a buffer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// As long as the step: parameters, inputs, reports. It has memory of its own.
    Kept,
    /// From the first node that writes it to the last that reads it.
    Planned,
}

/// A buffer by name and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// For messages.
    pub name: String,
    /// Size.
    pub bytes: usize,
    /// Lifetime.
    pub life: Life,
}

/// The buffers of a recording.
#[derive(Debug, Clone, Default)]
pub struct Buffers {
    list: Vec<Buffer>,
}

impl Buffers {
    /// Adds a buffer.
    ///
    /// # Panics
    /// If there are over 2^32 buffers.
    pub fn add(&mut self, name: impl Into<String>, bytes: usize, life: Life) -> View {
        let view = View { buffer: self.next(), offset: 0 };
        self.list.push(Buffer { name: name.into(), bytes, life });
        view
    }
    /// Index of the buffer that is added next.
    ///
    /// # Panics
    /// If there are over 2^32 buffers.
    #[must_use]
    pub fn next(&self) -> BufferIdx {
        BufferIdx(u32::try_from(self.list.len()).expect("a recording has few buffers"))
    }
    /// All of them, by index.
    #[must_use]
    pub fn all(&self) -> &[Buffer] {
        &self.list
    }
}
