//! Every CUDA kernel, compiled for the CPU, and whole recorded steps, compared with the CPU trainer.
//!
//! The checks are those that `gpu-check` makes on a GPU (`src/trainer/check`). Needs a C++ compiler (`c++`, or the one that `CXX`
//! names); prints a line and passes where there is none. Each case runs under several orders of threads, so that a missing
//! barrier shows; `SCALEDOWN_EMU_ASAN=1` (set by `.ci/run`) compiles with the address sanitizer, which needs its library preloaded.

mod device;
mod harness;
mod kernels;
mod readers;
mod step;
