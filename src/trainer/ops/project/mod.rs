//! A pooled row to a feature: a linear map without a bias, then L2 normalisation.

mod cpu;
mod cuda;
mod reference;

use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::ParamIdx;
use crate::recorder::{Record, Refusal};

/// A projection and where its parameter is.
#[derive(Debug, Clone)]
pub struct Project {
    /// Channels (C).
    pub width: usize,
    /// Output width (E).
    pub embed_dim: usize,
    /// The linear map from C to E.
    pub weight: ParamIdx,
}

impl Op for Project {
    fn shape(&self) -> OpShape {
        OpShape::new((1, self.embed_dim), &[("feature", 1, self.embed_dim), ("norm", 1, 1)], self.width * self.embed_dim)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.weight]
    }
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        Ok(self)
    }
}
