//! Shards, packed store, tokenizer, scenes, subsets, sample order. No tensor, no model.
mod philox;
pub use philox::{Philox, Stream};
