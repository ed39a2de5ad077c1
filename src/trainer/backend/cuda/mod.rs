//! The GPU backend: a step is recorded once and replayed as one CUDA graph.
//!
//! Input: a program, parameters, batches. A [`record`]ing is the nodes of a step on numbered [`buffers`], planned by lifetime;
//! [`CudaStep`] makes recordings ready on a [`device`] and feeds them. On a GPU, [`libraries`] finds the driver, NVRTC and cuBLASLt
//! when they are asked for, so that one binary runs with and without one; [`compile`] turns kernel files into machine code, kept
//! in a [`cache`]; `driver` is the device itself, which stays open in a [`pool`]. In tests the device is an emulator on the CPU.
//!
//! Invariant: nothing here panics for lack of CUDA; what is missing is one typed error with a hint. Must not know an experiment
//! file, a schedule, a terminal.

pub mod buffers;
pub mod cache;
pub mod compile;
pub mod device;
pub mod devices;
mod driver;
mod feed;
mod kernels;
mod lane;
pub mod layout;
pub mod libraries;
mod optimizer;
#[cfg(test)]
pub(in crate::trainer) mod pins;
pub mod pool;
mod products;
pub mod record;
mod replay;
mod ring;
pub mod shape;
mod step;
pub mod survey;
mod tune;

pub use crate::trainer::ops::kernels::modules;
pub use pool::CudaDevice;
pub use record::check as check_program;
pub use step::{CudaStep, Towers, planned_bytes};

use self::devices::DeviceInfo;
use self::libraries::Library;
use crate::run::Precision;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::Real;

/// The GPU that runs use, if it and every library that they need are there.
///
/// # Errors
/// [`TrainerError::NoCuda`] with what is missing and how to get it.
pub fn usable() -> Result<DeviceInfo, TrainerError> {
    let driver = devices::driver()?;
    compile::require_kernels()?;
    Library::CublasLt.require()?;
    Ok(driver.devices[0].clone())
}

/// The choice that an environment variable names; the first where it is not set.
fn environment_choice<T: Copy>(name: &str, choices: [(&str, T); 3]) -> Result<T, TrainerError> {
    let value = std::env::var(name).unwrap_or_default();
    let [(first, default), (second, _), (third, _)] = choices;
    if value.is_empty() {
        return Ok(default);
    }
    let found = choices.into_iter().find(|(choice, _)| *choice == value);
    let unknown = || TrainerError::Input(format!("{name} is `{value}`, expected `{first}`, `{second}` or `{third}`"));
    found.map(|(_, choice)| choice).ok_or_else(unknown)
}

/// The type that products read and write in a precision.
#[must_use]
pub fn real_of(precision: Precision) -> Real {
    match precision {
        // TF32 is a way to multiply f32 values.
        Precision::F32 | Precision::Tf32 => Real::F32,
        Precision::Bf16 => Real::Bf16,
    }
}
