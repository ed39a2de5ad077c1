use super::PatchMerge;
use crate::op::{Op, Read};
use crate::params::{Init, ParamList};
use crate::testing::chain::{BLOCK, Batch, Chain};
use crate::testing::random;

fn chain(side: usize, width: usize) -> Chain {
    let mut params = ParamList::default();
    let merge = PatchMerge::describe(&mut params, "layers.1.downsample", (side, width), 1e-5, Init::Normal { std: 0.02 });
    Chain::of(merge, params)
}

#[test]
fn rows_agree_with_the_f64_form() {
    for (side, width) in [(2, 1), (2, 5), (4, 3), (6, 8), (16, 24)] {
        let x = random(5, 3 * side * side * width);
        let batch = Batch { x: Read::Rows(&x), samples: 3, columns: width };
        chain(side, width).check(&format!("{side} {width}"), batch, BLOCK);
    }
}

#[test]
fn gradients_of_the_f64_form_are_slopes() {
    chain(4, 3).check_slopes("merging", &random(6, 48), 3);
}

#[test]
fn cost_is_that_of_the_product() {
    let merge = PatchMerge::describe(&mut ParamList::default(), "m", (16, 24), 1e-5, Init::Constant(0.0));
    assert_eq!(merge.shape().macs, 64 * 8 * 24 * 24);
}
