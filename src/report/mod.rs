//! Tables, verdicts and records as pages that a person opens in a browser.
//!
//! Owns the prose of a report, its figures and its pages: [`experiment`] is one results folder, [`index`] all of them. Input: records, and
//! what was built from them ([`Study`]). Output: files by name. Invariant: pure, so the same input gives the same bytes; a page loads
//! nothing but itself; every number stands in the records or is computed from them as tables and verdicts are, rounded as there.
//! Must not know: the trainer, the store, files, the clock.

mod answer;
mod command;
mod figure;
mod index;
mod origin;
mod page;
mod rows;
mod runs;
mod section;
mod units;
mod verdicts;

use std::collections::BTreeMap;

use crate::claims::{Artefact, Findings, Statements, Verdict};
use crate::record::{Records, Timing};
use crate::run::RunStatus;

pub use index::index;

/// What a report is of.
#[derive(Debug, Clone, Copy)]
pub struct Study<'a> {
    /// The records.
    pub records: &'a Records,
    /// What the experiment asks of them.
    pub statements: &'a Statements,
    /// What was built from them.
    pub findings: &'a Findings,
    /// The question, where the experiment file is at hand.
    pub question: Option<&'a str>,
    /// Where the question comes from.
    pub source: Option<&'a str>,
    /// How long jobs took, where that is known.
    pub timings: &'a [Timing],
}

/// The pages of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// `report.html`, `figures/*` and the tables as CSV.
    pub files: Vec<Artefact>,
    /// What the index says of it.
    pub summary: Summary,
}

/// An experiment in a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its name, which is the folder of its report.
    pub experiment: String,
    /// Its question.
    pub question: Option<String>,
    /// Where the question comes from.
    pub source: Option<String>,
    /// The answer, a sentence each.
    pub answer: Vec<String>,
    /// Its verdicts.
    pub verdicts: Vec<Verdict>,
    /// Forward multiply-accumulates of each run by its id, in units of 1e9: experiments may share runs.
    pub gmacs: BTreeMap<String, f64>,
    /// Runs that did not finish.
    pub unfinished: usize,
}

/// The report of one experiment.
#[must_use]
pub fn experiment(study: &Study<'_>) -> Report {
    let mut files = Vec::new();
    let sections = section::sections(study, &mut files);
    let of_results = study.findings.files.iter().filter(|file| file.name.ends_with(".csv"));
    files.extend(of_results.cloned());
    let page = page::page(study, &sections, &files);
    files.insert(0, Artefact { name: "report.html".to_owned(), bytes: page.into_bytes() });
    let runs = &study.records.runs;
    let summary = Summary {
        experiment: study.records.provenance.experiment.clone(),
        question: study.question.map(str::to_owned),
        source: study.source.map(str::to_owned),
        answer: answer::answer(study),
        verdicts: study.findings.verdicts.clone(),
        gmacs: runs.iter().map(|run| (run.run_id.clone(), run.gmacs)).collect(),
        unfinished: runs.iter().filter(|run| run.status != RunStatus::Finished).count(),
    };
    Report { files, summary }
}

impl Study<'_> {
    /// Axes in the order written; those of the points where the records do not say.
    fn axes(&self) -> Vec<String> {
        if !self.records.axes.is_empty() {
            return self.records.axes.clone();
        }
        let mut axes: Vec<String> = Vec::new();
        for path in self.records.points.iter().flat_map(|point| point.labels.keys()) {
            if !axes.contains(path) {
                axes.push(path.clone());
            }
        }
        axes
    }
}
