//! Calls of ops on rows of several inputs, in their fast form and in their f64 form; samples may meet, and there may be state.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::chain::BLOCK;
use super::op::pack;
use super::{DIFFERENCE, assert_close, differences, random, widen};
use crate::op::whole::{Observed, Part, Pass, State, StateList, StateView};
use crate::op::{Backward, Cpu, Forward, GradInput, GradLane, In, Op, Oracle, Params, Read, Value, Workspace};
use crate::params::{ParamList, ParamView};
use crate::reference::{Gradients, Matrix, Parameters, dot};
use crate::simd::tests::on_every_path;
use crate::{ParallelFor, Scratch, Sequential};

/// A call: slots of what is given come first, then the output of each call in order.
pub(crate) struct Node {
    op: Box<dyn Op>,
    inputs: Vec<usize>,
}

impl Node {
    pub(crate) fn new(op: impl Op, inputs: &[usize]) -> Self {
        Self { op: Box::new(op), inputs: inputs.to_vec() }
    }
}

/// Calls, the last of which gives the output.
pub(crate) struct Graph {
    /// Rows and channels of each input.
    given: Vec<(usize, usize)>,
    nodes: Vec<Node>,
    pub views: Vec<ParamView>,
    pub flat: Vec<f32>,
    pub state: Vec<StateView>,
    /// The flat state before a step.
    pub running: Vec<f32>,
    /// Whether gradients of the inputs are wanted.
    pub asks_for_inputs: bool,
}

/// Output, gradients of the inputs (in a step that asks for them) and of all parameters, the state after a step.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome<T> {
    pub y: Vec<T>,
    pub grad_inputs: Vec<Vec<T>>,
    pub grads: Vec<T>,
    pub state: Vec<f64>,
}

/// What is given of all samples, and the gradient of the output.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub x: &'a [Vec<f32>],
    pub grad_y: &'a [f32],
    pub samples: usize,
}

/// The last job first.
struct Reversed;

impl ParallelFor for Reversed {
    fn for_each(&self, jobs: usize, job: &(dyn Fn(usize, &mut Scratch) + Sync)) {
        let mut scratches = [Scratch::new(), Scratch::new()];
        (0..jobs).rev().for_each(|i| job(i, &mut scratches[i % 2]));
    }
}

/// Two threads that take jobs as they come. They work on the path of this machine, not on one that a test asks for.
pub(crate) struct TwoThreads;

impl ParallelFor for TwoThreads {
    fn for_each(&self, jobs: usize, job: &(dyn Fn(usize, &mut Scratch) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut scratch = Scratch::new();
            while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < jobs) {
                job(i, &mut scratch);
            }
        };
        std::thread::scope(|scope| [(); 2].map(|()| scope.spawn(work)).map(|thread| thread.join().expect("no job panics")));
    }
}

/// A pass of the fast form: what it is for, samples of a chunk, who works.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub pass: Pass,
    pub chunk: usize,
    pub team: &'a dyn ParallelFor,
}

/// Gradient of an input, and whether it is added to.
type Own = (bool, Vec<f32>);

fn cut(values: &[f32], samples: usize, first: usize, num: usize) -> &[f32] {
    let len = values.len() / samples;
    &values[first * len..(first + num) * len]
}

fn cut_mut(values: &mut [f32], samples: usize, first: usize, num: usize) -> &mut [f32] {
    let len = values.len() / samples;
    &mut values[first * len..(first + num) * len]
}

impl Graph {
    /// Random parameters, about 1 where they are gains; a random state that has no small variance.
    pub(crate) fn new(given: Vec<(usize, usize)>, nodes: Vec<Node>, params: ParamList, state: StateList) -> Self {
        let (views, state) = (params.finish(), state.finish());
        let values = |view: (usize, &ParamView)| {
            let start = if view.1.name.ends_with("weight") && view.1.shape.len() == 1 { 1.0 } else { 0.0 };
            random(100 + view.0 as u64, view.1.len()).into_iter().map(move |v| start + 0.5 * v)
        };
        let flat = views.iter().enumerate().flat_map(values).collect();
        let starts = state
            .iter()
            .enumerate()
            .flat_map(|(i, view)| random(200 + i as u64, view.len).into_iter().map(move |v| view.start + 0.5 * v));
        let running = starts.collect();
        Self { given, nodes, views, flat, state, running, asks_for_inputs: true }
    }

    /// Random inputs, which are not about 0, and a random gradient of the output.
    pub(crate) fn given_values(&self, samples: usize) -> (Vec<Vec<f32>>, Vec<f32>) {
        let input = |(i, (rows, channels)): (usize, &(usize, usize))| {
            random(300 + i as u64, samples * rows * channels).into_iter().map(|v| 1.5 * v + 0.3).collect()
        };
        let out = self.nodes.last().expect("a call").op.shape().output;
        (self.given.iter().enumerate().map(input).collect(), random(77, samples * out.rows * out.channels))
    }

    /// A step of the fast form on random values.
    pub(crate) fn step(&self, samples: usize, chunk: usize) -> Outcome<f32> {
        let (x, grad_y) = self.given_values(samples);
        self.fast(Rows { x: &x, grad_y: &grad_y, samples }, How { pass: Pass::Gradient, chunk, team: &Sequential })
    }

    /// Output of the fast form on random values, and the state after it.
    pub(crate) fn features(&self, samples: usize, pass: Pass) -> (Vec<f32>, Vec<f64>) {
        let (x, grad_y) = self.given_values(samples);
        let found = self.fast(Rows { x: &x, grad_y: &grad_y, samples }, How { pass, chunk: 2, team: &Sequential });
        (found.y, found.state)
    }

    /// The fast form; gradients in a step only.
    pub(crate) fn fast(&self, rows: Rows, how: How) -> Outcome<f32> {
        let (packed, packed_ranges) = pack(&self.views, &self.flat);
        let params = Params { views: &self.views, flat: &self.flat, packed: &packed, packed_ranges: &packed_ranges };
        let mut observed = Observed::new(&self.state);
        let (mut values, mut kept) = (rows.x.to_vec(), Vec::new());
        for node in &self.nodes {
            let (y, saved) = self.forward(node, &params, (&values, rows.samples), how, &mut observed);
            values.push(y);
            kept.push(saved);
        }
        let state = observed.moved(&self.state, &widen(&self.running));
        let mut found = Outcome { y: values.last().expect("a call").clone(), grad_inputs: vec![], grads: vec![], state };
        if how.pass == Pass::Gradient {
            self.back(&params, (&values, rows), &mut kept, how, &mut found);
        }
        found
    }

    fn forward(
        &self,
        node: &Node,
        params: &Params,
        (values, samples): (&[Vec<f32>], usize),
        how: How,
        observed: &mut Observed,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let shape = node.op.shape();
        let mut y = vec![f32::NAN; samples * shape.output.rows * shape.output.channels];
        let mut saved: Vec<Vec<f32>> =
            shape.saved.iter().map(|(_, size)| vec![f32::NAN; samples * size.rows * size.channels]).collect();
        match node.op.cpu() {
            Cpu::Whole(op) => {
                let inputs: Vec<In> = node.inputs.iter().map(|slot| Read::Rows(&values[*slot][..])).collect();
                let mut saved: Vec<&mut [f32]> = saved.iter_mut().map(Vec::as_mut_slice).collect();
                let mut state = State { views: &self.state, flat: &self.running, observed };
                let part = Part { samples, inputs: &inputs, params: *params, pass: how.pass };
                op.forward(&part, &mut y, &mut saved, &mut state, how.team);
            }
            Cpu::Rows(op) => {
                let mut work = Workspace::default();
                for first in (0..samples).step_by(how.chunk) {
                    let num = how.chunk.min(samples - first);
                    let inputs: Vec<In> =
                        node.inputs.iter().map(|slot| Read::Rows(cut(&values[*slot], samples, first, num))).collect();
                    let mut saved: Vec<&mut [f32]> = saved.iter_mut().map(|slot| cut_mut(slot, samples, first, num)).collect();
                    let output = cut_mut(&mut y, samples, first, num);
                    op.forward(params, &mut Forward { samples: num, inputs: &inputs, output, saved: &mut saved }, &mut work);
                }
            }
        }
        (y, saved)
    }

    fn back(
        &self,
        params: &Params,
        (values, rows): (&[Vec<f32>], Rows),
        kept: &mut [Vec<Vec<f32>>],
        how: How,
        found: &mut Outcome<f32>,
    ) {
        let mut grads: Vec<Option<Vec<f32>>> = vec![None; values.len()];
        *grads.last_mut().expect("a call") = Some(rows.grad_y.to_vec());
        // Nothing may be read before it is written.
        found.grads = vec![f32::NAN; self.flat.len()];
        for (idx, node) in self.nodes.iter().enumerate().rev() {
            let mut grad_y = grads[self.given.len() + idx].take().expect("someone reads every output");
            // Gradients that an earlier call of this pass wrote are added to.
            let mut own: Vec<Own> = (node.inputs.iter())
                .map(|slot| grads[*slot].take().map_or_else(|| (false, vec![f32::NAN; values[*slot].len()]), |grad| (true, grad)))
                .collect();
            self.backward(node, params, (values, rows.samples), how, (&mut kept[idx], &mut grad_y, &mut own), &mut found.grads);
            for (slot, (_, grad)) in node.inputs.iter().zip(own) {
                grads[*slot] = Some(grad);
            }
        }
        if self.asks_for_inputs {
            found.grad_inputs = grads.into_iter().take(self.given.len()).map(|grad| grad.expect("an input is read")).collect();
        }
    }

    fn backward(
        &self,
        node: &Node,
        params: &Params,
        (values, samples): (&[Vec<f32>], usize),
        how: How,
        (saved, grad_y, own): (&mut [Vec<f32>], &mut [f32], &mut [Own]),
        grads: &mut [f32],
    ) {
        assert!(!node.op.shape().is_in_place, "an op that keeps the gradient of its output apart");
        let step = if matches!(node.op.cpu(), Cpu::Whole(_)) { samples } else { how.chunk };
        let mut work = Workspace::default();
        for first in (0..samples).step_by(step) {
            let num = step.min(samples - first);
            let inputs: Vec<In> = node.inputs.iter().map(|slot| Read::Rows(cut(&values[*slot], samples, first, num))).collect();
            let mut grad_inputs: Vec<GradInput> = Vec::new();
            for ((adds, grad), slot) in own.iter_mut().zip(&node.inputs) {
                grad_inputs.push(match *adds {
                    _ if *slot < self.given.len() && !self.asks_for_inputs => GradInput::None,
                    false => GradInput::Overwrite(cut_mut(grad, samples, first, num)),
                    true => GradInput::Add(cut_mut(grad, samples, first, num)),
                });
            }
            let grad_output = cut_mut(grad_y, samples, first, num);
            match node.op.cpu() {
                Cpu::Whole(op) => {
                    for view in node.op.params() {
                        grads[self.views[view].range()].fill(0.0);
                    }
                    let saved: Vec<&[f32]> = saved.iter().map(Vec::as_slice).collect();
                    let part = Part { samples, inputs: &inputs, params: *params, pass: Pass::Gradient };
                    op.backward(&part, grad_output, &mut grad_inputs, &saved, grads, how.team);
                }
                Cpu::Rows(op) => {
                    let mut saved: Vec<&mut [f32]> = saved.iter_mut().map(|slot| cut_mut(slot, samples, first, num)).collect();
                    let (inputs, grad_inputs) = (&inputs, &mut grad_inputs);
                    let mut chunk = Backward { samples: num, inputs, grad_output, grad_inputs, saved: &mut saved };
                    let mut lane = GradLane { views: &self.views, flat: grads, first: first == 0 };
                    op.backward(params, &mut chunk, &mut lane, &mut work);
                }
            }
        }
    }

    /// All values of the f64 form, slot by slot, of every sample; the state after the pass.
    fn plain_forward(&self, x: &[Vec<f64>], flat: &[f64], samples: usize, pass: Pass) -> (Vec<Vec<Matrix>>, Vec<f64>) {
        let params = Parameters { views: &self.views, flat };
        let running = widen(&self.running);
        let mut observed = Observed::new(&self.state);
        let sample = |x: &[f64], channels: usize| Matrix::from_rows(channels, x.to_vec());
        let mut values: Vec<Vec<Matrix>> = (x.iter().zip(&self.given))
            .map(|(x, (_, channels))| x.chunks_exact(x.len() / samples).map(|x| sample(x, *channels)).collect())
            .collect();
        for node in &self.nodes {
            let inputs = inputs(node, &values, samples);
            let y = match node.op.reference() {
                Oracle::Sample(op) => inputs.iter().map(|inputs| op.forward(&params, inputs)).collect(),
                Oracle::Whole(op) => {
                    let mut state = State { views: &self.state, flat: &running, observed: &mut observed };
                    op.forward(&params, &inputs, pass, &mut state)
                }
            };
            values.push(y);
        }
        let state = observed.moved(&self.state, &running);
        (values, state)
    }

    /// A step of the f64 form.
    pub(crate) fn plain(&self, rows: Rows) -> Outcome<f64> {
        let (x, flat): (Vec<_>, _) = (rows.x.iter().map(|x| widen(x)).collect(), widen(&self.flat));
        let (values, state) = self.plain_forward(&x, &flat, rows.samples, Pass::Gradient);
        let params = Parameters { views: &self.views, flat: &flat };
        let y = values.last().expect("a call");
        let mut grads: Vec<Option<Vec<Matrix>>> = vec![None; values.len()];
        let grad_y = rows.grad_y.chunks_exact(rows.grad_y.len() / rows.samples);
        *grads.last_mut().expect("a call") = Some(grad_y.map(|grad| Matrix::from_rows(y[0].columns, widen(grad))).collect());
        let mut of_params = vec![0.0; flat.len()];
        for (idx, node) in self.nodes.iter().enumerate().rev() {
            let grad_y = grads[self.given.len() + idx].take().expect("someone reads every output");
            let (inputs, mut into) = (inputs(node, &values, rows.samples), Gradients { views: &self.views, flat: &mut of_params });
            let found = match node.op.reference() {
                Oracle::Sample(op) => {
                    inputs.iter().zip(&grad_y).map(|(inputs, grad)| op.backward(&params, inputs, grad, &mut into)).collect()
                }
                Oracle::Whole(op) => op.backward(&params, &inputs, &grad_y, &mut into),
            };
            for (input, slot) in node.inputs.iter().enumerate() {
                let own = found.iter().map(|grads: &Vec<Option<Matrix>>| grads[input].clone().expect("a gradient of rows"));
                let sum = match grads[*slot].take() {
                    None => own.collect(),
                    Some(before) => before.iter().zip(own).map(|(a, b)| a.plus(&b)).collect(),
                };
                grads[*slot] = Some(sum);
            }
        }
        let of_slot = |grad: Option<Vec<Matrix>>| flattened(&grad.expect("an input is read"));
        let grad_inputs = grads.into_iter().take(self.given.len()).map(of_slot).collect();
        Outcome { y: flattened(y), grad_inputs, grads: of_params, state }
    }

    /// The f64 form against its slopes where they are cheap, and the fast form against it: on every path, in chunks, whatever the
    /// order of jobs; evaluation as well.
    pub(crate) fn check(&self, what: &str, samples: usize) {
        let (x, grad_y) = self.given_values(samples);
        let rows = Rows { x: &x, grad_y: &grad_y, samples };
        let expected = self.plain(rows);
        if x.iter().map(Vec::len).sum::<usize>() + self.flat.len() < 700 {
            self.check_slopes(what, rows, &expected);
        }
        let wide: Vec<Vec<f64>> = x.iter().map(|x| widen(x)).collect();
        let (evaluated, _) = self.plain_forward(&wide, &widen(&self.flat), samples, Pass::Evaluate);
        let evaluated = flattened(evaluated.last().expect("a call"));
        on_every_path(|path| {
            for chunk in [1, 2, samples] {
                let what = format!("{what}, {path}, chunks of {chunk}");
                let how = How { pass: Pass::Gradient, chunk, team: &Sequential };
                let found = self.fast(rows, how);
                self.compare(&what, &found, &expected);
                assert!(found == self.fast(rows, How { team: &Reversed, ..how }), "{what}: another order, other bytes");
                let found = self.fast(rows, How { pass: Pass::Evaluate, ..how });
                assert_close(&format!("evaluated y, {what}"), &found.y, &evaluated, BLOCK);
            }
        });
    }

    fn compare(&self, what: &str, found: &Outcome<f32>, expected: &Outcome<f64>) {
        assert_close(&format!("y, {what}"), &found.y, &expected.y, BLOCK);
        for (i, (found, expected)) in found.grad_inputs.iter().zip(&expected.grad_inputs).enumerate() {
            assert_close(&format!("gradient of input {i}, {what}"), found, expected, BLOCK);
        }
        for view in &self.views {
            let (found, expected) = (&found.grads[view.range()], &expected.grads[view.range()]);
            assert_close(&format!("gradient of {}, {what}", view.name), found, expected, BLOCK);
        }
        let narrow: Vec<f32> = found.state.iter().map(|v| *v as f32).collect();
        assert_close(&format!("state, {what}"), &narrow, &expected.state, BLOCK);
    }

    fn check_slopes(&self, what: &str, rows: Rows, expected: &Outcome<f64>) {
        let (x, flat): (Vec<_>, _) = (rows.x.iter().map(|x| widen(x)).collect(), widen(&self.flat));
        let grad_y = widen(rows.grad_y);
        let loss = |x: &[Vec<f64>], flat: &[f64]| {
            let (values, _) = self.plain_forward(x, flat, rows.samples, Pass::Gradient);
            dot(&flattened(values.last().expect("a call")), &grad_y)
        };
        let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
        for (i, found) in expected.grad_inputs.iter().enumerate() {
            let slopes = differences(&x[i], |own| {
                let mut x = x.clone();
                x[i] = own.to_vec();
                loss(&x, &flat)
            });
            assert_close(&format!("slopes of input {i}, {what}"), &narrow(found), &slopes, DIFFERENCE);
        }
        let slopes = differences(&flat, |flat| loss(&x, flat));
        assert_close(&format!("slopes of parameters, {what}"), &narrow(&expected.grads), &slopes, DIFFERENCE);
    }
}

fn inputs<'a>(node: &Node, values: &'a [Vec<Matrix>], samples: usize) -> Vec<Vec<Value<'a>>> {
    (0..samples).map(|sample| node.inputs.iter().map(|slot| Read::Rows(&values[*slot][sample])).collect()).collect()
}

fn flattened(samples: &[Matrix]) -> Vec<f64> {
    samples.iter().flat_map(|sample| sample.values.iter().copied()).collect()
}
