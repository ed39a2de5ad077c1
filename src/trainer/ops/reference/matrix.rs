//! Matrices of f64 with the three products that forward and backward need, as plain loops.

/// A matrix, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Row after row.
    pub values: Vec<f64>,
}

impl Matrix {
    /// All zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![0.0; rows * columns] }
    }

    /// The values row after row.
    ///
    /// # Panics
    /// If the last row is not whole.
    pub fn from_rows(columns: usize, values: Vec<f64>) -> Self {
        assert!(values.len().is_multiple_of(columns), "rows of {columns} values");
        Self { rows: values.len() / columns, columns, values }
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// One row, to be changed.
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// self + other.
    pub fn plus(&self, other: &Self) -> Self {
        assert_eq!((self.rows, self.columns), (other.rows, other.columns), "shapes of a sum");
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a + b).collect();
        Self { values, ..*self }
    }

    /// self with `bias` added to every row.
    pub fn plus_row(mut self, bias: &[f64]) -> Self {
        for row in 0..self.rows {
            add(bias, self.row_mut(row));
        }
        self
    }

    /// self otherᵀ.
    pub fn times_transposed(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.columns, "inner lengths of a product");
        let mut out = Self::zeros(self.rows, other.rows);
        for i in 0..self.rows {
            for j in 0..other.rows {
                out.values[i * other.rows + j] = dot(self.row(i), other.row(j));
            }
        }
        out
    }

    /// self other.
    pub fn times(&self, other: &Self) -> Self {
        self.times_transposed(&other.transposed())
    }

    /// selfᵀ other.
    pub fn transposed_times(&self, other: &Self) -> Self {
        self.transposed().times(other)
    }

    /// selfᵀ.
    pub fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.columns, self.rows);
        for i in 0..self.rows {
            for j in 0..self.columns {
                out.values[j * self.rows + i] = self.values[i * self.columns + j];
            }
        }
        out
    }

    /// Columns `start..start + columns` of every row.
    pub fn columns_from(&self, start: usize, columns: usize) -> Self {
        let values = (0..self.rows).flat_map(|row| &self.row(row)[start..start + columns]).copied().collect();
        Self { rows: self.rows, columns, values }
    }

    /// Puts `part` at column `start` of every row.
    pub fn set_columns(&mut self, start: usize, part: &Self) {
        for row in 0..self.rows {
            self.row_mut(row)[start..start + part.columns].copy_from_slice(part.row(row));
        }
    }

    /// The sum of all rows.
    pub fn column_sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.columns];
        for row in 0..self.rows {
            add(self.row(row), &mut sums);
        }
        sums
    }

    /// Each value replaced by `f` of it.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { values: self.values.iter().map(|value| f(*value)).collect(), ..*self }
    }
}

/// Sum of a\[i\] b\[i\].
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// b += a.
pub fn add(a: &[f64], b: &mut [f64]) {
    assert_eq!(a.len(), b.len(), "lengths of a sum");
    for (b, a) in b.iter_mut().zip(a) {
        *b += a;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_a_hand_made_example() {
        let a = Matrix::from_rows(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = Matrix::from_rows(2, vec![1.0, -1.0, 0.0, 2.0]);
        assert_eq!(a.times(&b), Matrix::from_rows(2, vec![1.0, 3.0, 3.0, 5.0, 5.0, 7.0]));
        assert_eq!(a.times_transposed(&b), Matrix::from_rows(2, vec![-1.0, 4.0, -1.0, 8.0, -1.0, 12.0]));
        let c = Matrix::from_rows(1, vec![1.0, 0.0, -1.0]);
        assert_eq!(a.transposed_times(&c), Matrix::from_rows(1, vec![-4.0, -4.0]));
        assert_eq!(a.column_sums(), [9.0, 12.0]);
    }
}
