//! `curves.csv`: one row a logged step, runs in plan order. Where a loss has several terms, each is a column `loss_<term>`, without its
//! weight; a run without the term has an empty cell.

use std::collections::{BTreeMap, BTreeSet};

use super::RecordError;
use super::text::{csv_bytes, number, parse_number};
use crate::run::{CurvePoint, RunRecord};

pub(super) const NAME: &str = "curves.csv";
const HEADER: [&str; 7] = ["run_id", "step", "samples_seen", "loss", "lr", "logit_scale", "grad_norm"];
const TERM: &str = "loss_";

pub(super) fn write(runs: &[RunRecord]) -> Result<Vec<u8>, RecordError> {
    let points = runs.iter().flat_map(|run| run.curve.iter().map(move |point| (run, point)));
    let terms: BTreeSet<&String> = points.clone().flat_map(|(_, point)| point.terms.keys()).collect();
    let rows = points.map(|(run, point)| {
        let CurvePoint { step, samples_seen, loss, terms: of_point, lr, logit_scale, grad_norm } = point;
        let counts = [run.run_id.clone(), step.to_string(), samples_seen.to_string()];
        let of_terms = terms.iter().map(|name| of_point.get(*name).copied().map(number).unwrap_or_default());
        counts.into_iter().chain([*loss, *lr, *logit_scale, *grad_norm].map(number)).chain(of_terms).collect()
    });
    let header: Vec<String> =
        HEADER.map(str::to_owned).into_iter().chain(terms.iter().map(|name| format!("{TERM}{name}"))).collect();
    csv_bytes(NAME, &header, rows)
}

pub(super) fn parse(text: &[u8]) -> Result<BTreeMap<String, Vec<CurvePoint>>, RecordError> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| RecordError::csv(NAME, &error))?.clone();
    let terms: Option<Vec<&str>> = header.iter().skip(HEADER.len()).map(|name| name.strip_prefix(TERM)).collect();
    let Some(terms) = terms.filter(|_| header.iter().take(HEADER.len()).eq(HEADER)) else {
        let what = format!("columns {header:?}, expected {HEADER:?}, then `{TERM}<term>` for each term of a loss of several");
        return Err(RecordError::Malformed { file: NAME, line: 1, what });
    };
    let mut curves: BTreeMap<String, Vec<CurvePoint>> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| RecordError::csv(NAME, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |column: usize| RecordError::Malformed {
            file: NAME,
            line,
            what: format!("`{}` is `{}`, not a number", &header[column], &record[column]),
        };
        let count = |column: usize| record[column].parse::<u64>().map_err(|_| wrong(column));
        let float = |column: usize| parse_number(&record[column]).ok_or_else(|| wrong(column));
        let stated = |(column, name): (usize, &&str)| match &record[column] {
            "" => None,
            _ => Some(float(column).map(|value| ((*name).to_owned(), value))),
        };
        curves.entry(record[0].to_owned()).or_default().push(CurvePoint {
            step: count(1)?,
            samples_seen: count(2)?,
            loss: float(3)?,
            terms: (HEADER.len()..).zip(&terms).filter_map(stated).collect::<Result<_, _>>()?,
            lr: float(4)?,
            logit_scale: float(5)?,
            grad_norm: float(6)?,
        });
    }
    Ok(curves)
}
