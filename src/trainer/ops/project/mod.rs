//! A pooled row to a feature: a product without bias, then L2 normalisation.
//!
//! Saved: the feature and its length before it was normalised.

mod cpu;
mod reference;

use crate::op::{Op, OpShape, Reference, Rows};
use crate::params::ParamIdx;

/// A projection and where its weight is.
#[derive(Debug, Clone)]
pub struct Project {
    /// Channels of the pooled row (C).
    pub width: usize,
    /// Output width (E).
    pub embed_dim: usize,
    /// A linear map from C to E, in either layout.
    pub weight: ParamIdx,
}

impl Op for Project {
    fn shape(&self) -> OpShape {
        let saved = [("feature", 1, self.embed_dim), ("norm", 1, 1)];
        OpShape::new((1, self.embed_dim), &saved, self.width * self.embed_dim)
    }
    fn cpu(&self) -> &dyn Rows {
        self
    }
    fn reference(&self) -> &dyn Reference {
        self
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
