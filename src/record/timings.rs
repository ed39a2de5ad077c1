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
    /// Wall time, seconds.
    pub wall_s: f64,
    /// Pairs a second, where it trained.
    pub samples_per_s: Option<f64>,
    /// Attempts it took; 0 where its result was found finished.
    pub attempts: u32,
}

pub(super) fn write(timings: &[Timing]) -> Result<Vec<u8>, RecordError> {
    let header = ["run_id", "job", "wall_s", "samples_per_s", "attempts"].map(str::to_owned);
    let rows = timings.iter().map(|timing| {
        let Timing { run_id, job, wall_s, samples_per_s, attempts } = timing;
        let rate = samples_per_s.map(|rate| format!("{rate:.1}")).unwrap_or_default();
        vec![run_id.clone(), job.clone(), number((wall_s * 1e3).round() / 1e3), rate, attempts.to_string()]
    });
    csv_bytes(NAME, &header, rows)
}
