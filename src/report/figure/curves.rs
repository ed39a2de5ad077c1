//! Losses of runs while they train, thinned.
//!
//! Invariant: a point is the mean of a span of logged steps of one run, at the last of them; which runs and how many spans are drawn is said
//! beside the figures.

use std::collections::BTreeMap;

use super::{Axis, AxisKind, Figure, Form, Looks, MOST_SERIES, Point, Series};
use crate::record::{PointView, Records};
use crate::run::{CurvePoint, RunRecord, counted};

/// Most runs that are drawn.
const MOST_RUNS: usize = 120;
/// Most points of a run.
const SPANS: usize = 30;
/// Most frames.
const MOST_FRAMES: usize = 6;

/// The losses of runs over samples seen, told apart by the first axis with few enough labels, in a frame for each label of the next.
pub(in crate::report) fn of_curves(records: &Records, axes: &[String], looks: &mut Looks) -> Vec<Figure> {
    let with_curve: Vec<&RunRecord> = records.runs.iter().filter(|run| !run.curve.is_empty()).collect();
    let every = with_curve.len().div_ceil(MOST_RUNS).max(1);
    let axis = |most: usize, other: Option<&String>| {
        let fits = |axis: &&String| Some(*axis) != other && (2..=most).contains(&labels(&records.points, axis).len());
        axes.iter().find(fits)
    };
    let by = axis(MOST_SERIES, None);
    let across = axis(MOST_FRAMES, by);
    let (lines, frames) = (Labelled::of(&records.points, by), Labelled::of(&records.points, across));
    let by = by.cloned().unwrap_or_default();
    let mut figures: Vec<(&str, Figure)> = Vec::new();
    for run in with_curve.iter().step_by(every) {
        let frame = frames.label(run);
        if figures.iter().all(|(known, _)| *known != frame) {
            let place = across.map_or(String::new(), |axis| format!(", {axis} = {frame}"));
            figures.push((frame, empty(format!("Training loss{place}"), &by)));
        }
        let Some((_, figure)) = figures.iter_mut().find(|(known, _)| *known == frame) else { continue };
        let (name, points) = (lines.label(run), thinned(run));
        let is_listed = !by.is_empty() && figure.series.iter().all(|known| known.name != name);
        let look = looks.of(&by, name);
        figure.series.push(Series { name: name.to_owned(), is_listed, look, form: Form::Curve, points });
    }
    let is_one = figures.len() == 1;
    let finish = |(idx, (_, figure)): (usize, (&str, Figure))| {
        let name = if is_one { "loss".to_owned() } else { format!("loss-{}", idx + 1) };
        let (low, high) =
            figure.points().fold((f64::INFINITY, 0.0_f64), |(low, high), point| (low.min(point.x), high.max(point.x)));
        let kind = if high >= 8.0 * low { AxisKind::Log } else { AxisKind::Linear };
        let notes = vec![format!("{}.", counted(figure.series.len(), "run"))];
        Figure { name, notes, x: Axis { kind, ..figure.x }, ..figure }
    };
    let drawn = figures.into_iter().filter(|(_, figure)| figure.points().next().is_some());
    drawn.enumerate().map(finish).collect()
}

/// How curves are drawn, in words.
pub(in crate::report) fn how_curves_are_drawn(records: &Records) -> String {
    let with_curve = records.runs.iter().filter(|run| !run.curve.is_empty()).count();
    let every = with_curve.div_ceil(MOST_RUNS).max(1);
    let thinned = match every {
        1 => String::new(),
        every => format!(" Of {with_curve} runs one in {every} is drawn, in the order of the plan."),
    };
    format!(
        "A line is a run. Its logged steps are cut into {SPANS} equal spans at most; a point is the mean loss of one span, at its last \
         step.{thinned}"
    )
}

fn empty(title: String, by: &str) -> Figure {
    Figure {
        name: String::new(),
        title,
        notes: Vec::new(),
        x: Axis { name: "samples seen".to_owned(), kind: AxisKind::Log, is_labelled: false },
        y: Axis { name: "training loss, nats".to_owned(), kind: AxisKind::Linear, is_labelled: false },
        by: by.to_owned(),
        series: Vec::new(),
        meets: Vec::new(),
    }
}

/// The label of each run on an axis, that of its first point.
struct Labelled<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Labelled<'a> {
    fn of(points: &'a [PointView], axis: Option<&String>) -> Self {
        let mut label_of = BTreeMap::new();
        for point in points {
            let label = axis.and_then(|axis| point.labels.get(axis)).map_or("", String::as_str);
            point.run_ids.iter().for_each(|run_id| _ = label_of.entry(run_id.as_str()).or_insert(label));
        }
        Self(label_of)
    }

    fn label(&self, run: &RunRecord) -> &'a str {
        match self.0.get(run.run_id.as_str()) {
            Some(label) if !label.is_empty() => label,
            _ => "(none)",
        }
    }
}

fn labels<'a>(points: &'a [PointView], axis: &str) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for label in points.iter().filter_map(|point| point.labels.get(axis)) {
        if !found.contains(&label.as_str()) {
            found.push(label);
        }
        if found.len() > MOST_SERIES {
            break;
        }
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples and steps stay far below 2^53")]
fn thinned(run: &RunRecord) -> Vec<Point> {
    let finite: Vec<&CurvePoint> = run.curve.iter().filter(|point| point.loss.is_finite()).collect();
    let spans = finite.len().min(SPANS);
    let of_span = |idx: usize| {
        let span = &finite[finite.len() * idx / spans..finite.len() * (idx + 1) / spans];
        let last = span.last()?;
        let y = span.iter().map(|point| point.loss).sum::<f64>() / span.len() as f64;
        Some(Point { x: last.samples_seen as f64, label: run.run_id.clone(), y, spread: None, runs: None, is_hollow: false })
    };
    (0..spans).filter_map(of_span).collect()
}
