//! Convolutional ops against timm and PyTorch: small random modules, recorded by `tests/fixtures/timm/convolutions.py`.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::conv::{self, ConvShape, transposed};
use crate::convnext_block::{ConvNextBlock, ConvNextShape};
use crate::downsample::Downsample;
use crate::linear::{self, Linear, LinearShape};
use crate::map_pool::MapPool;
use crate::op::Op;
use crate::params::{Init, ParamList, ParamView};
use crate::patchify::PatchShape;
use crate::pool2d::{self, MaxPoolShape};
use crate::project::Project;
use crate::simd::tests::on_every_path;
use crate::testing::op::{Found, Input, run_rows};
use crate::{Accumulation, Activation, Scratch, WeightLayout, batch_norm, conv_stem, group_norm};

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
    let recorded = Recorded::open();
    let shape = MaxPoolShape { side: 7, channels: 5, kernel: 3, stride: 2, padding: 1 };
    let (x, dy) = (recorded.get("pool.x"), recorded.get("pool.upstream"));
    on_every_path(|path| {
        let (mut y, mut dx, mut dy) = (vec![0.0; dy.len()], vec![0.0; x.len()], dy.clone());
        pool2d::max_forward(&shape, 2, &x, &mut y);
        pool2d::max_backward(&shape, 2, &x, &y, &mut dy, &mut dx, Accumulation::Overwrite);
        recorded.near(path, &y, "pool.y");
        recorded.near(path, &dx, "pool.grad.x");
    });
}

/// A convolution without bias over recorded weights.
struct Conv {
    shape: ConvShape,
    weight: Vec<f32>,
    samples: usize,
}

impl Conv {
    fn new(recorded: &Recorded, name: &str, samples: usize, shape: ConvShape) -> Self {
        let dims = [shape.outputs, shape.inputs, shape.kernel, shape.kernel];
        Self { shape, weight: recorded.stored(name, &dims), samples }
    }

    fn linear(&self) -> Linear<'_> {
        Linear { shape: self.shape.linear(), weight: &self.weight, packed: &[] }
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut packed = vec![0.0; linear::packed_len(&self.shape.linear())];
        linear::pack(&self.shape.linear(), &self.weight, &mut packed);
        let weight = Linear { packed: &packed, ..self.linear() };
        let mut y = vec![f32::NAN; self.samples * self.shape.out_pixels() * self.shape.outputs];
        conv::forward(&self.shape, &weight, self.samples, x, None, &mut y, &mut Scratch::new());
        y
    }

    /// Gradients of the input and of the weight in PyTorch's layout.
    fn backward(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mut dx, mut dw, mut s) = (vec![f32::NAN; x.len()], vec![f32::NAN; self.weight.len()], Scratch::new());
        conv::backward_input(&self.shape, &self.linear(), self.samples, dy, &mut dx, Accumulation::Overwrite, &mut s);
        conv::backward_weight(&self.shape, self.samples, x, dy, &mut dw, None, false, &mut s);
        let ConvShape { outputs, inputs, kernel, .. } = self.shape;
        (dx, transposed((outputs, kernel * kernel, inputs), &dw))
    }
}

#[test]
fn a_convolution_with_group_norm_and_relu_is_that_of_pytorch() {
    let recorded = Recorded::open();
    let shape = ConvShape { side: 6, inputs: 5, outputs: 8, kernel: 3, stride: 2, padding: 1 };
    let norm = group_norm::GroupNormShape { pixels: 9, channels: 8, groups: 4, eps: 1e-5 };
    let conv = Conv::new(&recorded, "group.state.conv.weight", 2, shape);
    let (gain, bias) = (recorded.get("group.state.norm.weight"), recorded.get("group.state.norm.bias"));
    let (x, upstream) = (recorded.get("group.x"), recorded.get("group.upstream"));
    on_every_path(|path| {
        let mapped = conv.forward(&x);
        let (mut y, [mut mean, mut rstd], mut s) = (vec![0.0; mapped.len()], [[0.0; 8]; 2], Scratch::new());
        let after = batch_norm::After { add: None, relu: true };
        group_norm::forward(&norm, 2, &mapped, &gain, &bias, after, &mut y, (&mut mean, &mut rstd), &mut s);
        recorded.near(path, &y, "group.y");
        let (mut dz, mut dmapped, [mut dgain, mut dbias]) = (upstream.clone(), vec![0.0; y.len()], [[0.0; 8]; 2]);
        let (mode, into) = (Accumulation::Overwrite, (&mut dgain[..], &mut dbias[..]));
        group_norm::backward(&norm, 2, &mapped, &gain, (&mean, &rstd), Some(&y), &mut dz, &mut dmapped, mode, into, &mut s);
        let (dx, dw) = conv.backward(&x, &dmapped);
        recorded.near(path, &dx, "group.grad.x");
        recorded.near(path, &dw, "group.grad.conv.weight");
        recorded.near(path, &dgain, "group.grad.norm.weight");
        recorded.near(path, &dbias, "group.grad.norm.bias");
    });
}

/// A batch norm over recorded parameters, one sample a slab.
struct Norm<'a> {
    recorded: &'a Recorded,
    name: &'static str,
    samples: usize,
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl<'a> Norm<'a> {
    fn new(recorded: &'a Recorded, name: &'static str, samples: usize) -> Self {
        let get = |what: &str| recorded.get(&format!("bottleneck.state.{name}.{what}"));
        Self { recorded, name, samples, gain: get("weight"), bias: get("bias") }
    }

    /// y and the statistics; running ones are held against the recorded.
    fn forward(&self, x: &[f32], add: Option<&[f32]>, relu: bool) -> (Vec<f32>, batch_norm::Statistics) {
        let (width, slab) = (self.gain.len(), x.len() / self.samples);
        let (len, mut s) = (batch_norm::record_len(width), Scratch::new());
        let mut records = vec![0.0; self.samples * len];
        for (x, record) in x.chunks_exact(slab).zip(records.chunks_exact_mut(len)) {
            batch_norm::moments(width, x, record, &mut s);
        }
        batch_norm::merge(width, &mut records);
        for (what, start) in [("running_mean", 0.0), ("running_var", 1.0)] {
            let (mut mean, mut variance) = (vec![start; width], vec![start; width]);
            batch_norm::move_running(&records[..len], 0.1, &mut mean, &mut variance);
            let found = if start == 0.0 { mean } else { variance };
            self.recorded.near(self.name, &found, &format!("bottleneck.after.{}.{what}", self.name));
        }
        let stats = batch_norm::Statistics::of(&records[..len], 1e-5);
        (self.apply(x, &stats, add, relu), stats)
    }

    /// y with the statistics of evaluation.
    fn evaluate(&self, x: &[f32], add: Option<&[f32]>, relu: bool) -> Vec<f32> {
        let get = |what: &str| self.recorded.get(&format!("bottleneck.after.{}.{what}", self.name));
        self.apply(x, &batch_norm::Statistics::running(&get("running_mean"), &get("running_var"), 1e-5), add, relu)
    }

    fn apply(&self, x: &[f32], stats: &batch_norm::Statistics, add: Option<&[f32]>, relu: bool) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len()];
        batch_norm::normalise(x, stats, &self.gain, &self.bias, batch_norm::After { add, relu }, &mut y);
        y
    }

    /// Gradients of x and of the residual; those of gain and bias are held against the recorded.
    fn backward(&self, path: &str, x: &[f32], stats: &batch_norm::Statistics, y: Option<&[f32]>, dy: &[f32]) -> [Vec<f32>; 2] {
        let (width, slab) = (self.gain.len(), x.len() / self.samples);
        let (mut dz, mut dx, mut s) = (dy.to_vec(), vec![f32::NAN; x.len()], Scratch::new());
        let mut sums = vec![0.0; self.samples * 2 * width];
        let parts = x.chunks_exact(slab).zip(dz.chunks_exact_mut(slab)).zip(sums.chunks_exact_mut(2 * width));
        for (i, ((x, dz), sums)) in parts.enumerate() {
            batch_norm::gradient_sums(x, stats, y.map(|y| &y[i * slab..(i + 1) * slab]), dz, sums, &mut s);
        }
        batch_norm::add_up(width, &mut sums);
        let sums = &sums[..2 * width];
        let group = (x.len() / width, sums);
        batch_norm::backward(x, stats, &self.gain, group, &dz, &mut dx, Accumulation::Overwrite, &mut s);
        let (mut dgain, mut dbias) = (vec![0.0; width], vec![0.0; width]);
        batch_norm::add_parameter_gradients(sums, &mut dgain, &mut dbias);
        self.recorded.near(path, &dgain, &format!("bottleneck.grad.{}.weight", self.name));
        self.recorded.near(path, &dbias, &format!("bottleneck.grad.{}.bias", self.name));
        [dx, dz]
    }
}

#[test]
fn a_bottleneck_with_batch_norm_is_that_of_timm() {
    let recorded = Recorded::open();
    let conv = |name: &str, side, inputs, outputs, kernel, stride| {
        let shape = ConvShape { side, inputs, outputs, kernel, stride, padding: kernel / 2 };
        Conv::new(&recorded, &format!("bottleneck.state.{name}.weight"), 4, shape)
    };
    let [conv1, conv2] = [conv("conv1", 6, 8, 4, 1, 1), conv("conv2", 6, 4, 4, 3, 2)];
    let [conv3, short] = [conv("conv3", 3, 4, 16, 1, 1), conv("downsample.0", 6, 8, 16, 1, 2)];
    let [bn1, bn2, bn3, bn4] = ["bn1", "bn2", "bn3", "downsample.1"].map(|name| Norm::new(&recorded, name, 4));
    let (x, upstream) = (recorded.get("bottleneck.x"), recorded.get("bottleneck.upstream"));
    on_every_path(|path| {
        let a = conv1.forward(&x);
        let (b, stats1) = bn1.forward(&a, None, true);
        let c = conv2.forward(&b);
        let (d, stats2) = bn2.forward(&c, None, true);
        let e = conv3.forward(&d);
        let f = short.forward(&x);
        let (g, stats4) = bn4.forward(&f, None, false);
        let (y, stats3) = bn3.forward(&e, Some(&g), true);
        recorded.near(path, &y, "bottleneck.y");

        let [grad_e, grad_g] = bn3.backward(path, &e, &stats3, Some(&y), &upstream);
        let [grad_f, _] = bn4.backward(path, &f, &stats4, None, &grad_g);
        let (grad_short, grad_w4) = short.backward(&x, &grad_f);
        let (grad_d, grad_w3) = conv3.backward(&d, &grad_e);
        let [grad_c, _] = bn2.backward(path, &c, &stats2, Some(&d), &grad_d);
        let (grad_b, grad_w2) = conv2.backward(&b, &grad_c);
        let [grad_a, _] = bn1.backward(path, &a, &stats1, Some(&b), &grad_b);
        let (grad_x, grad_w1) = conv1.backward(&x, &grad_a);
        let grad_x: Vec<f32> = grad_x.iter().zip(&grad_short).map(|(a, b)| a + b).collect();
        recorded.near(path, &grad_x, "bottleneck.grad.x");
        for (name, found) in [("conv1", grad_w1), ("conv2", grad_w2), ("conv3", grad_w3), ("downsample.0", grad_w4)] {
            recorded.near(path, &found, &format!("bottleneck.grad.{name}.weight"));
        }

        let b = bn1.evaluate(&conv1.forward(&x), None, true);
        let d = bn2.evaluate(&conv2.forward(&b), None, true);
        let g = bn4.evaluate(&short.forward(&x), None, false);
        let y = bn3.evaluate(&conv3.forward(&d), Some(&g), true);
        recorded.near(path, &y, "bottleneck.eval.y");
    });
}
