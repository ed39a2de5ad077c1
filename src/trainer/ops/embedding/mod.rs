//! Token embedding: rows\[t\] = table\[tokens\[t\]\] + positions\[t\].
//!
//! **Shapes** tokens `[T]`, table `[V, C]`, positions `[T, C]`, rows `[T, C]`; C is `positions.len() / T`.

pub mod cuda;

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

#[cfg(test)]
mod tests {
    use super::super::testing::random;
    use super::*;

    #[test]
    fn rows_are_table_rows_plus_positions_and_gradients_go_back_to_both() {
        let (tokens, width) = ([2u32, 0, 2, 4], 5);
        let (table, positions, grad) = (random(1, 5 * width), random(2, 4 * width), random(3, 4 * width));
        let mut rows = vec![f32::NAN; 4 * width];
        forward(&tokens, &table, &positions, &mut rows);
        let (start, mut grad_positions) = (random(4, 5 * width), vec![1.0; 4 * width]);
        let mut grad_table = start.clone();
        backward(&tokens, &grad, &mut grad_table, &mut grad_positions);
        for i in 0..4 * width {
            let (t, j) = (i / width, i % width);
            assert_eq!(rows[i], positions[i] + table[tokens[t] as usize * width + j]);
            assert_eq!(grad_positions[i], 1.0 + grad[i]);
        }
        for j in 0..width {
            // Token 2 occurs twice: added in token order.
            assert_eq!(grad_table[2 * width + j], (start[2 * width + j] + grad[j]) + grad[2 * width + j]);
            assert_eq!(grad_table[width + j], start[width + j]);
            assert_eq!(grad_table[4 * width + j], start[4 * width + j] + grad[3 * width + j]);
        }
    }
}
