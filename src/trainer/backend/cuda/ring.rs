//! Copies to the device that do not wait: through a ring of page-locked buffers.
//!
//! Input: bytes of the caller. Output: a copy in stream order; the caller's bytes may change at once. Invariant: a buffer is
//! written again only after the copy that read it has ended. Must not know what the bytes mean.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DriverError, result};

/// Buffers that copies can be under way from.
const SLOTS: usize = 4;
/// Bytes of a buffer; longer copies take several.
const SLOT_BYTES: usize = 8 << 20;

/// The ring.
pub(super) struct Ring {
    stream: Arc<CudaStream>,
    slots: Vec<Slot>,
    next: usize,
}

struct Slot {
    host: *mut u8,
    /// Recorded after the last copy from `host`.
    copied: CudaEvent,
}

impl Ring {
    /// A ring for copies on a stream.
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self, DriverError> {
        let mut ring = Self { stream: stream.clone(), slots: Vec::new(), next: 0 };
        for _ in 0..SLOTS {
            let copied = stream.context().new_event(None)?;
            // SAFETY: the context is bound to this thread by `new_event`; the memory is freed once, on drop.
            let host = unsafe { result::malloc_host(SLOT_BYTES, 0) }?.cast();
            ring.slots.push(Slot { host, copied });
        }
        Ok(ring)
    }

    /// Starts copying bytes to a device address, which has room for them.
    pub(super) fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), DriverError> {
        for (idx, part) in bytes.chunks(SLOT_BYTES).enumerate() {
            let slot = &self.slots[self.next];
            self.next = (self.next + 1) % SLOTS;
            slot.copied.synchronize()?;
            // SAFETY: no copy from `host` is under way, `part` fits into it, and the stream's context is bound.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), slot.host, part.len());
                let host = std::slice::from_raw_parts(slot.host, part.len());
                result::memcpy_htod_async(to + (idx * SLOT_BYTES) as u64, host, self.stream.cu_stream())?;
            }
            slot.copied.record(&self.stream)?;
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Freeing memory that a copy reads would tear it.
        let _ = self.stream.synchronize();
        for slot in &self.slots {
            // SAFETY: allocated by `new`, freed once; a drop returns no error.
            let _ = unsafe { result::free_host(slot.host.cast()) };
        }
    }
}
