//! What the user wrote; the only room that knows YAML.
mod brace;
mod diagnostic;
mod parse;
mod scalar;
mod source;
mod tree;
mod types;
