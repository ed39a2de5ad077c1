//! Files beside the code: what README says, bad experiments and their messages, the paper's claims on its own figures.

#[path = "../support/encoder_cost.rs"]
mod encoder_cost;

mod findings;
mod paper_claims;
mod readme;
mod spec_errors;
