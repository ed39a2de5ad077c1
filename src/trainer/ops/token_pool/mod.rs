//! Tokens to one row: final norm, then pooling.
//!
//! Only the tokens that pooling reads are normed: one for a class token or the end of text, all for the mean.

mod cpu;
mod cuda;
mod reference;

use crate::layer_norm;
use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::ParamIdx;
use crate::recorder::{Record, Refusal};

/// Which tokens are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooled {
    /// The first (class) token.
    First,
    /// The mean of all.
    Mean,
    /// The token at the caption's end-of-text position.
    EndOfText,
}

/// A pooling and where its parameters are.
#[derive(Debug, Clone)]
pub struct TokenPool {
    /// Tokens a sample (T).
    pub tokens: usize,
    /// Channels (C).
    pub width: usize,
    /// Pooling.
    pub pooling: Pooled,
    /// Added to the norm's variance.
    pub eps: f32,
    /// Gain of the final norm.
    pub gain: ParamIdx,
    /// Bias of the final norm.
    pub bias: ParamIdx,
}

impl TokenPool {
    fn pooled_tokens(&self) -> usize {
        if self.pooling == Pooled::Mean { self.tokens } else { 1 }
    }
}

impl Op for TokenPool {
    fn shape(&self) -> OpShape {
        let rows = self.pooled_tokens();
        OpShape::new((1, self.width), &[("mean", rows, 1), ("rstd", rows, 1)], 0)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.gain, self.bias]
    }
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        layer_norm::cuda::check(self.width)?;
        // The kernels have one eps.
        if self.eps.to_bits() != layer_norm::EPS.to_bits() {
            return Err(Refusal::NoForm);
        }
        Ok(self)
    }
}
