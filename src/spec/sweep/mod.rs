//! What varies: axes, how they combine, and which points that makes.
//!
//! Input: the `sweep` node, whose form was checked. Output: [`Sweep`], whose sub-grids list their points in the order written.
//! A point is one digit an axis: the position of its value, or [`ABSENT`] where the axis does not exist (`when`).
//!
//! `grid`, `zip`, `union` and `product` form a small algebra. It is written out as a union of sub-grids, each of which is a
//! product of factors: single axes, and zips.

mod axes;
mod conditions;
mod overlap;
mod points;
mod read;

pub(super) use read::read;

use std::ops::Range;

use super::source::Span;
use super::tree::Node;
use crate::run::SeedParts;

/// The digit of an axis that a point does not have.
pub const ABSENT: u32 = u32::MAX;

/// Seeds and sub-grids.
#[derive(Debug, Clone, Default)]
pub struct Sweep {
    /// Seeds of every point, in the order written.
    pub seeds: Vec<u64>,
    /// What they draw.
    pub seeds_draw: SeedParts,
    /// Sub-grids in the order written: one, or the members of a union.
    pub grids: Vec<SubGrid>,
}

/// Axes that combine.
#[derive(Debug, Clone, Default)]
pub struct SubGrid {
    /// In the order written.
    pub axes: Vec<Axis>,
    /// What the points are the product of, in the order of the axes; every axis is in one factor.
    pub(super) factors: Vec<Factor>,
    pub(super) excludes: Vec<Exclude>,
}

/// One factor of a product.
#[derive(Debug, Clone)]
pub(super) enum Factor {
    /// The values of one axis.
    Axis(usize),
    /// Axes taken side by side.
    Zip {
        /// Their positions.
        axes: Range<usize>,
        /// The digits of every row; no row is there twice.
        rows: Vec<Vec<u32>>,
    },
}

/// One setting that varies.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Dotted key path.
    pub path: String,
    /// Its values, each once, in the order written.
    pub values: Vec<AxisValue>,
    pub(super) keys: Vec<String>,
    pub(super) key_span: Span,
    /// Where it stands in the file, as `--set` would write it: `sweep.grid`, `sweep.union.1.zip`.
    pub(super) place: String,
    pub(super) when: Vec<When>,
}

/// One value on an axis.
#[derive(Debug, Clone)]
pub struct AxisValue {
    /// Its text in tables and claims.
    pub label: String,
    pub(super) node: Node,
}

/// An axis exists only where another one has one of some values.
#[derive(Debug, Clone)]
pub(super) struct When {
    /// Position of the other axis; `None` where the other axis is in other sub-grids alone, so that the base's value decides.
    pub axis: Option<usize>,
    /// For each of its values, whether it is one of them.
    pub allowed: Vec<bool>,
    /// Whether the base's own value is one of them, which holds where the other axis is absent.
    pub base_allowed: bool,
}

/// Points left out.
#[derive(Debug, Clone)]
pub(super) struct Exclude {
    /// All of these must hold.
    pub terms: Vec<When>,
    /// Its position among the excludes of the file, by which hits are counted.
    pub idx: usize,
}

impl Sweep {
    /// All axis paths, in the order in which they are first written.
    #[must_use]
    pub fn axes(&self) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        for axis in self.grids.iter().flat_map(|g| &g.axes) {
            if !out.contains(&axis.path.as_str()) {
                out.push(&axis.path);
            }
        }
        out
    }

    /// At most so many points, before conditions and excludes.
    #[must_use]
    pub fn max_points(&self) -> u64 {
        self.grids.iter().map(SubGrid::max_points).fold(0_u64, u64::saturating_add)
    }
}

impl When {
    fn holds(&self, digits: &[u32]) -> bool {
        match self.axis.map(|axis| digits[axis]) {
            None | Some(ABSENT) => self.base_allowed,
            Some(digit) => self.allowed[digit as usize],
        }
    }
}
