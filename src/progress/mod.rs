//! Events to the terminal: bars where there is one, lines where there is none.
//!
//! **Owns**: what a person sees while jobs run. **In**: [`Event`]s, from any thread. **Out**: text on stderr, or to a
//! [`Sink`].
//!
//! **Invariant**: failures and warnings are shown when they happen, in every mode; everything else is limited in rate, so
//! that ten thousand short jobs print no more than one long one. Nothing here changes what is computed.
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
    /// Failures and warnings.
    Quiet,
    /// Those, and how far everything is.
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
        let label = board.label_of(event);
        board.apply(event, now);
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
        Event::Warning { message } => format!("{}: {message}", paint("warning", "33", has_color)),
        Event::Draining => "nothing new is started; running jobs finish (interrupt again to stop them at a checkpoint)".into(),
        Event::Stopping => "running jobs stop at their next checkpoint (interrupt again to end at once)".into(),
        Event::Interrupted { .. } if verbosity > Verbosity::Quiet => format!("interrupted: {label}"),
        Event::Started { attempt, .. } if is_verbose && *attempt == 1 => format!("started: {label}"),
        Event::Started { attempt, .. } if is_verbose => format!("started: {label} (attempt {attempt})"),
        Event::Finished { wall_s, .. } if is_verbose => format!("finished: {label} in {wall_s:.2} s"),
        Event::Adopted { job } if is_verbose => format!("finished elsewhere: job {job}"),
        Event::Blocked { job, by } if is_verbose => format!("blocked: job {job} needs job {by}, which failed"),
        _ => return None,
    })
}

fn paint(text: &str, code: &str, has_color: bool) -> String {
    if has_color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
