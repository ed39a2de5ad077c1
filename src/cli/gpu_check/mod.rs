//! `gpu-check`: whether this GPU computes what the CPU does, and how fast. Needs this program and the CUDA libraries alone.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::args::{GpuCheck, GpuCheckPart};
use crate::error::{Error, exit};
use crate::run::Precision;
use crate::trainer::TrainerError;
use crate::trainer::backend::cuda::CudaDevice;
use crate::trainer::backend::cuda::devices::{self, DeviceInfo, Driver};
use crate::trainer::check::{self, Runner, curves, gradients, speed};
use crate::trainer::ops::launch::Real;

/// One check and how it ended.
#[derive(Debug, Serialize)]
struct Outcome {
    check: String,
    seconds: f64,
    /// What was off; `None` where all was well.
    failure: Option<String>,
}

/// Everything that was found; what `--out` writes.
#[derive(Debug, Serialize)]
struct Found {
    program: &'static str,
    commit: Option<&'static str>,
    gpu: String,
    memory_mib: u64,
    compute_capability: String,
    driver_cuda: String,
    checks: Vec<Outcome>,
    speed_bf16: Vec<speed::Speed>,
    speed_f32: Vec<speed::Speed>,
    did_not_fit: Vec<String>,
}

/// Batches that gradients are written of.
const GRADIENT_BATCHES: u64 = 8;

pub(super) fn run(args: &GpuCheck, out: &mut dyn Write) -> Result<u8, Error> {
    let Driver { cuda_version, devices } = devices::driver()?;
    let DeviceInfo { name, memory_bytes, capability } = devices[0].clone();
    writeln!(out, "{name}, {} MiB, compute capability {}.{}", memory_bytes >> 20, capability.0, capability.1)?;
    if let Some(folder) = &args.gradients {
        for (batch, [f32, bf16]) in gradients::write(folder, GRADIENT_BATCHES, &|real, _| open(real))?.into_iter().enumerate() {
            writeln!(out, "batch {batch}: loss {f32:.6} in f32, {bf16:.6} in bf16")?;
        }
        writeln!(out, "gradients are in {}", folder.display())?;
        return Ok(exit::OK);
    }
    let mut found = Found {
        program: env!("CARGO_PKG_VERSION"),
        commit: option_env!("SCALEDOWN_COMMIT"),
        gpu: name,
        memory_mib: memory_bytes >> 20,
        compute_capability: format!("{}.{}", capability.0, capability.1),
        driver_cuda: format!("{}.{}", cuda_version.0, cuda_version.1),
        checks: Vec::new(),
        speed_bf16: Vec::new(),
        speed_f32: Vec::new(),
        did_not_fit: Vec::new(),
    };
    let is_wanted = |part: GpuCheckPart| args.only.is_empty() || args.only.contains(&part);
    if is_wanted(GpuCheckPart::Kernels) {
        for (name, check) in check::KERNELS {
            let open = |real, _| Ok(Box::new(open(real)?) as Box<dyn Runner>);
            found.checks.push(outcome(name, || check::on_device(open, check), out)?);
        }
    }
    if is_wanted(GpuCheckPart::Steps) {
        for (name, check) in check::whole_steps() {
            found.checks.push(outcome(name, || check(&|real, _| open(real)), out)?);
        }
        found.checks.push(outcome("loss curve in f32", || curves::follows_the_cpu(&|real, _| open(real), curves::STEPS), out)?);
    }
    if is_wanted(GpuCheckPart::Speed) {
        for (real, rows) in [(Real::Bf16, &mut found.speed_bf16), (Real::F32, &mut found.speed_f32)] {
            writeln!(out, "{real:?}")?;
            let mut failure = Ok(());
            let show = &mut |row: &speed::Speed| failure = show(row, out);
            let (measured, left_out) = speed::run(&mut open(real)?, show)?;
            failure?;
            *rows = measured;
            found.did_not_fit.extend(left_out);
        }
    }
    if let Some(path) = &args.out {
        write(path, &found)?;
    }
    let failed = found.checks.iter().filter(|outcome| outcome.failure.is_some()).count();
    writeln!(out, "{} checks, {failed} failed", found.checks.len())?;
    Ok(if failed == 0 { exit::OK } else { exit::CHECK })
}

fn open(real: Real) -> Result<CudaDevice, TrainerError> {
    CudaDevice::new(
        0,
        match real {
            Real::F32 => Precision::F32,
            Real::Bf16 => Precision::Bf16,
        },
    )
}

/// Runs one check; an assert that fails is its outcome.
fn outcome(name: &str, check: impl FnOnce(), out: &mut dyn Write) -> Result<Outcome, Error> {
    let begun = Instant::now();
    // The message is printed below, with the check's name.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let ended = catch_unwind(AssertUnwindSafe(check));
    std::panic::set_hook(hook);
    let failure = ended.err().map(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_string()
    });
    let seconds = begun.elapsed().as_secs_f64();
    match &failure {
        None => writeln!(out, "ok      {name} ({seconds:.1} s)")?,
        Some(message) => writeln!(out, "FAILED  {name} ({seconds:.1} s): {message}")?,
    }
    Ok(Outcome { check: name.into(), seconds, failure })
}

fn show(row: &speed::Speed, out: &mut dyn Write) -> Result<(), std::io::Error> {
    write!(out, "{:>10.3} ms  {}", row.ms, row.what)?;
    if let Some(rate) = row.tflop_per_s {
        write!(out, ", {rate:.0} TFLOP/s")?;
    }
    if let Some(rate) = row.gbyte_per_s {
        write!(out, ", {rate:.0} GB/s")?;
    }
    if let Some((other, ratio)) = &row.ratio {
        write!(out, ", {ratio:.2}x {other}")?;
    }
    writeln!(out)
}

fn write(path: &Path, found: &Found) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(found).expect("a report is a plain struct");
    text.push('\n');
    std::fs::write(path, text).map_err(|source| Error::File { operation: "write", path: path.to_path_buf(), source })
}
