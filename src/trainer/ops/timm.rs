//! A tiny `MlpMixer`, a tiny `SwinTransformer` and SLIP's loss against what timm and PyTorch recorded.
//!
//! `tests/fixtures/timm_swin_mixer/make.py` says what was recorded and how; names of parameters are timm's.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::contrastive::nt_xent::{self, NtXent};
use crate::linear::LinearShape;
use crate::mixer_block::{MixerBlock, MixerShape};
use crate::mlp::{MapInit, describe_map, describe_norm};
use crate::op::{Op, Read};
use crate::params::{Init, ParamList};
use crate::patch_embed::PatchEmbed;
use crate::patch_merge::PatchMerge;
use crate::patchify::PatchShape;
use crate::project::Project;
use crate::simd::tests::on_every_path;
use crate::swin_block::{SwinBlock, SwinShape};
use crate::testing::chain::{Batch, Chain};
use crate::testing::widen;
use crate::token_pool::{Pooled, TokenPool};
use crate::{Activation, Sequential, WeightLayout};

const START: Init = Init::Constant(0.0);
const MAPS: MapInit = MapInit { weight: START, bias: START };
const BATCH: usize = 3;
const EMBED: usize = 10;

struct Recorded(Vec<u8>);

impl Recorded {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/timm_swin_mixer/small.safetensors");
        Self(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).expect("the fixture is a safetensors file")
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Vec<u8> {
        let file = self.file();
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name, Dtype::F32);
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
    }

    /// Ops with the recorded parameters; every recorded parameter of `kind` has its place.
    fn chain(&self, kind: &str, ops: Vec<Box<dyn Op>>, params: ParamList) -> Chain {
        let mut chain = Chain::new(ops, params);
        for view in &chain.views {
            let values = self.floats(&format!("{kind}.state.{}", view.name));
            chain.flat[view.range()].copy_from_slice(&values);
        }
        let prefix = format!("{kind}.state.");
        let recorded = self.file().names().into_iter().filter(|name| name.starts_with(&prefix)).count();
        assert_eq!(recorded, chain.views.len(), "parameters of {kind}");
        chain
    }

    /// Features and gradients of both forms, on every path.
    fn compare(&self, kind: &str, chain: &Chain, batch: Batch) {
        let upstream = self.floats(&format!("{kind}.upstream"));
        let check = |form: &str, y: &[f64], grad_x: &[f64], grads: &[f64]| {
            self.close(&format!("{kind}.features"), form, y);
            if matches!(batch.x, Read::Rows(_)) {
                self.close(&format!("{kind}.grad.x"), form, grad_x);
            }
            for view in &chain.views {
                self.close(&format!("{kind}.grad.{}", view.name), form, &grads[view.range()]);
            }
        };
        let plain = chain.plain(batch, &upstream);
        check("f64", &plain.y, &plain.grad_x, &plain.grads);
        on_every_path(|path| {
            let fast = chain.fast(batch, &upstream, 2);
            check(path, &widen(&fast.y), &widen(&fast.grad_x), &widen(&fast.grads));
        });
    }

    fn close(&self, name: &str, form: &str, found: &[f64]) {
        let expected = widen(&self.floats(name));
        assert_eq!(found.len(), expected.len(), "{name}, {form}");
        let largest = expected.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
        let error = found.iter().zip(&expected).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
        // A bias of tokens moves all channels of a token alike, which every norm after it takes away: its gradient is 0, and what
        // is recorded is rounding.
        let limit = if name.ends_with("mlp_tokens.fc2.bias") { 2e-6 } else { 1e-4 * largest };
        assert!(error <= limit, "{name}, {form}: off by {error:e}, largest {largest:e}");
    }
}

fn head(params: &mut ParamList, tokens: usize, width: usize, eps: f32) -> [Box<dyn Op>; 2] {
    let (gain, bias) = describe_norm(params, "norm", width);
    let shape = LinearShape { inputs: width, outputs: EMBED, layout: WeightLayout::InOut };
    let project = params.linear("head.proj".into(), &[width, EMBED], 1, shape, START);
    let pool = TokenPool { tokens, width, pooling: Pooled::Mean, eps, gain, bias };
    [Box::new(pool), Box::new(Project { width, embed_dim: EMBED, weight: project })]
}

#[test]
fn an_mlp_mixer_gives_the_features_and_gradients_of_timm() {
    let (recorded, mut params) = (Recorded::read(), ParamList::default());
    let shape = PatchShape { image_size: 16, patch_size: 4, mean: [0.5, 0.4, 0.45], std: [0.25, 0.3, 0.2] };
    let (weight, bias) = describe_map(&mut params, "stem.proj", (48, 12), MAPS);
    let stem = PatchEmbed {
        shape,
        width: 12,
        patches: 16,
        kept: 16,
        weight,
        bias: Some(bias),
        class_token: None,
        positions: None,
        norm: None,
    };
    let mut ops: Vec<Box<dyn Op>> = vec![Box::new(stem)];
    let block = MixerShape {
        tokens: 16,
        width: 12,
        token_hidden: 9,
        mlp_width: 48,
        activation: Activation::Gelu,
        eps: 1e-6,
        token_init: [MAPS; 2],
        init: [MAPS; 2],
    };
    for layer in 0..2 {
        ops.push(Box::new(MixerBlock::describe(&mut params, &format!("blocks.{layer}"), block)));
    }
    ops.extend(head(&mut params, 16, 12, 1e-6));
    let chain = recorded.chain("mixer", ops, params);
    let images = recorded.bytes("mixer.images", Dtype::U8);
    recorded.compare("mixer", &chain, Batch { x: Read::Bytes(&images), samples: BATCH, columns: 0 });
}

#[test]
fn a_swin_transformer_gives_the_features_and_gradients_of_timm() {
    let (recorded, mut params) = (Recorded::read(), ParamList::default());
    let mut ops: Vec<Box<dyn Op>> = Vec::new();
    for (stage, (blocks, heads)) in [(2, 1), (2, 2), (1, 4)].into_iter().enumerate() {
        let (side, width) = (8 >> stage, 6 << stage);
        if stage > 0 {
            let name = format!("layers.{stage}.downsample");
            ops.push(Box::new(PatchMerge::describe(&mut params, &name, (2 * side, width / 2), 1e-5, START)));
        }
        for block in 0..blocks {
            let (window, shift) = SwinShape::window_and_shift(side, 4, block);
            let (activation, mlp_width) = (Activation::Gelu, 4 * width);
            let shape = SwinShape { side, window, shift, width, heads, mlp_width, activation, eps: 1e-5, init: MAPS, table: START };
            ops.push(Box::new(SwinBlock::describe(&mut params, &format!("layers.{stage}.blocks.{block}"), shape)));
        }
    }
    ops.extend(head(&mut params, 4, 24, 1e-5));
    let chain = recorded.chain("swin", ops, params);
    let x = recorded.floats("swin.x");
    recorded.compare("swin", &chain, Batch { x: Read::Rows(&x), samples: BATCH, columns: 6 });
}

#[test]
fn nt_xent_gives_the_loss_and_gradients_of_slip() {
    let recorded = Recorded::read();
    let (a, b) = (recorded.floats("nt_xent.a"), recorded.floats("nt_xent.b"));
    let shape = NtXent { batch: a.len() / EMBED, width: EMBED, temperature: 0.1 };
    on_every_path(|path| {
        let (mut grad_a, mut grad_b) = (vec![f32::NAN; a.len()], vec![f32::NAN; b.len()]);
        let loss = nt_xent::forward_backward(&shape, &a, &b, &mut grad_a, &mut grad_b, &Sequential);
        recorded.close("nt_xent.loss", path, &[loss]);
        recorded.close("nt_xent.grad.a", path, &widen(&grad_a));
        recorded.close("nt_xent.grad.b", path, &widen(&grad_b));
    });
}
