use super::{SwinBlock, SwinShape};
use crate::Activation;
use crate::mlp::MapInit;
use crate::op::{Op, Read};
use crate::params::{Init, ParamList};
use crate::testing::chain::{BLOCK, Batch, Chain};
use crate::testing::random;

fn shape((side, window, shift): (usize, usize, usize), width: usize, heads: usize) -> SwinShape {
    let init = MapInit { weight: Init::Normal { std: 0.02 }, bias: Init::Constant(0.0) };
    let (activation, table) = (Activation::Gelu, Init::Normal { std: 0.02 });
    SwinShape { side, window, shift, width, heads, mlp_width: 4 * width, activation, eps: 1e-5, init, table }
}

fn chain(shape: SwinShape) -> Chain {
    let mut params = ParamList::default();
    let block = SwinBlock::describe(&mut params, "layers.0.blocks.0", shape);
    Chain::of(block, params)
}

#[test]
fn rows_agree_with_the_f64_form_in_windows_of_any_side_and_shift() {
    let maps = [(2, 2, 0), (4, 4, 0), (4, 2, 1), (8, 4, 0), (8, 4, 2), (8, 4, 3), (6, 3, 1), (14, 7, 3), (12, 12, 0)];
    for map in maps {
        for (width, heads) in [(6, 2), (24, 1), (16, 2)] {
            let shape = shape(map, width, heads);
            let x = random(5, 3 * map.0 * map.0 * width);
            let batch = Batch { x: Read::Rows(&x), samples: 3, columns: width };
            chain(shape).check(&format!("{map:?} {width} {heads}"), batch, BLOCK);
        }
    }
}

#[test]
fn gradients_of_the_f64_form_are_slopes() {
    chain(shape((4, 2, 1), 4, 2)).check_slopes("shifted", &random(6, 64), 4);
    chain(shape((2, 2, 0), 4, 1)).check_slopes("one window", &random(7, 16), 4);
}

#[test]
fn a_small_map_is_one_window_and_odd_blocks_are_shifted() {
    assert_eq!(SwinShape::window_and_shift(16, 4, 0), (4, 0));
    assert_eq!(SwinShape::window_and_shift(16, 4, 1), (4, 2));
    assert_eq!(SwinShape::window_and_shift(4, 4, 1), (4, 0));
    assert_eq!(SwinShape::window_and_shift(2, 4, 1), (2, 0));
    assert_eq!(SwinShape::window_and_shift(14, 7, 3), (7, 3));
}

#[test]
fn cost_is_that_of_the_formula() {
    let (sides, windows) = ([16, 8, 4, 2], [4, 4, 4, 2]);
    for stage in 0..4 {
        let width = 24 << stage;
        let block =
            SwinBlock::describe(&mut ParamList::default(), "b", shape((sides[stage], windows[stage], 0), width, 1 << stage));
        let (p, w) = (sides[stage] * sides[stage], windows[stage]);
        assert_eq!(block.shape().macs, (p * (12 * width * width + 2 * w * w * width)) as u64);
    }
}
