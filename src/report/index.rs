//! The page over all experiments.

use std::collections::BTreeMap;

use maud::html;

use super::Summary;
use super::page::{document, tally};
use super::units::macs;
use crate::run::counted;

/// The index of these experiments, in the order given; each stands in the folder of its name.
#[must_use]
pub fn index(summaries: &[Summary]) -> String {
    let runs: BTreeMap<&String, f64> =
        summaries.iter().flat_map(|summary| &summary.gmacs).map(|(run, gmacs)| (run, *gmacs)).collect();
    let claims: usize = summaries.iter().map(|summary| summary.verdicts.len()).sum();
    let body = html! {
        main.wide id="content" {
            header {
                p.eyebrow { "scaledown" }
                h1 { (counted(summaries.len(), "experiment")) }
                p.lead {
                    (counted(runs.len(), "run")) ", those that several share counted once, " (counted(claims, "claim")) ", "
                    (macs(runs.values().sum())) " of forward passes."
                }
            }
            @for summary in summaries {
                @let Summary { experiment, question, source, answer, verdicts, gmacs, unfinished } = summary;
                article.study {
                    h2 { a href=(format!("{experiment}/report.html")) { (question.as_ref().unwrap_or(experiment)) } }
                    p.muted { (experiment) @if let Some(source) = source { ", after " (source) } }
                    (tally(verdicts))
                    @for sentence in answer.iter().skip(1) { p { (sentence) } }
                    p.note {
                        (counted(gmacs.len(), "run"))
                        @if *unfinished > 0 { ", " (unfinished) " of them not finished" }
                        ", " (macs(gmacs.values().sum())) " of forward passes"
                    }
                }
            }
        }
    };
    document("scaledown reports", &body)
}
