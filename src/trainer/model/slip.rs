//! SLIP's self-supervised part: the image encoder on two more views, a projection head, NT-Xent.
//!
//! Each view is a repetition of the encoder's calls with the same parameters, so that a batch norm sees one view at a time, as in
//! SLIP's own code. The head's parameters and running statistics come last: those before them are the model's own.
//!
//! **Source** Mu et al. 2021, `models.py` of their repository: linear, batch norm, ReLU, twice, then linear, on the feature before the
//! projection; parameter names are theirs. **Differs** the running statistics, which no evaluation reads, move once a step by the mean
//! over both views, there twice, view by view.

use super::super::ops::WeightLayout;
use super::super::ops::batch_norm::op::{BatchNorm, BatchNormShape};
use super::super::ops::contrastive::NtXentLoss;
use super::super::ops::linear::LinearShape;
use super::super::ops::linear_map::LinearMap;
use super::super::program::{Init, ProgramBuilder, SlotIdx, Tower};
use super::vit::inverse_root;
use crate::run::SslConfig;

/// PyTorch's default of batch norm.
const EPS: f32 = 1e-5;

/// Adds both views, the head and the loss; `pooled` is the slot of view 0 before its projection.
pub(super) fn describe(builder: &mut ProgramBuilder, ssl: &SslConfig, pooled: SlotIdx) {
    let views = [1, 2].map(|view| builder.repeat(pooled, view));
    let width = builder.channels(pooled);
    let layers = [(width, ssl.hidden), (ssl.hidden, ssl.hidden), (ssl.hidden, ssl.out)];
    let mut rows = views;
    for (idx, (inputs, outputs)) in layers.into_iter().enumerate() {
        let layer = idx + 1;
        let map = linear(builder, &format!("image_mlp.layer{layer}"), inputs, outputs);
        let norm = (layer < layers.len()).then(|| {
            let shape = BatchNormShape { pixels: 1, width: outputs, group: ssl.bn_group, eps: EPS, relu: true };
            BatchNorm::describe(&mut builder.params, &mut builder.state, &format!("image_mlp.bn{layer}"), shape, 1.0)
        });
        for (row, view) in rows.iter_mut().zip([1, 2]) {
            *row = builder.call(format!("image.view{view}.layer{layer}"), Tower::Image, map.clone(), &[*row]);
            if let Some(norm) = norm {
                *row = builder.call(format!("image.view{view}.bn{layer}"), Tower::Image, norm, &[*row]);
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "a temperature is used in f32")]
    let temperature = ssl.temperature as f32;
    builder.loss("nt_xent", ssl.weight, NtXentLoss { width: ssl.out, temperature }, &rows);
}

/// A linear map with PyTorch's default start.
fn linear(builder: &mut ProgramBuilder, name: &str, inputs: usize, outputs: usize) -> LinearMap {
    let (init, shape) =
        (Init::Uniform { bound: inverse_root(inputs) }, LinearShape { inputs, outputs, layout: WeightLayout::OutIn });
    let weight = builder.params.linear(format!("{name}.weight"), &[outputs, inputs], 1, shape, init);
    let bias = builder.params.vector(format!("{name}.bias"), outputs, init);
    LinearMap { rows: 1, inputs, outputs, weight, bias: Some(bias) }
}
