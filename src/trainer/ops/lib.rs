//! Operations on rows of f32: forward and backward, each checked against a plain loop in f64.
//!
//! Owns the arithmetic of the trainer: fast rows for the CPU, f64 loops as their reference, launches for a GPU. An op takes
//! slices (row-major) and writes slices; it knows no tape, no program and no thread: everything here runs on the calling thread,
//! and callers are parallel over samples. The exceptions are [`contrastive`] and [`batch_norm::op`], which hand independent slabs to
//! the caller's [`ParallelFor`]. The ops that a program calls ([`patch_embed`], [`token_embed`], [`transformer`], [`token_pool`],
//! [`project`], [`mixer_block`], [`swin_block`], [`patch_merge`], [`conv_stem`], [`downsample`], [`convnext_block`], [`map_pool`],
//! [`pixels`], [`conv::op`], [`batch_norm::op`], [`group_norm::op`], [`pool2d::op`], [`linear_map`]) are made of the others; they read
//! parameters by index ([`params`]), work on chunks of samples ([`op`]) and are recorded for a GPU ([`recorder`]).
//!
//! A crate of its own, so that debug builds optimise it and nothing else: tests train models. Seen from the program it is
//! `trainer::ops`.
//!
//! Conventions, for all ops:
//! - outputs and gradients of inputs are overwritten, gradients of parameters are added to, unless an argument says otherwise;
//! - nothing is allocated in steady state: temporary memory comes from a per-thread [`Scratch`];
//! - lengths that do not fit each other are a bug of the caller and panic at the op's door, before any row is touched.

pub mod activation;
pub mod adafactor;
pub mod adamw;
pub mod attention;
pub mod batch_norm;
pub mod contrastive;
pub mod conv;
pub mod conv_stem;
pub mod convnext_block;
pub mod depthwise;
pub mod downsample;
pub mod elementwise;
pub mod embedding;
mod factor_view;
#[cfg(test)]
mod fixtures;
pub mod flat;
pub mod group_norm;
pub mod kernels;
pub mod launch;
pub mod layer_norm;
pub mod linear;
pub mod linear_map;
pub mod loss;
pub mod map_pool;
pub mod mixer_block;
pub mod mlp;
pub mod normalize;
pub mod op;
pub mod params;
pub mod patch_embed;
pub mod patch_merge;
pub mod patchify;
pub mod pixels;
pub mod pool2d;
pub mod product;
pub mod product_f64;
pub mod project;
pub mod recorder;
pub mod reference;
mod scratch;
mod simd;
pub mod swin_block;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod timm;
pub mod token_embed;
pub mod token_pool;
pub mod transformer;

pub use scratch::{AlignedFloats, Scratch};

/// The instructions that this process computes with: `avx512+amx`, `avx512` or `avx2` on x86, `neon` on 64-bit
/// Arm, else `portable`.
#[must_use]
pub fn instructions() -> &'static str {
    simd::path().name()
}

/// Makes this process compute with the named [`instructions`], once and before anything was computed; later calls change nothing.
///
/// # Errors
/// Where this CPU does not have them: the names of those that it has, the best first.
pub fn choose_instructions(name: &str) -> Result<(), Vec<&'static str>> {
    simd::choose(name)
}

/// Activation function of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x * Phi(x), by the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// x * sigmoid(1.702 x), as OpenAI's CLIP.
    QuickGelu,
}

/// How a weight matrix lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[outputs, inputs]`: y = x Wᵀ, as PyTorch's `Linear`.
    OutIn,
    /// `[inputs, outputs]`: y = x W, as CLIP's projections.
    InOut,
}

/// What happens to the previous contents of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulation {
    /// They are replaced.
    Overwrite,
    /// The gradient is added to them.
    Add,
}

/// Runs independent jobs on the caller's threads.
///
/// Jobs may run in any order and on any thread; an op that uses this gives the same bytes whatever the order.
pub trait ParallelFor {
    /// Calls `job(i, scratch)` once for every `i` in `0..jobs`, each with the scratch of the thread it runs on, and returns
    /// when all are done.
    fn for_each(&self, jobs: usize, job: &(dyn Fn(usize, &mut Scratch) + Sync));
}

/// Runs jobs one after another on the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sequential;

impl ParallelFor for Sequential {
    fn for_each(&self, jobs: usize, job: &(dyn Fn(usize, &mut Scratch) + Sync)) {
        let mut scratch = Scratch::new();
        for i in 0..jobs {
            job(i, &mut scratch);
        }
    }
}
