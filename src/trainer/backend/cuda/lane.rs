//! A GPU's memory, and what each branch of a section has of its own: a stream and room for products.
//!
//! Invariant: memory is freed once, after the work on the stream. Must not know nodes.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result};

use super::device::Address;
use super::kernels::failed;
use crate::trainer::TrainerError;

/// Memory that algorithms may use between their steps, for each product that runs at a time: NVIDIA's advice for Hopper.
pub(super) const WORKSPACE_BYTES: usize = 32 << 20;

/// What a branch runs on.
pub(super) struct Lane {
    pub(super) stream: Arc<CudaStream>,
    /// For products, [`WORKSPACE_BYTES`].
    pub(super) workspace: Address,
    /// Recorded at the end of a branch.
    join: CudaEvent,
}

impl Lane {
    /// One on a stream, with memory of its own.
    pub(super) fn new(stream: Arc<CudaStream>, context: &Arc<CudaContext>, memory: &mut Memory) -> Result<Self, TrainerError> {
        let join = context.new_event(None).map_err(failed("making an event"))?;
        Ok(Self { stream, workspace: memory.allocate(WORKSPACE_BYTES)?, join })
    }

    /// What is later on `stream` waits for what this branch has started.
    pub(super) fn rejoin(&self, stream: &CudaStream) -> Result<(), DriverError> {
        self.join.record(&self.stream).and_then(|()| stream.wait(&self.join))
    }
}

/// Device memory, freed on drop.
pub(super) struct Memory {
    stream: Arc<CudaStream>,
    /// Bytes by address.
    allocations: HashMap<u64, usize>,
}

impl Memory {
    /// The driver aligns to this; smaller pieces would cost as much.
    const LEAST_BYTES: usize = 256;

    /// None yet; what zeroes and frees it waits on `stream`.
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, allocations: HashMap::new() }
    }

    /// Zeroed memory; the context is bound.
    pub(super) fn allocate(&mut self, bytes: usize) -> Result<Address, TrainerError> {
        let bytes = bytes.max(Self::LEAST_BYTES);
        // SAFETY: the context is bound; the memory is zeroed in stream order before anything on the stream reads it.
        let address = unsafe { result::malloc_sync(bytes) }.map_err(|error| self.refusal(bytes, error))?;
        self.allocations.insert(address, bytes);
        // SAFETY: just allocated with this size.
        unsafe { result::memset_d8_async(address, 0, bytes, self.stream.cu_stream()) }.map_err(failed("zeroing memory"))?;
        Ok(Address(address))
    }

    fn refusal(&self, bytes: usize, error: DriverError) -> TrainerError {
        if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return failed("allocating memory")(error);
        }
        let held = self.allocations.values().sum::<usize>() as u64;
        let available = result::mem_get_info().ok().map(|(free, _)| free as u64);
        TrainerError::DeviceMemory { asked: bytes as u64, held, available, planned: None }
    }

    /// Gives back what was allocated here; anything else is left alone.
    pub(super) fn free(&mut self, address: Address) {
        if self.allocations.remove(&address.0).is_some() {
            // SAFETY: allocated here and freed once, after the work on the stream.
            let _ = unsafe { result::free_sync(address.0) };
        }
    }
}

impl Memory {
    /// Gives back all but some pieces; there is no work on them any more.
    pub(super) fn free_all_but(&mut self, own: &[Address]) -> Result<(), DriverError> {
        let (kept, freed) = self.allocations.drain().partition(|(address, _)| own.contains(&Address(*address)));
        let freed: HashMap<u64, usize> = freed;
        self.allocations = kept;
        // SAFETY: allocated here and freed once, after all work.
        freed.into_keys().try_for_each(|address| unsafe { result::free_sync(address) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        for address in self.allocations.keys() {
            // SAFETY: allocated here and freed once, after all work; a drop returns no error.
            let _ = unsafe { result::free_sync(*address) };
        }
    }
}
