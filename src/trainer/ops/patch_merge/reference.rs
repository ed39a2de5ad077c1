//! y = norm(x at four strided places, side by side) Wᵀ, as timm writes it.

use super::PatchMerge;
use crate::mlp::reference::{Back, norm};
use crate::op::{Reference, Value};
use crate::reference::{Gradients, Matrix, Parameters};

/// Row of the map that enters and first column of the row that leaves, for every row that leaves.
fn sources(merge: &PatchMerge) -> Vec<[(usize, usize); 4]> {
    let (side, width) = (merge.side, merge.width);
    let mut all = Vec::new();
    for row in (0..side).step_by(2) {
        for column in (0..side).step_by(2) {
            let at = |down: usize, right: usize| (row + down) * side + column + right;
            all.push([(at(0, 0), 0), (at(1, 0), width), (at(0, 1), 2 * width), (at(1, 1), 3 * width)]);
        }
    }
    all
}

fn side_by_side(merge: &PatchMerge, x: &Matrix) -> Matrix {
    let values = sources(merge).into_iter().flat_map(|four| four.into_iter().flat_map(|(from, _)| x.row(from))).copied().collect();
    Matrix::from_rows(4 * merge.width, values)
}

impl Reference for PatchMerge {
    fn forward(&self, params: &Parameters, inputs: &[Value]) -> Matrix {
        let merged = side_by_side(self, inputs[0].rows());
        norm(params, &merged, self.eps, self.norm).times_transposed(&params.matrix(self.reduce))
    }

    fn backward(&self, params: &Parameters, inputs: &[Value], grad_y: &Matrix, grads: &mut Gradients) -> Vec<Option<Matrix>> {
        let x = inputs[0].rows();
        let merged = side_by_side(self, x);
        let normed = norm(params, &merged, self.eps, self.norm);
        grads.add(self.reduce, &grad_y.transposed_times(&normed).values);
        let grad_normed = grad_y.times(&params.matrix(self.reduce));
        let grad_merged = Back { params, grads }.norm(self.eps, self.norm, &merged, &grad_normed);
        let mut grad_x = Matrix::zeros(x.rows, x.columns);
        for (row, four) in sources(self).into_iter().enumerate() {
            for (from, column) in four {
                grad_x.row_mut(from).copy_from_slice(&grad_merged.row(row)[column..column + self.width]);
            }
        }
        vec![Some(grad_x)]
    }
}
