//! The GPU backend: recorded nodes run on a [`device`] as one CUDA graph.
//!
//! Input: nodes on numbered buffers. [`libraries`] finds the driver, NVRTC and cuBLASLt when they are asked for, so that one
//! binary runs with and without a GPU; [`compile`] turns kernel files into machine code, kept in a [`cache`]; [`driver`] is the
//! device itself.
//!
//! Invariant: nothing here panics for lack of CUDA; what is missing is one typed error with a hint. Must not know an experiment
//! file, a schedule, a terminal.

pub mod cache;
pub mod compile;
pub mod device;
pub mod devices;
pub mod driver;
mod kernels;
pub mod libraries;
mod products;
mod replay;
mod ring;
mod shape;
mod tune;

use crate::trainer::ops::{self, launch::Module};

/// Every kernel file.
pub const MODULES: [Module; 2] = [ops::activation::cuda::MODULE, ops::bias::cuda::MODULE];
