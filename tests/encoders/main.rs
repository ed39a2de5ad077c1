//! Image encoders by name: what they cost, how their keys merge, and what is refused of them.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/encoder_cost.rs"]
mod encoder_cost;

#[path = "../near/mod.rs"]
mod near;

mod costs;
mod keys;
mod programs;
mod slip;
mod timm;
