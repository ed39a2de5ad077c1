//! The second half of a pre-norm block, on rows: y = m + fc2(f(fc1(norm(m)))).
//!
//! Not an op: blocks that end with it call it from theirs. Of a call are kept m, the pre-activation and the norm's statistics;
//! the norm's output and the activation are recomputed in backward.

mod cpu;
pub(crate) mod reference;

pub(crate) use cpu::{Kept, Room, weight_grad};

use crate::linear::LinearShape;
use crate::params::{Init, ParamIdx, ParamList};
use crate::{Activation, WeightLayout};

/// An MLP and where its parameters are.
#[derive(Debug, Clone, Copy)]
pub struct Mlp {
    /// Channels (C).
    pub width: usize,
    /// Hidden channels.
    pub hidden: usize,
    /// Between the two maps.
    pub activation: Activation,
    /// Added to the norm's variance.
    pub eps: f32,
    /// Norm before the first map: gain, bias.
    pub norm: (ParamIdx, ParamIdx),
    /// First map: weight [M, C], bias.
    pub fc1: (ParamIdx, ParamIdx),
    /// Second map: weight [C, M], bias.
    pub fc2: (ParamIdx, ParamIdx),
}

/// How the weights and the biases of a pair of maps start.
#[derive(Debug, Clone, Copy)]
pub struct MapInit {
    /// Of a weight.
    pub weight: Init,
    /// Of a bias.
    pub bias: Init,
}

impl Mlp {
    /// Adds the parameters: a norm and two maps under their names.
    pub(crate) fn describe(
        params: &mut ParamList,
        (norm, maps): (&str, &str),
        (width, hidden): (usize, usize),
        (activation, eps): (Activation, f32),
        init: [MapInit; 2],
    ) -> Self {
        Self {
            width,
            hidden,
            activation,
            eps,
            norm: describe_norm(params, norm, width),
            fc1: describe_map(params, &format!("{maps}.fc1"), (width, hidden), init[0]),
            fc2: describe_map(params, &format!("{maps}.fc2"), (hidden, width), init[1]),
        }
    }

    /// Forward multiply-accumulates of a row.
    #[must_use]
    pub fn macs(&self) -> usize {
        2 * self.width * self.hidden
    }
}

/// Adds the gain and the bias of a norm.
pub(crate) fn describe_norm(params: &mut ParamList, name: &str, width: usize) -> (ParamIdx, ParamIdx) {
    let gain = params.vector(format!("{name}.weight"), width, Init::Constant(1.0));
    (gain, params.vector(format!("{name}.bias"), width, Init::Constant(0.0)))
}

/// Adds the weight [outputs, inputs] and the bias of a linear map.
pub(crate) fn describe_map(
    params: &mut ParamList,
    name: &str,
    (inputs, outputs): (usize, usize),
    init: MapInit,
) -> (ParamIdx, ParamIdx) {
    let linear = LinearShape { inputs, outputs, layout: WeightLayout::OutIn };
    let weight = params.linear(format!("{name}.weight"), &[outputs, inputs], 1, linear, init.weight);
    (weight, params.vector(format!("{name}.bias"), outputs, init.bias))
}
