//! What a recording needs of the place it runs on.
//!
//! Input: sections of nodes and the addresses of their buffers. Output: a prepared recording that can be run many times. Implemented
//! by [`super::CudaDevice`] and, in tests, by the emulator. Invariant: everything happens in the order of the calls, as on
//! one CUDA stream, but for the branches of a section, whose order among each other is free. Must not know a program, a parameter
//! name or how buffers are planned.

use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Real, Section};

/// A place in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

impl Address {
    /// The place `bytes` further on.
    #[must_use]
    pub fn at(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// A place where recordings run: a GPU, or the emulator in tests.
pub trait Device {
    /// A recording made ready.
    type Graph;
    /// The compute type its kernels were compiled for.
    fn real(&self) -> Real;
    /// Bytes that can still be allocated; `None` where that is not known.
    fn available_bytes(&self) -> Option<u64>;
    /// Zeroed memory, aligned to 256 bytes; freed with the device, or by [`Device::free`].
    ///
    /// # Errors
    /// [`TrainerError::DeviceMemory`] where there is not enough.
    fn allocate(&mut self, bytes: usize) -> Result<Address, TrainerError>;
    /// Gives memory back; nothing that was prepared with it may run again.
    fn free(&mut self, address: Address);
    /// Copies to the device in stream order; the source may be reused when it returns.
    ///
    /// # Errors
    /// What the device says, also about work started earlier.
    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), TrainerError>;
    /// Copies from the device after all earlier work.
    ///
    /// # Errors
    /// What the device says, also about work started earlier.
    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), TrainerError>;
    /// Makes sections ready to run, `addresses[i]` being buffer i. Memory is neither read nor written.
    ///
    /// # Errors
    /// A kernel that does not compile, a product of types that no kernel knows, a refused launch.
    fn prepare(&mut self, sections: &[Section], addresses: &[Address]) -> Result<Self::Graph, TrainerError>;
    /// Starts a prepared recording; returns before it is done.
    ///
    /// # Errors
    /// What the device says, also about work started earlier.
    fn run(&mut self, graph: &Self::Graph) -> Result<(), TrainerError>;
    /// Waits for all work.
    ///
    /// # Errors
    /// What the device says about work started earlier.
    fn synchronize(&mut self) -> Result<(), TrainerError>;
    /// What a person should know of what was prepared since this was asked last, and that stops nothing.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}
