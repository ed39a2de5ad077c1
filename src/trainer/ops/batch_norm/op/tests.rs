//! Both forms of the op, its groups and its state.

use super::*;
use crate::Sequential;
use crate::op::whole::Pass;
use crate::simd::tests::on_every_path;
use crate::testing::graph::{Graph, How, Node, Rows, TwoThreads};

fn graph(shape: BatchNormShape, has_add: bool) -> Graph {
    let (mut params, mut state) = (ParamList::default(), StateList::default());
    let op = BatchNorm::describe(&mut params, &mut state, "bn", shape, 1.0);
    let inputs: &[usize] = if has_add { &[0, 1] } else { &[0] };
    Graph::new(vec![(shape.pixels, shape.width); inputs.len()], vec![Node::new(op, inputs)], params, state)
}

#[test]
fn groups_agree_with_the_reference_and_the_reference_with_its_slopes() {
    // One group, whole groups, a shorter last one; channels that are not whole vectors.
    for (pixels, width, group, samples) in [(4, 3, 3, 3), (4, 5, 2, 4), (9, 20, 3, 8), (1, 16, 4, 10)] {
        for (relu, has_add) in [(false, false), (true, false), (false, true), (true, true)] {
            let shape = BatchNormShape { pixels, width, group, eps: 1e-5, relu };
            graph(shape, has_add).check(&format!("{shape:?}, {samples} samples, residual {has_add}"), samples);
        }
    }
}

#[test]
fn groups_of_several_slabs_agree_with_the_reference() {
    // 3 x 324 rows in slabs of 512; 3 x 36 rows of 700 channels in slabs of 23.
    for (pixels, width) in [(324, 6), (36, 700)] {
        for has_add in [false, true] {
            let shape = BatchNormShape { pixels, width, group: 3, eps: 1e-5, relu: true };
            graph(shape, has_add).check(&format!("{shape:?}, residual {has_add}"), 5);
        }
    }
}

#[test]
fn two_threads_give_the_bytes_of_one() {
    let shape = BatchNormShape { pixels: 400, width: 24, group: 3, eps: 1e-5, relu: true };
    let (graph, samples) = (graph(shape, true), 8);
    let (x, grad_y) = graph.given_values(samples);
    let rows = Rows { x: &x, grad_y: &grad_y, samples };
    let alone = How { pass: Pass::Gradient, chunk: samples, team: &Sequential };
    let found = graph.fast(rows, alone);
    assert!(found == graph.fast(rows, How { team: &TwoThreads, ..alone }));
    assert!(found.y.iter().chain(&found.grads).all(|value| value.is_finite()));
}

#[test]
fn gradients_are_added_where_a_later_reader_wrote_before() {
    let (mut params, mut state) = (ParamList::default(), StateList::default());
    let shape = BatchNormShape { pixels: 4, width: 6, group: 2, eps: 1e-5, relu: true };
    let norms = ["a", "b", "c"].map(|name| BatchNorm::describe(&mut params, &mut state, name, shape, 1.0));
    // The last norm reads both inputs as the others do, the other way round.
    let nodes = [Node::new(norms[0], &[0, 1]), Node::new(norms[1], &[1, 2]), Node::new(norms[2], &[3, 0])];
    Graph::new(vec![(4, 6); 2], nodes.into(), params, state).check("three norms", 4);
}

#[test]
fn a_group_with_a_single_row_is_its_bias_and_has_no_variance() {
    let shape = BatchNormShape { pixels: 1, width: 5, group: 2, eps: 1e-5, relu: false };
    on_every_path(|path| {
        let graph = graph(shape, false);
        let found = graph.step(3, 3);
        let bias = &graph.flat[5..];
        assert_eq!(&found.y[10..], bias, "{path}");
        assert!(found.grad_inputs[0][10..].iter().all(|grad| *grad == 0.0), "{path}: {:?}", found.grad_inputs[0]);
        let alone = graph.step(1, 1);
        // 0.9 of the running variance, and nothing is added.
        let expected: Vec<f64> = graph.running[5..].iter().map(|v| 0.9 * f64::from(*v)).collect();
        assert!(alone.state[5..].iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{path}: {:?}", alone.state);
    });
}

#[test]
fn what_is_observed_is_the_mean_over_groups() {
    let shape = BatchNormShape { pixels: 2, width: 3, group: 2, eps: 1e-5, relu: true };
    let graph = graph(shape, false);
    let (x, _) = graph.given_values(4);
    let found = graph.step(4, 4);
    for c in 0..3 {
        let of_group = |group: usize| {
            let rows: Vec<f64> = (0..4).map(|row| f64::from(x[0][(group * 4 + row) * 3 + c])).collect();
            let mean = rows.iter().sum::<f64>() / 4.0;
            (mean, rows.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0)
        };
        let ((mean_a, var_a), (mean_b, var_b)) = (of_group(0), of_group(1));
        let [mean, var] = [c, 3 + c].map(|at| f64::from(graph.running[at]));
        let expected = [0.9 * mean + 0.05 * (mean_a + mean_b), 0.9 * var + 0.05 * (var_a + var_b)];
        for (found, expected) in [found.state[c], found.state[3 + c]].into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6 * expected.abs().max(0.1), "{found} for {expected}");
        }
    }
}

#[test]
fn nothing_is_observed_without_a_gradient() {
    let shape = BatchNormShape { pixels: 2, width: 3, group: 2, eps: 1e-5, relu: true };
    let graph = graph(shape, true);
    let running: Vec<f64> = graph.running.iter().map(|v| f64::from(*v)).collect();
    for pass in [Pass::Features, Pass::Evaluate] {
        assert_eq!(graph.features(4, pass).1, running, "{pass:?}");
    }
    assert_eq!(graph.features(4, Pass::Features).0, graph.step(4, 4).y);
    assert_ne!(graph.features(4, Pass::Evaluate).0, graph.step(4, 4).y);
}

#[test]
fn parameters_and_state_have_pytorchs_names_and_starts() {
    let (mut params, mut state) = (ParamList::default(), StateList::default());
    let shape = BatchNormShape { pixels: 2, width: 3, group: 2, eps: 1e-5, relu: true };
    BatchNorm::describe(&mut params, &mut state, "layer1.0.bn3", shape, 0.0);
    let params: Vec<_> = params.finish().into_iter().map(|view| (view.name, view.init, view.decay)).collect();
    let zero = Init::Constant(0.0);
    assert_eq!(params, [("layer1.0.bn3.weight".into(), zero, false), ("layer1.0.bn3.bias".into(), zero, false)]);
    let state: Vec<_> = state.finish().into_iter().map(|view| (view.name, view.start, view.momentum)).collect();
    let expected = [("layer1.0.bn3.running_mean".into(), 0.0, 0.1), ("layer1.0.bn3.running_var".into(), 1.0, 0.1)];
    assert_eq!(state, expected);
}
