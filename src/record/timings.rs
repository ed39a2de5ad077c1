//! `timings.csv`: how long jobs took. The only file with clocks; reports alone read it back.

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

/// Reads the file back.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Timing>, RecordError> {
    let mut reader = csv::Reader::from_reader(text);
    let mut timings = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| RecordError::csv(NAME, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong =
            || RecordError::Malformed { file: NAME, line, what: format!("found {record:?}, expected a run, a job and its times") };
        let field = |at: usize| record.get(at).ok_or_else(wrong);
        let float = |at: usize| field(at)?.parse::<f64>().map_err(|_| wrong());
        timings.push(Timing {
            run_id: field(0)?.to_owned(),
            job: field(1)?.to_owned(),
            wall_s: float(2)?,
            cpu_s: float(3)?,
            threads: field(4)?.parse().map_err(|_| wrong())?,
            samples_per_s: if field(5)?.is_empty() { None } else { Some(float(5)?) },
        });
    }
    Ok(timings)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_back_as_they_were_written() {
        let timing = |job: &str, samples_per_s| Timing {
            run_id: "a".to_owned(),
            job: job.to_owned(),
            wall_s: 1.25,
            samples_per_s,
            cpu_s: 2.5,
            threads: 2,
        };
        let timings = vec![timing("train", Some(512.5)), timing("evaluate, twice", None)];
        assert_eq!(parse(&write(&timings).unwrap()).unwrap(), timings);
        assert!(parse(b"run_id,job\nx,y\n").is_err());
    }
}
