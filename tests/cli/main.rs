//! The real program, as a user calls it.

mod adopt;
mod check;
mod milestones;
mod place;
mod probe;
mod program;
mod several;
