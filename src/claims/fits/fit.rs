//! Cells of a table to curves: parameters with intervals, what is left over, and held-out cells.
//!
//! Input: a [`ScalingSpec`] and the table of its cells. Output: [`Fit`]. Invariant: where cells do not fix the parameters, a curve is a
//! [`Refusal`] and no number; a cell with a run that has no value is in no curve and is counted.

use std::collections::BTreeMap;

use super::super::frontier::{Frontier, frontier};
use super::super::source::{CellRow, Measure, RunTables};
use super::super::versus::Costed;
use super::curve::{Curve, Fitted, MAX_TERMS, Point, least_squares, refit};
use super::refusal::Refusal;
use super::spec::{LARGEST, ScalingSpec};
use super::spread::{Normals, Spread, interval};
use crate::run::Outcomes;
use crate::tables::{COUNTS, LOSS, Label, Table, amount};

/// Largest amount over smallest that a fit needs.
pub const LEAST_FACTOR: f64 = 4.0;
/// Amounts of each of two kinds that the joint form needs.
const LEAST_OF_EACH: usize = 3;
/// Share of refits that may lead nowhere before intervals are withheld.
const MOST_LOST: f64 = 0.025;

/// Curves of one statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Name of its statement.
    pub name: String,
    /// One line above it.
    pub caption: Option<String>,
    /// What the error is of.
    pub of: String,
    /// Amounts, one a term.
    pub against: Vec<String>,
    /// Axes of whose labels each has a curve.
    pub by: Vec<String>,
    /// Axes along which cells lie.
    pub along: Vec<String>,
    /// The curves, in plan order.
    pub curves: Vec<FitCurve>,
}

/// One curve, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct FitCurve {
    /// Labels on the axes of `by`.
    pub labels: Vec<String>,
    /// Cells that were fitted.
    pub cells: usize,
    /// Cells without a value.
    pub missing: usize,
    /// Fewest and most seeds of a cell; zero of readings.
    pub seeds: [usize; 2],
    /// What came of it.
    pub found: Result<Found, Refusal>,
}

/// A number and the interval that holds 95 % of its refits, where their spread is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// `e_inf`, `a`, `b`, `r2`; of two amounts, `a` and `b` are followed by theirs.
    pub name: String,
    /// Of the cells as they are.
    pub value: f64,
    /// Where 95 % of refits lie.
    pub interval: Option<[f64; 2]>,
}

/// A fitted curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The curve through the cells as they are.
    pub curve: Curve,
    /// e_inf, then a and b of each term, then R2.
    pub quantities: Vec<Quantity>,
    /// Standard deviation of cells about the curve, points: squares over cells less parameters.
    pub residual: f64,
    /// The cells that were left out, in plan order.
    pub held_out: Vec<HeldOut>,
    /// Curves of the draws; empty where spread is not known.
    pub draws: Vec<Curve>,
    /// What the intervals leave out, or why there are none.
    pub note: Option<String>,
}

/// A cell that was not fitted but predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// Labels on the axes along which cells lie.
    pub labels: Vec<String>,
    /// Its error as the curve has it.
    pub predicted: f64,
    /// Where 95 % of such cells would lie.
    pub interval: Option<[f64; 2]>,
    /// Its error as it was measured.
    pub observed: f64,
}

impl HeldOut {
    /// Whether the measured error lies in the interval, where there is one.
    #[must_use]
    pub fn is_inside(&self) -> Option<bool> {
        self.interval.map(|[low, high]| (low..=high).contains(&self.observed))
    }
}

/// One cell of a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct CurveCell {
    /// Labels on the axes along which cells lie.
    pub labels: Vec<String>,
    /// Amounts, one a term.
    pub at: Vec<f64>,
    /// The metric.
    pub measure: Measure,
    /// Whether it is predicted and not fitted.
    pub is_held_out: bool,
}

/// The cells of a statement by curve.
#[derive(Debug, Clone, PartialEq, Default)]
struct Cells {
    /// Labels of the curves on the axes of `by`, in plan order.
    order: Vec<Vec<String>>,
    /// The cells of each and how many have no value.
    curves: BTreeMap<Vec<String>, (Vec<CurveCell>, usize)>,
}

impl Cells {
    fn new(spec: &ScalingSpec, table: &Table, outcomes: &Outcomes) -> Self {
        let rows: Vec<CellRow> = RunTables::new(std::slice::from_ref(table)).with(outcomes).rows_of_all().collect();
        let (by, along): (Vec<String>, Vec<String>) = (spec.by().cloned().collect(), spec.along());
        let label = |row: &CellRow, path: &String| row.labels.get(path).cloned().unwrap_or_default();
        let place = |row: &CellRow| by.iter().chain(&along).map(|path| label(row, path)).collect::<Vec<_>>();
        let metric = |row: &CellRow| row.labels.get("metric").cloned().unwrap_or_default();
        let counts: BTreeMap<(Vec<String>, String), f64> =
            rows.iter().filter_map(|row| Some(((place(row), metric(row)), row.measure.as_ref().ok()?.mean()))).collect();
        let mut cells = Self::default();
        for row in rows.iter().filter(|row| metric(row) == spec.of) {
            let labels: Vec<String> = by.iter().map(|path| label(row, path)).collect();
            if !cells.curves.contains_key(&labels) {
                cells.order.push(labels.clone());
            }
            let amount_of = |name: &String| match COUNTS.contains(&name.as_str()) {
                true => counts.get(&(place(row), name.clone())).copied(),
                false => amount(&label(row, name)),
            };
            let at: Option<Vec<f64>> = spec.against.iter().map(amount_of).collect();
            let (found, missing) = cells.curves.entry(labels).or_default();
            match (&row.measure, at) {
                (Ok(measure), Some(at)) => {
                    let labels = along.iter().map(|path| label(row, path)).collect();
                    found.push(CurveCell { labels, at, measure: measure.clone(), is_held_out: false });
                }
                _ => *missing += 1,
            }
        }
        for (labels, (found, _)) in &mut cells.curves {
            hold_out(spec, (&by, labels), &along, found);
        }
        cells
    }
}

/// Fits every curve of a statement.
#[must_use]
pub fn fit(spec: &ScalingSpec, table: &Table, outcomes: &Outcomes, normals: Normals<'_>) -> Fit {
    let Cells { order, curves } = Cells::new(spec, table, outcomes);
    let shape = Shape { against: spec.against.0.clone(), is_loss: spec.of == LOSS };
    let of = |labels: Vec<String>| {
        let (cells, missing) = &curves[&labels];
        FitCurve { missing: *missing, ..fit_cells(&shape, labels, cells, normals) }
    };
    Fit {
        name: spec.name.clone(),
        caption: spec.caption.clone(),
        of: spec.of.clone(),
        against: spec.against.0.clone(),
        curves: order.into_iter().map(of).collect(),
        by: spec.by().cloned().collect(),
        along: spec.along(),
    }
}

/// The frontier of all cells of a statement, held-out ones too, where it asks for one.
#[must_use]
pub fn frontier_of(spec: &ScalingSpec, table: &Table, outcomes: &Outcomes) -> Option<Frontier> {
    let against = spec.against.0.first().filter(|_| spec.frontier)?;
    let Cells { order, curves } = Cells::new(spec, table, outcomes);
    let axes: Vec<String> = spec.by().cloned().chain(spec.along()).collect();
    let cells: Vec<Costed> = order
        .iter()
        .flat_map(|labels| curves[labels].0.iter().map(move |cell| (labels, cell)))
        .map(|(labels, cell)| Costed {
            labels: axes.iter().cloned().zip(labels.iter().chain(&cell.labels).cloned()).collect(),
            cost: cell.at[0],
            measure: cell.measure.clone(),
        })
        .collect();
    Some(Frontier {
        name: spec.name.clone(),
        caption: spec.caption.clone(),
        of: spec.of.clone(),
        against: against.clone(),
        axes,
        steps: frontier(&cells, &spec.of, spec.of == LOSS),
        cells,
        missing: curves.values().map(|(_, missing)| missing).sum(),
    })
}

/// Marks the cells of a curve that are held out.
fn hold_out(spec: &ScalingSpec, (by, labels): (&[String], &[String]), along: &[String], cells: &mut [CurveCell]) {
    if spec.hold_out.is_empty() {
        return;
    }
    /// The label and the amount of a cell on a path.
    type Have = (Option<String>, Option<f64>);
    let have = |cell: &CurveCell, path: &String| -> Have {
        let of_curve = by.iter().position(|axis| axis == path).map(|idx| labels[idx].clone());
        let own = along.iter().position(|axis| axis == path).map(|idx| cell.labels[idx].clone());
        let label = of_curve.or(own);
        let term = spec.against.iter().position(|amount| amount == path).map(|idx| cell.at[idx]);
        let of_label = label.as_deref().and_then(amount);
        (label, term.or(of_label))
    };
    let largest = |path: &String| cells.iter().filter_map(|cell| have(cell, path).1).fold(f64::NEG_INFINITY, f64::max);
    let limits: BTreeMap<&String, f64> = spec.hold_out.keys().map(|path| (path, largest(path))).collect();
    let is_named = |(label, found): &Have, wanted: &Label, most: f64| match wanted.as_str() {
        LARGEST => found.is_some_and(|found| found >= most * (1.0 - 1e-9)),
        text => {
            let is_label = label.as_ref().is_some_and(|label| wanted.names(label));
            let is_amount = found.zip(amount(text)).is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * b.abs());
            is_label || is_amount
        }
    };
    let is_out = |cell: &CurveCell| {
        spec.hold_out.iter().all(|(path, wanted)| {
            let have = have(cell, path);
            wanted.iter().any(|label| is_named(&have, label, limits[path]))
        })
    };
    let out: Vec<bool> = cells.iter().map(is_out).collect();
    cells.iter_mut().zip(out).for_each(|(cell, out)| cell.is_held_out = out);
}

/// What a curve is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Amounts, one a term.
    pub against: Vec<String>,
    /// Whether the value is itself the error.
    pub is_loss: bool,
}

impl Shape {
    fn error(&self, value: f64) -> f64 {
        if self.is_loss { value } else { 100.0 - value }
    }

    /// The value that has this error.
    #[must_use]
    pub fn value(&self, error: f64) -> f64 {
        if self.is_loss { error } else { 100.0 - error }
    }

    /// What a shift of the value does to the error.
    fn moved(&self, error: f64, shift: f64) -> f64 {
        if self.is_loss { error + shift } else { error - shift }
    }

    fn num_params(&self) -> usize {
        1 + 2 * self.against.len().min(MAX_TERMS)
    }
}

/// Fits one curve through those of its cells that are not held out.
#[must_use]
pub fn fit_cells(shape: &Shape, labels: Vec<String>, cells: &[CurveCell], normals: Normals<'_>) -> FitCurve {
    let (fitted, held): (Vec<&CurveCell>, Vec<&CurveCell>) = cells.iter().partition(|cell| !cell.is_held_out);
    let seeds = |cell: &&CurveCell| cell.measure.num_runs();
    let seeds = [fitted.iter().map(seeds).min().unwrap_or(0), fitted.iter().map(seeds).max().unwrap_or(0)];
    FitCurve { labels, cells: fitted.len(), missing: 0, seeds, found: found(shape, &fitted, &held, normals) }
}

fn found(shape: &Shape, fitted: &[&CurveCell], held: &[&CurveCell], normals: Normals<'_>) -> Result<Found, Refusal> {
    is_enough(shape, fitted)?;
    let points: Vec<Point> = fitted.iter().map(|cell| point(shape, cell)).collect();
    let all: Vec<&Measure> = fitted.iter().chain(held).map(|cell| &cell.measure).collect();
    let spread = Spread::of(&all, normals);
    falls(shape, &points, spread.as_ref().ok())?;
    let Fitted { curve, is_at_zero } = least_squares(&points)?;
    if is_at_zero {
        return Err(Refusal::FloorAtZero);
    }
    let Refits { curves, r2s, predictions, note } = Refits::new(shape, (&points, held), &curve, &spread);
    let has_draws = !curves.is_empty();
    let of = |read: &dyn Fn(&Curve) -> f64| has_draws.then(|| interval(curves.iter().map(read).collect()));
    let mut quantities = vec![Quantity { name: "e_inf".to_owned(), value: curve.floor, interval: of(&|curve| curve.floor) }];
    for (idx, amount) in shape.against.iter().enumerate().take(curve.terms().len()) {
        let name = |letter: &str| if shape.against.len() > 1 { format!("{letter} {amount}") } else { letter.to_owned() };
        let term = curve.terms()[idx];
        quantities.push(Quantity { name: name("a"), value: term.scale, interval: of(&|curve| curve.terms()[idx].scale) });
        quantities.push(Quantity { name: name("b"), value: term.power, interval: of(&|curve| curve.terms()[idx].power) });
    }
    quantities.push(Quantity { name: "r2".to_owned(), value: r2(&points, &curve), interval: has_draws.then(|| interval(r2s)) });
    let held_out = held.iter().zip(predictions).map(|(cell, predictions)| HeldOut {
        labels: cell.labels.clone(),
        predicted: curve.at(&cell.at),
        interval: has_draws.then(|| interval(predictions)),
        observed: shape.error(cell.measure.mean()),
    });
    Ok(Found { quantities, residual: residual(shape, &points, &curve), held_out: held_out.collect(), draws: curves, note, curve })
}

/// Fits of what other seeds and items would have given.
struct Refits {
    /// A curve a draw; empty where spread is not known, or too many draws lead nowhere.
    curves: Vec<Curve>,
    /// R2 by draw.
    r2s: Vec<f64>,
    /// By held-out cell and draw, where its measured error would lie.
    predictions: Vec<Vec<f64>>,
    /// What the intervals leave out, or why there are none.
    note: Option<String>,
}

impl Refits {
    fn new(shape: &Shape, (points, held): (&[Point], &[&CurveCell]), near: &Curve, spread: &Result<Spread, String>) -> Self {
        let mut out = Self { curves: Vec::new(), r2s: Vec::new(), predictions: vec![Vec::new(); held.len()], note: None };
        let spread = match spread {
            Ok(spread) => spread,
            Err(reason) => return Self { note: Some(format!("no intervals: {reason}")), ..out },
        };
        for shifts in &spread.shifts {
            let moved = |(point, shift): (&Point, &f64)| Point { error: shape.moved(point.error, *shift), ..point.clone() };
            let moved: Vec<Point> = points.iter().zip(shifts).map(moved).collect();
            let Some(again) = refit(&moved, near) else { continue };
            out.r2s.push(r2(&moved, &again));
            for ((cell, shift), predictions) in held.iter().zip(&shifts[points.len()..]).zip(&mut out.predictions) {
                // The cell's own seeds and items part it from the curve as well.
                predictions.push(shape.moved(again.at(&cell.at), -shift));
            }
            out.curves.push(again);
        }
        let (all, lost) = (spread.shifts.len(), spread.shifts.len() - out.curves.len());
        #[expect(clippy::cast_precision_loss, reason = "numbers of draws")]
        let is_lost = lost as f64 > MOST_LOST * all as f64;
        if is_lost {
            out.note = Some(format!("no intervals: {lost} of {all} refits led nowhere"));
            out.curves.clear();
        } else if !spread.knows_items && spread.run_sd.is_some() && !shape.is_loss {
            out.note = Some("outcomes of items are not known: the intervals are of these evaluation sets".to_owned());
        }
        out
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of seeds")]
fn point(shape: &Shape, cell: &CurveCell) -> Point {
    let weight = cell.measure.num_runs().max(1) as f64;
    Point { at: cell.at.clone(), error: shape.error(cell.measure.mean()), weight }
}

/// Whether cells lie at so many amounts, and so far apart, that the parameters can be told.
fn is_enough(shape: &Shape, cells: &[&CurveCell]) -> Result<(), Refusal> {
    let params = shape.num_params();
    let places = distinct(cells.iter().map(|cell| cell.at.clone()).collect());
    for (idx, amount) in shape.against.iter().enumerate() {
        if cells.iter().any(|cell| cell.at[idx] <= 0.0) {
            return Err(Refusal::NotPositive(amount.clone()));
        }
    }
    if places.len() < params + 1 {
        return Err(Refusal::TooFew { have: places.len(), needed: params + 1, params });
    }
    for (idx, amount) in shape.against.iter().enumerate() {
        let amounts = distinct(places.iter().map(|place| vec![place[idx]]).collect());
        if shape.against.len() > 1 && amounts.len() < LEAST_OF_EACH {
            return Err(Refusal::TooFewOf { amount: amount.clone(), have: amounts.len(), needed: LEAST_OF_EACH });
        }
        let factor = amounts[amounts.len() - 1][0] / amounts[0][0];
        if factor < LEAST_FACTOR * (1.0 - 1e-9) {
            return Err(Refusal::Narrow { amount: amount.clone(), factor, needed: LEAST_FACTOR });
        }
    }
    if let [first, second] = shape.against.as_slice()
        && distinct(places.iter().map(|place| vec![place[1] / place[0]]).collect()).len() < 2
    {
        return Err(Refusal::InOneRatio(first.clone(), second.clone()));
    }
    Ok(())
}

/// Places in ascending order, each once; those that differ by rounding alone are one.
fn distinct(mut places: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    places.sort_by(|a, b| {
        a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    });
    places.dedup_by(|a, b| a.iter().zip(b.iter()).all(|(a, b)| (*a - *b).abs() <= 1e-6 * b.abs()));
    places
}

/// Whether the error falls along the amounts as a whole by more than seeds and items scatter: the straight line through the cells in the
/// logarithm of the amounts, whose fall in 97.5 % of draws must be above zero.
fn falls(shape: &Shape, points: &[Point], spread: Option<&Spread>) -> Result<(), Refusal> {
    let logs: Vec<f64> = points.iter().map(|point| point.at.iter().map(|x| libm::log(*x)).sum()).collect();
    let total: f64 = points.iter().map(|point| point.weight).sum();
    let mean = logs.iter().zip(points).map(|(log, point)| log * point.weight).sum::<f64>() / total;
    let spread_of_logs: f64 = logs.iter().zip(points).map(|(log, point)| point.weight * (log - mean).powi(2)).sum();
    let range = logs.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b)) - logs.iter().fold(f64::INFINITY, |a, b| a.min(*b));
    let fall = |errors: &dyn Fn(usize) -> f64| {
        let product: f64 =
            logs.iter().zip(points).enumerate().map(|(idx, (log, point))| point.weight * (log - mean) * errors(idx)).sum();
        -product / spread_of_logs * range
    };
    let found = fall(&|idx| points[idx].error);
    if found <= 1e-9 {
        return Err(Refusal::Rises);
    }
    let Some(spread) = spread else { return Ok(()) };
    let of_draw = |shifts: &Vec<f64>| fall(&|idx| shape.moved(points[idx].error, shifts[idx]));
    let [low, _] = interval(spread.shifts.iter().map(of_draw).collect());
    if low > 0.0 { Ok(()) } else { Err(Refusal::Flat(found)) }
}

fn squares(points: &[Point], expected: impl Fn(&Point) -> f64) -> f64 {
    points.iter().map(|point| point.weight * (point.error - expected(point)).powi(2)).sum()
}

/// The share of the cells' variance that the curve explains.
fn r2(points: &[Point], curve: &Curve) -> f64 {
    let total: f64 = points.iter().map(|point| point.weight).sum();
    let mean = points.iter().map(|point| point.weight * point.error).sum::<f64>() / total;
    1.0 - squares(points, |point| curve.at(&point.at)) / squares(points, |_| mean)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of cells")]
fn residual(shape: &Shape, points: &[Point], curve: &Curve) -> f64 {
    let plain: Vec<Point> = points.iter().map(|point| Point { weight: 1.0, ..point.clone() }).collect();
    (squares(&plain, |point| curve.at(&point.at)) / (points.len() - shape.num_params()) as f64).sqrt()
}
