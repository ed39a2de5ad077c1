//! Tables of runs as figures: a metric in a frame, over the first axis of rows whose labels are amounts.
//!
//! Invariant: what a figure shows are cells of the table, their means and standard deviations; a cell without a value is left out and counted.
//! Where no axis is of amounts, values are dots by name. Other axes of rows make further frames, or lines where no axis runs across.

use std::collections::BTreeMap;

use super::{Axis, AxisKind, Figure, Form, Looks, MOST_SERIES, Meeting, Point, Series};
use crate::run::counted;
use crate::tables::{COUNTS, Cell, Table, amount};

/// Most names in one frame.
const MOST_NAMES: usize = 40;
/// Most frames of a table.
const MOST_FRAMES: usize = 12;
/// An axis whose largest amount is so many times the smallest is logarithmic.
const LOG_FROM: f64 = 8.0;

/// What came of a table.
pub(in crate::report) struct Drawn {
    /// Its frames.
    pub figures: Vec<Figure>,
    /// What is not drawn and why.
    pub left_out: Option<String>,
}

/// A place where a claim says that lines of a metric meet along an axis.
pub(in crate::report) struct MeetingOn<'a> {
    pub axis: &'a str,
    pub metric: Option<&'a str>,
    pub meeting: Meeting,
}

/// How the axes of a table are used.
struct Layout {
    /// Position of the axis along x among the axes of rows.
    x: usize,
    /// The name of x and the amounts of its labels, where they are amounts.
    amounts: Option<(String, BTreeMap<String, f64>)>,
    /// Positions of axes of rows that make further frames.
    frames: Vec<usize>,
    /// Positions of axes of rows whose labels make lines.
    lines: Vec<usize>,
}

/// Draws a table.
pub(in crate::report) fn of_table(table: &Table, looks: &mut Looks, meetings: &[MeetingOn<'_>]) -> Drawn {
    let layout = Layout::of(table);
    let metrics: Vec<&String> = table.metrics.iter().filter(|metric| !COUNTS.contains(&metric.as_str())).collect();
    let mut drawn = Drawn { figures: Vec::new(), left_out: None };
    let mut frames: Vec<Vec<&str>> = Vec::new();
    for cell in &table.cells {
        let frame = labels(cell, &layout.frames);
        if !frames.contains(&frame) {
            frames.push(frame);
        }
    }
    let all: Vec<(&String, &Vec<&str>)> =
        metrics.into_iter().flat_map(|metric| frames.iter().map(move |frame| (metric, frame))).collect();
    if all.len() > MOST_FRAMES {
        drawn.left_out = Some(format!("Of {} the first {MOST_FRAMES} are drawn.", counted(all.len(), "frame")));
    }
    let is_one = all.len() == 1;
    for (idx, (metric, frame)) in all.into_iter().take(MOST_FRAMES).enumerate() {
        let name = if is_one { table.name.clone() } else { format!("{}-{}", table.name, idx + 1) };
        match of_frame(table, &layout, (metric, frame), looks) {
            Ok(figure) if figure.points().next().is_none() => drawn.left_out = Some("No cell has a value.".to_owned()),
            Ok(figure) => {
                let meets = meetings.iter().filter(|on| frames.len() == 1 && on.axis == table.rows[layout.x]);
                let meets = meets.filter(|on| on.metric.map_or(table.metrics.len() == 1, |named| named == metric));
                let meets = meets.map(|on| on.meeting.clone()).collect();
                drawn.figures.push(Figure { name, meets, ..figure });
            }
            Err(why) => drawn.left_out = Some(why),
        }
    }
    drawn
}

impl Layout {
    fn of(table: &Table) -> Self {
        let of_axis = |idx: usize| amounts(&table.rows[idx], table.cells.iter().map(|cell| cell.row[idx].as_str()));
        let found = (0..table.rows.len()).find_map(|idx| Some((idx, of_axis(idx)?)));
        let (x, amounts) = found.map_or((0, None), |(idx, amounts)| (idx, Some(amounts)));
        let others: Vec<usize> = (0..table.rows.len()).filter(|idx| *idx != x).collect();
        let (frames, lines) = if table.columns.is_some() { (others, Vec::new()) } else { (Vec::new(), others) };
        Self { x, amounts, frames, lines }
    }

    /// The axis along x with its labels in the order of the table.
    fn x_axis(&self, table: &Table, names: Vec<String>) -> Axis {
        let Some((name, amounts)) = &self.amounts else {
            return Axis { name: table.rows[self.x].clone(), kind: AxisKind::Names(names), is_labelled: true };
        };
        let (low, high) = amounts.values().fold((f64::INFINITY, 0.0_f64), |(low, high), at| (low.min(*at), high.max(*at)));
        let kind = if low > 0.0 && high / low >= LOG_FROM { AxisKind::Log } else { AxisKind::Linear };
        Axis { name: name.clone(), kind, is_labelled: true }
    }
}

/// The amounts of labels, two or more of them: `500`, `2k`, or `epochs=1`, `epochs=2`, whose name is that of the axis and the key.
fn amounts<'a>(axis: &str, labels: impl Iterator<Item = &'a str>) -> Option<(String, BTreeMap<String, f64>)> {
    let mut found = BTreeMap::new();
    let mut key: Option<&str> = None;
    for label in labels {
        let (own, number) = label.split_once('=').map_or(("", label), |(own, number)| (own, number));
        if key.is_some_and(|key| key != own) {
            return None;
        }
        key = Some(own);
        found.insert(label.to_owned(), amount(number)?);
    }
    let name = key.filter(|key| !key.is_empty()).map_or(axis.to_owned(), |key| format!("{axis}: {key}"));
    let mut distinct: Vec<f64> = found.values().copied().collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    (distinct.len() > 1).then_some((name, found))
}

fn labels<'a>(cell: &'a Cell, axes: &[usize]) -> Vec<&'a str> {
    axes.iter().map(|idx| cell.row[*idx].as_str()).collect()
}

fn shown(label: &str) -> String {
    if label.is_empty() { "(none)".to_owned() } else { label.to_owned() }
}

/// One metric in one frame; why it is not drawn, where it is not.
#[expect(clippy::cast_precision_loss, reason = "positions of names")]
fn of_frame(table: &Table, layout: &Layout, (metric, frame): (&str, &[&str]), looks: &mut Looks) -> Result<Figure, String> {
    let by = match (&table.columns, layout.lines.as_slice()) {
        (Some(path), _) => path.clone(),
        (None, lines) => lines.iter().map(|idx| table.rows[*idx].as_str()).collect::<Vec<_>>().join(", "),
    };
    let (mut names, mut series): (Vec<String>, Vec<Series>) = (Vec::new(), Vec::new());
    let (mut without, mut partial) = (0, 0);
    for cell in table.cells.iter().filter(|cell| cell.metric == metric && labels(cell, &layout.frames) == frame) {
        // The name of the axis says what the amounts are of.
        let own = &cell.row[layout.x];
        let label = if layout.amounts.is_some() { own.rsplit('=').next().unwrap_or(own).to_owned() } else { shown(own) };
        let at = names.iter().position(|known| *known == label).unwrap_or_else(|| {
            names.push(label.clone());
            names.len() - 1
        });
        let line = match &cell.column {
            Some(column) => shown(column),
            None => labels(cell, &layout.lines).into_iter().map(shown).collect::<Vec<_>>().join(", "),
        };
        let Some(mean) = cell.mean() else {
            without += 1;
            continue;
        };
        partial += usize::from(cell.missing > 0);
        let x = layout.amounts.as_ref().map_or(at as f64, |(_, amounts)| amounts[&cell.row[layout.x]]);
        let point = Point { x, label, y: mean, spread: cell.stddev(), runs: Some(cell.n()), is_hollow: false };
        match series.iter_mut().find(|series| series.name == line) {
            Some(known) => known.points.push(point),
            None => {
                let (look, is_listed) = (looks.of(&by, &line), !by.is_empty());
                series.push(Series { name: line, is_listed, look, form: Form::Line, points: vec![point] });
            }
        }
    }
    if series.len() > MOST_SERIES {
        return Err(format!("Not drawn: {} lines are more than a reader tells apart.", series.len()));
    }
    if layout.amounts.is_none() && names.len() > MOST_NAMES {
        return Err(format!("Not drawn: {} names are more than one frame holds.", names.len()));
    }
    let mut notes = Vec::new();
    if without > 0 {
        notes.push(format!("{} without a value.", counted(without, "cell")));
    }
    if partial > 0 {
        notes.push(format!("{} without some of the runs.", counted(partial, "cell")));
    }
    let of_frame = layout.frames.iter().zip(frame).map(|(idx, label)| format!("{} = {}", table.rows[*idx], shown(label)));
    let title = std::iter::once(metric.to_owned()).chain(of_frame).collect::<Vec<_>>().join(", ");
    let y = Axis { name: metric.to_owned(), kind: AxisKind::Linear, is_labelled: false };
    Ok(Figure { name: String::new(), title, notes, x: layout.x_axis(table, names), y, by, series, meets: Vec::new() })
}
