//! Curves of the paper that this program reproduces, as they were read off its figures.
//!
//! Which figure goes with which table is stated by the experiment alone: its source names the paper, and the table is called after the
//! figure (`fig8`, `fig5b`). Invariant: nothing is drawn where the figure was not digitised, or has no column for an axis of the table.

use super::{Axis, AxisKind, Figure, Form, Looks, Point, Series};
use crate::report::units::brief;
use crate::tables::Table;

/// What the source of an experiment says where it is about the paper.
const PAPER: &str = "2404.08197";

/// The digitised figures.
const FILES: [(&str, &str); 6] = [
    ("architectures", include_str!("../../../experiments/paper/reference/architectures.csv")),
    ("augmentation", include_str!("../../../experiments/paper/reference/augmentation.csv")),
    ("quality", include_str!("../../../experiments/paper/reference/quality.csv")),
    ("quantity", include_str!("../../../experiments/paper/reference/quantity.csv")),
    ("strategies", include_str!("../../../experiments/paper/reference/strategies.csv")),
    ("vit", include_str!("../../../experiments/paper/reference/vit.csv")),
];

/// The panels of the paper's figure that a table is called after.
pub(in crate::report) fn of_paper(table: &Table, source: Option<&str>, looks: &mut Looks) -> Vec<Figure> {
    let is_of_paper = source.is_some_and(|source| source.contains(PAPER));
    let Some((figure, panel)) = table.name.strip_prefix("fig").filter(|_| is_of_paper).map(split) else { return Vec::new() };
    let (Some(x), by) = (table.rows.iter().find_map(|axis| column(axis, table)), table.columns.as_deref()) else {
        return Vec::new();
    };
    let by = by.and_then(|axis| column(axis, table));
    let mut found: Vec<Figure> = Vec::new();
    for (file, text) in FILES {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let Ok(header) = reader.headers().cloned() else { continue };
        for row in reader.records().flatten() {
            let cell = |name: &str| header.iter().position(|known| known == name).and_then(|at| row.get(at)).unwrap_or_default();
            if cell("figure") != figure || !panel.is_empty() && cell("panel") != panel {
                continue;
            }
            let row = Row { file, figure, cell: &cell };
            row.add(table, (x, by), &mut found, looks);
        }
    }
    // A figure that shows the same runs over another axis of its own has the same rows again.
    let is_again = |idx: usize, of: &Figure| found[..idx].iter().any(|other| other.title_behind() == of.title_behind());
    let kept: Vec<bool> = found.iter().enumerate().map(|(idx, figure)| !is_again(idx, figure)).collect();
    found.into_iter().zip(kept).filter(|(figure, kept)| *kept && has_distinct_places(figure)).map(|(figure, _)| figure).collect()
}

/// Number and panel of a figure.
fn split(name: &str) -> (&str, &str) {
    name.split_at(name.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(name.len()))
}

/// The column of the digitised figures that an axis of ours is.
fn column(axis: &str, table: &Table) -> Option<&'static str> {
    match axis {
        "data.train.size" => Some("dataset_size"),
        "data.quality.keep" => Some("quality_percent"),
        "model.image_encoder" => Some("image_encoder"),
        "train.strategy" => Some("strategy"),
        "train.strategy.augmentation" => Some("augmentation"),
        "train.budget" => {
            let at = table.rows.iter().position(|path| path == axis)?;
            table.cells.iter().all(|cell| cell.row[at].starts_with("epochs=")).then_some("epochs")
        }
        _ => None,
    }
}

/// A row of a file.
struct Row<'a> {
    file: &'a str,
    figure: &'a str,
    cell: &'a dyn Fn(&str) -> &'a str,
}

impl Row<'_> {
    /// Puts the row into the frame of its panel.
    fn add(&self, table: &Table, (x, by): (&str, Option<&str>), found: &mut Vec<Figure>, looks: &mut Looks) {
        let number = |name: &str| (self.cell)(name).parse::<f64>().ok();
        let (Some(at), Some(value)) = (number(x), number("value")) else { return };
        let name = format!("{}-paper-{}", table.name, (self.cell)("panel"));
        let line = by.map_or(String::new(), |by| number(by).map_or((self.cell)(by).to_owned(), brief));
        let label = if x == "quality_percent" { format!("{at}%") } else { brief(at) };
        let point = Point { x: at, label, y: value, spread: number("error_pt"), runs: None, is_hollow: false };
        if found.iter().all(|figure| figure.name != name) {
            found.push(self.empty(name.clone(), x, by));
        }
        let Some(figure) = found.iter_mut().find(|figure| figure.name == name) else { return };
        match figure.series.iter_mut().find(|series| series.name == line) {
            Some(series) => series.points.push(point),
            None => {
                let look = looks.of(&format!("paper {}", by.unwrap_or_default()), &line);
                figure.series.push(Series { name: line, is_listed: by.is_some(), look, form: Form::Line, points: vec![point] });
            }
        }
    }

    fn empty(&self, name: String, x: &str, by: Option<&str>) -> Figure {
        let [panel, metric, regime] = ["panel", "metric", "regime"].map(|column| (self.cell)(column).replace('_', " "));
        let kind = if x == "quality_percent" { AxisKind::Linear } else { AxisKind::Log };
        let note =
            format!("Read off the paper (experiments/paper/reference/{}.csv); bars are the error of the reading.", self.file);
        Figure {
            name,
            title: format!("The paper's Figure {}{panel}: {metric}, {regime}", self.figure),
            notes: vec![note],
            x: Axis { name: x.replace('_', " "), kind, is_labelled: true },
            y: Axis { name: metric, kind: AxisKind::Linear, is_labelled: false },
            by: by.map_or(String::new(), |by| by.replace('_', " ")),
            series: Vec::new(),
            meets: Vec::new(),
        }
    }
}

impl Figure {
    /// The title without the number of the panel.
    fn title_behind(&self) -> &str {
        self.title.split_once(": ").map_or(&self.title, |(_, behind)| behind)
    }
}

/// Whether every line has one value at a place.
fn has_distinct_places(figure: &Figure) -> bool {
    figure.series.iter().all(|series| {
        let mut places: Vec<u64> = series.points.iter().map(|point| point.x.to_bits()).collect();
        places.sort_unstable();
        places.windows(2).all(|pair| pair[0] != pair[1])
    })
}
