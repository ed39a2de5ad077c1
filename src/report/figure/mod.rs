//! Figures: what is drawn, and its three forms.
//!
//! Owns [`Figure`], made of tables, fits, frontiers and loss curves, and writes it as SVG, CSV and a Vega-Lite specification. Invariant: pure;
//! every number drawn stands in the CSV. Must not know: the page.

mod curves;
mod fitted;
mod paper;
mod scale;
mod svg;
mod tabled;
mod text;
mod vega;

pub(super) use curves::{how_curves_are_drawn, of_curves};
pub(super) use fitted::{of_fit, of_frontier};
pub(super) use paper::of_paper;
pub(super) use svg::{draw, style};
pub(super) use tabled::{MeetingOn, of_table};

/// Most lines that one figure tells apart.
pub(super) const MOST_SERIES: usize = 12;

/// What is drawn in one frame.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// Name of its files within `figures/`.
    pub name: String,
    /// What it shows, above the frame.
    pub title: String,
    /// What a reader must know of it, below.
    pub notes: Vec<String>,
    /// What runs across.
    pub x: Axis,
    /// What runs up; across where `x` is of names.
    pub y: Axis,
    /// What tells the lines apart: a key path, or nothing where there is one.
    pub by: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Where lines are said to meet.
    pub meets: Vec<Meeting>,
}

/// One axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// What it measures.
    pub name: String,
    /// How places on it are found.
    pub kind: AxisKind,
    /// Whether its ticks are the labels of points.
    pub is_labelled: bool,
}

/// How places on an axis are found.
#[derive(Debug, Clone)]
pub(super) enum AxisKind {
    /// By amounts in equal steps.
    Linear,
    /// By amounts in equal ratios.
    Log,
    /// By names, in this order; a point's `x` is the position.
    Names(Vec<String>),
}

/// How the points of a line are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Marks with a line through them.
    Line,
    /// Marks alone.
    Marks,
    /// A line alone: a curve that was fitted or a loss.
    Curve,
    /// A line of stairs, each level from its point on.
    Stairs,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Its name.
    pub name: String,
    /// Whether it stands in the legend.
    pub is_listed: bool,
    /// Which colour, mark and dash.
    pub look: usize,
    /// How it is drawn.
    pub form: Form,
    /// Its points.
    pub points: Vec<Point>,
}

/// One point.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// Place along x.
    pub x: f64,
    /// What it is called there.
    pub label: String,
    /// Value.
    pub y: f64,
    /// Half the length of its bar, where it has one.
    pub spread: Option<f64>,
    /// Runs behind it, where that is known.
    pub runs: Option<usize>,
    /// Whether its mark is hollow: a cell that was held out.
    pub is_hollow: bool,
}

/// Where two lines meet.
#[derive(Debug, Clone)]
pub(super) struct Meeting {
    /// The claim that says so.
    pub claim: String,
    /// Where the difference is zero.
    pub at: f64,
    /// Where neither leads clearly; an open end is left out.
    pub low: Option<f64>,
    /// As `low`.
    pub high: Option<f64>,
}

impl Figure {
    /// The axis along which values are read, and whether it lies across.
    fn has_names(&self) -> bool {
        matches!(self.x.kind, AxisKind::Names(_))
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|series| &series.points)
    }

    /// Every number that is drawn: a row a point.
    pub fn to_csv(&self) -> Vec<u8> {
        vega::csv(self)
    }

    /// The same as a Vega-Lite specification.
    pub fn to_vega(&self) -> serde_json::Value {
        vega::spec(self)
    }
}

/// The looks of names that stand for one another throughout a report: one name has one colour, mark and dash.
#[derive(Debug, Default)]
pub(super) struct Looks(Vec<(String, String)>);

impl Looks {
    /// The look of a label on an axis.
    pub fn of(&mut self, axis: &str, label: &str) -> usize {
        let of_axis = self.0.iter().filter(|(known, _)| known == axis);
        match of_axis.clone().position(|(_, known)| known == label) {
            Some(found) => found,
            None => {
                let next = of_axis.count();
                self.0.push((axis.to_owned(), label.to_owned()));
                next
            }
        }
    }
}
