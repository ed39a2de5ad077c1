//! A Swin block as timm computes it: the normed map is rolled, cut into windows, attended to within each, put back, rolled back.
//!
//! Regions that must not see each other come from cutting each axis of the rolled map at S - w and S - shift; a pair from
//! different regions gets -100. p = softmax(q kᵀ / sqrt(D) + bias + mask); the bias' gradient is that of the scores,
//! p (dp - sum over keys of p dp), summed over windows.

use super::{SwinBlock, SwinShape};
use crate::mlp::reference::{Back, forward as mlp_forward, map, norm};
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters, dot};

/// One window: where its tokens lie in the map, and the region of each.
struct Window {
    places: Vec<usize>,
    regions: Vec<(usize, usize)>,
}

fn windows(shape: &SwinShape) -> Vec<Window> {
    let SwinShape { side, window, shift, .. } = *shape;
    let region = |at: usize| if shift == 0 { 0 } else { usize::from(at >= side - window) + usize::from(at >= side - shift) };
    let mut all = Vec::new();
    for top in (0..side).step_by(window) {
        for left in (0..side).step_by(window) {
            let mut one = Window { places: Vec::new(), regions: Vec::new() };
            for row in top..top + window {
                for column in left..left + window {
                    one.places.push((row + shift) % side * side + (column + shift) % side);
                    one.regions.push((region(row), region(column)));
                }
            }
            all.push(one);
        }
    }
    all
}

/// Row of the table for a pair of tokens of a window.
fn table_row(window: usize, query: usize, key: usize) -> usize {
    let apart = |a: usize, b: usize| a + window - 1 - b;
    apart(query / window, key / window) * (2 * window - 1) + apart(query % window, key % window)
}

/// Rows of the map at `places`, columns of one head of q, k or v.
fn head_rows(rows: &Matrix, places: &[usize], start: usize, dim: usize) -> Matrix {
    let values = places.iter().flat_map(|place| &rows.row(*place)[start..start + dim]).copied().collect();
    Matrix::from_rows(dim, values)
}

/// Softmax of scores with bias and mask.
fn probabilities(shape: &SwinShape, table: &Matrix, window: &Window, head: usize, q: &Matrix, k: &Matrix) -> Matrix {
    let mut p = q.times_transposed(k);
    for query in 0..p.rows {
        for key in 0..p.columns {
            let mask = if window.regions[query] == window.regions[key] { 0.0 } else { -100.0 };
            let bias = table.row(table_row(shape.window, query, key))[head];
            let score = &mut p.row_mut(query)[key];
            *score = *score / (q.columns as f64).sqrt() + bias + mask;
        }
        let largest = p.row(query).iter().fold(f64::NEG_INFINITY, |largest, score| largest.max(*score));
        p.row_mut(query).iter_mut().for_each(|score| *score = (*score - largest).exp());
        let sum: f64 = p.row(query).iter().sum();
        p.row_mut(query).iter_mut().for_each(|share| *share /= sum);
    }
    p
}

/// Calls `each` with every window, head and its q, k, v.
fn heads(block: &SwinBlock, qkv: &Matrix, mut each: impl FnMut(&Window, usize, [Matrix; 3])) {
    let SwinShape { width, heads, .. } = block.shape;
    let dim = width / heads;
    for window in windows(&block.shape) {
        for head in 0..heads {
            let part = |part: usize| head_rows(qkv, &window.places, part * width + head * dim, dim);
            each(&window, head, [part(0), part(1), part(2)]);
        }
    }
}

fn put(rows: &mut Matrix, places: &[usize], start: usize, part: &Matrix) {
    for (row, place) in places.iter().enumerate() {
        rows.row_mut(*place)[start..start + part.columns].copy_from_slice(part.row(row));
    }
}

fn attention(block: &SwinBlock, params: &Parameters, qkv: &Matrix) -> Matrix {
    let table = params.matrix(block.table);
    let mut out = Matrix::zeros(qkv.rows, block.shape.width);
    heads(block, qkv, |window, head, [q, k, v]| {
        let attended = probabilities(&block.shape, &table, window, head, &q, &k).times(&v);
        put(&mut out, &window.places, head * v.columns, &attended);
    });
    out
}

/// Gradient of qkv; that of the table is added to `grads`.
fn attention_back(block: &SwinBlock, params: &Parameters, qkv: &Matrix, grad_out: &Matrix, grads: &mut Gradients) -> Matrix {
    let SwinShape { width, heads: count, window: side, .. } = block.shape;
    let table = params.matrix(block.table);
    let mut grad_qkv = Matrix::zeros(qkv.rows, qkv.columns);
    let mut grad_table = Matrix::zeros(table.rows, count);
    heads(block, qkv, |window, head, [q, k, v]| {
        let grad = head_rows(grad_out, &window.places, head * v.columns, v.columns);
        let p = probabilities(&block.shape, &table, window, head, &q, &k);
        let mut ds = grad.times_transposed(&v);
        for query in 0..ds.rows {
            let along = dot(p.row(query), ds.row(query));
            for key in 0..ds.columns {
                let slope = p.row(query)[key] * (ds.row(query)[key] - along);
                ds.row_mut(query)[key] = slope;
                grad_table.row_mut(table_row(side, query, key))[head] += slope;
            }
        }
        let scaled = ds.map(|slope| slope / (q.columns as f64).sqrt());
        let gradients = [scaled.times(&k), scaled.transposed_times(&q), p.transposed_times(&grad)];
        for (part, gradient) in gradients.iter().enumerate() {
            put(&mut grad_qkv, &window.places, part * width + head * v.columns, gradient);
        }
    });
    grads.add(block.table, &grad_table.values);
    grad_qkv
}

/// normed, qkv, attended, m.
fn run(block: &SwinBlock, params: &Parameters, x: &Matrix) -> [Matrix; 4] {
    let normed = norm(params, x, block.shape.eps, block.norm);
    let qkv = map(params, &normed, block.qkv);
    let attended = attention(block, params, &qkv);
    let middle = x.plus(&map(params, &attended, block.out));
    [normed, qkv, attended, middle]
}

impl Reference for SwinBlock {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let [.., middle] = run(self, params, inputs[0].rows());
        mlp_forward(&self.mlp, params, &middle)
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let x = inputs[0].rows();
        let [normed, qkv, attended, middle] = run(self, params, x);
        let mut back = Back { params, grads };
        let grad_middle = back.mlp(&self.mlp, &middle, grad_y);
        let grad_attended = back.map(self.out, &attended, &grad_middle);
        let grad_qkv = attention_back(self, params, &qkv, &grad_attended, back.grads);
        let grad_normed = back.map(self.qkv, &normed, &grad_qkv);
        vec![Some(grad_middle.plus(&back.norm(self.shape.eps, self.norm, x, &grad_normed)))]
    }
}
