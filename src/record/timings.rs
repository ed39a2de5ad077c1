//! `timings.csv`: how long jobs took. The only file with clocks; never read back.

use super::RecordError;
use super::text::{csv_bytes, number};

pub(super) const NAME: &str = "timings.csv";

/// How long one job of a run took.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The run, or empty for a job that several runs share.
    pub run_id: String,
    /// What a person calls the job.
    pub job: String,
    /// Wall time, seconds, of all attempts as far as their steps were kept.
    pub wall_s: f64,
    /// Pairs a second over that time, where it trained.
    pub samples_per_s: Option<f64>,
    /// CPU time of the process meanwhile, seconds: the job's own where it ran alone.
    pub cpu_s: f64,
    /// Threads it was given.
    pub threads: usize,
}

pub(super) fn write(timings: &[Timing]) -> Result<Vec<u8>, RecordError> {
    let header = ["run_id", "job", "wall_s", "cpu_s", "threads", "samples_per_s"].map(str::to_owned);
    let rows = timings.iter().map(|timing| {
        let Timing { run_id, job, wall_s, cpu_s, threads, samples_per_s } = timing;
        let milliseconds = |seconds: f64| number((seconds * 1e3).round() / 1e3);
        let rate = samples_per_s.map(|rate| format!("{rate:.1}")).unwrap_or_default();
        vec![run_id.clone(), job.clone(), milliseconds(*wall_s), milliseconds(*cpu_s), threads.to_string(), rate]
    });
    csv_bytes(NAME, &header, rows)
}
