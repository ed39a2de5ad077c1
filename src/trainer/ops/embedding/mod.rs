//! Token embedding: rows\[t\] = table\[tokens\[t\]\] + positions\[t\].
//!
//! **Shapes** tokens `[T]`, table `[V, C]`, positions `[T, C]`, rows `[T, C]`; C is `positions.len() / T`.

use super::elementwise;

/// Rows of one sample.
pub fn forward(tokens: &[u32], table: &[f32], positions: &[f32], rows: &mut [f32]) {
    let width = width(tokens, positions, rows);
    rows.copy_from_slice(positions);
    for (row, &token) in rows.chunks_exact_mut(width).zip(tokens) {
        elementwise::add(&table[token as usize * width..][..width], row);
    }
}

/// Adds the gradient of the rows to those of table and positions, in token order.
pub fn backward(tokens: &[u32], grad_rows: &[f32], grad_table: &mut [f32], grad_positions: &mut [f32]) {
    let width = width(tokens, grad_positions, grad_rows);
    elementwise::add(grad_rows, grad_positions);
    for (row, &token) in grad_rows.chunks_exact(width).zip(tokens) {
        elementwise::add(row, &mut grad_table[token as usize * width..][..width]);
    }
}

fn width(tokens: &[u32], positions: &[f32], rows: &[f32]) -> usize {
    assert!(!tokens.is_empty() && positions.len().is_multiple_of(tokens.len()), "positions of an embedding");
    assert_eq!(rows.len(), positions.len(), "rows of an embedding");
    positions.len() / tokens.len()
}
