//! Bars on a terminal: one for each running job that shows progress, one line for everything.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Board, Verbosity, notice};
use crate::run::Event;

/// Bars at once; further jobs are in the overall line only.
const MOST_BARS: usize = 16;

pub(super) struct Bars {
    verbosity: Verbosity,
    has_color: bool,
    all: MultiProgress,
    overall: ProgressBar,
    running: HashMap<usize, ProgressBar>,
}

impl Bars {
    pub(super) fn new(verbosity: Verbosity, has_color: bool) -> Self {
        let all = MultiProgress::new();
        let overall = all.add(ProgressBar::new(0).with_style(style(has_color, "cyan")));
        overall.enable_steady_tick(Duration::from_millis(500));
        Self { verbosity, has_color, all, overall, running: HashMap::new() }
    }

    pub(super) fn show(&mut self, event: &Event, label: &str, board: &Board, now: Instant) {
        if let Some(line) = notice(event, label, self.verbosity, self.has_color) {
            // The terminal is gone, and with it the place for an error.
            let _ = self.all.println(line);
        }
        match event {
            Event::Step { job, .. } | Event::Progress { job, .. } => self.advance(*job, board, now),
            Event::Finished { job, .. } | Event::Failed { job, .. } | Event::Interrupted { job } => {
                if let Some(bar) = self.running.remove(job) {
                    bar.finish_and_clear();
                    self.all.remove(&bar);
                }
            }
            _ => {}
        }
        self.overall.set_length(board.jobs as u64);
        self.overall.set_position(board.done as u64);
        self.overall.set_message(board.overall());
    }

    /// A bar is made at the first sign of progress: short jobs never have one.
    fn advance(&mut self, job: usize, board: &Board, now: Instant) {
        let Some((line, done, total)) = board.line_of(job, now) else { return };
        if !self.running.contains_key(&job) {
            if self.running.len() >= MOST_BARS {
                return;
            }
            let bar = ProgressBar::new(total).with_style(style(self.has_color, "green"));
            self.running.insert(job, self.all.insert_before(&self.overall, bar));
        }
        if let Some(bar) = self.running.get(&job) {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(line);
        }
    }

    pub(super) fn finish(&mut self, board: &Board) {
        for (_, bar) in self.running.drain() {
            bar.finish_and_clear();
        }
        self.overall.finish_and_clear();
        let _ = self.all.println(board.overall());
    }
}

fn style(has_color: bool, color: &str) -> ProgressStyle {
    let bar = if has_color { format!("{{bar:24.{color}}}") } else { "{bar:24}".to_owned() };
    let template = format!("{bar} {{percent:>3}} %  {{wide_msg}}");
    ProgressStyle::with_template(&template).expect("the template is well formed").progress_chars("━╸ ")
}
