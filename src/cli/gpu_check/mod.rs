//! `gpu-check`: whether this GPU computes what the CPU does, and how fast. Needs this program and the CUDA libraries alone.
//!
//! What tells most comes first, every row is appended to a file before the next is begun, and all of it ends within a stated time:
//! a call that is killed, or hangs, has lost one row at most.

mod models;
mod products;
mod rows;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use self::models::MODELS;
use self::products::Needed;
use self::rows::{Machine, Row, Rows};
use super::args::{GpuCheck, GpuCheckPart};
use crate::error::{Error, exit};
use crate::run::Precision;
use crate::trainer::TrainerError;
use crate::trainer::backend::cuda::compile::{self, Architecture, Target, compile_to};
use crate::trainer::backend::cuda::device::Device as _;
use crate::trainer::backend::cuda::devices::{self, DeviceInfo, Driver};
use crate::trainer::backend::cuda::libraries::cublaslt_version;
use crate::trainer::backend::cuda::survey::plain;
use crate::trainer::backend::cuda::{CudaDevice, modules};
use crate::trainer::check::speed::{self, Budget};
use crate::trainer::check::{self, Runner, curves, gradients};
use crate::trainer::ops::launch::Real;

/// Batches that gradients are written of.
const GRADIENT_BATCHES: u64 = 8;
/// Parts in their order, each with its weight in the time that is left when it begins.
const PARTS: [(GpuCheckPart, f64); 5] = [
    (GpuCheckPart::Products, 1.0),
    (GpuCheckPart::Kernels, 3.0),
    (GpuCheckPart::Steps, 2.0),
    (GpuCheckPart::Speed, 2.0),
    (GpuCheckPart::Models, 3.0),
];
/// Side of the product that others are held against.
const SQUARE: usize = 8192;

pub(super) fn run(args: &GpuCheck, out: &mut dyn Write) -> Result<u8, Error> {
    if let Some(path) = &args.expected {
        return expected(path, &args.files, out);
    }
    if let Some(folder) = &args.compile {
        return compile_kernels(folder, &args.capability, out);
    }
    let Driver { cuda_version, devices } = devices::driver()?;
    let DeviceInfo { name, memory_bytes, capability } = devices[0].clone();
    if let Some(folder) = &args.gradients {
        for (batch, [f32, bf16]) in gradients::write(folder, GRADIENT_BATCHES, &|real, _| open(real))?.into_iter().enumerate() {
            writeln!(out, "batch {batch}: loss {f32:.6} in f32, {bf16:.6} in bf16")?;
        }
        writeln!(out, "gradients are in {}", folder.display())?;
        return Ok(exit::OK);
    }
    let version = |found: Result<String, TrainerError>| found.unwrap_or_else(|error| error.to_string());
    let machine = Machine {
        program: env!("CARGO_PKG_VERSION"),
        commit: option_env!("SCALEDOWN_COMMIT"),
        gpu: name,
        memory_bytes,
        compute_capability: format!("{}.{}", capability.0, capability.1),
        driver_cuda: format!("{}.{}", cuda_version.0, cuda_version.1),
        cublaslt: version(cublaslt_version().map(|version| version.to_string())),
        nvrtc: version(compile::version().map(|(major, minor)| format!("{major}.{minor}"))),
        seconds: args.seconds,
    };
    let mut rows = Rows::new(args.out.as_deref(), out)?;
    rows.row(&Row::Machine(machine))?;
    let mut harness = Harness { rows, begun: Instant::now(), seconds: args.seconds, checks: 0, failed: 0 };
    let wanted: Vec<_> = PARTS.into_iter().filter(|(part, _)| args.only.is_empty() || args.only.contains(part)).collect();
    for (idx, (part, weight)) in wanted.iter().enumerate() {
        let weights: f64 = wanted[idx..].iter().map(|(_, weight)| weight).sum();
        let budget = Budget::new(harness.left() * weight / weights);
        match part {
            GpuCheckPart::Products => harness.products(&args.files, &budget)?,
            GpuCheckPart::Kernels => harness.kernels(&budget)?,
            GpuCheckPart::Steps => harness.steps(&budget)?,
            GpuCheckPart::Speed => harness.speed(&budget)?,
            GpuCheckPart::Models => harness.models(&budget)?,
        }
    }
    let Harness { mut rows, begun, checks, failed, .. } = harness;
    rows.row(&Row::End { checks, failed, seconds: begun.elapsed().as_secs_f64() })?;
    Ok(if failed == 0 { exit::OK } else { exit::CHECK })
}

/// A call under way.
struct Harness<'a> {
    rows: Rows<'a>,
    begun: Instant,
    seconds: f64,
    checks: usize,
    failed: usize,
}

impl Harness<'_> {
    fn left(&self) -> f64 {
        (self.seconds - self.begun.elapsed().as_secs_f64()).max(0.0)
    }

    /// What cannot be had on this device is a row that failed; the rest goes on.
    fn or_failed<T>(&mut self, what: &str, found: Result<T, Error>) -> io::Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                (self.checks, self.failed) = (self.checks + 1, self.failed + 1);
                self.rows.row(&Row::Check { check: what, seconds: 0.0, failure: Some(error.to_string()) })?;
                Ok(None)
            }
        }
    }

    fn products(&mut self, files: &[impl AsRef<Path>], budget: &Budget) -> io::Result<()> {
        let needed = Needed::of(files, Real::Bf16);
        let Some(needed) = self.or_failed("products that programs need", needed)? else { return Ok(()) };
        for (what, why) in needed.left_out {
            self.rows.row(&Row::LeftOut { what, why })?;
        }
        let device = open(Real::Bf16).map_err(Error::from);
        let Some(mut device) = self.or_failed("opening the device", device)? else { return Ok(()) };
        let square = plain(SQUARE, SQUARE, SQUARE, Real::Bf16, Real::Bf16);
        let shapes: Vec<_> = std::iter::once((square, vec!["the peak".to_owned()])).chain(needed.shapes).collect();
        let (mut peak, num) = (None, shapes.len());
        for (idx, (shape, of)) in shapes.iter().enumerate() {
            if budget.left() == 0.0 {
                let what = crate::run::counted(num - idx, "product");
                return self.rows.row(&Row::LeftOut { what, why: "no time is left".into() });
            }
            // Each is timed in up to two ways.
            let found = device.survey(shape, budget.of_row(2 * (num - idx))).map_err(Error::from);
            let Some(found) = self.or_failed(&shape.in_full(), found)? else { continue };
            let fastest = found.by_reductions.iter().map(|suggested| suggested.ms).reduce(f64::min);
            let rate = fastest.map(|ms| found.flop / ms);
            peak = peak.or(rate.filter(|_| idx == 0));
            let share_of_peak = rate.zip(peak).map(|(rate, peak)| rate / peak);
            self.rows.row(&Row::Product { found: &found, share_of_peak, of })?;
        }
        Ok(())
    }

    fn kernels(&mut self, budget: &Budget) -> io::Result<()> {
        for (name, check) in check::KERNELS {
            let open = |real, _| Ok(Box::new(open(real)?) as Box<dyn Runner>);
            self.check(name, budget, || check::on_device(open, check))?;
        }
        Ok(())
    }

    fn steps(&mut self, budget: &Budget) -> io::Result<()> {
        for (name, check) in check::whole_steps() {
            self.check(name, budget, || check(&|real, _| open(real)))?;
        }
        self.check("loss curve in f32", budget, || curves::follows_the_cpu(&|real, _| open(real), curves::STEPS))
    }

    /// Runs one check; an assert that fails is its outcome.
    fn check(&mut self, name: &str, budget: &Budget, check: impl FnOnce()) -> io::Result<()> {
        if budget.left() == 0.0 {
            return self.rows.row(&Row::LeftOut { what: name.to_owned(), why: "no time is left".into() });
        }
        let begun = Instant::now();
        // The message is a part of the row.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let ended = catch_unwind(AssertUnwindSafe(check));
        std::panic::set_hook(hook);
        let failure = ended.err().map(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
            text.unwrap_or("a panic without a message").to_string()
        });
        (self.checks, self.failed) = (self.checks + 1, self.failed + usize::from(failure.is_some()));
        self.rows.row(&Row::Check { check: name, seconds: begun.elapsed().as_secs_f64(), failure })
    }

    /// bf16, in which sweeps run, and with half of what is then left f32.
    fn speed(&mut self, budget: &Budget) -> io::Result<()> {
        for (real, share) in [(Real::Bf16, 0.75), (Real::F32, 1.0)] {
            let budget = Budget::new(budget.left() * share);
            let device = open(real).map_err(Error::from);
            let Some(mut device) = self.or_failed("opening the device", device)? else { continue };
            let mut written = Ok(());
            let timed = speed::run(&mut device, &budget, &mut |row| {
                if written.is_ok() {
                    written = self.rows.row(&Row::Speed(row));
                }
            });
            written?;
            self.or_failed("speed", timed.map_err(Error::from))?;
        }
        Ok(())
    }

    fn models(&mut self, budget: &Budget) -> io::Result<()> {
        let free = open(Real::Bf16).map(|device| device.available_bytes().unwrap_or(u64::MAX)).map_err(Error::from);
        let Some(free) = self.or_failed("opening the device", free)? else { return Ok(()) };
        for (idx, (name, text)) in MODELS.into_iter().enumerate() {
            let Some((longest, bytes)) = self.or_failed(name, models::needs(text))? else { continue };
            // Three steps at least, and what comes before the first.
            let why = if budget.left() == 0.0 || 3.0 * longest > budget.left() {
                Some(format!("{:.1} s are left", budget.left()))
            } else {
                (bytes > free).then(|| format!("it plans for {} MiB, {} are free", bytes >> 20, free >> 20))
            };
            if let Some(why) = why {
                self.rows.row(&Row::LeftOut { what: format!("model {name}"), why })?;
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "a number of models")]
            let seconds = (budget.left() / (2 * (MODELS.len() - idx)) as f64).min(3.0);
            match models::time(name, text, seconds) {
                Ok((model, warnings)) => {
                    for message in warnings {
                        self.rows.row(&Row::Warning { message })?;
                    }
                    self.rows.row(&Row::Model(&model))?;
                }
                Err(Error::Trainer(error @ TrainerError::DeviceMemory { .. })) => {
                    self.rows.row(&Row::LeftOut { what: format!("model {name}"), why: error.to_string() })?;
                }
                other => drop(self.or_failed(name, other)?),
            }
        }
        Ok(())
    }
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

/// Sustained rates that the least time of a row is told by: operations in bf16 a second, bytes a second.
const FLOP_PER_S: f64 = 7e14;
const BYTES_PER_S: f64 = 4e12;

/// Writes the least time of every row that is timed in bf16: no device is asked.
fn expected(path: &Path, files: &[impl AsRef<Path>], out: &mut dyn Write) -> Result<u8, Error> {
    let mut rows: Vec<(&str, String, f64, f64)> = Vec::new();
    for (shape, _) in Needed::of(files, Real::Bf16)?.shapes {
        rows.push(("product", shape.in_full(), shape.flop(), shape.bytes()));
    }
    rows.extend(speed::amounts(Real::Bf16).into_iter().map(|(what, flop, bytes)| ("speed", what, flop, bytes)));
    for (name, text) in MODELS {
        rows.push(("model", name.to_owned(), models::flop_of(text)?, 0.0));
    }
    let failed = |source: csv::Error| Error::File { operation: "write", path: path.to_path_buf(), source: source.into() };
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    writer.write_record(["row", "what", "gflop", "mbyte", "least_ms"]).map_err(failed)?;
    for (row, what, flop, bytes) in &rows {
        let least = (flop / FLOP_PER_S).max(bytes / BYTES_PER_S) * 1e3;
        let numbers = [flop / 1e9, bytes / 1e6, least].map(|number| format!("{number:.4}"));
        writer.write_record([*row, what].into_iter().chain(numbers.iter().map(String::as_str))).map_err(failed)?;
    }
    writer.flush()?;
    writeln!(out, "{} in {}", crate::run::counted(rows.len(), "row"), path.display())?;
    Ok(exit::OK)
}

/// Compiles every kernel file, in both types, into a folder that another machine's program is given.
fn compile_kernels(folder: &Path, capability: &str, out: &mut dyn Write) -> Result<u8, Error> {
    let parsed = capability.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let Some((major, minor)) = parsed else {
        let message = format!("`--capability {capability}` is no compute capability");
        return Err(Error::Usage { message, hint: Some("such as 9.0; `nvidia-smi --query-gpu=compute_cap` tells it".into()) });
    };
    let target = Target::Cubin(Architecture { major, minor });
    let mut bytes = 0;
    for real in [Real::F32, Real::Bf16] {
        for module in modules() {
            bytes += compile_to(folder, &module, target, real)?;
        }
    }
    writeln!(out, "{} kernel files in two types for {capability}: {} KiB in {}", modules().len(), bytes >> 10, folder.display())?;
    Ok(exit::OK)
}
