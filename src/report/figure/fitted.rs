//! Fits and frontiers as figures: errors and their curves over an amount, values over a cost.
//!
//! Invariant: points are the cells that were fitted or held out; a curve is drawn over the amounts of its cells alone, and where there is none
//! the figure says why.

use std::collections::BTreeMap;

use super::{Axis, AxisKind, Figure, Form, Looks, MOST_SERIES, Point, Series};
use crate::claims::fits::{Fit, FitCurve};
use crate::claims::{Costed, Frontier};
use crate::run::counted;
use crate::tables::{COUNTS, Cell, LOSS, Table, amount};

/// Places at which a curve is drawn.
const PLACES: u32 = 40;

/// The curves of a fit of one amount over the table of its cells; none of two amounts, or of more curves than are told apart.
pub(in crate::report) fn of_fit(fit: &Fit, cells: &Table, looks: &mut Looks) -> Option<Figure> {
    let [against] = fit.against.as_slice() else { return None };
    if fit.curves.len() > MOST_SERIES {
        return None;
    }
    let by = fit.by.join(", ");
    let (mut series, mut notes) = (Vec::new(), Vec::new());
    for curve in &fit.curves {
        let name = name_of(&curve.labels);
        let look = looks.of(&by, &name);
        let points = points(fit, curve, against, cells);
        let fitted = curve.found.as_ref().ok();
        let form = if fitted.is_some() { Form::Marks } else { Form::Line };

        let ends = points.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), point| (low.min(point.x), high.max(point.x)));
        series.push(Series { name: name.clone(), is_listed: !by.is_empty(), look, form, points });
        if let Some(found) = fitted {
            let at = |x: f64| plain(x, found.curve.at(&[x]));
            series.push(Series { name, is_listed: false, look, form: Form::Curve, points: between(ends).map(at).collect() });
        }
    }
    let refused = fit.curves.iter().filter(|curve| curve.found.is_err()).count();
    if refused > 0 {
        notes.push(format!("{refused} of {} not fitted; the rows below say why.", counted(fit.curves.len(), "curve")));
    }
    let has_points = series.iter().any(|series| !series.points.is_empty());
    let what = if fit.of == LOSS { "training loss".to_owned() } else { format!("error: 100 - {}", fit.of) };
    let figure = Figure {
        name: format!("fit-{}", fit.name),
        title: format!("{what} against {against}"),
        notes,
        x: over(against),
        y: Axis { name: what, kind: AxisKind::Log, is_labelled: false },
        by,
        series,
        meets: Vec::new(),
    };
    has_points.then_some(figure)
}

fn over(amount: &str) -> Axis {
    let name = if amount == "gmacs" { "gmacs: 10^9 forward multiply-accumulates of a run".to_owned() } else { amount.to_owned() };
    Axis { name, kind: AxisKind::Log, is_labelled: false }
}

fn name_of(labels: &[String]) -> String {
    labels.iter().map(|label| if label.is_empty() { "(none)" } else { label }).collect::<Vec<_>>().join(", ")
}

fn plain(x: f64, y: f64) -> Point {
    Point { x, label: String::new(), y, spread: None, runs: None, is_hollow: false }
}

/// Places from one amount to another in equal ratios.
fn between((low, high): (f64, f64)) -> impl Iterator<Item = f64> {
    let step = libm::log(high / low) / f64::from(PLACES - 1);
    (0..PLACES).map(move |idx| low * libm::exp(step * f64::from(idx)))
}

/// The cells of a curve.
fn points(fit: &Fit, curve: &FitCurve, against: &str, cells: &Table) -> Vec<Point> {
    let num_by = fit.by.len();
    let of_curve = || cells.cells.iter().filter(|cell| cell.row[..num_by] == curve.labels[..]);
    let counts: BTreeMap<&[String], f64> =
        of_curve().filter(|cell| cell.metric == against).filter_map(|cell| Some((cell.row.as_slice(), cell.mean()?))).collect();
    let axis = cells.rows.iter().position(|path| path == against);
    let place = |cell: &Cell| match COUNTS.contains(&against) {
        true => counts.get(cell.row.as_slice()).copied(),
        false => amount(&cell.row[axis?]),
    };
    let is_held_out = |cell: &Cell| {
        let found = curve.found.as_ref();
        found.is_ok_and(|found| found.held_out.iter().any(|held| held.labels == cell.row[num_by..]))
    };
    let point = |cell: &Cell| {
        let mean = cell.mean().filter(|_| cell.missing == 0)?;
        let y = if fit.of == LOSS { mean } else { 100.0 - mean };
        let label = name_of(&cell.row[num_by..]);
        Some(Point { x: place(cell)?, label, y, spread: cell.stddev(), runs: Some(cell.n()), is_hollow: is_held_out(cell) })
    };
    of_curve().filter(|cell| cell.metric == fit.of).filter_map(point).collect()
}

/// All cells of a frontier, and the frontier as stairs.
pub(in crate::report) fn of_frontier(frontier: &Frontier, looks: &mut Looks) -> Option<Figure> {
    let by = frontier.axes.first().cloned().unwrap_or_default();
    let mut series: Vec<Series> = Vec::new();
    for cell in &frontier.cells {
        let name = cell.labels.first().map_or(String::new(), |(_, label)| name_of(std::slice::from_ref(label)));
        match series.iter_mut().find(|series| series.name == name) {
            Some(known) => known.points.push(of_cell(cell)),
            None => {
                let look = looks.of(&by, &name);
                series.push(Series { name, is_listed: !by.is_empty(), look, form: Form::Marks, points: vec![of_cell(cell)] });
            }
        }
    }
    if series.is_empty() || series.len() > MOST_SERIES {
        return None;
    }
    let steps = frontier.steps.iter().map(|step| of_cell(&frontier.cells[step.cell])).collect();
    let stairs = Series { name: "frontier".to_owned(), is_listed: true, look: series.len(), form: Form::Stairs, points: steps };
    // Marks lie over the stairs.
    series.insert(0, stairs);
    Some(Figure {
        name: format!("frontier-{}", frontier.name),
        title: format!("{} against {}, and the best cell at each cost", frontier.of, frontier.against),
        notes: Vec::new(),
        x: over(&frontier.against),
        y: Axis { name: frontier.of.clone(), kind: AxisKind::Linear, is_labelled: false },
        by,
        series,
        meets: Vec::new(),
    })
}

fn of_cell(cell: &Costed) -> Point {
    let label = cell.name();
    Point { label, runs: Some(cell.run_ids().len()), ..plain(cell.cost, cell.measure.mean()) }
}
