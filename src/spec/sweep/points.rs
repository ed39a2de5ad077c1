//! The points of a sub-grid, in the order written: the last axis changes fastest.

use super::{ABSENT, SubGrid};

impl SubGrid {
    /// At most so many points.
    #[must_use]
    pub fn max_points(&self) -> u64 {
        let mut sizes = self.axes.iter().map(|a| a.values.len() as u64);
        if self.is_zip { sizes.max().unwrap_or(1) } else { sizes.try_fold(1_u64, u64::checked_mul).unwrap_or(u64::MAX) }
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
        if self.is_zip {
            let rows = self.axes.iter().map(|a| a.values.len()).min().unwrap_or(1);
            for row in 0..rows {
                digits.fill(u32::try_from(row).unwrap_or(ABSENT));
                for (idx, axis) in self.axes.iter().enumerate() {
                    if !axis.when.iter().all(|w| w.holds(&digits)) {
                        digits[idx] = ABSENT;
                    }
                }
                visit(&digits);
            }
        } else {
            self.product(0, &mut digits, &mut visit);
        }
    }

    fn product(&self, axis_idx: usize, digits: &mut [u32], visit: &mut impl FnMut(&[u32])) {
        let Some(axis) = self.axes.get(axis_idx) else {
            visit(digits);
            return;
        };
        if !axis.when.iter().all(|w| w.holds(digits)) {
            digits[axis_idx] = ABSENT;
            self.product(axis_idx + 1, digits, visit);
            return;
        }
        for value in 0..axis.values.len() {
            digits[axis_idx] = u32::try_from(value).unwrap_or(ABSENT);
            self.product(axis_idx + 1, digits, visit);
        }
    }
}
