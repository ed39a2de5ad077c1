//! A linear map of every row as an op of a program: y = x W (+ b).

mod cpu;
mod reference;

use crate::op::{Cpu, Op, OpShape, Oracle};
use crate::params::ParamIdx;

/// A linear map and where its parameters are.
#[derive(Debug, Clone)]
pub struct LinearMap {
    /// Rows of a sample.
    pub rows: usize,
    /// Channels of a row of x.
    pub inputs: usize,
    /// Channels of a row of y.
    pub outputs: usize,
    /// W.
    pub weight: ParamIdx,
    /// b; after `weight` in the flat buffer.
    pub bias: Option<ParamIdx>,
}

impl Op for LinearMap {
    fn shape(&self) -> OpShape {
        let Self { rows, inputs, outputs, .. } = *self;
        OpShape::new((rows, outputs), &[], rows * inputs * outputs)
    }
    fn cpu(&self) -> Cpu<'_> {
        Cpu::Rows(self)
    }
    fn reference(&self) -> Oracle<'_> {
        Oracle::Sample(self)
    }
    fn params(&self) -> Vec<ParamIdx> {
        std::iter::once(self.weight).chain(self.bias).collect()
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
        for (rows, inputs, outputs, layout, has_bias) in [
            (1, 5, 3, WeightLayout::OutIn, true),
            (1, 24, 20, WeightLayout::OutIn, false),
            (3, 7, 9, WeightLayout::InOut, true),
            (2, 16, 40, WeightLayout::InOut, false),
        ] {
            let mut params = ParamList::default();
            let shape = if layout == WeightLayout::OutIn { [outputs, inputs] } else { [inputs, outputs] };
            let weight = params.linear("w".into(), &shape, 1, LinearShape { inputs, outputs, layout }, Init::Normal { std: 0.3 });
            let bias = has_bias.then(|| params.vector("b".into(), outputs, Init::Normal { std: 0.3 }));
            let map = LinearMap { rows, inputs, outputs, weight, bias };
            check(&map, &params.finish(), Given::Rows(rows, inputs), 5);
        }
    }
}
