//! Image encoders by name: what they cost, how their keys merge, and what is refused of them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod costs;
mod keys;
mod programs;
mod slip;
mod timm;
