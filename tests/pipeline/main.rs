//! From runs to finished jobs, with a worker that trains nothing: what is done once, what survives, what stops what.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
mod disk;
mod failures;
#[path = "../support/fake.rs"]
mod fake;
mod kill;
mod resume;
mod two_programs;
