//! Events to the terminal: bars where there is one, lines where there is none.
//!
//! **Owns**: what a person sees while jobs run. **In**: [`Event`]s, from any thread. **Out**: text on stderr, or to a
//! [`Sink`].
//!
//! **Invariant**: failures are shown when they happen, in every mode, and warnings in every mode but the quiet one; everything
//! else is limited in rate, so that ten thousand short jobs print no more than one long one. Nothing here changes what is computed.
//!
//! **Must not know**: plans, stores, tensors.

mod bars;
mod board;
mod lines;

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::run::Event;
use bars::Bars;
use lines::Lines;

pub use board::{Board, duration};

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Failures alone.
    Quiet,
    /// Those, warnings, and how far everything is.
    #[default]
    Normal,
    /// Also each start and end.
    Verbose,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// On a terminal, unless the environment says otherwise (`NO_COLOR`, `TERM=dumb`).
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Takes lines of text.
pub trait Sink: Send {
    /// One line, without its end.
    fn line(&mut self, line: &str);
}

/// Standard error; a reader that is gone is nothing to stop for.
#[derive(Debug, Default)]
pub struct Stderr;

impl Sink for Stderr {
    fn line(&mut self, line: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// Shows events.
pub struct Progress {
    state: Mutex<State>,
}

struct State {
    board: Board,
    view: View,
}

enum View {
    Lines(Lines),
    Bars(Bars),
}

impl Progress {
    /// On stderr: bars where it is a terminal, unless asked to be quiet or plain.
    #[must_use]
    pub fn new(verbosity: Verbosity, color: ColorChoice, is_terminal: bool) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let has_color = match color {
            ColorChoice::Auto => is_terminal && !is_plain,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        if is_terminal && verbosity > Verbosity::Quiet && (!is_plain || color == ColorChoice::Always) {
            Self::with_view(View::Bars(Bars::new(verbosity, has_color)))
        } else {
            Self::lines(verbosity, has_color, Box::new(Stderr))
        }
    }

    /// As lines to a sink.
    #[must_use]
    pub fn lines(verbosity: Verbosity, has_color: bool, sink: Box<dyn Sink>) -> Self {
        Self::with_view(View::Lines(Lines::new(verbosity, has_color, sink)))
    }

    fn with_view(view: View) -> Self {
        Self { state: Mutex::new(State { board: Board::default(), view }) }
    }

    /// Takes an event in.
    pub fn handle(&self, event: &Event) {
        self.handle_at(event, Instant::now());
    }

    fn handle_at(&self, event: &Event, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { board, view } = &mut *state;
        // A job that ends is named before the board forgets it.
        let mut label = board.label_of(event);
        board.apply(event, now);
        if matches!(event, Event::Draining) {
            label = board.time_left(now);
        }
        match view {
            View::Lines(lines) => lines.show(event, &label, board, now),
            View::Bars(bars) => bars.show(event, &label, board, now),
        }
    }

    /// Takes the bars away and says how it ended.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { board, view } = &mut *state;
        match view {
            View::Lines(lines) => lines.finish(board),
            View::Bars(bars) => bars.finish(board),
        }
    }
}

/// What is worth a line whenever it happens.
fn notice(event: &Event, label: &str, verbosity: Verbosity, has_color: bool) -> Option<String> {
    let is_verbose = verbosity >= Verbosity::Verbose;
    Some(match event {
        Event::Failed { reason, retrying: true, .. } => format!("{}: {label}: {reason}", paint("retrying", "33", has_color)),
        Event::Failed { reason, retrying: false, .. } => format!("{}: {label}: {reason}", paint("failed", "31;1", has_color)),
        _ if verbosity == Verbosity::Quiet => return None,
        Event::Warning { message } => format!("{}: {message}", paint("warning", "33", has_color)),
        Event::Draining => {
            format!("nothing new is started; what runs finishes: {label} (interrupt again to stop it at a checkpoint)")
        }
        Event::Stopping => "running jobs stop at their next checkpoint (interrupt again to end at once)".into(),
        Event::Interrupted { .. } => format!("interrupted: {label}"),
        Event::Started { attempt, .. } if is_verbose && *attempt == 1 => format!("started: {label}"),
        Event::Started { attempt, .. } if is_verbose => format!("started: {label} (attempt {attempt})"),
        Event::Finished { wall_s, .. } if is_verbose => format!("finished: {label} in {wall_s:.2} s"),
        Event::Elsewhere { job } if is_verbose => format!("finished elsewhere: job {job}"),
        Event::Blocked { job, by } if is_verbose => format!("blocked: job {job} needs job {by}, which failed"),
        _ => return None,
    })
}

fn paint(text: &str, code: &str, has_color: bool) -> String {
    if has_color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::run::JobKind;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<String>>>);

    impl Sink for Captured {
        fn line(&mut self, line: &str) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        }
    }

    fn shown(verbosity: Verbosity, has_color: bool, events: &[(u64, Event)]) -> Vec<String> {
        let captured = Captured::default();
        let progress = Progress::lines(verbosity, has_color, Box::new(captured.clone()));
        let start = Instant::now();
        for (second, event) in events {
            progress.handle_at(event, start + Duration::from_secs(*second));
        }
        progress.finish();
        let lines = captured.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }

    fn started(job: usize) -> Event {
        Event::Started { job, kind: JobKind::Train, label: format!("run{job}"), attempt: 1 }
    }

    #[test]
    fn a_failure_is_shown_when_it_happens_even_when_quiet() {
        let events = [
            (0, Event::Planned { jobs: 2, cached: 0 }),
            (0, started(1)),
            (0, Event::Failed { job: 1, reason: "no such file\nhint: look".into(), retrying: false }),
            (0, Event::Warning { message: "one sample is broken".into() }),
            (0, Event::Finished { job: 0, wall_s: 1.0 }),
        ];
        let failed = "failed: train run1: no such file\nhint: look";
        assert_eq!(shown(Verbosity::Quiet, false, &events), [failed], "errors only");
        let all = shown(Verbosity::Normal, true, &events);
        assert!(all.contains(&"\x1b[33mwarning\x1b[0m: one sample is broken".to_owned()), "{all:?}");
    }

    #[test]
    fn the_first_interrupt_is_answered_with_how_long_what_runs_will_take() {
        let step = |step| Event::Step { job: 1, step, steps: 100, loss: 3.0, samples_per_s: 50.0 };
        let events = [(0, started(1)), (0, step(1)), (10, step(11)), (10, Event::Draining)];
        let lines = shown(Verbosity::Normal, false, &events);
        let expected = "nothing new is started; what runs finishes: train run1 in about 1m29s";
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{lines:?}");
    }

    #[test]
    fn a_thousand_short_jobs_print_little_and_a_long_one_says_how_far_it_is() {
        let mut events = vec![(0, Event::Planned { jobs: 1001, cached: 0 })];
        for job in 0..1000 {
            events.push((0, started(job)));
            events.push((0, Event::Finished { job, wall_s: 0.001 }));
        }
        events.push((1, started(1000)));
        events.push((2, Event::Step { job: 1000, step: 10, steps: 100, loss: 3.0, samples_per_s: 50.0 }));
        events.push((12, Event::Step { job: 1000, step: 20, steps: 100, loss: 2.5, samples_per_s: 50.0 }));
        let expected = [
            "0 done / 0 running / 1001 waiting / 0 failed",
            "1000 done / 1 running / 0 waiting / 0 failed",
            "  train run1000  step 20/100  50 samples/s  loss 2.500  ETA 1m20s",
            "1000 done / 1 running / 0 waiting / 0 failed",
        ];
        assert_eq!(shown(Verbosity::Normal, false, &events), expected);
    }

    #[test]
    fn a_verbose_log_names_starts_ends_and_attempts() {
        let events = [
            (0, Event::Planned { jobs: 1, cached: 0 }),
            (0, started(0)),
            (0, Event::Failed { job: 0, reason: "busy".into(), retrying: true }),
            (0, Event::Started { job: 0, kind: JobKind::Train, label: "run0".into(), attempt: 2 }),
            (0, Event::Finished { job: 0, wall_s: 1.5 }),
        ];
        let lines = shown(Verbosity::Verbose, false, &events);
        let expected = [
            "started: train run0",
            "retrying: train run0: busy",
            "started: train run0 (attempt 2)",
            "finished: train run0 in 1.50 s",
            "1 done / 0 running / 0 waiting / 0 failed",
        ];
        assert_eq!(lines[1..], expected);
    }

    #[test]
    fn where_there_is_no_terminal_there_are_no_bars() {
        let is_lines = |progress: Progress| {
            let state = progress.state.into_inner().unwrap_or_else(PoisonError::into_inner);
            matches!(state.view, View::Lines(_))
        };
        assert!(is_lines(Progress::new(Verbosity::Normal, ColorChoice::Always, false)));
        assert!(is_lines(Progress::new(Verbosity::Quiet, ColorChoice::Always, true)));
        assert!(!is_lines(Progress::new(Verbosity::Normal, ColorChoice::Always, true)));
    }
}
