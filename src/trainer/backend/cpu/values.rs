//! Slots as dfdx tensors that are kept over steps, written and read in place.

use std::ptr::NonNull;

use dfdx::optim::UnusedTensors;
use dfdx::tensor::{Cpu, CpuError, Gradients, Tensor, TensorFromVec, UniqueId};

use crate::trainer::program::{Program, SlotIdx};

/// Tensors by slot; each holds as many samples as were ever asked for at once, and a shorter part fills its first rows.
#[derive(Default)]
pub(super) struct Values {
    slots: Vec<Option<Value>>,
    /// How often a tensor was made: the tape's gradients go by the identities of tensors.
    pub generation: usize,
    device: Cpu,
}

/// A tensor and where its elements begin. The tensor never leaves this module, so nothing else reads or moves its elements.
struct Value {
    tensor: Tensor<(usize, usize), f32, Cpu>,
    base: NonNull<f32>,
    len: usize,
}

/// `len` zeros, or the error of dfdx where there is no memory for them.
pub(super) fn zeros(len: usize) -> Result<Vec<f32>, CpuError> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| CpuError::OutOfMemory)?;
    values.resize(len, 0.0);
    Ok(values)
}

impl Values {
    /// Makes room for `samples` in a slot.
    pub fn reserve(&mut self, program: &Program, slot: SlotIdx, samples: usize) -> Result<(), CpuError> {
        if self.slots.len() < program.slots.len() {
            self.slots.resize_with(program.slots.len(), || None);
        }
        let (rows, channels) = (program.slots[slot].rows * samples, program.slots[slot].channels);
        if self.slots[slot].as_ref().is_some_and(|value| value.len >= rows * channels) {
            return Ok(());
        }
        // The old one is given back first.
        self.slots[slot] = None;
        self.generation += 1;
        let mut values = zeros(rows * channels)?;
        let base = NonNull::new(values.as_mut_ptr()).expect("a vector's pointer is not null");
        let tensor = self.device.try_tensor_from_vec(values, (rows, channels))?;
        self.slots[slot] = Some(Value { tensor, base, len: rows * channels });
        Ok(())
    }

    fn value(&self, slot: SlotIdx, len: usize) -> &Value {
        let value = self.slots[slot].as_ref().expect("an earlier call made it");
        assert!(len <= value.len, "{len} elements of a slot of {}", value.len);
        value
    }

    /// The gradient of a slot; it is made at the first time that it is asked for.
    pub fn gradient<'g>(&self, slot: SlotIdx, grads: &'g mut Gradients<f32, Cpu>) -> Result<&'g mut Vec<f32>, CpuError> {
        Ok(grads.get_or_alloc_mut(&self.value(slot, 0).tensor)?)
    }

    /// Identities of all tensors.
    pub fn ids(&self) -> Vec<UniqueId> {
        let mut tensors = UnusedTensors::default();
        self.slots.iter().flatten().for_each(|value| tensors.add(&value.tensor));
        tensors.ids
    }

    /// The first `len` elements of a slot.
    pub fn read(&self, slot: SlotIdx, len: usize) -> &[f32] {
        let value = self.value(slot, len);
        // SAFETY: `base` was taken from the vector that the tensor now owns; vectors keep their elements where they are when they are
        // moved, dfdx resizes none, and the tensor lives as long as `value`. `len` is within it. Elements are only written through
        // `write`, which borrows all values exclusively.
        unsafe { std::slice::from_raw_parts(value.base.as_ptr(), len) }
    }

    /// The first elements of some slots to be read (`None` stays `None`), and of another one to be written.
    ///
    /// # Panics
    /// If the slot that is written is among those that are read.
    pub fn write(&mut self, inputs: &[Option<(SlotIdx, usize)>], output: SlotIdx, len: usize) -> (Vec<Option<&[f32]>>, &mut [f32]) {
        assert!(inputs.iter().flatten().all(|(slot, _)| *slot != output), "a call that writes what it reads");
        let base = self.value(output, len).base;
        let inputs = inputs.iter().map(|input| input.map(|(slot, len)| self.read(slot, len))).collect();
        // SAFETY: as in `read`; the elements are those of another tensor than all of `inputs`, and `self` is borrowed exclusively for
        // as long as both live.
        (inputs, unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), len) })
    }
}

/// Buffers that gradients are made in, handed out again and again.
#[derive(Default)]
pub(super) struct FreeList(Vec<Vec<f32>>);

impl FreeList {
    /// A buffer of `len` elements, left over from earlier use.
    pub fn take(&mut self, len: usize) -> Result<Vec<f32>, CpuError> {
        let fits =
            self.0.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= len).min_by_key(|(_, buffer)| buffer.capacity());
        let Some((idx, _)) = fits else { return zeros(len) };
        let mut buffer = self.0.swap_remove(idx);
        buffer.resize(len, 0.0);
        Ok(buffer)
    }

    pub fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.0.push(buffer);
        }
    }
}
