//! What is added to the scores of many sequences, laid out once for each kind of sequence.

/// What is added to scores, in units of ln 2.
#[derive(Clone, Copy)]
pub(super) struct Bias<'a> {
    /// [kinds, H, T, T].
    pub values: &'a [f32],
    /// Windows along a side of a map, where those of its last row and column are of kinds of their own: bit 0 of a kind is set in
    /// the last row, bit 1 in the last column. Without it there is one kind.
    pub grid: Option<usize>,
    pub heads: usize,
}

impl<'a> Bias<'a> {
    /// [T, T] of one head of one window.
    #[inline(always)]
    pub(super) fn of(self, window: usize, head: usize) -> &'a [f32] {
        let kind = self.grid.map_or(0, |grid| {
            let (row, column) = (window / grid % grid, window % grid);
            usize::from(row + 1 == grid) + 2 * usize::from(column + 1 == grid)
        });
        let kinds = if self.grid.is_some() { 4 } else { 1 };
        let len = self.values.len() / (kinds * self.heads);
        &self.values[(kind * self.heads + head) * len..][..len]
    }
}
