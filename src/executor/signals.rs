//! Signals to a [`Shutdown`] switch.
//!
//! First Ctrl-C drains, the second stops at the next checkpoint, the third ends the program with 130. `TERM`, `HUP` and
//! `USR2` (which a cluster sends ahead of a time limit) stop at the next checkpoint at once. `XFSZ` is caught so that a
//! file over the limit is an error with a path instead of the end of the program.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::{Shutdown, Stage};

/// Exit code of a program that was interrupted.
pub const EXIT_INTERRUPTED: i32 = 130;

static LAST: AtomicI32 = AtomicI32::new(0);

/// Lets signals move the switch from now on.
///
/// # Errors
/// The system refuses a handler or a thread.
pub fn install(shutdown: &Shutdown) -> io::Result<()> {
    survive_file_limit()?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2])?;
    let shutdown = shutdown.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            LAST.store(signal, Ordering::Release);
            if signal == SIGINT {
                if shutdown.interrupt() == Stage::Aborting {
                    std::process::exit(EXIT_INTERRUPTED);
                }
            } else {
                shutdown.request(Stage::Stopping);
            }
        }
    })?;
    Ok(())
}

/// Makes a write over the file size limit fail with an error, where the default is to end the program.
///
/// # Errors
/// The system refuses the handler.
pub fn survive_file_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// Whether the last signal came from a machine that wants its place back (`TERM`, `USR2`, `HUP`) rather than from a person:
/// then the exit code asks for requeueing.
#[must_use]
pub fn asked_to_leave() -> bool {
    matches!(LAST.load(Ordering::Acquire), SIGTERM | SIGUSR2 | SIGHUP)
}
