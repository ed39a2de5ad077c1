//! A recorded step in which calls read several slots, and slots and parameters have several readers: its gradients against finite
//! differences of its own loss.

use std::sync::Arc;

use scaledown::run::Activation;
use scaledown::trainer::backend::cuda::{CudaStep, Towers};
use scaledown::trainer::backend::{Step as _, StepBatch};
use scaledown::trainer::check::steps::{ADAMW, train};
use scaledown::trainer::model::initial_parameters;
use scaledown::trainer::ops::WeightLayout;
use scaledown::trainer::ops::launch::Real;
use scaledown::trainer::ops::linear::LinearShape;
use scaledown::trainer::ops::op::{Cpu, Op, OpShape, Oracle};
use scaledown::trainer::ops::patch_embed::PatchEmbed;
use scaledown::trainer::ops::patchify::PatchShape;
use scaledown::trainer::ops::project::Project;
use scaledown::trainer::ops::recorder::{self, Array, Record, Recorded, Recorder, Refusal, Site, Value};
use scaledown::trainer::ops::token_embed::TokenEmbed;
use scaledown::trainer::ops::token_pool::{Pooled, TokenPool};
use scaledown::trainer::ops::transformer::{BlockShape, TransformerBlock};
use scaledown::trainer::program::{Init, InputKind, Logits, Matrix, Output, ParamIdx, Program, ProgramBuilder, SlotIdx, Tower};

use crate::device::EmulatedDevice;
use crate::harness::is_available;

const WIDTH: usize = 8;
const TOKENS: usize = 4;
const SAMPLES: usize = 4;

/// y = a + b W.
#[derive(Debug)]
struct Mix(ParamIdx);

impl Op for Mix {
    fn shape(&self) -> OpShape {
        OpShape::new((TOKENS, WIDTH), &[], TOKENS * WIDTH * WIDTH)
    }
    fn cpu(&self) -> Cpu<'_> {
        unreachable!("it is only recorded")
    }
    fn reference(&self) -> Oracle<'_> {
        unreachable!("it is only recorded")
    }
    fn params(&self) -> Vec<ParamIdx> {
        vec![self.0]
    }
    fn cuda(&self) -> Result<&dyn Record, Refusal> {
        Ok(self)
    }
}

impl Record for Mix {
    fn forward(&self, r: &mut Recorder, site: &Site, output: recorder::Output) -> Recorded {
        let a = r.in_floats(site.inputs[0].rows());
        let b = r.in_reals(site.inputs[1].rows());
        r.linear((self.0, None), b, output.floats, Some(a));
        Recorded { output: Value::floats(output.floats), saved: vec![b] }
    }

    /// The gradient of `a` is handed on as it is, that of `b` is only in the compute type.
    fn backward(&self, r: &mut Recorder, _: &Site, saved: &[Array], grad: Value) -> Vec<Option<Value>> {
        let (floats, reals) = (r.in_floats(grad), r.in_reals(grad));
        let grad_b = r.reals("grad b", reals.rows, WIDTH);
        r.linear_input(self.0, reals, grad_b);
        r.linear_weight((self.0, None), saved[0], reals);
        vec![Some(Value::both(floats, reals)), Some(Value::reals(grad_b))]
    }
}

/// x = embed(image); y = block(x); z = x + y W; w = z + x W; the image's feature is the head of w.
fn program() -> Program {
    let mut builder = ProgramBuilder::default();
    let scalar = Matrix { count: 1, rows: 1, columns: 1 };
    let log_scale = builder.params.param("logit_scale".into(), &[], scalar, Init::Constant(1.0), false);
    let linear = |builder: &mut ProgramBuilder, name: &str, inputs: usize| {
        let shape = LinearShape { inputs, outputs: WIDTH, layout: WeightLayout::OutIn };
        builder.params.linear(name.into(), &[WIDTH, inputs], 1, shape, Init::Normal { std: 0.4 })
    };
    let table = |builder: &mut ProgramBuilder, name: &str, rows: usize| {
        let matrix = Matrix { count: 1, rows, columns: WIDTH };
        builder.params.param(name.into(), &[rows, WIDTH], matrix, Init::Normal { std: 0.5 }, false)
    };
    let head = |builder: &mut ProgramBuilder, tower: Tower, tokens: usize, pooling: Pooled, inputs: &[SlotIdx]| {
        let name = format!("{tower:?}").to_lowercase();
        let gain = builder.params.vector(format!("{name}.gain"), WIDTH, Init::Constant(1.0));
        let bias = builder.params.vector(format!("{name}.bias"), WIDTH, Init::Constant(0.1));
        let weight = linear(builder, &format!("{name}.project"), WIDTH);
        let pool = TokenPool { tokens, width: WIDTH, pooling, eps: 1e-5, gain, bias };
        let pooled = builder.call(format!("{name}.pool"), tower, pool, inputs);
        builder.call(format!("{name}.project"), tower, Project { width: WIDTH, embed_dim: WIDTH, weight }, &[pooled])
    };
    let image = builder.input("image.pixels", Tower::Image, InputKind::Image { side: 4, view: 0 });
    let embed = PatchEmbed {
        shape: PatchShape { image_size: 4, patch_size: 2, mean: [0.5; 3], std: [0.3; 3] },
        width: WIDTH,
        patches: TOKENS,
        kept: TOKENS,
        weight: linear(&mut builder, "image.patches", 12),
        bias: None,
        class_token: None,
        positions: Some(table(&mut builder, "image.positions", TOKENS)),
        norm: None,
    };
    let x = builder.call("image.embed".into(), Tower::Image, embed, &[image]);
    let (normal, zero) = (Init::Normal { std: 0.4 }, Init::Constant(0.0));
    let shape = BlockShape {
        tokens: TOKENS,
        width: WIDTH,
        heads: 2,
        mlp_width: 12,
        causal: false,
        activation: Activation::Gelu,
        qkv: normal,
        out: normal,
        fc1: normal,
        fc2: normal,
        fc1_bias: zero,
        fc2_bias: zero,
    };
    let block = TransformerBlock::describe(&mut builder.params, "image.block", shape);
    let y = builder.call("image.block".into(), Tower::Image, block, &[x]);
    let shared = linear(&mut builder, "image.shared", WIDTH);
    let z = builder.call("image.first".into(), Tower::Image, Mix(shared), &[x, y]);
    let w = builder.call("image.second".into(), Tower::Image, Mix(shared), &[z, x]);
    let image = head(&mut builder, Tower::Image, TOKENS, Pooled::Mean, &[w]);
    builder.output(Output::ImageFeatures, image);

    let ids = builder.input("text.tokens", Tower::Text, InputKind::Tokens { length: 3, vocab_size: 5 });
    let ends = builder.input("text.ends", Tower::Text, InputKind::Ends { length: 3 });
    let (rows, positions) = (table(&mut builder, "text.table", 5), table(&mut builder, "text.positions", 3));
    let embed = TokenEmbed { vocab_size: 5, tokens: 3, width: WIDTH, table: rows, positions };
    let tokens = builder.call("text.embed".into(), Tower::Text, embed, &[ids]);
    let text = head(&mut builder, Tower::Text, 3, Pooled::EndOfText, &[tokens, ends]);
    builder.output(Output::TextFeatures, text);
    builder.finish(Logits { log_scale, bias: None, scale_max: 100.0 }, WIDTH)
}

fn batch() -> StepBatch {
    StepBatch {
        samples: SAMPLES,
        images: (0..SAMPLES * 48).map(|idx| (idx * idx * 37 % 251) as u8).collect(),
        tokens: vec![0, 1, 2, 3, 4, 0, 2, 2, 4, 1, 3, 0],
        ends: vec![2, 0, 1, 2],
        ..StepBatch::default()
    }
}

fn step(program: &Arc<Program>, parameters: &[f32], real: Real, order: u32, towers: Towers) -> CudaStep<EmulatedDevice> {
    let device = EmulatedDevice::new(real, order);
    let mut step = CudaStep::new(device, program.clone(), parameters, Some(&train(ADAMW, 0.0)), None).expect("it is recorded");
    step.set_towers(towers);
    step
}

fn gradient(program: &Arc<Program>, parameters: &[f32], real: Real, towers: Towers, chunks: usize) -> Vec<f32> {
    let mut step = step(program, parameters, real, 7, towers);
    step.gradient(&batch(), chunks).expect("the batch fits");
    step.gradients().expect("it is read")
}

#[track_caller]
fn assert_same(what: &str, program: &Program, found: &[f32], expected: &[f32], limit: f32) {
    for view in &program.params {
        let (found, expected) = (&found[view.range()], &expected[view.range()]);
        let largest = expected.iter().fold(1e-4_f32, |m, v| m.max(v.abs()));
        let error = found.iter().zip(expected).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(error <= limit * largest, "{what}: {}: error {error:e}, largest {largest:e}", view.name);
    }
}

#[test]
fn gradients_of_slots_with_several_readers_are_those_of_finite_differences() {
    if !is_available() {
        return;
    }
    let program = Arc::new(program());
    let start = initial_parameters(&program, 3);
    let found = gradient(&program, &start, Real::F32, Towers::InTurn, 1);
    let mut step = step(&program, &start, Real::F32, 0, Towers::InTurn);
    let mut loss_at = |direction: &[f64], by: f64| {
        let moved: Vec<f32> = start.iter().zip(direction).map(|(value, d)| (f64::from(*value) + by * d) as f32).collect();
        step.set_parameters(&moved).expect("as many parameters");
        step.gradient(&batch(), 1).expect("the batch fits").loss
    };
    // Along the gradient of each: what embeds is before all readers, the shared weight is in two calls.
    for name in ["image.patches", "image.positions", "image.shared", "image.block.mlp.c_fc.weight"] {
        let view = program.params.iter().find(|view| view.name == name).expect("it is described above");
        let norm = found[view.range()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-3, "{name} has a gradient: {norm}");
        let mut direction = vec![0.0; start.len()];
        view.range().for_each(|idx| direction[idx] = f64::from(found[idx]) / norm);
        const H: f64 = 0.02;
        let [near, far] = [H, 2.0 * H].map(|by| loss_at(&direction, by) - loss_at(&direction, -by));
        let slope = (8.0 * near - far) / (12.0 * H);
        assert!((slope - norm).abs() <= 1e-3 * norm + 3e-5, "{name}: {slope} by differences, {norm} recorded");
    }
}

#[test]
fn several_readers_agree_in_parts_side_by_side_and_in_bf16() {
    if !is_available() {
        return;
    }
    let program = Arc::new(program());
    let start = initial_parameters(&program, 3);
    let expected = gradient(&program, &start, Real::F32, Towers::InTurn, 1);
    assert_eq!(gradient(&program, &start, Real::F32, Towers::SideBySide, 1), expected);
    assert_same("in parts", &program, &gradient(&program, &start, Real::F32, Towers::InTurn, 2), &expected, 1e-5);
    let rounded = gradient(&program, &start, Real::Bf16, Towers::InTurn, 1);
    assert_same("bf16", &program, &rounded, &expected, 0.1);
    assert_eq!(gradient(&program, &start, Real::Bf16, Towers::SideBySide, 1), rounded);
}
