//! Shards, packed store, tokenizer, scenes, subsets, sample order. No tensor, no model.
