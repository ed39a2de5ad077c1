//! GPUs that runs take and leave: a context for the life of the process, and devices that stay open between their users.
//!
//! Input: a device's number and a precision. Output: a [`CudaDevice`] of the caller's own, which comes back here when it is
//! dropped: its memory is freed, its streams, loaded kernels and plans of products stay. A primary context that was destroyed and made again
//! costs as much time as a small run, and libraries keep what they knew of the old one: contexts are never given back.
//!
//! Invariant: an idle device answers and holds no memory of a caller; where memory is short, idle devices are closed first. After a failure that the driver calls sticky (a kernel's bad address) nothing opens until the program starts
//! again. Must not know a recording.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaContext;

use super::compile::require_kernels;
use super::device::{Address, Device};
use super::devices::driver;
use super::driver::{OpenDevice, PreparedSections, Replay};
use super::kernels::failed;
use super::libraries::Library;
use super::shape::Shape;
use super::survey::{Surveyed, survey};
use crate::run::Precision;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Real, Section};

/// By number.
static CONTEXTS: Mutex<BTreeMap<usize, Arc<CudaContext>>> = Mutex::new(BTreeMap::new());
static IDLE: Mutex<Vec<(Kind, OpenDevice)>> = Mutex::new(Vec::new());

/// What an open device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    ordinal: usize,
    precision: Precision,
    replay: Replay,
}

/// A GPU of one caller at a time.
pub struct CudaDevice {
    kind: Kind,
    /// There until it is dropped.
    open: Option<OpenDevice>,
}

impl CudaDevice {
    /// The GPU of a number, computing in a precision.
    ///
    /// # Errors
    /// [`TrainerError::NoCuda`] where a library or the device is missing, [`TrainerError::DeviceMemory`] where it is full.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self, TrainerError> {
        let kind = Kind { ordinal, precision, replay: Replay::from_environment()? };
        let open = match take_idle(kind) {
            Some(open) => open,
            None => with_room(|| kind.open())?,
        };
        Ok(Self { kind, open: Some(open) })
    }

    /// The GPU's product name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.open.as_ref().expect("a device is open until it is dropped").name()
    }

    /// Times the products that the library suggests for a shape, about `seconds` each.
    ///
    /// # Errors
    /// Where the device no longer answers.
    pub fn survey(&mut self, shape: &Shape, seconds: f64) -> Result<Surveyed, TrainerError> {
        survey(self.open(), shape, seconds)
    }

    fn open(&mut self) -> &mut OpenDevice {
        self.open.as_mut().expect("a device is open until it is dropped")
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // One that no longer answers is closed.
        if let Some(open) = self.open.take_if(OpenDevice::is_cleared) {
            idle().push((self.kind, open));
        }
    }
}

impl Kind {
    fn open(self) -> Result<OpenDevice, TrainerError> {
        let found = driver()?;
        let Some(info) = found.devices.get(self.ordinal) else {
            let reason = format!("GPU {} was asked for, there are {}", self.ordinal, found.devices.len());
            return Err(TrainerError::NoCuda { reason, hint: "GPUs count from 0; `scaledown doctor` lists them".into() });
        };
        require_kernels()?;
        Library::CublasLt.require()?;
        OpenDevice::new(context(self.ordinal)?, info.name.clone(), self.precision, self.replay)
    }
}

/// The context of a GPU, made once.
fn context(ordinal: usize) -> Result<Arc<CudaContext>, TrainerError> {
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(context) = contexts.get(&ordinal) {
        return Ok(context.clone());
    }
    let context = CudaContext::new(ordinal).map_err(failed(&format!("opening GPU {ordinal}")))?;
    // SAFETY: all work of a device is on streams that it orders itself, so nothing needs events between streams; they would wait
    // inside captures.
    unsafe { context.disable_event_tracking() };
    contexts.insert(ordinal, context.clone());
    Ok(context)
}

fn idle() -> MutexGuard<'static, Vec<(Kind, OpenDevice)>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_idle(kind: Kind) -> Option<OpenDevice> {
    let mut idle = idle();
    let found = idle.iter().position(|(other, _)| *other == kind)?;
    Some(idle.swap_remove(found).1)
}

/// Closes the devices that nobody has, and returns how many there were.
pub fn close_idle() -> usize {
    let closed = std::mem::take(&mut *idle());
    closed.len()
}

/// Tries again without the memory of idle devices where there is too little.
fn with_room<T>(mut attempt: impl FnMut() -> Result<T, TrainerError>) -> Result<T, TrainerError> {
    match attempt() {
        Err(TrainerError::DeviceMemory { .. }) if close_idle() > 0 => attempt(),
        outcome => outcome,
    }
}

impl Device for CudaDevice {
    type Graph = PreparedSections;

    fn real(&self) -> Real {
        super::real_of(self.kind.precision)
    }

    fn available_bytes(&self) -> Option<u64> {
        self.open.as_ref().and_then(Device::available_bytes)
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, TrainerError> {
        with_room(|| self.open().allocate(bytes))
    }

    fn free(&mut self, address: Address) {
        self.open().free(address);
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), TrainerError> {
        self.open().write(to, bytes)
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), TrainerError> {
        self.open().read(from, bytes)
    }

    fn prepare(&mut self, sections: &[Section], addresses: &[Address]) -> Result<PreparedSections, TrainerError> {
        with_room(|| self.open().prepare(sections, addresses))
    }

    fn run(&mut self, recording: &PreparedSections) -> Result<(), TrainerError> {
        self.open().run(recording)
    }

    fn synchronize(&mut self) -> Result<(), TrainerError> {
        self.open().synchronize()
    }

    fn take_warnings(&mut self) -> Vec<String> {
        self.open().take_warnings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_there_or_one_error_says_what_is_missing() {
        match CudaDevice::new(0, Precision::F32) {
            Ok(device) => assert!(!device.name().is_empty()),
            Err(TrainerError::NoCuda { reason, hint }) => assert!(!reason.is_empty() && !hint.is_empty()),
            Err(other) => panic!("{other}"),
        }
    }
}
