//! Attention within the windows of a square map: scores get a learnt bias by relative position, and in a shifted map a mask.
//!
//! A map of side S is rolled by -shift along both axes and cut into windows of side w; tokens lie window after window, row by
//! row inside. The bias of query (qr, qc) and key (kr, kc) is row (qr - kr + w - 1)(2w - 1) + (qc - kc + w - 1) of the table.
//! The roll brings opposite borders of the map together in the last row and column of windows: there, tokens from different
//! sides of the seam, which lies shift before the window's end, get -100. So windows are of four kinds at most, and bias and
//! mask are laid out once a call for each of them.
//!
//! **Source** Liu et al. 2021, "Swin Transformer", and timm's `swin_transformer.py`.

use std::f32::consts::LOG2_E;

use super::super::Scratch;
use super::backward::{Biased, Saved};
use super::bias::Bias;
use super::{AttentionShape, backward as back, cpu};

/// Added to the score of two tokens from different sides of a seam.
const MASKED: f32 = -100.0;

/// A map, its windows, its heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowShape {
    /// Side of the map (S).
    pub side: usize,
    /// Side of a window (w); divides S.
    pub window: usize,
    /// Places by which the map is rolled; less than w.
    pub shift: usize,
    /// Heads (H).
    pub heads: usize,
    /// Channels of a head (D).
    pub head_dim: usize,
}

impl WindowShape {
    /// Tokens of a window (T).
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.window * self.window
    }

    /// Rows of a bias table.
    #[must_use]
    pub fn table_rows(&self) -> usize {
        (2 * self.window - 1).pow(2)
    }

    fn attention(&self) -> AttentionShape {
        AttentionShape { tokens: self.tokens(), heads: self.heads, head_dim: self.head_dim, causal: false }
    }

    fn kinds(&self) -> usize {
        if self.shift > 0 { 4 } else { 1 }
    }

    fn bias_len(&self) -> usize {
        self.kinds() * self.heads * self.tokens() * self.tokens()
    }

    /// Lays out bias and mask, a row a key if `by_key`, else a row a query.
    fn lay_out<'a>(&self, table: &[f32], by_key: bool, values: &'a mut [f32]) -> Bias<'a> {
        let (tokens, heads) = (self.tokens(), self.heads);
        let first = heads * tokens * tokens;
        for (i, row) in values[..first].chunks_exact_mut(tokens).enumerate() {
            let (head, i) = (i / tokens, i % tokens);
            for (j, value) in row.iter_mut().enumerate() {
                let (query, key) = if by_key { (j, i) } else { (i, j) };
                *value = table[self.table_row(query, key) * heads + head] * LOG2_E;
            }
        }
        for kind in 1..self.kinds() {
            let (plain, rest) = values.split_at_mut(first);
            let kind_values = &mut rest[(kind - 1) * first..kind * first];
            for (i, (row, plain)) in kind_values.chunks_exact_mut(tokens).zip(plain.chunks_exact(tokens)).enumerate() {
                for (j, (value, plain)) in row.iter_mut().zip(plain).enumerate() {
                    let apart = self.are_apart(kind, i % tokens, j);
                    *value = if apart { MASKED.mul_add(LOG2_E, *plain) } else { *plain };
                }
            }
        }
        Bias { values, grid: (self.shift > 0).then_some(self.side / self.window), heads }
    }

    fn table_row(&self, query: usize, key: usize) -> usize {
        let w = self.window;
        (query / w + w - 1 - key / w) * (2 * w - 1) + query % w + w - 1 - key % w
    }

    /// Whether a seam of this kind of window lies between two tokens.
    fn are_apart(&self, kind: usize, a: usize, b: usize) -> bool {
        let (w, seam) = (self.window, self.window - self.shift);
        let by_row = kind & 1 != 0 && (a / w < seam) != (b / w < seam);
        let by_column = kind & 2 != 0 && (a % w < seam) != (b % w < seam);
        by_row || by_column
    }

    /// Whether rows in the order of windows are those of the map.
    #[must_use]
    pub fn is_one_window(&self) -> bool {
        self.side == self.window && self.shift == 0
    }

    /// Rows of maps [maps, S, S, width] in the order of windows.
    pub fn gather(&self, width: usize, map: &[f32], windows: &mut [f32]) {
        let per_map = self.side * self.side * width;
        assert!(map.len() == windows.len() && map.len().is_multiple_of(per_map), "maps cut into windows");
        for (map, windows) in map.chunks_exact(per_map).zip(windows.chunks_exact_mut(per_map)) {
            self.runs(|in_window, in_map, len| {
                windows[in_window * width..][..len * width].copy_from_slice(&map[in_map * width..][..len * width]);
            });
        }
    }

    /// The reverse of [`Self::gather`].
    pub fn scatter(&self, width: usize, windows: &[f32], map: &mut [f32]) {
        let per_map = self.side * self.side * width;
        assert!(map.len() == windows.len() && map.len().is_multiple_of(per_map), "windows put back into maps");
        for (map, windows) in map.chunks_exact_mut(per_map).zip(windows.chunks_exact(per_map)) {
            self.runs(|in_window, in_map, len| {
                map[in_map * width..][..len * width].copy_from_slice(&windows[in_window * width..][..len * width]);
            });
        }
    }

    /// Calls `run` with the place in the order of windows, the place in the map and the length of every run of tokens.
    #[inline(always)]
    fn runs(&self, mut run: impl FnMut(usize, usize, usize)) {
        let Self { side, window, shift, .. } = *self;
        debug_assert!(side.is_multiple_of(window) && shift < window, "windows of {window} on a map of {side}");
        let grid = side / window;
        for line in 0..side * grid {
            // A line of a window: its window, and its row inside.
            let (index, row) = (line / window, line % window);
            let map_row = (index / grid * window + row + shift) % side * side;
            let column = (index % grid) * window + shift;
            let before_border = window.min(side - column.min(side));
            if before_border > 0 {
                run(line * window, map_row + column, before_border);
            }
            if before_border < window {
                run(line * window + before_border, map_row + (column + before_border) % side, window - before_border);
            }
        }
    }

    fn check(&self, table: &[f32], qkv: &[f32], out: &[f32], lse: &[f32]) {
        let a = self.attention();
        let maps = out.len() / (self.side * self.side * a.width()).max(1);
        let rows = maps * self.side * self.side;
        assert!(self.window > 0 && a.head_dim > 0, "attention over nothing");
        assert!(self.side.is_multiple_of(self.window) && self.shift < self.window, "windows of a map");
        assert_eq!(table.len(), self.table_rows() * self.heads, "bias table of windows");
        assert_eq!(qkv.len(), rows * 3 * a.width(), "qkv of windows");
        assert_eq!(out.len(), rows * a.width(), "output of windows");
        assert_eq!(lse.len(), rows * self.heads, "log-sum-exp of windows");
    }

    /// Output and log-sum-exp of whole maps.
    ///
    /// **Shapes** `[windows, T, 3C]`, `[windows, T, C]`, `[windows, H, T]`; table `[(2w - 1)², H]`.
    pub fn forward(&self, table: &[f32], qkv: &[f32], out: &mut [f32], lse: &mut [f32], s: &mut Scratch) {
        self.check(table, qkv, out, lse);
        let ([values], rest) = s.floats_and_rest([self.bias_len()]);
        let bias = self.lay_out(table, true, values);
        cpu::forward(&self.attention(), qkv, out, lse, Some(bias), rest);
    }

    /// Gradient of qkv, overwritten, and of the table, added to what is there.
    #[expect(clippy::too_many_arguments, reason = "saved values in, two gradients out, all plain slices")]
    pub fn backward(
        &self,
        table: &[f32],
        qkv: &[f32],
        out: &[f32],
        grad_out: &[f32],
        lse: &[f32],
        grad_qkv: &mut [f32],
        grad_table: &mut [f32],
        s: &mut Scratch,
    ) {
        self.check(table, qkv, out, lse);
        self.check(grad_table, grad_qkv, grad_out, lse);
        let (tokens, heads) = (self.tokens(), self.heads);
        let ([values, sums], rest) = s.floats_and_rest([self.bias_len(), heads * tokens * tokens]);
        sums.fill(0.0);
        let biased = Biased { bias: self.lay_out(table, false, values), grad: sums };
        back::backward(&self.attention(), Saved { qkv, out, grad_out, lse }, grad_qkv, Some(biased), rest);
        let unscaled = (self.head_dim as f32).sqrt();
        for (i, row) in sums.chunks_exact(tokens).enumerate() {
            let (head, query) = (i / tokens, i % tokens);
            for (key, sum) in row.iter().enumerate() {
                grad_table[self.table_row(query, key) * heads + head] += sum * unscaled;
            }
        }
    }
}
