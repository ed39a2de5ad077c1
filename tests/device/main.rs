//! The GPU backend behind stand-in CUDA libraries that compute on the CPU: its host side alone, and the whole program. It says
//! nothing about a GPU's own arithmetic or timing.
//!
//! The stand-ins (`standin.c`) are compiled at test time and must be in place before a process starts, so tests run children with
//! LD_LIBRARY_PATH set; they print a line and pass without a C and a C++ compiler.

mod calls;
mod host;
mod program;
mod standins;
