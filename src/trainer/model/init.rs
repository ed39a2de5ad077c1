//! Starting values of every parameter, a pure function of the seed.

use super::super::program::{Init, Program};
use crate::data::{Philox, Stream};

/// The flat parameter buffer of a fresh model.
///
/// Each view draws from its own place in the seed's `Init` stream, so adding a parameter does not change the others.
#[must_use]
pub fn initial_parameters(program: &Program, seed: u64) -> Vec<f32> {
    let philox = Philox::new(seed, Stream::Init);
    let mut flat = vec![0.0; program.num_params()];
    for view in &program.params {
        let tag = blake3::hash(view.name.as_bytes());
        let bytes = tag.as_bytes();
        let place = u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let values = &mut flat[view.range()];
        match view.init {
            Init::Constant(value) => values.fill(value),
            Init::Normal { std } => fill(values, |idx| {
                #[expect(clippy::cast_possible_truncation, reason = "a parameter is f32")]
                let draw = philox.at(place, idx).normal() as f32;
                draw * std
            }),
            Init::Uniform { bound } => fill(values, |idx| philox.at(place, idx).between(-bound, bound)),
        }
    }
    flat
}

fn fill(values: &mut [f32], draw: impl Fn(u32) -> f32) {
    for (idx, value) in (0_u32..).zip(values) {
        *value = draw(idx);
    }
}
