//! Multi-head scaled dot-product attention of one sample, full or causal.
//!
//! Rows of qkv are q | k | v, each cut into heads. Per head: p = softmax(q kᵀ / sqrt(D)), out = p v.
//! Backward: dv = pᵀ do; dp = do vᵀ; ds = p (dp - sum over keys of p dp); dq = ds k / sqrt(D); dk = dsᵀ q / sqrt(D).

use crate::reference::{Matrix, dot};

/// How a sample attends to itself.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Heads (H).
    pub heads: usize,
    /// Whether a token sees only itself and earlier ones.
    pub causal: bool,
}

impl Heads {
    /// Rows [T, C] from q | k | v [T, 3C].
    pub fn forward(self, qkv: &Matrix) -> Matrix {
        let width = qkv.columns / 3;
        let mut out = Matrix::zeros(qkv.rows, width);
        for head in 0..self.heads {
            let [q, k, v] = self.cut(qkv, head);
            let attended = self.probabilities(&q, &k).times(&v);
            out.set_columns(head * attended.columns, &attended);
        }
        out
    }

    /// Gradient of qkv.
    pub fn backward(self, qkv: &Matrix, grad_out: &Matrix) -> Matrix {
        let width = qkv.columns / 3;
        let mut grad_qkv = Matrix::zeros(qkv.rows, qkv.columns);
        for head in 0..self.heads {
            let [q, k, v] = self.cut(qkv, head);
            let grad = grad_out.columns_from(head * v.columns, v.columns);
            let p = self.probabilities(&q, &k);
            let mut ds = grad.times_transposed(&v);
            for row in 0..ds.rows {
                let along = dot(p.row(row), ds.row(row));
                for (ds, p) in ds.row_mut(row).iter_mut().zip(p.row(row)) {
                    *ds = p * (*ds - along) * scale(&q);
                }
            }
            for (part, gradient) in [ds.times(&k), ds.transposed_times(&q), p.transposed_times(&grad)].iter().enumerate() {
                grad_qkv.set_columns(part * width + head * gradient.columns, gradient);
            }
        }
        grad_qkv
    }

    fn cut(self, qkv: &Matrix, head: usize) -> [Matrix; 3] {
        let width = qkv.columns / 3;
        let head_dim = width / self.heads;
        [0, 1, 2].map(|part| qkv.columns_from(part * width + head * head_dim, head_dim))
    }

    fn probabilities(self, q: &Matrix, k: &Matrix) -> Matrix {
        let mut p = q.times_transposed(k);
        for query in 0..p.rows {
            let seen = if self.causal { query + 1 } else { p.columns };
            let (row, hidden) = p.row_mut(query).split_at_mut(seen);
            let largest = row.iter().fold(f64::NEG_INFINITY, |largest, score| largest.max(*score));
            row.iter_mut().for_each(|score| *score = ((*score - largest) * scale(q)).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|share| *share /= sum);
            hidden.fill(0.0);
        }
        p
    }
}

/// 1 / sqrt(D).
fn scale(q: &Matrix) -> f64 {
    (q.columns as f64).sqrt().recip()
}
