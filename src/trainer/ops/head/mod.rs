//! Tokens to a feature: final norm, pooling, projection, L2 normalisation.
//!
//! Only the tokens that pooling reads are normed: one for a class token or the end of text, all for the mean.

mod cpu;
mod cuda;
mod reference;

use crate::layer_norm;
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::ParamIdx;
use crate::recorder::{Record, Refusal};

/// Which tokens become the feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPooling {
    /// The first (class) token.
    First,
    /// The mean of all.
    Mean,
    /// The token at the caption's end-of-text position.
    EndOfText,
}

/// A head and where its parameters are.
#[derive(Debug, Clone)]
pub struct Head {
    /// Tokens a sample (T).
    pub tokens: usize,
    /// Channels (C).
    pub width: usize,
    /// Output width (E).
    pub embed_dim: usize,
    /// Pooling.
    pub pooling: HeadPooling,
    /// Gain of the final norm.
    pub gain: ParamIdx,
    /// Bias of the final norm.
    pub bias: ParamIdx,
    /// [C, E].
    pub project: ParamIdx,
}

impl Head {
    fn pooled_tokens(&self) -> usize {
        if self.pooling == HeadPooling::Mean { self.tokens } else { 1 }
    }
}

impl Op for Head {
    fn shape(&self) -> OpShape {
        let rows = self.pooled_tokens();
        let saved =
            [("mean", rows, 1), ("rstd", rows, 1), ("pooled", 1, self.width), ("feature", 1, self.embed_dim), ("norm", 1, 1)];
        OpShape::new((1, self.embed_dim), &saved, self.width * self.embed_dim)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.gain, self.bias, self.project]
    }
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        layer_norm::cuda::check(self.width)?;
        Ok(self)
    }
}
