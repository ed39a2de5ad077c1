//! The points of a sub-grid, in the order written: the last factor changes fastest.

use std::collections::HashSet;

use super::{ABSENT, Factor, SubGrid};

impl SubGrid {
    /// At most so many points.
    #[must_use]
    pub fn max_points(&self) -> u64 {
        let mut sizes = self.factors.iter().map(|factor| match factor {
            Factor::Axis(axis) => self.axes[*axis].values.len() as u64,
            Factor::Zip { rows, .. } => rows.len() as u64,
        });
        sizes.try_fold(1_u64, u64::checked_mul).unwrap_or(u64::MAX)
    }

    /// Calls `each` with the digits of every point; counts what every exclude of the file hits.
    pub(in crate::spec) fn for_each(&self, hits: &mut [u64], mut each: impl FnMut(&[u32])) {
        let mut digits = vec![ABSENT; self.axes.len()];
        let mut visit = |digits: &[u32]| {
            let mut excluded = false;
            for exclude in &self.excludes {
                if exclude.terms.iter().all(|t| t.holds(digits)) {
                    hits[exclude.idx] += 1;
                    excluded = true;
                }
            }
            if !excluded {
                each(digits);
            }
        };
        self.product(&self.factors, &mut digits, &mut visit);
    }

    fn product(&self, factors: &[Factor], digits: &mut [u32], visit: &mut impl FnMut(&[u32])) {
        let Some((first, rest)) = factors.split_first() else {
            visit(digits);
            return;
        };
        match first {
            Factor::Axis(axis) if !self.exists(*axis, digits) => {
                digits[*axis] = ABSENT;
                self.product(rest, digits, visit);
            }
            Factor::Axis(axis) => {
                for value in 0..self.axes[*axis].values.len() {
                    digits[*axis] = u32::try_from(value).unwrap_or(ABSENT);
                    self.product(rest, digits, visit);
                }
            }
            Factor::Zip { axes, rows } => {
                // Rows may become equal where one of their axes does not exist.
                let may_repeat = axes.clone().any(|axis| !self.axes[axis].when.is_empty());
                let mut seen = HashSet::new();
                for row in rows {
                    digits[axes.clone()].copy_from_slice(row);
                    for axis in axes.clone().filter(|axis| !self.axes[*axis].when.is_empty()) {
                        if !self.exists(axis, digits) {
                            digits[axis] = ABSENT;
                        }
                    }
                    if !may_repeat || seen.insert(digits[axes.clone()].to_vec()) {
                        self.product(rest, digits, visit);
                    }
                }
            }
        }
    }

    fn exists(&self, axis: usize, digits: &[u32]) -> bool {
        self.axes[axis].when.iter().all(|when| when.holds(digits))
    }
}
