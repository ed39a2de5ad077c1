//! Records to tables: mean, standard deviation, n over seeds. Pure.

mod label;
mod spec;

pub use label::{Label, OneOrMany, amount, same_label, sort_labels};
pub use spec::TableSpec;
