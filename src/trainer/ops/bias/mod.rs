//! The bias of a product whose output is bf16, rounded to bf16 first: cuBLASLt takes a bias of the output's type only.
//!
//! On the CPU a bias needs no op of its own ([`super::linear`] starts its sums from it). It has no backward here: the gradient
//! goes to the f32 bias, as if it had not been rounded, like every parameter that is used in bf16.

pub mod cuda;
