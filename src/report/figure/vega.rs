//! Figures as CSV and as Vega-Lite, for those who draw them again.
//!
//! Invariant: numbers are written in the shortest form that reads back the same; what has no value is an empty cell.

use serde_json::{Value, json};

use super::{AxisKind, Figure, Form, Point, Series};
use crate::record::number;

/// A row a point: line, place, value, half the length of its bar, runs.
pub(super) fn csv(figure: &Figure) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |fields: [&str; 6]| writer.write_record(fields).expect("writing to memory does not fail");
    let by = if figure.by.is_empty() { "line" } else { figure.by.as_str() };
    write([by, &figure.x.name, "x", &figure.y.name, "spread", "runs"]);
    for (series, point) in rows(figure) {
        let place = if figure.has_names() { String::new() } else { number(point.x) };
        let (spread, runs) = (point.spread.map(number).unwrap_or_default(), point.runs.map(|runs| runs.to_string()));
        write([&series.name, &label(point), &place, &number(point.y), &spread, &runs.unwrap_or_default()]);
    }
    writer.into_inner().expect("writing to memory does not fail")
}

fn rows(figure: &Figure) -> impl Iterator<Item = (&Series, &Point)> {
    figure.series.iter().flat_map(|series| series.points.iter().map(move |point| (series, point)))
}

fn label(point: &Point) -> String {
    if point.label.is_empty() { number(point.x) } else { point.label.clone() }
}

/// The specification, its data inside.
pub(super) fn spec(figure: &Figure) -> Value {
    let value = |(series, point): (&Series, &Point)| {
        let [low, high] = [-1.0, 1.0].map(|sign| point.spread.map(|spread| point.y + sign * spread));
        let x = if figure.has_names() { json!(point.label) } else { json!(point.x) };
        json!({ "line": series.name, "x": x, "y": point.y, "low": low, "high": high })
    };
    let values: Vec<Value> = rows(figure).map(value).collect();
    let axis = |name: &str, kind: &AxisKind, field: &str| {
        let scale = match kind {
            AxisKind::Log => json!({ "type": "log" }),
            AxisKind::Linear | AxisKind::Names(_) => json!({ "zero": false }),
        };
        match kind {
            AxisKind::Names(names) => json!({ "field": field, "type": "nominal", "sort": names, "title": name }),
            _ => json!({ "field": field, "type": "quantitative", "scale": scale, "title": name }),
        }
    };
    let value_axis = axis(&figure.y.name, &figure.y.kind, "y");
    let ends = json!({ "field": "low", "type": "quantitative" });
    let (across, up) = if figure.has_names() { ("y", "x") } else { ("x", "y") };
    let line = json!({ "field": "line", "type": "nominal", "title": figure.by });
    let has_lines = !figure.has_names() && figure.series.iter().any(|series| series.form != Form::Marks);
    let marks = if has_lines { json!({ "type": "line", "point": true }) } else { json!({ "type": "point", "filled": true }) };
    let dash = if has_lines { "strokeDash" } else { "shape" };
    json!({
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": figure.title,
        "data": { "values": values },
        "encoding": { across: axis(&figure.x.name, &figure.x.kind, "x"), "color": line },
        "layer": [
            { "mark": "rule", "transform": [{ "filter": "datum.low !== null" }], "encoding": { up: ends, format!("{up}2"): { "field": "high" } } },
            { "mark": marks, "encoding": { up: value_axis, dash: line } },
        ],
    })
}
