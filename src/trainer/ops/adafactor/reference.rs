//! Adafactor as `big_vision` has it, on one parameter that is a stack of matrices.
//!
//! t counts from 1; b2 = min(cap, 1 - t^-0.8). Where rows and columns both number at least 32, with s = g² + 1e-30:
//! R = b2 R + (1 - b2) (mean of s over columns), C = b2 C + (1 - b2) (mean of s over rows),
//! u = g (R / mean(R))^-1/2 C^-1/2. Elsewhere V = b2 V + (1 - b2) s and u = g V^-1/2. Then m = b1 m + (1 - b1) u and
//! p = p - lr (m + decay p).
//!
//! **Source** `big_vision/optax.py` (`scale_by_adafactor`), optax (`scale_by_factored_rms`), Shazeer & Stern 2018.

use crate::params;
use crate::reference::Matrix;

const EPS: f64 = 1e-30;
const FACTORED_FROM: usize = 32;

/// Constants of one step; `decay` is what a rate of 1 would take away.
#[derive(Debug, Clone, Copy)]
pub struct Adafactor {
    /// Decay of the momentum (b1).
    pub beta1: f64,
    /// Most that the decay of the second moment (b2) becomes.
    pub beta2_cap: f64,
    /// Learning rate.
    pub lr: f64,
    /// What a rate of 1 would take away.
    pub decay: f64,
}

/// Values that the second moment of a parameter takes: for each matrix its rows, then its columns, or one an element.
pub fn second_len(view: &params::Matrix) -> usize {
    if is_factored(view) { view.count * (view.rows + view.columns) } else { view.count * view.rows * view.columns }
}

fn is_factored(view: &params::Matrix) -> bool {
    view.rows >= FACTORED_FROM && view.columns >= FACTORED_FROM
}

impl Adafactor {
    /// One step on a parameter; `step` counts from 0.
    pub fn update(&self, step: u64, view: &params::Matrix, p: &mut [f64], g: &[f64], m: &mut [f64], second: &mut [f64]) {
        let beta2 = self.beta2_cap.min(1.0 - ((step + 1) as f64).powf(-0.8));
        let scaled = if is_factored(view) { factored(view, beta2, g, second) } else { plain(beta2, g, second) };
        for i in 0..p.len() {
            m[i] = self.beta1 * m[i] + (1.0 - self.beta1) * scaled[i];
            p[i] -= self.lr * (m[i] + self.decay * p[i]);
        }
    }
}

fn plain(beta2: f64, g: &[f64], v: &mut [f64]) -> Vec<f64> {
    average(beta2, v, g.iter().map(|g| g * g + EPS));
    g.iter().zip(v).map(|(g, v)| g / v.sqrt()).collect()
}

fn factored(view: &params::Matrix, beta2: f64, g: &[f64], second: &mut [f64]) -> Vec<f64> {
    let (rows, columns) = (view.rows, view.columns);
    let mut scaled = Vec::with_capacity(g.len());
    for (g, second) in g.chunks(rows * columns).zip(second.chunks_mut(rows + columns)) {
        let (of_rows, of_columns) = second.split_at_mut(rows);
        let squares = Matrix::from_rows(columns, g.iter().map(|g| g * g + EPS).collect());
        average(beta2, of_rows, squares.transposed().column_sums().into_iter().map(|sum| sum / columns as f64));
        average(beta2, of_columns, squares.column_sums().into_iter().map(|sum| sum / rows as f64));
        let mean = of_rows.iter().sum::<f64>() / rows as f64;
        for (i, g) in g.iter().enumerate() {
            scaled.push(g / (of_rows[i / columns] / mean).sqrt() / of_columns[i % columns].sqrt());
        }
    }
    scaled
}

/// state = beta state + (1 - beta) new.
fn average(beta: f64, state: &mut [f64], new: impl Iterator<Item = f64>) {
    for (state, new) in state.iter_mut().zip(new) {
        *state = beta * *state + (1.0 - beta) * new;
    }
}
