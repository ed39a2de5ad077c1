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

/// The rows of every table of claims, each by the names of its columns.
fn rows() -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(root().join("results/README.md")).expect("results/README.md");
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let (mut rows, mut header) = (Vec::new(), None);
    for line in text.lines() {
        match (&header, line.starts_with('|')) {
            (_, false) => header = None,
            (None, true) => header = Some(cells(line)),
            (Some(_), true) if line.starts_with("|-") => {}
            (Some(columns), true) if columns[0] == "claim" => rows.push(columns.iter().cloned().zip(cells(line)).collect()),
            _ => {}
        }
    }
    rows
}

#[test]
fn every_verdict_of_the_findings_is_that_of_the_results() {
    let figures = of_figures();
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows() {
        let id = &row["claim"];
        let expected = figures.get(id).map_or("-", String::as_str);
        assert_eq!(row["its figures"], expected, "the verdict of {id} on the paper's figures");
        for (folder, said) in row.iter().filter(|(column, _)| column.contains('/')) {
            let found = verdicts(folder);
            let expected = found.as_ref().map_or("not run", |verdicts| verdicts.get(id).map_or("-", String::as_str));
            assert_eq!(said, expected, "the verdict of {id} in results/{folder}");
            listed.entry(folder.clone()).or_default().push(id.clone());
        }
    }
    for folder in ["small/quality", "small/quantity", "small/vit", "small/architectures", "small/strategies", "small/augmentation"]
    {
        let ids = listed.remove(folder).unwrap_or_else(|| panic!("results/README.md has no table of {folder}"));
        let left_out: Vec<String> =
            verdicts(folder).into_iter().flatten().map(|(id, _)| id).filter(|id| !ids.contains(id)).collect();
        assert!(left_out.is_empty(), "results/README.md leaves out {left_out:?} of {folder}");
    }
}

#[test]
fn every_claim_of_the_paper_is_judged_by_a_study_or_said_not_to_be() {
    let listed: Vec<String> = rows().into_iter().map(|row| row["claim"].clone()).collect();
    let text = fs::read_to_string(root().join("results/README.md")).expect("results/README.md");
    let (_, apart) = text.split_once("## Readings of the figures alone").expect("the section on claims that no study speaks to");
    let missing: Vec<String> =
        of_figures().into_keys().filter(|id| !listed.contains(id) && !apart.contains(&format!("`{id}`"))).collect();
    assert!(missing.is_empty(), "no study and no word of {missing:?}");
}
