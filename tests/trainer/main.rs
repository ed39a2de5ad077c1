//! The trainer from outside: image encoders by name, both CPU backends against each other and against `open_clip`, the training loop.

#[path = "../support/encoder_cost.rs"]
mod encoder_cost;

#[path = "../near/mod.rs"]
mod near;

mod encoders;
mod gradients;
mod overfit;
mod reference;
mod training;
