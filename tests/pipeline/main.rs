//! From runs to finished jobs, with a worker that trains nothing: what is done once, what survives, what stops what.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
mod disk;
mod failures;
mod kill;
mod resume;
mod two_programs;
