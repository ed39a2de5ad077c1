//! Operations on rows of f32: forward and backward, each checked against a plain loop in f64.
