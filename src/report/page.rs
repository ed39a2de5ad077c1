//! One page: its head, its parts in order, and what its script works on.
//!
//! Invariant: a policy in the head forbids the page to load anything; texts of records are escaped, also inside the script's data.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Study;
use super::answer::{KINDS, answer};
use super::figure::style;
use super::origin::{cpu, gmacs, origin, seeds, statuses};
use super::runs;
use super::section::Sections;
use super::units::{macs, time};
use super::verdicts::{badge, verdicts};
use crate::claims::{Artefact, Verdict};
use crate::run::counted;

/// What a page may load: nothing but what stands in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:";

/// The page of an experiment; `files` are those that a reader can take from it.
pub(super) fn page(study: &Study<'_>, sections: &Sections, files: &[Artefact]) -> String {
    let Sections { figures, fits, tables, losses } = sections;
    let name = &study.records.provenance.experiment;
    let mut parts: Vec<(&str, &str, Markup)> = vec![("verdicts", "Verdicts", verdicts(study))];
    let intro =
        html! { p.note { "Means over seeds; bars are one standard deviation to either side, where there is more than one seed." } };
    parts.push(("figures", "Figures", html! { (intro) (figures) }));
    if let Some(fits) = fits {
        parts.push(("fits", "Fits and frontiers", fits.clone()));
    }
    let hint = html! { p.note { "Click a heading to sort by its column. A filter keeps rows that hold all of its words; " code { "seed>1" } " compares a column." } };
    parts.push(("tables", "Tables", html! { (hint) (tables) }));
    if let Some(losses) = losses {
        parts.push(("losses", "Loss curves", losses.clone()));
    }
    parts.push((
        "runs",
        "Runs",
        html! { p { (counted(study.records.runs.len(), "run")) ": " (statuses(study)) "." } (runs::runs(study)) },
    ));
    let text = html! { p { "Each command trains the runs of one cell again, by the same ids, into a folder of its own. It is run where the experiment file lies as it is named." } };
    parts.push(("cells", "Cells and their commands", html! { (text) (runs::cells(study)) }));
    parts.push(("origin", "Provenance and cost", origin(study)));
    let body = html! {
        nav.top aria-label="Parts of this page" {
            ul.wide {
                @for (id, title, _) in &parts { li { a href=(format!("#{id}")) { (title) } } }
            }
        }
        main.wide id="content" {
            (head(study))
            @for (id, title, part) in &parts { section id=(id) aria-labelledby=(format!("{id}-head")) { h2 id=(format!("{id}-head")) { (title) } (part) } }
        }
        footer.wide { "Made from the records of " (name) " alone: the same records give the same page, byte for byte." }
        script id="files" type="application/json" { (PreEscaped(embedded(files))) }
        script { (PreEscaped(include_str!("page.js"))) }
    };
    document(&format!("{name}: scaledown report"), &body)
}

/// A whole document around its body.
pub(super) fn document(title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(include_str!("page.css"))) }
                style id="figure-style" { (PreEscaped(style())) }
            }
            body { a.skip href="#content" { "To the content" } (body) }
        }
    };
    markup.into_string()
}

fn head(study: &Study<'_>) -> Markup {
    let name = &study.records.provenance.experiment;
    html! {
        header {
            p.eyebrow { (name) }
            h1 { (study.question.unwrap_or(name)) }
            @if let Some(source) = study.source { p.muted { "After " (source) } }
            p.lead { (answer(study).join(" ")) }
            (tally(&study.findings.verdicts))
            dl.facts {
                div { dt { "Runs" } dd { (study.records.runs.len()) ", " (statuses(study)) } }
                div { dt { "Cells" } dd { (study.records.points.len()) } }
                div { dt { "Seeds" } dd { (seeds(study)) } }
                div { dt { "Forward compute" } dd { (macs(gmacs(study))) } }
                @if let Some(seconds) = cpu(study) { div { dt { "CPU time" } dd { (time(seconds)) } } }
                @if let Some(processor) = &study.records.provenance.cpu { div { dt { "Processor" } dd { (processor) } } }
            }
        }
    }
}

/// How many verdicts there are of each kind.
pub(super) fn tally(verdicts: &[Verdict]) -> Markup {
    let of = |kind| verdicts.iter().filter(|verdict| verdict.verdict == kind).count();
    html! {
        @if !verdicts.is_empty() {
            p { @for kind in KINDS { @if of(kind) > 0 { span.tally { (of(kind)) " " (badge(kind)) } } } }
        }
    }
}

/// Files by name as JSON that ends no script: every CSV, and the specifications of figures.
fn embedded(files: &[Artefact]) -> String {
    let is_text = |file: &&Artefact| file.name.ends_with(".csv") || file.name.ends_with(".json");
    let texts: BTreeMap<String, String> =
        files.iter().filter(is_text).map(|file| (file.name.clone(), String::from_utf8_lossy(&file.bytes).into_owned())).collect();
    let text = serde_json::to_string(&texts).expect("texts are plain JSON");
    text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}
