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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WeightLayout;
    use crate::linear::LinearShape;
    use crate::params::{Init, ParamList};
    use crate::testing::op::{Given, check};

    #[test]
    fn rows_agree_with_the_reference_and_the_reference_with_its_slopes() {
        for (inputs, outputs, layout) in [(5, 3, WeightLayout::OutIn), (24, 20, WeightLayout::InOut), (7, 9, WeightLayout::InOut)] {
            let mut params = ParamList::default();
            let shape = if layout == WeightLayout::OutIn { [outputs, inputs] } else { [inputs, outputs] };
            let linear = LinearShape { inputs, outputs, layout };
            let weight = params.linear("proj".into(), &shape, 1, linear, Init::Normal { std: 0.1 });
            check(&Project { width: inputs, embed_dim: outputs, weight }, &params.finish(), Given::Rows(1, inputs), 5);
        }
    }
}
