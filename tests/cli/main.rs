//! The real program, as a user calls it.

mod adopt;
mod advise;
mod check;
mod milestones;
mod place;
mod probe;
mod program;
mod report;
mod several;
