use super::PatchEmbed;
use crate::WeightLayout;
use crate::linear::LinearShape;
use crate::mlp::describe_norm;
use crate::op::Read;
use crate::params::{Init, Matrix, ParamList};
use crate::patchify::PatchShape;
use crate::testing::chain::{BLOCK, Batch, Chain};
use crate::testing::random;

/// What an embedding has beside its weight.
#[derive(Debug, Clone, Copy)]
struct Parts {
    bias: bool,
    class_token: bool,
    positions: bool,
    norm: bool,
}

fn chain(width: usize, parts: Parts) -> Chain {
    let (start, mut params) = (Init::Constant(0.0), ParamList::default());
    let shape = PatchShape { image_size: 6, patch_size: 2, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.25] };
    let patches = shape.patches();
    let class_token = parts.class_token.then(|| params.vector("class".into(), width, start));
    let rows = patches + usize::from(parts.class_token);
    let matrix = Matrix { count: 1, rows, columns: width };
    let positions = parts.positions.then(|| params.param("positions".into(), &[rows, width], matrix, start, false));
    let linear = LinearShape { inputs: 12, outputs: width, layout: WeightLayout::OutIn };
    let weight = params.linear("proj.weight".into(), &[width, 3, 2, 2], 1, linear, start);
    let bias = parts.bias.then(|| params.vector("proj.bias".into(), width, start));
    let norm = parts.norm.then(|| describe_norm(&mut params, "norm", width));
    Chain::of(PatchEmbed { shape, width, patches, kept: patches, weight, bias, class_token, positions, norm }, params)
}

#[test]
fn rows_agree_with_the_f64_form_with_and_without_every_part() {
    let pixels: Vec<u8> = random(4, 3 * 6 * 6 * 3).iter().map(|v| (127.0 + 127.0 * v) as u8).collect();
    for which in 0..16 {
        let has = |bit: u32| which >> bit & 1 == 1;
        let parts = Parts { bias: has(0), class_token: has(1), positions: has(2), norm: has(3) };
        for width in [5, 16] {
            let batch = Batch { x: Read::Bytes(&pixels), samples: 3, columns: 0 };
            chain(width, parts).check(&format!("{parts:?} {width}"), batch, BLOCK);
        }
    }
}
