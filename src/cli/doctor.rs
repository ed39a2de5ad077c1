//! `doctor`: what this machine has, what is missing and how to get it.

use std::io::Write;

use super::args::{Arithmetic, Device, Global};
use crate::error::Error;
use crate::machine;
use crate::run::DeviceKind;
use crate::trainer::backend::cuda::devices::{DeviceInfo, driver};
use crate::trainer::backend::cuda::libraries::{Library, Place};
use crate::trainer::ops::instructions;

pub(super) fn run(global: &Global, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "scaledown {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "CPU        {}, {} cores, {}", cpu_model(), super::cores(), vector_path())?;
    if let Some(memory) = total_memory_gib() {
        writeln!(out, "memory     {memory:.1} GiB")?;
    }
    gpus(out)?;
    libraries(out)?;
    let (device, precision) = super::experiment::placement(Device::Auto, Arithmetic::Auto)?;
    let on = match device {
        DeviceKind::Cpu => "the CPU",
        DeviceKind::Cuda => "GPU 0",
    };
    writeln!(out, "training   on {on} in {}, unless `--device` or `--precision` say otherwise", precision.name())?;
    for (what, folder) in [("store", &global.store), ("results", &global.results)] {
        writeln!(out, "{what:<10} {}: {}", folder.display(), folder_state(folder))?;
    }
    Ok(())
}

/// Name of the CPU, as the system gives it.
pub(super) fn cpu_model() -> String {
    machine::cpu_model().unwrap_or_else(|| "unknown CPU".into())
}

/// The largest resident set of this process so far.
#[expect(clippy::cast_precision_loss, reason = "a display value")]
pub(super) fn peak_memory_mib() -> Option<f64> {
    machine::peak_memory_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "a display value")]
fn total_memory_gib() -> Option<f64> {
    machine::memory_bytes().map(|bytes| bytes as f64 / f64::from(1 << 30))
}

/// The widest instructions that the kernels use here.
fn vector_path() -> &'static str {
    match instructions() {
        "avx512+amx" => "AVX-512 kernels, matrix products on AMX tiles",
        "avx512" => "AVX-512 kernels",
        "avx2" => "AVX2 + FMA kernels",
        "neon" => "NEON kernels",
        _ => "portable kernels",
    }
}

/// The GPUs, or why there are none.
fn gpus(out: &mut dyn Write) -> std::io::Result<()> {
    match driver() {
        Ok(driver) => {
            let (major, minor) = driver.cuda_version;
            for (ordinal, device) in driver.devices.iter().enumerate() {
                let DeviceInfo { name, memory_bytes, capability } = device;
                #[expect(clippy::cast_precision_loss, reason = "a display value")]
                let memory = *memory_bytes as f64 / f64::from(1 << 30);
                let capability = format!("compute capability {}.{}", capability.0, capability.1);
                writeln!(out, "GPU {ordinal:<6} {name}, {memory:.1} GiB, {capability}, driver for CUDA {major}.{minor}")?;
            }
            Ok(())
        }
        Err(error) => {
            writeln!(out, "GPU        {error}")?;
            error.hint().map_or(Ok(()), |hint| writeln!(out, "           hint: {hint}"))
        }
    }
}

/// Where the CUDA libraries are, or how to get them.
fn libraries(out: &mut dyn Write) -> std::io::Result<()> {
    for library in Library::ALL {
        let name = library.name();
        match library.place() {
            Place::Loader(Some(path)) => writeln!(out, "           {name}: {}", path.display())?,
            Place::Loader(None) => writeln!(out, "           {name}: found by the loader")?,
            Place::Opened(path) => writeln!(out, "           {name}: {} (not in the loader's folders)", path.display())?,
            Place::Missing(why) => {
                let why = why.as_ref().map_or_else(String::new, |why| format!(", {why}"));
                writeln!(out, "           {name}: not found{why}")?;
                // The driver's own line above says how to get it.
                if library != Library::Driver {
                    writeln!(out, "           hint: {}", library.hint())?;
                }
            }
        }
    }
    Ok(())
}

fn folder_state(folder: &std::path::Path) -> String {
    match std::fs::metadata(folder) {
        Ok(meta) if !meta.is_dir() => "is a file; choose another with its option".into(),
        Ok(meta) if meta.permissions().readonly() => "is read-only".into(),
        Ok(_) => "is there".into(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is made when needed".into(),
        Err(error) => format!("cannot be read: {error}"),
    }
}
