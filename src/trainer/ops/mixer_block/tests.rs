use super::{MixerBlock, MixerShape};
use crate::Activation;
use crate::mlp::MapInit;
use crate::op::{Op, Read};
use crate::params::{Init, ParamList};
use crate::testing::chain::{BLOCK, Batch, Chain};
use crate::testing::random;

pub(crate) fn shape(tokens: usize, width: usize, token_hidden: usize, mlp_width: usize) -> MixerShape {
    let init = [MapInit { weight: Init::Normal { std: 0.1 }, bias: Init::Constant(0.0) }; 2];
    MixerShape { tokens, width, token_hidden, mlp_width, activation: Activation::Gelu, eps: 1e-6, token_init: init, init }
}

fn chain(shape: MixerShape) -> Chain {
    let mut params = ParamList::default();
    let block = MixerBlock::describe(&mut params, "blocks.0", shape);
    Chain::of(block, params)
}

#[test]
fn rows_agree_with_the_f64_form_in_any_shape() {
    for (tokens, width, token_hidden, mlp_width) in
        [(1, 3, 2, 5), (5, 7, 3, 9), (16, 32, 24, 128), (16, 20, 13, 40), (49, 24, 12, 50)]
    {
        let x = random(5, 3 * tokens * width);
        let what = format!("{tokens} {width} {token_hidden} {mlp_width}");
        let batch = Batch { x: Read::Rows(&x), samples: 3, columns: width };
        chain(shape(tokens, width, token_hidden, mlp_width)).check(&what, batch, BLOCK);
    }
}

#[test]
fn gradients_of_the_f64_form_are_slopes() {
    chain(shape(3, 4, 5, 6)).check_slopes("mixer", &random(6, 12), 4);
}

#[test]
fn cost_is_that_of_the_products() {
    let block = MixerBlock::describe(&mut ParamList::default(), "b", shape(16, 128, 96, 512));
    assert_eq!(block.shape().macs, (2 * 16 * 96 * 128 + 8 * 16 * 128 * 128) as u64);
}
