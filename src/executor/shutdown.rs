//! How far the user has asked us to stop: a switch that only moves forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not at all.
    Running,
    /// Start nothing new; running jobs finish.
    Draining,
    /// Running jobs checkpoint at their next step and stop.
    Stopping,
    /// At once.
    Aborting,
}

impl Stage {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Running,
            1 => Self::Draining,
            2 => Self::Stopping,
            _ => Self::Aborting,
        }
    }
}

/// The switch. Clones are one switch: signals, tests and the executor share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stage: Arc<AtomicU8>,
}

impl Shutdown {
    /// A switch at [`Stage::Running`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Ordering::Acquire))
    }

    /// Moves one stage on, as each Ctrl-C does, and says where it stands then.
    pub fn interrupt(&self) -> Stage {
        let before = self
            .stage
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |stage| Some(stage.saturating_add(1).min(Stage::Aborting as u8)))
            .unwrap_or_else(|stage| stage);
        Stage::from_u8(before.saturating_add(1))
    }

    /// Moves to at least this stage. `TERM` asks for [`Stage::Stopping`].
    pub fn request(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_interrupts_drain_stop_and_abort() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert_eq!(shutdown.interrupt(), Stage::Draining);
        assert_eq!(other.interrupt(), Stage::Stopping);
        assert_eq!(shutdown.interrupt(), Stage::Aborting);
        assert_eq!(shutdown.interrupt(), Stage::Aborting);
        assert_eq!(other.stage(), Stage::Aborting);
    }

    #[test]
    fn a_request_never_moves_back() {
        let shutdown = Shutdown::new();
        shutdown.request(Stage::Stopping);
        shutdown.request(Stage::Draining);
        assert_eq!(shutdown.stage(), Stage::Stopping);
    }
}
