//! What `gpu-check` found, a row at a time: shown, and appended to a file before the next one is begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use crate::trainer::backend::cuda::survey::Surveyed;
use crate::trainer::check::speed::Speed;

/// A line of the file.
#[derive(Debug, Serialize)]
#[serde(tag = "row", rename_all = "snake_case")]
pub(super) enum Row<'a> {
    /// What it ran on; every call begins with it.
    Machine(Machine),
    /// A check and how it ended.
    Check {
        /// Its name.
        check: &'a str,
        seconds: f64,
        /// What was off; `None` where all was well.
        failure: Option<String>,
    },
    /// A product.
    Product {
        #[serde(flatten)]
        found: &'a Surveyed,
        /// TFLOP/s of the fastest by those of a large square product of the same type.
        share_of_peak: Option<f64>,
        /// Programs that need it.
        of: &'a [String],
    },
    /// A recording that was timed.
    Speed(&'a Speed),
    /// A whole step that was timed.
    Model(&'a Model),
    /// What was not done, and why.
    LeftOut { what: String, why: String },
    /// What a person should know, and stops nothing.
    Warning { message: String },
    /// The end of a call.
    End { checks: usize, failed: usize, seconds: f64 },
}

/// Program, device and libraries.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub program: &'static str,
    pub commit: Option<&'static str>,
    pub gpu: String,
    pub memory_bytes: u64,
    pub compute_capability: String,
    /// Newest CUDA that the driver knows.
    pub driver_cuda: String,
    pub cublaslt: String,
    pub nvrtc: String,
    /// Seconds that the call may take.
    pub seconds: f64,
}

/// A whole training step.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Model {
    pub model: &'static str,
    pub batch: usize,
    pub precision: &'static str,
    pub parameters: usize,
    /// Median time of a step.
    pub ms: f64,
    pub steps: usize,
    pub samples_per_s: f64,
    pub tflop_per_s: f64,
    /// Bytes that the step plans for, and those of device memory that were left beside it.
    pub planned_bytes: u64,
    pub free_bytes: Option<u64>,
    /// Seconds before the first step was done: kernels, algorithms, memory, the graph.
    pub ready_s: f64,
}

/// Where rows go.
pub(super) struct Rows<'a> {
    file: Option<File>,
    out: &'a mut dyn Write,
}

impl<'a> Rows<'a> {
    /// Rows for people, and for a file that they are appended to.
    pub(super) fn new(path: Option<&Path>, out: &'a mut dyn Write) -> Result<Self, Error> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|source| Error::File { operation: "open", path: path.to_path_buf(), source })
        };
        Ok(Self { file: path.map(open).transpose()?, out })
    }

    /// Gives a row away: it is written before this returns.
    pub(super) fn row(&mut self, row: &Row) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_string(row).expect("a row is a plain struct");
            line.push('\n');
            file.write_all(line.as_bytes())?;
        }
        writeln!(self.out, "{}", words(row))?;
        self.out.flush()
    }
}

/// A row as a person reads it.
fn words(row: &Row) -> String {
    match row {
        Row::Machine(Machine { gpu, memory_bytes, compute_capability, driver_cuda, cublaslt, nvrtc, seconds, .. }) => format!(
            "{gpu}, {} MiB, compute capability {compute_capability}, driver for CUDA {driver_cuda}, cuBLASLt {cublaslt}, NVRTC {nvrtc}; \
             {seconds:.0} s",
            memory_bytes >> 20
        ),
        Row::Check { check, seconds, failure: None } => format!("ok      {check} ({seconds:.1} s)"),
        Row::Check { check, seconds, failure: Some(failure) } => format!("FAILED  {check} ({seconds:.1} s): {failure}"),
        Row::Product { found, share_of_peak, .. } => product(found, *share_of_peak),
        Row::Speed(speed) => of_speed(speed),
        Row::Model(Model { model, batch, precision, ms, samples_per_s, tflop_per_s, planned_bytes, .. }) => format!(
            "{ms:>10.3} ms  {model}, batch {batch}, {precision}: {samples_per_s:.0} samples/s, {tflop_per_s:.1} TFLOP/s, {} MiB planned",
            planned_bytes >> 20
        ),
        Row::LeftOut { what, why } => format!("left out  {what}: {why}"),
        Row::Warning { message } => format!("warning: {message}"),
        Row::End { checks, failed, seconds } => {
            format!("{}, {failed} failed, {seconds:.0} s", crate::run::counted(*checks, "check"))
        }
    }
}

fn product(found: &Surveyed, share_of_peak: Option<f64>) -> String {
    let Surveyed { shape, flop, by_reductions, failure } = found;
    let mut words = match by_reductions.iter().map(|suggested| suggested.ms).reduce(f64::min) {
        Some(ms) => format!("{ms:>10.3} ms  {shape}, {:.1} TFLOP/s", flop / ms / 1e9),
        None => format!("         -     {shape}"),
    };
    if let Some(share) = share_of_peak {
        words += &format!(", {:.0} % of the largest square's", 100.0 * share);
    }
    for suggested in by_reductions {
        words += &format!("; {} {:.3} ms ({})", suggested.reductions, suggested.ms, suggested.algorithm);
    }
    failure.iter().for_each(|failure| words += &format!("; {failure}"));
    words
}

fn of_speed(speed: &Speed) -> String {
    let Speed { what, real, time, left_out, planned_bytes, ratio, .. } = speed;
    let Some(time) = time else {
        return format!("left out  {what}, {real}: {}", left_out.as_deref().unwrap_or("no reason"));
    };
    let mut words = format!("{:>10.3} ms  {what}, {real}", time.ms);
    time.tflop_per_s.iter().for_each(|rate| words += &format!(", {rate:.1} TFLOP/s"));
    time.gbyte_per_s.iter().for_each(|rate| words += &format!(", {rate:.0} GB/s"));
    ratio.iter().for_each(|(other, ratio)| words += &format!(", {ratio:.2}x {other}"));
    words + &format!(", {} MiB", planned_bytes >> 20)
}
