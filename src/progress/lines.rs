//! A plain log: what happens when it happens, how far everything is now and then.

use std::time::{Duration, Instant};

use super::{Board, Sink, Verbosity, notice};
use crate::run::Event;

/// Least time between two lines on how far everything is; doubled by each up to the longest, so that a long sweep in CI
/// does not fill its log.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Lines {
    verbosity: Verbosity,
    has_color: bool,
    sink: Box<dyn Sink>,
    next: Option<Instant>,
    interval: Duration,
}

impl Lines {
    pub(super) fn new(verbosity: Verbosity, has_color: bool, sink: Box<dyn Sink>) -> Self {
        Self { verbosity, has_color, sink, next: None, interval: FIRST_INTERVAL }
    }

    pub(super) fn show(&mut self, event: &Event, label: &str, board: &Board, now: Instant) {
        if let Some(line) = notice(event, label, self.verbosity, self.has_color) {
            self.sink.line(&line);
        }
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        match self.next {
            None => {
                self.sink.line(&board.overall());
                self.next = Some(now + self.interval);
            }
            Some(next) if now >= next => {
                self.sink.line(&board.overall());
                for line in board.running_lines(now) {
                    self.sink.line(&format!("  {line}"));
                }
                self.interval = (self.interval * 2).min(LONGEST_INTERVAL);
                self.next = Some(now + self.interval);
            }
            Some(_) => {}
        }
    }

    pub(super) fn finish(&mut self, board: &Board) {
        if self.verbosity > Verbosity::Quiet {
            self.sink.line(&board.overall());
        }
    }
}
