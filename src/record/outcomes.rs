//! `outcomes.csv`: what every item of an evaluation set came to, for the metrics that tables show; one row a run, metric and set.
//!
//! `set` names the items, `of` is how many hits they could have, `bits` how many bits a count of hits takes, `hits` the counts in
//! hexadecimal digits, first item first: a digit holds four counts of one bit, the first in its highest bit, or fewer of more bits.
//! Invariant: the file is there only where outcomes are known, and what it says gives the metric in `runs.csv` again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RecordError;
use super::text::csv_bytes;
use crate::run::{Outcomes, SetOutcomes};

pub(super) const NAME: &str = "outcomes.csv";
const HEADER: [&str; 7] = ["run_id", "metric", "set", "items", "of", "bits", "hits"];

/// The file, runs in this order.
pub(super) fn write<'a>(outcomes: &Outcomes, run_ids: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, RecordError> {
    let of_run = |run_id: &'a str| {
        let metrics = outcomes.0.get(run_id).into_iter().flatten();
        metrics.flat_map(move |(metric, sets)| sets.iter().map(move |set| row(run_id, metric, set)))
    };
    csv_bytes(NAME, &HEADER.map(str::to_owned), run_ids.flat_map(of_run))
}

fn row(run_id: &str, metric: &str, SetOutcomes { set, hits, of }: &SetOutcomes) -> Vec<String> {
    let most = hits.iter().copied().max().unwrap_or(0);
    let bits = [1_u8, 2, 4].into_iter().find(|bits| most >> bits == 0).unwrap_or(8);
    let numbers = [hits.len().to_string(), of.to_string(), bits.to_string()];
    let texts = [run_id.to_owned(), metric.to_owned(), set.clone()];
    texts.into_iter().chain(numbers).chain([digits(hits, bits)]).collect()
}

/// Counts of so many bits as hexadecimal digits; what is left of the last digit is zero.
fn digits(hits: &[u8], bits: u8) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("four bits");
    match bits {
        8 => hits.iter().flat_map(|hits| [digit(hits >> 4), digit(hits & 15)]).collect(),
        bits => {
            let place = |(idx, hits): (u8, &u8)| hits << (4 - bits * (idx + 1));
            hits.chunks(usize::from(4 / bits)).map(|few| digit((0..).zip(few).map(place).sum())).collect()
        }
    }
}

/// The counts that digits hold; `None` where they are not those of so many items.
fn counts(digits: &str, items: usize, bits: u8) -> Option<Vec<u8>> {
    let values: Vec<u8> = digits.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    let counts: Vec<u8> = match bits {
        8 if values.len() % 2 == 1 => return None,
        8 => values.chunks(2).map(|pair| pair.iter().fold(0, |sum, value| sum << 4 | value)).collect(),
        1 | 2 | 4 => {
            let mask = (1 << bits) - 1;
            let of_digit = |value: u8| (0..4 / bits).map(move |idx| value >> (4 - bits * (idx + 1)) & mask);
            values.into_iter().flat_map(of_digit).collect()
        }
        _ => return None,
    };
    let per_digit = if bits == 8 { 1 } else { usize::from(4 / bits) };
    let is_whole = counts.len() >= items && counts.len() - items < per_digit && counts[items..].iter().all(|rest| *rest == 0);
    is_whole.then(|| counts[..items].to_vec())
}

pub(super) fn parse(text: &[u8]) -> Result<Outcomes, RecordError> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| RecordError::csv(NAME, &error))?;
    if header.iter().ne(HEADER) {
        return Err(RecordError::Malformed { file: NAME, line: 1, what: format!("columns {header:?}, expected {HEADER:?}") });
    }
    let mut found: BTreeMap<String, BTreeMap<String, Vec<SetOutcomes>>> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| RecordError::csv(NAME, &error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |column: usize, expected: &str| RecordError::Malformed {
            file: NAME,
            line,
            what: format!("`{}` is `{}`, expected {expected}", HEADER[column], &record[column]),
        };
        let items = record[3].parse::<usize>().ok().filter(|items| *items > 0).ok_or_else(|| wrong(3, "a number above zero"))?;
        let of = record[4].parse::<u64>().ok().filter(|of| *of > 0).ok_or_else(|| wrong(4, "a number above zero"))?;
        let bits =
            record[5].parse::<u8>().ok().filter(|bits| [1, 2, 4, 8].contains(bits)).ok_or_else(|| wrong(5, "1, 2, 4 or 8"))?;
        let hits =
            counts(&record[6], items, bits).ok_or_else(|| wrong(6, &format!("counts of {items} items in hexadecimal digits")))?;
        let set = SetOutcomes { set: record[2].to_owned(), hits, of };
        found.entry(record[0].to_owned()).or_default().entry(record[1].to_owned()).or_default().push(set);
    }
    let shared =
        |metrics: BTreeMap<String, Vec<SetOutcomes>>| metrics.into_iter().map(|(metric, sets)| (metric, Arc::from(sets))).collect();
    Ok(Outcomes(found.into_iter().map(|(run_id, metrics)| (run_id, shared(metrics))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_any_width_read_back_and_are_short() {
        assert_eq!(digits(&[1, 0, 1, 1, 0, 1], 1), "b4");
        assert_eq!(digits(&[3, 1, 2], 2), "d8");
        assert_eq!(digits(&[200, 7], 8), "c807");
        for (most, bits) in [(1, 1), (3, 2), (9, 4), (255, 8)] {
            for items in 1..20 {
                let hits: Vec<u8> = (0..items).map(|item: u8| item.wrapping_mul(97) % most.max(1)).chain([most]).collect();
                assert_eq!(counts(&digits(&hits, bits), hits.len(), bits), Some(hits), "{bits} {items}");
            }
        }
    }

    #[test]
    fn digits_that_are_not_of_so_many_items_are_refused() {
        for (text, items, bits) in [("b4", 9, 1), ("b4", 4, 1), ("b5", 6, 1), ("bx", 8, 1), ("c80", 2, 8), ("", 1, 1), ("b", 1, 3)]
        {
            assert_eq!(counts(text, items, bits), None, "{text} {items} {bits}");
        }
    }
}
