//! Convolutional ops against timm and PyTorch: small random modules, recorded by `tests/fixtures/timm/convolutions.py`.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::batch_norm::op::{BatchNorm, BatchNormShape};
use crate::conv::op::Conv2d;
use crate::conv::{ConvShape, transposed};
use crate::convnext_block::{ConvNextBlock, ConvNextShape};
use crate::downsample::Downsample;
use crate::group_norm::GroupNormShape;
use crate::group_norm::op::GroupNorm;
use crate::linear::LinearShape;
use crate::map_pool::MapPool;
use crate::op::Op;
use crate::op::whole::{Pass, StateList, StateView};
use crate::params::{Init, ParamList, ParamView};
use crate::patchify::PatchShape;
use crate::pool2d::MaxPoolShape;
use crate::pool2d::op::MaxPool;
use crate::project::Project;
use crate::simd::tests::on_every_path;
use crate::testing::graph::{Graph, How, Node, Rows};
use crate::testing::op::{Found, Input, run_rows};
use crate::{Activation, Sequential, WeightLayout, conv_stem};

const EPS: f32 = 1e-6;
const START: Init = Init::Constant(0.0);

struct Recorded(Vec<u8>);

impl Recorded {
    fn open() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/timm/convolutions.safetensors");
        Self(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.0).expect("the fixture is a safetensors file");
        let tensor = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().to_vec()
    }

    fn get(&self, name: &str) -> Vec<f32> {
        self.bytes(name, Dtype::F32).chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// A tensor of a case that belongs to a parameter, as it is stored: `kind` is `state` or `grad`.
    fn of_view(&self, case: &str, kind: &str, view: &ParamView) -> Vec<f32> {
        let name = view.name.strip_prefix(case).expect("parameters are named after their case");
        self.stored(&format!("{case}.{kind}{name}"), &view.shape)
    }

    /// A weight [O, I, k, k] as [O, k, k, I], [C, 1, k, k] as [k, k, C]; the stem's patches are those of PyTorch.
    fn stored(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let values = self.get(name);
        match *shape {
            [channels, 1, height, width] => transposed((1, channels, height * width), &values),
            [outputs, inputs, height, width] if !name.starts_with("stem") => transposed((outputs, inputs, height * width), &values),
            _ => values,
        }
    }

    fn near(&self, what: &str, found: &[f32], name: &str) {
        near(&format!("{what}: {name}"), found, &self.get(name));
    }
}

/// At most 1e-4 of the tensor's largest element away.
fn near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    assert!(largest > 0.0, "{what}: nothing but zeros is recorded");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-4 * largest, "{what}: element {i}: {a} for {b}, largest {largest}");
    }
}

/// Output and every gradient of an op, all samples at once and one by one.
fn check(case: &str, op: &dyn Op, views: &[ParamView], samples: usize) {
    let recorded = Recorded::open();
    let flat: Vec<f32> = views.iter().flat_map(|view| recorded.of_view(case, "state", view)).collect();
    let is_pixels = case == "stem";
    let (rows, bytes) =
        if is_pixels { (vec![], recorded.bytes("stem.x", Dtype::U8)) } else { (recorded.get(&format!("{case}.x")), vec![]) };
    let input = if is_pixels { Input::Bytes(&bytes) } else { Input::Rows(&rows) };
    let upstream = recorded.get(&format!("{case}.upstream"));
    on_every_path(|path| {
        for chunk in [samples, 1] {
            let Found { output, grad_input, grads } = run_rows(op, views, &flat, &input, &upstream, (samples, chunk));
            recorded.near(path, &output, &format!("{case}.y"));
            if !is_pixels {
                recorded.near(path, &grad_input, &format!("{case}.grad.x"));
            }
            for view in views {
                let what = format!("{path}: gradient of {}", view.name);
                near(&what, &grads[view.range()], &recorded.of_view(case, "grad", view));
            }
        }
    });
}

#[test]
fn the_stem_is_that_of_timm() {
    let (mean, std) = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_55, 0.261_302_6, 0.275_777_1]);
    let shape = PatchShape { image_size: 8, patch_size: 2, mean, std };
    let mut params = ParamList::default();
    let op = conv_stem::ConvStem::describe(&mut params, ("stem.0", "stem.1"), shape, 6, EPS, (START, START));
    check("stem", &op, &params.finish(), 2);
}

#[test]
fn the_block_is_that_of_timm() {
    let shape = ConvNextShape {
        side: 4,
        width: 12,
        kernel: 7,
        mlp_width: 48,
        activation: Activation::Gelu,
        eps: EPS,
        weights: START,
        gamma: 1.0,
    };
    let mut params = ParamList::default();
    let op = ConvNextBlock::describe(&mut params, "block", shape);
    check("block", &op, &params.finish(), 2);
}

#[test]
fn the_downsampling_step_is_that_of_timm() {
    let mut params = ParamList::default();
    let op = Downsample::describe(&mut params, "downsample", 8, (6, 10), EPS, START);
    check("downsample", &op, &params.finish(), 2);
}

#[test]
fn pooling_and_projection_are_the_head_of_timm() {
    let recorded = Recorded::open();
    let mut params = ParamList::default();
    let norm = (params.vector("head.norm.weight".into(), 10, START), params.vector("head.norm.bias".into(), 10, START));
    let linear = LinearShape { inputs: 10, outputs: 7, layout: WeightLayout::OutIn };
    let weight = params.linear("head.proj.weight".into(), &[7, 10], 1, linear, START);
    let views = params.finish();
    let flat: Vec<f32> = views.iter().flat_map(|view| recorded.of_view("head", "state", view)).collect();
    let pool = MapPool { pixels: 4, width: 10, norm: Some(norm), eps: EPS };
    let project = Project { width: 10, embed_dim: 7, weight };
    let (x, upstream) = (recorded.get("head.x"), recorded.get("head.upstream"));
    on_every_path(|path| {
        let pooled = run_rows(&pool, &views, &flat, &Input::Rows(&x), &[0.0; 30], (3, 3)).output;
        let found = run_rows(&project, &views, &flat, &Input::Rows(&pooled), &upstream, (3, 3));
        recorded.near(path, &found.output, "head.y");
        recorded.near(path, &found.grads[views[weight].range()], "head.grad.proj.weight");
        let found = run_rows(&pool, &views, &flat, &Input::Rows(&x), &found.grad_input, (3, 3));
        recorded.near(path, &found.grad_input, "head.grad.x");
        recorded.near(path, &found.grads[views[norm.0].range()], "head.grad.norm.weight");
        recorded.near(path, &found.grads[views[norm.1].range()], "head.grad.norm.bias");
    });
}

#[test]
fn the_greatest_of_windows_is_that_of_pytorch() {
    let shape = MaxPoolShape { side: 7, channels: 5, kernel: 3, stride: 2, padding: 1 };
    check("pool", &MaxPool { shape }, &[], 2);
}

/// Output, gradients and state of ops that read `{case}.x`; the output of evaluation by the state after the step, where one is recorded.
fn check_graph(case: &str, mut graph: Graph, samples: usize) {
    let recorded = Recorded::open();
    graph.flat = graph.views.iter().flat_map(|view| recorded.of_view(case, "state", view)).collect();
    let of_state = |kind: &str, view: &StateView| {
        recorded.get(&format!("{case}.{kind}{}", view.name.strip_prefix(case).expect("state is named after its case")))
    };
    let (before, after): (Vec<f32>, Vec<f32>) = {
        let all = |kind: &str| graph.state.iter().flat_map(|view| of_state(kind, view)).collect();
        (all("state"), all("after"))
    };
    let (x, grad_y) = ([recorded.get(&format!("{case}.x"))], recorded.get(&format!("{case}.upstream")));
    let rows = Rows { x: &x, grad_y: &grad_y, samples };
    on_every_path(|path| {
        for chunk in [samples, 1] {
            graph.running.clone_from(&before);
            let how = How { pass: Pass::Gradient, chunk, team: &Sequential };
            let found = graph.fast(rows, how);
            recorded.near(path, &found.y, &format!("{case}.y"));
            recorded.near(path, &found.grad_inputs[0], &format!("{case}.grad.x"));
            for view in &graph.views {
                let what = format!("{path}: gradient of {}", view.name);
                near(&what, &found.grads[view.range()], &recorded.of_view(case, "grad", view));
            }
            for view in &graph.state {
                let moved: Vec<f32> = found.state[view.range()].iter().map(|v| *v as f32).collect();
                near(&format!("{path}: {}", view.name), &moved, &of_state("after", view));
            }
            if !graph.state.is_empty() {
                graph.running.clone_from(&after);
                let found = graph.fast(rows, How { pass: Pass::Evaluate, ..how });
                recorded.near(path, &found.y, &format!("{case}.eval.y"));
            }
        }
    });
}

#[test]
fn a_convolution_with_group_norm_and_relu_is_that_of_pytorch() {
    let mut params = ParamList::default();
    let shape = ConvShape { side: 6, inputs: 5, outputs: 8, kernel: 3, stride: 2, padding: 1 };
    let conv = Conv2d::describe(&mut params, "group.conv", shape, START);
    let shape = GroupNormShape { pixels: 9, channels: 8, groups: 4, eps: 1e-5 };
    let norm = GroupNorm::describe(&mut params, "group.norm", shape, 1.0, true);
    let nodes = vec![Node::new(conv, &[0]), Node::new(norm, &[1])];
    check_graph("group", Graph::new(vec![(36, 5)], nodes, params, StateList::default()), 2);
}

#[test]
fn a_bottleneck_with_batch_norm_is_that_of_timm() {
    let (mut params, mut state) = (ParamList::default(), StateList::default());
    let mut conv = |name: &str, side, inputs, outputs, kernel, stride| {
        let shape = ConvShape { side, inputs, outputs, kernel, stride, padding: kernel / 2 };
        Conv2d::describe(&mut params, &format!("bottleneck.{name}"), shape, START)
    };
    let [conv1, conv2] = [conv("conv1", 6, 8, 4, 1, 1), conv("conv2", 6, 4, 4, 3, 2)];
    let [conv3, short] = [conv("conv3", 3, 4, 16, 1, 1), conv("downsample.0", 6, 8, 16, 1, 2)];
    let mut norm = |name: &str, pixels, width, relu| {
        let shape = BatchNormShape { pixels, width, group: 4, eps: 1e-5, relu };
        BatchNorm::describe(&mut params, &mut state, &format!("bottleneck.{name}"), shape, 1.0)
    };
    let [bn1, bn2] = [norm("bn1", 36, 4, true), norm("bn2", 9, 4, true)];
    let [bn3, bn4] = [norm("bn3", 9, 16, true), norm("downsample.1", 9, 16, false)];
    // Slots: 0 is x, 1 to 5 the long way, 6 and 7 the short one.
    let nodes = vec![
        Node::new(conv1, &[0]),
        Node::new(bn1, &[1]),
        Node::new(conv2, &[2]),
        Node::new(bn2, &[3]),
        Node::new(conv3, &[4]),
        Node::new(short, &[0]),
        Node::new(bn4, &[6]),
        Node::new(bn3, &[5, 7]),
    ];
    check_graph("bottleneck", Graph::new(vec![(36, 8)], nodes, params, state), 4);
}
