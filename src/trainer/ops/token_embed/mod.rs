//! Token ids to tokens: a table row and a position each.
//!
//! Its backward runs over the whole batch in sample order, not by lanes: the table is large and each sample touches a few rows.

mod cpu;
mod cuda;
mod reference;

use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::ParamIdx;
use crate::recorder::{Record, Refusal};

/// A token embedding and where its parameters are.
#[derive(Debug, Clone)]
pub struct TokenEmbed {
    /// Height of the table (V).
    pub vocab_size: usize,
    /// Tokens a sample (T).
    pub tokens: usize,
    /// Channels (C).
    pub width: usize,
    /// [V, C].
    pub table: ParamIdx,
    /// [T, C].
    pub positions: ParamIdx,
}

impl Op for TokenEmbed {
    fn shape(&self) -> OpShape {
        OpShape::new((self.tokens, self.width), &[], 0)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.table, self.positions]
    }
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        Ok(self)
    }
    fn summed_whole(&self) -> Vec<ParamIdx> {
        vec![self.table, self.positions]
    }
}
