//! The answer in a few sentences: what became of the claims, and the best cell of the first table.
//!
//! Invariant: a verdict is said in the words of its claim; a best cell is said to be chosen on the runs that it is measured on.

use super::Study;
use crate::claims::{Verdict, VerdictKind};
use crate::run::counted;
use crate::tables::{Cell, Table, rounded};

/// Most claims that are said of each verdict.
const MOST_SAID: usize = 3;

/// Every kind of verdict, the firmest first.
pub(super) const KINDS: [VerdictKind; 6] = [
    VerdictKind::Supported,
    VerdictKind::Leaning,
    VerdictKind::Mixed,
    VerdictKind::Refuted,
    VerdictKind::Undecided,
    VerdictKind::NoData,
];

/// The sentences.
pub(super) fn answer(study: &Study<'_>) -> Vec<String> {
    let verdicts = &study.findings.verdicts;
    let mut sentences = vec![counts(verdicts)];
    for kind in [VerdictKind::Supported, VerdictKind::Refuted] {
        let of_kind: Vec<&str> =
            verdicts.iter().filter(|verdict| verdict.verdict == kind).map(|verdict| verdict.says.as_str()).collect();
        if !of_kind.is_empty() {
            let more = of_kind.len().saturating_sub(MOST_SAID);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            let said: Vec<String> = of_kind.iter().take(MOST_SAID).map(|says| format!("“{says}”")).collect();
            sentences.push(format!("{}: {}{more}.", capital(kind.name()), said.join("; ")));
        }
    }
    sentences.extend(study.findings.tables.iter().find_map(best));
    sentences
}

/// `Of 4 claims 3 are supported and 1 is leaning.`
fn counts(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return "The experiment states no claims.".to_owned();
    }
    let of = |kind: VerdictKind| verdicts.iter().filter(|verdict| verdict.verdict == kind).count();
    let said = |kind: VerdictKind, is_one: bool| {
        let verb = match (kind == VerdictKind::NoData, is_one) {
            (true, true) => "has",
            (true, false) => "have",
            (false, true) => "is",
            (false, false) => "are",
        };
        format!("{verb} {}", kind.name())
    };
    let total = verdicts.len();
    match KINDS.into_iter().find(|kind| of(*kind) == total) {
        Some(kind) if total == 1 => format!("Its one claim {}.", said(kind, true)),
        Some(kind) => format!("All {total} claims {}.", said(kind, false)),
        None => {
            let found = KINDS.into_iter().filter(|kind| of(*kind) > 0);
            let phrases: Vec<String> = found.map(|kind| format!("{} {}", of(kind), said(kind, of(kind) == 1))).collect();
            format!("Of {} {}.", counted(total, "claim"), listed(&phrases))
        }
    }
}

/// `a, b and c`.
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The best cell of the first metric of a table that is better the larger it is.
fn best(table: &Table) -> Option<String> {
    let metric = table.metrics.iter().find(|metric| ["acc1", "acc5", "recall"].iter().any(|word| metric.contains(word)))?;
    let cells = || table.cells.iter().filter(|cell| &cell.metric == metric);
    let with_value = cells().filter_map(|cell| Some((cell, cell.mean().filter(|_| cell.missing == 0)?)));
    let (cell, mean) = with_value.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    let decimals = table.decimals(metric);
    let spread = cell.stddev().map_or(String::new(), |stddev| format!(" ± {}", rounded(stddev, decimals)));
    let chosen = match cells().count() {
        1 => String::new(),
        many => format!(" These runs chose it among {many} cells, so it is likely to be too high."),
    };
    Some(format!(
        "The highest {metric} in table {} is {}{spread} ({}), at {}.{chosen}",
        table.name,
        rounded(mean, decimals),
        counted(cell.n(), "seed"),
        place(table, cell)
    ))
}

fn place(table: &Table, cell: &Cell) -> String {
    let labels = table.rows.iter().zip(&cell.row).chain(table.columns.iter().zip(&cell.column));
    let named = labels.filter(|(_, label)| !label.is_empty()).map(|(path, label)| format!("{path} = {label}"));
    named.collect::<Vec<_>>().join(", ")
}
