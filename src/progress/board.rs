//! How things stand, as numbers and as text. No terminal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::run::{Event, JobKind};

/// Counts of jobs, and the running ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Board {
    /// All jobs.
    pub jobs: usize,
    /// Done: before, here, or by another program.
    pub done: usize,
    /// Failed for good.
    pub failed: usize,
    /// In need of one that failed.
    pub blocked: usize,
    /// Stopped before their end.
    pub interrupted: usize,
    running: BTreeMap<usize, Running>,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Running {
    kind: JobKind,
    label: String,
    done: u64,
    total: u64,
    loss: Option<f64>,
    samples_per_s: f64,
    /// Time and units done when the first sign of progress came: a resumed job does not begin at zero.
    first: Option<(Instant, u64)>,
}

impl Board {
    /// Takes an event in.
    pub fn apply(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Planned { jobs, cached } => {
                self.jobs = *jobs;
                self.done = *cached;
            }
            Event::Started { job, kind, label, .. } => {
                let (kind, label) = (*kind, label.clone());
                let running = Running { kind, label, done: 0, total: 0, loss: None, samples_per_s: 0.0, first: None };
                self.running.insert(*job, running);
            }
            Event::Step { job, step, steps, loss, samples_per_s } => {
                if let Some(running) = self.running.get_mut(job) {
                    running.advance(*step, *steps, now);
                    running.loss = Some(*loss);
                    running.samples_per_s = *samples_per_s;
                }
            }
            Event::Progress { job, done, total } => {
                if let Some(running) = self.running.get_mut(job) {
                    running.advance(*done, *total, now);
                }
            }
            Event::Finished { job, .. } | Event::Elsewhere { job } => self.end(*job, |board| &mut board.done),
            Event::Failed { job, retrying: false, .. } => self.end(*job, |board| &mut board.failed),
            Event::Interrupted { job } => self.end(*job, |board| &mut board.interrupted),
            Event::Blocked { .. } => self.blocked += 1,
            Event::Failed { retrying: true, .. } | Event::Draining | Event::Stopping | Event::Warning { .. } => {}
        }
    }

    fn end(&mut self, job: usize, count: impl Fn(&mut Self) -> &mut usize) {
        self.running.remove(&job);
        *count(self) += 1;
    }

    /// Jobs neither done nor running nor given up.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.jobs.saturating_sub(self.done + self.failed + self.blocked + self.interrupted + self.running.len())
    }

    /// The overall line.
    #[must_use]
    pub fn overall(&self) -> String {
        let mut text =
            format!("{} done / {} running / {} waiting / {} failed", self.done, self.running.len(), self.waiting(), self.failed);
        for (count, name) in [(self.blocked, "blocked"), (self.interrupted, "interrupted")] {
            if count > 0 {
                text.push_str(&format!(" / {count} {name}"));
            }
        }
        text
    }

    /// One line for each running job that has shown progress, in plan order.
    pub fn running_lines(&self, now: Instant) -> impl Iterator<Item = String> + '_ {
        self.running.values().filter(|running| running.total > 0).map(move |running| running.line(now))
    }

    /// How long the running jobs will take yet, the longest first; those that have shown no progress are not known.
    pub(super) fn time_left(&self, now: Instant) -> String {
        let left = |running: &Running| (running.eta(now), name(running.kind, &running.label));
        let mut jobs: Vec<(Option<Duration>, String)> = self.running.values().map(left).collect();
        jobs.sort_by_key(|(eta, _)| std::cmp::Reverse(*eta));
        let text = |(eta, name): &(Option<Duration>, String)| match eta {
            Some(eta) => format!("{name} in about {}", duration(*eta)),
            None => format!("{name} at a time not known yet"),
        };
        match jobs.len() {
            0 => "nothing is running".to_owned(),
            1..=4 => jobs.iter().map(text).collect::<Vec<_>>().join(", "),
            // Where many run, the last one is what is waited for.
            many => match jobs.iter().filter_map(|(eta, _)| *eta).max() {
                Some(last) => format!("{many} jobs, the last in about {}", duration(last)),
                None => format!("{many} jobs at a time not known yet"),
            },
        }
    }

    /// The running job's line and its share of the way.
    pub(super) fn line_of(&self, job: usize, now: Instant) -> Option<(String, u64, u64)> {
        self.running.get(&job).map(|running| (running.line(now), running.done, running.total))
    }

    /// Name of the job that an event is about, as far as it is known.
    pub(super) fn label_of(&self, event: &Event) -> String {
        let job = match event {
            Event::Started { kind, label, .. } => return name(*kind, label),
            Event::Finished { job, .. } | Event::Failed { job, .. } | Event::Interrupted { job } => job,
            _ => return String::new(),
        };
        self.running.get(job).map_or_else(|| format!("job {job}"), |running| name(running.kind, &running.label))
    }
}

fn name(kind: JobKind, label: &str) -> String {
    format!("{} {label}", kind.name())
}

impl Running {
    fn advance(&mut self, done: u64, total: u64, now: Instant) {
        self.done = done;
        self.total = total;
        self.first.get_or_insert((now, done));
    }

    fn line(&self, now: Instant) -> String {
        let name = name(self.kind, &self.label);
        let unit = if self.kind == JobKind::Train { "step " } else { "" };
        let mut text = format!("{name}  {unit}{}/{}", self.done, self.total);
        if self.samples_per_s > 0.0 {
            text.push_str(&format!("  {:.0} samples/s", self.samples_per_s));
        }
        if let Some(loss) = self.loss {
            text.push_str(&format!("  loss {loss:.3}"));
        }
        if let Some(eta) = self.eta(now) {
            text.push_str(&format!("  ETA {}", duration(eta)));
        }
        text
    }

    fn eta(&self, now: Instant) -> Option<Duration> {
        let (since, from) = self.first?;
        let done = self.done.checked_sub(from).filter(|done| *done > 0)?;
        let left = self.total.saturating_sub(self.done);
        let seconds = now.duration_since(since).as_secs_f64() * left as f64 / done as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// A time for people: `42s`, `3m05s`, `1h02m`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_shows_its_step_speed_loss_and_the_time_left() {
        let start = Instant::now();
        let mut board = Board::default();
        board.apply(&Event::Planned { jobs: 4, cached: 1 }, start);
        board.apply(&Event::Started { job: 1, kind: JobKind::Train, label: "1f2e".into(), attempt: 1 }, start);
        let step = |step| Event::Step { job: 1, step, steps: 400, loss: 2.3456, samples_per_s: 1234.4 };
        board.apply(&step(200), start);
        board.apply(&step(250), start + Duration::from_secs(50));
        let lines: Vec<String> = board.running_lines(start + Duration::from_secs(50)).collect();
        assert_eq!(lines, ["train 1f2e  step 250/400  1234 samples/s  loss 2.346  ETA 2m30s"]);
        assert_eq!(board.overall(), "1 done / 1 running / 2 waiting / 0 failed");
    }

    #[test]
    fn the_time_that_running_jobs_take_yet_is_told() {
        let start = Instant::now();
        let mut board = Board::default();
        assert_eq!(board.time_left(start), "nothing is running");
        for (job, label) in [(1, "a1"), (2, "b2")] {
            board.apply(&Event::Started { job, kind: JobKind::Train, label: label.into(), attempt: 1 }, start);
        }
        let step = |job, step| Event::Step { job, step, steps: 100, loss: 1.0, samples_per_s: 1.0 };
        board.apply(&step(1, 10), start);
        let later = start + Duration::from_secs(10);
        board.apply(&step(1, 20), later);
        assert_eq!(board.time_left(later), "train a1 in about 1m20s, train b2 at a time not known yet");
    }

    #[test]
    fn blocked_and_interrupted_jobs_are_not_waiting() {
        let now = Instant::now();
        let mut board = Board::default();
        board.apply(&Event::Planned { jobs: 3, cached: 0 }, now);
        board.apply(&Event::Failed { job: 0, reason: "x".into(), retrying: false }, now);
        board.apply(&Event::Blocked { job: 1, by: 0 }, now);
        board.apply(&Event::Interrupted { job: 2 }, now);
        assert_eq!(board.overall(), "0 done / 0 running / 0 waiting / 1 failed / 1 blocked / 1 interrupted");
    }

    #[test]
    fn times_are_short() {
        let shown: Vec<String> = [0, 59, 60, 3599, 3600, 90_061].map(|s| duration(Duration::from_secs(s))).into();
        assert_eq!(shown, ["0s", "59s", "1m00s", "59m59s", "1h00m", "25h01m"]);
    }
}
