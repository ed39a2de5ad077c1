//! `doctor`: what this machine has, what is missing and how to get it.

use std::io::Write;

use super::args::Global;
use crate::error::Error;
use crate::trainer::ops::instructions;

pub(super) fn run(global: &Global, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "scaledown {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "CPU        {}, {} cores, {}", cpu_model(), super::cores(), vector_path())?;
    if let Some(memory) = total_memory_gib() {
        writeln!(out, "memory     {memory:.1} GiB")?;
    }
    writeln!(out, "GPU        {}", gpu())?;
    for (name, present) in cuda_libraries() {
        writeln!(out, "           {name}: {}", if present { "found" } else { "not found" })?;
    }
    writeln!(out, "training   on the CPU in f32; this build does not train on a GPU")?;
    for (what, folder) in [("store", &global.store), ("results", &global.results)] {
        writeln!(out, "{what:<10} {}: {}", folder.display(), folder_state(folder))?;
    }
    Ok(())
}

/// Name of the CPU, as the system gives it.
pub(super) fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split(':').nth(1)).map_or_else(|| "unknown CPU".into(), |name| name.trim().to_string())
}

/// The largest resident set of this process so far.
pub(super) fn peak_memory_mib() -> Option<f64> {
    kibibytes("/proc/self/status", "VmHWM").map(|kib| kib / 1024.0)
}

fn total_memory_gib() -> Option<f64> {
    kibibytes("/proc/meminfo", "MemTotal").map(|kib| kib / 1024.0 / 1024.0)
}

fn kibibytes(file: &str, field: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find(|line| line.starts_with(field))?.split_whitespace().nth(1)?.parse().ok()
}

/// The widest instructions that the kernels use here.
fn vector_path() -> &'static str {
    match instructions() {
        "avx512+amx" => "AVX-512 kernels, matrix products on AMX tiles",
        "avx512" => "AVX-512 kernels",
        "avx2" => "AVX2 + FMA kernels",
        _ => "portable kernels",
    }
}

fn gpu() -> String {
    // SAFETY: only looks for the driver library; it calls nothing in it.
    let has_driver = unsafe { cudarc::driver::sys::is_culib_present() };
    if !has_driver {
        return "no NVIDIA driver (libcuda was not found); runs use the CPU".into();
    }
    match cudarc::driver::CudaContext::device_count() {
        Ok(count) => format!("{count} NVIDIA device(s)"),
        Err(error) => format!("an NVIDIA driver that does not answer ({:?}); runs use the CPU", error.0),
    }
}

fn cuda_libraries() -> [(&'static str, bool); 2] {
    // SAFETY: both only look for a library; they call nothing in it.
    unsafe { [("NVRTC", cudarc::nvrtc::sys::is_culib_present()), ("cuBLASLt", cudarc::cublaslt::sys::is_culib_present())] }
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
