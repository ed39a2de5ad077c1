//! `curves.csv`: one row a logged step, runs in plan order.

use std::collections::BTreeMap;

use super::RecordError;
use super::text::{csv_bytes, number, parse_number};
use crate::run::{CurvePoint, RunRecord};

pub(super) const NAME: &str = "curves.csv";
const HEADER: [&str; 7] = ["run_id", "step", "samples_seen", "loss", "lr", "logit_scale", "grad_norm"];

pub(super) fn write(runs: &[RunRecord]) -> Result<Vec<u8>, RecordError> {
    let rows = runs.iter().flat_map(|run| {
        run.curve.iter().map(|point| {
            let CurvePoint { step, samples_seen, loss, lr, logit_scale, grad_norm } = *point;
            let counts = [run.run_id.clone(), step.to_string(), samples_seen.to_string()];
            counts.into_iter().chain([loss, lr, logit_scale, grad_norm].map(number)).collect()
        })
    });
    csv_bytes(NAME, &HEADER.map(str::to_owned), rows)
}

pub(super) fn parse(text: &[u8]) -> Result<BTreeMap<String, Vec<CurvePoint>>, RecordError> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| RecordError::csv(NAME, &error))?;
    if header.iter().ne(HEADER) {
        return Err(RecordError::Malformed { file: NAME, line: 1, what: format!("columns {header:?}, expected {HEADER:?}") });
    }
    let mut curves: BTreeMap<String, Vec<CurvePoint>> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| RecordError::csv(NAME, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |column: usize| RecordError::Malformed {
            file: NAME,
            line,
            what: format!("`{}` is `{}`, not a number", HEADER[column], &record[column]),
        };
        let count = |column: usize| record[column].parse::<u64>().map_err(|_| wrong(column));
        let float = |column: usize| parse_number(&record[column]).ok_or_else(|| wrong(column));
        curves.entry(record[0].to_owned()).or_default().push(CurvePoint {
            step: count(1)?,
            samples_seen: count(2)?,
            loss: float(3)?,
            lr: float(4)?,
            logit_scale: float(5)?,
            grad_norm: float(6)?,
        });
    }
    Ok(curves)
}
