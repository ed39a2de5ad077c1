//! The emulator as a device: whole recorded steps run on the CPU, node by node.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::MutexGuard;

use scaledown::trainer::TrainerError;
use scaledown::trainer::backend::cuda::device::{Address, Device};
use scaledown::trainer::ops::launch::{Node, Real, Section};

use crate::harness::{alone, execute};

/// A device whose memory is this process's. One at a time: kernels keep their shared memory in statics.
pub struct EmulatedDevice {
    real: Real,
    order: u32,
    memory: Vec<Memory>,
    /// Bytes it gives out at most.
    capacity: usize,
    used: usize,
    _alone: MutexGuard<'static, ()>,
}

/// Memory in the alignment that a GPU gives and exactly as long as asked for, so that the address sanitizer sees every byte beyond.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(1), 256).expect("a small power of two");
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory for a test");
        Self { start, layout }
    }
    fn address(&self) -> Address {
        Address(self.start.as_ptr() as u64)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl EmulatedDevice {
    pub fn new(real: Real, order: u32) -> Self {
        Self { real, order, memory: Vec::new(), capacity: usize::MAX, used: 0, _alone: alone() }
    }

    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }
}

/// The nodes of a section: branch after branch, the last branch first, or in turn from all of them.
fn in_order(section: &Section, order: u32) -> Vec<&Node> {
    match order {
        0 => section.branches.iter().flatten().collect(),
        1 => section.branches.iter().rev().flatten().collect(),
        _ => {
            let longest = section.branches.iter().map(Vec::len).max().unwrap_or(0);
            (0..longest).flat_map(|idx| section.branches.iter().filter_map(move |branch| branch.get(idx))).collect()
        }
    }
}

impl Device for EmulatedDevice {
    type Graph = (Vec<Section>, Vec<Address>);

    fn real(&self) -> Real {
        self.real
    }

    fn available_bytes(&self) -> Option<u64> {
        Some((self.capacity - self.used) as u64)
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, TrainerError> {
        if bytes > self.capacity - self.used {
            let (asked, held, available) = (bytes as u64, self.used as u64, self.available_bytes());
            return Err(TrainerError::DeviceMemory { asked, held, available, planned: None });
        }
        self.used += bytes;
        self.memory.push(Memory::new(bytes));
        Ok(self.memory[self.memory.len() - 1].address())
    }

    fn free(&mut self, address: Address) {
        self.memory.retain(|memory| memory.address() != address);
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), TrainerError> {
        // SAFETY: addresses come from `allocate`, and what is written fits the buffer there.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.0 as *mut u8, bytes.len()) };
        Ok(())
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), TrainerError> {
        // SAFETY: as for `write`.
        unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn prepare(&mut self, sections: &[Section], addresses: &[Address]) -> Result<Self::Graph, TrainerError> {
        Ok((sections.to_vec(), addresses.to_vec()))
    }

    fn run(&mut self, (sections, addresses): &Self::Graph) -> Result<(), TrainerError> {
        for node in sections.iter().flat_map(|section| in_order(section, self.order)) {
            execute(node, self.real, self.order, &mut |view| addresses[view.buffer.0 as usize].at(view.offset).0 as *mut u8);
        }
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), TrainerError> {
        Ok(())
    }
}
