//! The GPUs of this machine, or why there are none.
//!
//! Input: the driver. Output: what `doctor` shows. Invariant: every way in which a driver can be missing, broken or empty is
//! [`TrainerError::NoCuda`] with a hint. Must not know a stream or a kernel.

use cudarc::driver::sys::{CUdevice_attribute, CUresult};
use cudarc::driver::{CudaContext, DriverError, result, sys};

use super::libraries::{Library, missing_driver_function};
use crate::trainer::TrainerError;

/// The driver and what it drives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Newest CUDA version that it knows: major, minor.
    pub cuda_version: (i32, i32),
    /// At least one.
    pub devices: Vec<DeviceInfo>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its product name.
    pub name: String,
    /// All of its memory.
    pub memory_bytes: u64,
    /// Compute capability: major, minor.
    pub capability: (i32, i32),
}

/// Asks the driver for its GPUs.
///
/// # Errors
/// [`TrainerError::NoCuda`] with what is missing.
pub fn driver() -> Result<Driver, TrainerError> {
    Library::Driver.require()?;
    let count = CudaContext::device_count().map_err(|error| refusal(error.0))?;
    if count == 0 {
        return Err(refusal(CUresult::CUDA_ERROR_NO_DEVICE));
    }
    if let Some(function) = missing_driver_function() {
        let reason = format!("the NVIDIA driver has no `{function}`: it is too old");
        return Err(TrainerError::NoCuda { reason, hint: Library::Driver.hint().into() });
    }
    let mut version = 0;
    // SAFETY: the driver is present and writes one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(|error| refusal(error.0))?;
    let devices = (0..count).map(device).collect::<Result<_, _>>().map_err(|error| refusal(error.0))?;
    Ok(Driver { cuda_version: (version / 1000, version % 1000 / 10), devices })
}

fn device(ordinal: i32) -> Result<DeviceInfo, DriverError> {
    let device = result::device::get(ordinal)?;
    // SAFETY: `device` was just returned by the driver.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) };
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    // SAFETY: as above.
    let memory_bytes = unsafe { result::device::total_mem(device) }? as u64;
    Ok(DeviceInfo { name: result::device::get_name(device)?, memory_bytes, capability: (major, minor) })
}

/// What a driver's refusal to start means.
pub(super) fn refusal(code: CUresult) -> TrainerError {
    let (reason, hint) = match code {
        CUresult::CUDA_ERROR_NO_DEVICE => (
            "the NVIDIA driver finds no GPU".to_string(),
            "check `nvidia-smi`, CUDA_VISIBLE_DEVICES and, in a container, that GPUs are passed in; or use `--device cpu`",
        ),
        CUresult::CUDA_ERROR_STUB_LIBRARY => (
            "the libcuda that was found is a toolkit's stub, not a driver".to_string(),
            "take the toolkit's `stubs` folder off LD_LIBRARY_PATH",
        ),
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => (
            "libcuda and the driver's kernel module are of different versions".to_string(),
            "restart the machine after a driver update; in a container, use the host's libcuda",
        ),
        other => (format!("the NVIDIA driver does not start ({other:?})"), "check `nvidia-smi`; or use `--device cpu`"),
    };
    TrainerError::NoCuda { reason, hint: hint.into() }
}
