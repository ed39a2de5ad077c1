//! Every CUDA kernel, compiled for the CPU, and whole recorded steps, compared with the CPU trainer.
//!
//! The checks are those that `gpu-check` makes on a GPU (`src/trainer/check`). Needs a C++ compiler (`c++`, or the one that `CXX`
//! names); prints a line and passes where there is none. Each case runs under several orders of threads, so that a missing
//! barrier shows. `.ci/run` makes two more passes: `SCALEDOWN_EMU_NOISE=1` lets multiplications and additions contract, as NVRTC
//! does, and puts powers of two and reciprocals up to two units in the last place off; `SCALEDOWN_EMU_ASAN=1` compiles with the
//! address sanitizer, which needs its library preloaded.

mod device;
mod harness;
mod kernels;
mod readers;
mod step;
