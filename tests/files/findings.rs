//! What `results/README.md` says of the paper's findings is what the results hold, and no claim is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use scaledown::claims::ClaimsFile;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Verdict and counts of every claim of a results folder: `supported, 4/0/0/0`; `None` where there is none.
fn verdicts(folder: &str) -> Option<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(root().join("results").join(folder).join("claims.csv")).ok()?;
    let header = reader.headers().expect("a header").clone();
    let of = |record: &csv::StringRecord, name: &str| -> String {
        let column = header.iter().position(|column| column == name).expect("a column");
        record[column].to_owned()
    };
    let row = |record: csv::Result<csv::StringRecord>| {
        let record = record.expect("a row");
        let counts = ["true", "tie", "false", "missing"].map(|name| of(&record, name)).join("/");
        (of(&record, "id"), format!("{}, {counts}", of(&record, "verdict")))
    };
    Some(reader.records().map(row).collect())
}

/// The verdicts that the digitised figures give, by claim.
fn of_figures() -> BTreeMap<String, String> {
    let folder = root().join("experiments/paper/claims");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder).expect("the claims").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let claims = paths.iter().flat_map(|path| {
        let text = fs::read_to_string(path).expect("a file");
        let read = serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(&text));
        let file: ClaimsFile = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.into_claims()
    });
    let word = |claim: &scaledown::claims::ClaimSpec| {
        let word = serde_json::to_value(claim.expect).expect("a word");
        word.as_str().expect("a text").replace('_', " ")
    };
    claims.map(|claim| (claim.id.clone(), word(&claim))).collect()
}

/// Cells of a line of a table.
fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

/// Id and sentence of every claim of an experiment, in the order written.
fn stated(experiment: &str) -> Vec<(String, String)> {
    let path = root().join("experiments").join(format!("{experiment}.yaml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: serde_yaml::Value = serde_yaml::from_str(&text).expect("an experiment is YAML");
    let claims = file["claims"].as_sequence().cloned().unwrap_or_default();
    let of = |claim: &serde_yaml::Value, key: &str| claim[key].as_str().expect("a text").to_owned();
    claims.iter().map(|claim| (of(claim, "id"), of(claim, "says"))).collect()
}

/// The text with every table of claims made anew: a row for each claim of the experiment that its first folder is of.
fn with_tables(text: &str) -> String {
    let figures = of_figures();
    let (mut out, mut is_row) = (Vec::new(), false);
    for line in text.lines() {
        is_row &= line.starts_with('|');
        if is_row {
            continue;
        }
        out.push(line.to_owned());
        let columns = cells(line);
        if line.starts_with('|') && columns[0] == "claim" {
            out.push("|---".repeat(columns.len()) + "|");
            let folders: Vec<(&String, _)> = columns.iter().skip(3).map(|column| (column, verdicts(column))).collect();
            for (id, says) in stated(folders[0].0) {
                let figure = figures.get(&id).map_or("-", String::as_str);
                let verdict = |(column, found): &(&String, Option<BTreeMap<String, String>>)| match found {
                    _ if !column.contains('/') => "-".to_owned(),
                    None => "not run".to_owned(),
                    Some(verdicts) => verdicts.get(&id).cloned().unwrap_or("-".to_owned()),
                };
                let verdicts: Vec<String> = folders.iter().map(verdict).collect();
                out.push(format!("| {id} | {says} | {figure} | {} |", verdicts.join(" | ")));
            }
            is_row = true;
        }
    }
    out.join("\n") + "\n"
}

fn readme() -> String {
    fs::read_to_string(root().join("results/README.md")).expect("results/README.md")
}

/// `SCALEDOWN_UPDATE_GOLDEN=1` writes the tables as they should be.
#[test]
fn every_verdict_of_the_findings_is_that_of_the_results() {
    let (found, expected) = (readme(), with_tables(&readme()));
    if std::env::var_os("SCALEDOWN_UPDATE_GOLDEN").is_some() {
        fs::write(root().join("results/README.md"), &expected).expect("results/README.md is written");
        return;
    }
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "results/README.md; SCALEDOWN_UPDATE_GOLDEN=1 writes its tables anew");
    }
    assert_eq!(found.lines().count(), expected.lines().count());
    let folders: Vec<String> =
        found.lines().filter(|line| line.starts_with("| claim |")).map(|line| cells(line)[3].clone()).collect();
    let studies = ["quality", "quantity", "vit", "architectures", "strategies", "augmentation"].map(|name| format!("small/{name}"));
    assert_eq!(folders, studies);
}

#[test]
fn every_claim_of_the_paper_is_judged_by_a_study_or_said_not_to_be() {
    let text = readme();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let listed: Vec<String> = rows.map(|line| cells(line)[0].clone()).collect();
    let (_, apart) = text.split_once("## Readings of the figures alone").expect("the section on claims that no study speaks to");
    let missing: Vec<String> =
        of_figures().into_keys().filter(|id| !listed.contains(id) && !apart.contains(&format!("`{id}`"))).collect();
    assert!(missing.is_empty(), "no study and no word of {missing:?}");
}
