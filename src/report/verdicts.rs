//! Claims as a person reads them: the verdict, the numbers that decided it, and what would change it.
//!
//! Invariant: comparisons are those of the verdict, in its words; what would change a verdict is what its comparisons need, or the room that
//! the nearest of them has.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::Study;
use super::rows::{Cell, Column, Kind};
use crate::claims::statement::TestSpec;
use crate::claims::{Answer, ClaimSpec, Comparison, Verdict, VerdictKind};
use crate::record::{Marks, Stated};
use crate::run::counted;
use crate::tables::short;

/// Most differences in the chart beside a claim.
const MOST_MARKS: usize = 16;

/// All claims, in the order stated.
pub(super) fn verdicts(study: &Study<'_>) -> Markup {
    let records = study.records;
    let now = || Stated::of(&records.statements, records.runs.iter().map(|run| &run.config));
    let marks = records.stated.as_ref().map(|first| first.marks(&now())).unwrap_or_default();
    let claims = study.statements.claims.iter().zip(&study.findings.verdicts).enumerate();
    html! {
        @if study.findings.verdicts.is_empty() {
            p { "The experiment states no claims." }
        } @else {
            p.note {
                "A comparison is true or false where the difference exceeds its band, and a tie within it. The band is the larger of the claim's \
                 tie band and half the width of the interval around the difference, over seeds and, where it is known, over items; \
                 the spread of seeds is pooled over the cells of the claim's table. p is one-sided: with intervals of 95 % a comparison is \
                 decided below 0.025. The chart beside a claim shows each difference with its band and zero: filled where true, a cross where false, hollow for a tie."
            }
            p.note {
                "Supported: every comparison is true. Leaning: none is false, half or more are true and the others lie on the claimed side. Mixed, \
                 refuted: some are false, with true ones or without. Undecided: none of these."
            }
        }
        @for (idx, (claim, verdict)) in claims { (one(study, idx, (claim, verdict), &marks)) }
    }
}

/// How a verdict is shown: a mark beside its word, so that it is told without colour.
pub(super) fn badge(kind: VerdictKind) -> Markup {
    let (class, mark) = looks(kind);
    html! { span class=(format!("badge {class}")) { (mark) " " (kind.name()) } }
}

fn looks(kind: VerdictKind) -> (&'static str, &'static str) {
    match kind {
        VerdictKind::Supported => ("supported", "✓"),
        VerdictKind::Leaning => ("leaning", "↗"),
        VerdictKind::Mixed => ("mixed", "±"),
        VerdictKind::Refuted => ("refuted", "✗"),
        VerdictKind::Undecided => ("undecided", "?"),
        VerdictKind::NoData => ("no-data", "–"),
    }
}

fn one(study: &Study<'_>, idx: usize, (claim, verdict): (&ClaimSpec, &Verdict), marks: &Marks) -> Markup {
    let late: Vec<&String> = marks.claims.get(&verdict.id).into_iter().chain(&marks.all).collect();
    let is_late = |note: &&String| late.contains(note);
    // What would decide is said in words of its own.
    let is_said = |note: &&String| is_late(note) || note.ends_with("would decide");
    let notes: Vec<&String> = verdict.notes.iter().filter(|note| !is_said(note)).chain(&verdict.ambiguous).collect();
    let (class, _) = looks(verdict.verdict);
    let room = Room::of_claim(claim);
    html! {
        article class=(format!("claim {class}")) id=(format!("claim-{}", idx + 1)) {
            (forest(verdict))
            h3 { (badge(verdict.verdict)) (verdict.says) }
            p { (decided(verdict, &room)) }
            p { (basis(study, claim)) }
            p { strong { "What would change it: " } (change(verdict, &room)) }
            @if verdict.verdict != verdict.expected { p { "Expected was: " (verdict.expected.name()) "." } }
            @for mark in &late { p { span.late { (super::answer::capital(mark)) } } }
            @if let Some(remark) = &claim.remark { p.note { "Remark of the experiment: " (remark) "." } }
            @if !notes.is_empty() { p.note { (notes.iter().map(|note| note.as_str()).collect::<Vec<_>>().join("; ")) "." } }
            p.note { "Claim " (verdict.id) @if let Some(source) = &claim.source { ", " (source) } "." }
            @if !verdict.comparisons.is_empty() {
                details open[verdict.comparisons.len() == 1] {
                    summary { "The numbers: " (counted(verdict.comparisons.len(), "comparison")) }
                    (comparisons(idx, verdict))
                }
            }
        }
    }
}

/// `4 of 8 comparisons are true and 4 are ties.`, and the one that weighs most.
fn decided(verdict: &Verdict, room: &Room) -> String {
    let of = verdict.comparisons.len();
    if of == 0 {
        return "It picks no cells to compare.".to_owned();
    }
    let kinds = [
        (verdict.num_true, "true", "true"),
        (verdict.num_tie, "a tie", "ties"),
        (verdict.num_false, "false", "false"),
        (verdict.num_missing, "without a value", "without a value"),
    ];
    let phrase = |(many, one, more): (usize, &str, &str)| match many {
        0 => None,
        1 => Some(format!("1 is {one}")),
        many => Some(format!("{many} are {more}")),
    };
    let quantity = if of == 2 { "Both".to_owned() } else { format!("All {of}") };
    let all = kinds.iter().find(|(many, ..)| *many == of).map(|(.., more)| format!("{quantity} comparisons are {more}."));
    let phrases: Vec<String> = kinds.into_iter().filter_map(phrase).collect();
    let counts = all.unwrap_or_else(|| format!("Of {} {}.", counted(of, "comparison"), super::answer::listed(&phrases)));
    match weightiest(verdict, room) {
        Some((_, only)) if of == 1 => format!("Its one comparison is {}: {}{}.", word(only.outcome), only.text, numbers(only)),
        Some((what, weighty)) => format!("{counts} {what}: {}{}.", weighty.text, numbers(weighty)),
        None => counts,
    }
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::True => "true",
        Answer::Tie => "a tie",
        Answer::False => "false",
        Answer::Missing => "without a value",
    }
}

/// By how much differences exceed their bands; below zero inside them. Of two values that should be near each other it is not known.
struct Room {
    is_known: bool,
}

impl Room {
    fn of_claim(claim: &ClaimSpec) -> Self {
        Self { is_known: !claim.test.iter().any(|test| matches!(test, TestSpec::Equal(_))) }
    }

    fn of(&self, comparison: &Comparison) -> Option<f64> {
        self.is_known.then_some(comparison.difference?.abs() - comparison.band?)
    }
}

/// The comparison that the verdict hangs on, and what it is.
fn weightiest<'a>(verdict: &'a Verdict, room: &Room) -> Option<(&'static str, &'a Comparison)> {
    let of = |answer: Answer| verdict.comparisons.iter().filter(move |comparison| comparison.outcome == answer);
    let or_least = |comparison: &Comparison| room.of(comparison).unwrap_or(f64::NEG_INFINITY);
    let by_room = |a: &&Comparison, b: &&Comparison| or_least(a).total_cmp(&or_least(b));
    match verdict.verdict {
        VerdictKind::Supported => of(Answer::True).min_by(by_room).map(|found| ("The narrowest of them", found)),
        VerdictKind::Mixed | VerdictKind::Refuted => {
            of(Answer::False).max_by(by_room).map(|found| ("The clearest that is false", found))
        }
        VerdictKind::Leaning | VerdictKind::Undecided => {
            of(Answer::Tie).max_by(by_room).map(|found| ("The tie nearest to a decision", found))
        }
        VerdictKind::NoData => of(Answer::Missing).next().map(|found| ("The first of them", found)),
    }
}

fn numbers(comparison: &Comparison) -> String {
    let meets = comparison.meets.map_or(String::new(), |meets| {
        let ends = [meets.low, meets.high].map(|end| end.map_or("open".to_owned(), short));
        format!("; the lines meet at {} [{}, {}]", short(meets.at), ends[0], ends[1])
    });
    let decided = match (comparison.difference, comparison.band) {
        (Some(difference), Some(band)) => format!(" (difference {}, band {})", short(difference.abs()), short(band)),
        (Some(difference), None) => format!(" (difference {})", short(difference.abs())),
        (None, _) => String::new(),
    };
    let reason = comparison.reason.as_ref().map_or(String::new(), |reason| format!("; {reason}"));
    format!("{decided}{meets}{reason}")
}

/// Seeds of the cells, and how sure a comparison must be.
fn basis(study: &Study<'_>, claim: &ClaimSpec) -> String {
    let names: Vec<&String> = claim.cells.table.iter().flatten().collect();
    let tables = study.findings.tables.iter().filter(|table| names.contains(&&table.name));
    let seeds: BTreeSet<usize> = tables.flat_map(|table| &table.cells).map(crate::tables::Cell::n).filter(|n| *n > 0).collect();
    let seeds = match (seeds.first(), seeds.last()) {
        (Some(fewest), Some(most)) if fewest == most => format!("n = {} a cell", counted(*most, "seed")),
        (Some(fewest), Some(most)) => format!("n = {fewest} to {most} seeds a cell"),
        _ => "No cell has a run".to_owned(),
    };
    let tables = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let confidence = match claim.confidence().share() {
        Some(share) => format!("intervals of {} %", short(100.0 * share)),
        None => "no interval was asked for: it speaks of these runs alone".to_owned(),
    };
    let table = if names.len() == 1 { "table" } else { "tables" };
    format!("{seeds}, {table} {tables}; {confidence}; tie band {} points.", short(claim.tie_band()))
}

/// What would make the verdict another one.
fn change(verdict: &Verdict, room: &Room) -> String {
    let most = |of: fn(&Comparison) -> Option<u64>| {
        let amounts: Vec<u64> = verdict.comparisons.iter().filter_map(of).collect();
        let which = match (amounts.len(), verdict.num_tie) {
            (_, 1) => "the tie".to_owned(),
            (some, all) if some == all => format!("the {all} ties"),
            (some, all) => format!("{some} of the {all} ties"),
        };
        amounts.into_iter().max().map(|most| (most, which))
    };
    let least_room = |answer: Answer| {
        let of = verdict.comparisons.iter().filter(|comparison| comparison.outcome == answer);
        of.filter_map(|comparison| room.of(comparison)).reduce(f64::min)
    };
    match verdict.verdict {
        VerdictKind::NoData => return "runs that give its cells a value.".to_owned(),
        VerdictKind::Supported | VerdictKind::Refuted | VerdictKind::Mixed => {
            let (answer, name) =
                if verdict.verdict == VerdictKind::Supported { (Answer::True, "true") } else { (Answer::False, "false") };
            if let Some(room) = least_room(answer) {
                return format!(
                    "{} points less in the {name} comparison nearest to its band would make a tie of it.",
                    short(room.max(0.0))
                );
            }
            return format!("a {name} comparison that comes out otherwise.");
        }
        VerdictKind::Leaning | VerdictKind::Undecided => {}
    }
    let mut needs = Vec::new();
    if let Some((seeds, which)) = most(|comparison| comparison.seeds_needed) {
        needs.push(format!("about {} a cell would decide {which}, were difference and spread as they are", counted(seeds, "seed")));
    }
    if let Some((items, which)) = most(|comparison| comparison.items_needed) {
        needs.push(format!("about {} in the evaluation sets would decide {which}, and no number of seeds", counted(items, "item")));
    }
    if verdict.num_missing > 0 {
        needs.push(format!("values for {}", counted(verdict.num_missing, "comparison")));
    }
    if needs.is_empty() { "no number of seeds is known to decide it.".to_owned() } else { format!("{}.", needs.join("; ")) }
}

fn comparisons(idx: usize, verdict: &Verdict) -> Markup {
    let reach = reach(verdict);
    let optional = |value: Option<f64>| value.map(short).unwrap_or_default();
    let p = |comparison: &Comparison| match comparison.p {
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => crate::tables::rounded(p, 3),
        None => String::new(),
    };
    let heads = ["answer", "what is claimed", "difference", "band", "interval", "one-sided p"];
    let is_number = |name: &str| ["difference", "band", "one-sided p"].contains(&name);
    let columns: Vec<Column> = heads
        .into_iter()
        .map(|name| Column { name: name.to_owned(), kind: if is_number(name) { Kind::Number } else { Kind::Text } })
        .collect();
    let name = format!("comparisons of {}", verdict.id);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table {
                thead { tr { @for column in &columns { th.n[column.kind == Kind::Number] scope="col" { (column.name) } } } }
                tbody id=(format!("comparisons-{}", idx + 1)) {
                    @for comparison in &verdict.comparisons {
                        tr {
                            td { (comparison.outcome.name()) }
                            td.long { (Cell::text(&comparison.text).text) @if let Some(reason) = &comparison.reason { span.muted { " (" (reason) ")" } } }
                            td.n { (optional(comparison.difference)) }
                            td.n { (optional(comparison.band)) }
                            td { (interval(comparison, reach)) }
                            td.n { (p(comparison)) }
                        }
                    }
                }
            }
        }
    }
}

/// The difference and its band beside zero.
fn interval(comparison: &Comparison, reach: f64) -> Markup {
    html! {
        @if comparison.difference.is_some() && reach > 0.0 {
            svg.interval viewBox="0 0 150 20" aria-hidden="true" {
                line.zero x1="75" x2="75" y1="1" y2="19" {}
                (mark(comparison, reach, 10))
            }
        }
    }
}

/// All differences of a claim below each other; nothing where there are fewer than two, or more than can be told apart.
fn forest(verdict: &Verdict) -> Markup {
    let known: Vec<&Comparison> = verdict.comparisons.iter().filter(|comparison| comparison.difference.is_some()).collect();
    let (reach, height) = (reach(verdict), 13 * known.len() + 8);
    html! {
        @if (2..=MOST_MARKS).contains(&known.len()) && reach > 0.0 {
            svg.interval.forest viewBox=(format!("0 0 150 {height}")) style=(format!("height: {}px", 7 * height / 6)) aria-hidden="true" {
                line.zero x1="75" x2="75" y1="0" y2=(height) {}
                @for (idx, comparison) in known.iter().enumerate() { (mark(comparison, reach, 10 + 13 * idx)) }
            }
        }
    }
}

/// How far from zero differences and bands of a claim lie.
fn reach(verdict: &Verdict) -> f64 {
    let of = |comparison: &Comparison| comparison.difference.unwrap_or(0.0).abs() + comparison.band.unwrap_or(0.0);
    verdict.comparisons.iter().map(of).fold(0.0, f64::max)
}

/// A bar from end to end of the band and a mark at the difference: filled where true, a cross where false, hollow for a tie.
fn mark(comparison: &Comparison, reach: f64, y: usize) -> Markup {
    let x = |value: f64| 75.0 + 70.0 * value / reach;
    let (difference, band) = (comparison.difference.unwrap_or(0.0), comparison.band.unwrap_or(0.0));
    let at = |value: f64| format!("{:.1}", x(value));
    let left = x(difference) - 4.0;
    let circle = format!("M{left:.1} {y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z");
    let (class, shape) = match comparison.outcome {
        Answer::False => ("mark", format!("M{left:.1} {}l8 8m0 -8l-8 8", y - 4)),
        Answer::True => ("mark", circle),
        Answer::Tie | Answer::Missing => ("mark hollow", circle),
    };
    html! {
        line.bar x1=(at(difference - band)) x2=(at(difference + band)) y1=(y) y2=(y) {}
        path class=(class) d=(shape) {}
    }
}
