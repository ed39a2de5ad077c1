//! What a change of the seam between programs, ops and backends must not move: the bytes of trained parameters, and the nodes of a
//! recorded step.
//!
//! `UPDATE_GOLDEN=1 cargo test --lib pins` writes the digests anew, to be reviewed. Bytes depend on the instructions in use: the
//! file holds those that the tests have run on, and a path that is not in it is left out with a line.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::backend::cuda::pins::{GpuStep, recorded};
use super::backend::{Placement, StepAt, StepBatch, prepare};
use super::check::lab::random;
use super::model::{Recipe, build_with, initial_parameters};
use super::ops::instructions;
use super::ops::launch::{Arg, Factor, Node, Real, Section, View};
use super::tests::{tiny_model, tiny_train};
use crate::run::{DeviceKind, LossConfig, OptimizerConfig, Pooling, Precision, StrategyConfig, TrainConfig};

const ADAFACTOR: OptimizerConfig = OptimizerConfig::Adafactor { beta1: 0.9, beta2_cap: 0.95 };
const SIGMOID: LossConfig = LossConfig::Sigmoid { logit_bias_init: -10.0 };

/// A training of the tiny model.
struct Case {
    name: &'static str,
    pooling: Pooling,
    masked: f64,
    train: TrainConfig,
    chunks: usize,
}

fn cases() -> Vec<Case> {
    let case = |name, pooling, masked, chunks, change: &dyn Fn(&mut TrainConfig)| {
        let mut train = TrainConfig { strategy: StrategyConfig { masked, ..StrategyConfig::clip() }, ..tiny_train() };
        change(&mut train);
        Case { name, pooling, masked, train, chunks }
    };
    vec![
        case("class token", Pooling::ClassToken, 0.0, 1, &|_| {}),
        case("mean", Pooling::Mean, 0.0, 1, &|_| {}),
        case("mean, half masked", Pooling::Mean, 0.5, 1, &|_| {}),
        case("class token, half masked, three parts", Pooling::ClassToken, 0.5, 3, &|_| {}),
        case("mean, three parts", Pooling::Mean, 0.0, 3, &|_| {}),
        case("mean, adafactor", Pooling::Mean, 0.0, 1, &|train| train.optimizer = ADAFACTOR),
        case("class token, sigmoid loss", Pooling::ClassToken, 0.0, 1, &|train| train.loss = SIGMOID),
        case("mean, sigmoid loss, three parts, adafactor", Pooling::Mean, 0.0, 3, &|train| {
            (train.loss, train.optimizer) = (SIGMOID, ADAFACTOR);
        }),
    ]
}

/// Pairs of step `step`, each drawn from the seed.
fn batch(step: u64, samples: usize, masked: f64) -> StepBatch {
    let draw = |stream: u64, len: usize, below: u32| -> Vec<u32> {
        let values = random(7 + 10 * step + stream, len);
        values.iter().map(|value| (((value + 1.0) / 2.0 * below as f32) as u32).min(below - 1)).collect()
    };
    let images = draw(1, samples * 12 * 12 * 3, 256).into_iter().map(|value| value as u8).collect();
    let kept = if masked > 0.0 { draw(2, samples, 6).iter().flat_map(|start| *start..start + 4).collect() } else { Vec::new() };
    StepBatch { samples, images, keep: kept, tokens: draw(3, samples * 7, 31), ends: draw(4, samples, 7), ..StepBatch::default() }
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// Compares `found` with the lines of a golden file that begin with `prefix`, or replaces them.
fn compare(name: &str, prefix: &str, found: &BTreeMap<String, String>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines: BTreeMap<String, String> =
        text.lines().filter_map(|line| line.split_once(" = ")).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        lines.retain(|key, _| !key.starts_with(prefix));
        lines.extend(found.clone());
        let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        std::fs::write(&path, text).expect("the golden files are in the repository");
        return;
    }
    let known: BTreeMap<_, _> = lines.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
    // Nodes are the same everywhere.
    if known.is_empty() && !prefix.is_empty() {
        println!("skipped: parameters after twenty steps: none are known for `{prefix}`");
        return;
    }
    assert_eq!(found, &known, "{name}");
}

#[test]
fn twenty_steps_leave_the_known_bytes() {
    let mut found = BTreeMap::new();
    for Case { name, pooling, masked, train, chunks } in cases() {
        let program = Arc::new(build_with(&tiny_model(pooling), &Recipe::of(&train, masked)));
        let parameters = initial_parameters(&program, 5);
        let placement = Placement { device: DeviceKind::Cpu, precision: Precision::F32, threads: 2 };
        let mut step = prepare(program, parameters, placement, Some((&train, 5))).expect("the CPU trains it");
        for done in 0..20 {
            step.advance(&batch(done, 22, masked), StepAt { step: done, lr: 1e-2, chunks }).expect("the batch fits");
        }
        let parameters = step.parameters().expect("the CPU is read");
        assert!(parameters.iter().all(|value| value.is_finite()), "{name}");
        let state: Vec<f32> = step.optimizer_state().expect("it trains").into_iter().flat_map(|(_, values)| values).collect();
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let both = [digest(&bytes(&parameters)), digest(&bytes(&state))].join(" ");
        found.insert(format!("{}: {name}", instructions()), both);
    }
    compare("steps.txt", &format!("{}: ", instructions()), &found);
}

/// Nodes as text, buffers numbered by their first use.
#[derive(Default)]
struct Describer {
    numbers: HashMap<u32, usize>,
}

impl Describer {
    fn view(&mut self, view: View) -> String {
        let next = self.numbers.len();
        format!("{}+{}", self.numbers.entry(view.buffer.0).or_insert(next), view.offset)
    }
    fn maybe(&mut self, view: Option<View>) -> String {
        view.map_or("-".to_owned(), |view| self.view(view))
    }
    fn factor(&mut self, factor: Factor) -> String {
        format!("{}{}{:?}", self.view(factor.view), if factor.transposed { "T" } else { "" }, factor.real)
    }
    fn arg(&mut self, arg: Arg) -> String {
        match arg {
            Arg::In(view) => format!("in {}", self.view(view)),
            Arg::Out(view) => format!("out {}", self.view(view)),
            Arg::InOut(view) => format!("inout {}", self.view(view)),
            Arg::Null => "null".to_owned(),
            Arg::U32(value) => value.to_string(),
            Arg::F32(value) => format!("{:08x}", value.to_bits()),
            Arg::TooLarge(value) => format!("too large {value}"),
        }
    }
    fn node(&mut self, node: &Node) -> String {
        match node {
            Node::Launch(launch) => {
                let args: Vec<String> = launch.args.iter().map(|arg| self.arg(*arg)).collect();
                let (kernel, grid) = (launch.kernel, launch.grid);
                format!("{kernel} {grid:?} {} {} ({})", launch.threads, launch.shared_bytes, args.join(", "))
            }
            Node::Product(p) => {
                let (a, b) = (self.factor(p.a), self.factor(p.b));
                let (addend, bias, out) = (self.maybe(p.addend), self.maybe(p.bias), self.view(p.out));
                format!("product {}x{}x{} {a} {b} {addend} {bias} {out} {:?}", p.m, p.n, p.k, p.out_real)
            }
            Node::Zero { view, bytes } => format!("zero {} {bytes}", self.view(*view)),
            Node::Copy { from, to, bytes } => format!("copy {} {} {bytes}", self.view(*from), self.view(*to)),
        }
    }
    fn sections(&mut self, sections: &[Section]) -> Vec<String> {
        let mut lines = Vec::new();
        for section in sections {
            for (branch, nodes) in section.branches.iter().enumerate() {
                lines.push(format!("branch {branch} of {}", section.branches.len()));
                lines.extend(nodes.iter().map(|node| self.node(node)));
            }
        }
        lines
    }
}

#[test]
fn recorded_steps_have_the_known_nodes() {
    let mut found = BTreeMap::new();
    for Case { name, pooling, masked, train, chunks } in cases() {
        let program = build_with(&tiny_model(pooling), &Recipe::of(&train, masked));
        for (real, side_by_side) in [(Real::F32, false), (Real::Bf16, false), (Real::Bf16, true)] {
            let shape = GpuStep { samples: 22, chunks, is_masked: masked > 0.0, side_by_side };
            let lines = Describer::default().sections(&recorded(&program, &train, real, shape));
            let text = lines.join("\n");
            let key = format!("{name}, {real:?}{}", if side_by_side { ", side by side" } else { "" });
            found.insert(key, format!("{} lines {}", lines.len(), digest(text.as_bytes())));
            if let Some(folder) = std::env::var_os("SCALEDOWN_NODES") {
                // For a look at what has changed.
                let file = format!("{name}-{real:?}-{side_by_side}.txt").replace([' ', ','], "_");
                std::fs::write(PathBuf::from(folder).join(file), text).expect("the folder is writable");
            }
        }
    }
    compare("nodes.txt", "", &found);
}
