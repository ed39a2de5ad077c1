//! The paper's claims on its own digitised figures: the verdicts are known, and every one must come out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use scaledown::claims::{ClaimSpec, ClaimsFile, Values, Verdict, VerdictKind, judge, to_json, validate};

/// Claim, verdict in the words of the paper study, and how many of its comparisons are true, tied and false.
const LISTED: [(&str, &str, [usize; 3]); 57] = [
    ("Q1", "holds", [4, 0, 0]),
    ("Q2", "holds", [1, 0, 0]),
    ("Q3", "holds", [7, 1, 0]),
    ("Q4", "holds", [15, 1, 0]),
    ("Q5", "fails", [0, 0, 4]),
    ("Q5b", "partly", [8, 1, 3]),
    ("Q5c", "partly", [6, 0, 2]),
    ("N1", "holds", [1, 0, 0]),
    ("N1b", "fails", [0, 0, 2]),
    ("N2", "holds", [1, 0, 0]),
    ("N2b", "fails", [0, 1, 3]),
    ("N3", "holds", [74, 6, 0]),
    ("N3b", "holds", [80, 0, 0]),
    ("N4", "holds", [10, 0, 0]),
    ("N5", "no data", [0, 0, 0]),
    ("N5b", "holds", [2, 0, 0]),
    ("V1", "holds", [8, 3, 0]),
    ("V2", "holds", [28, 0, 0]),
    ("V3", "partly", [24, 0, 1]),
    ("V4", "partly", [4, 0, 1]),
    ("V5", "partly", [6, 1, 3]),
    ("V6", "no data", [0, 0, 0]),
    ("V6b", "holds", [1, 0, 0]),
    ("V7", "no data", [0, 0, 0]),
    ("V7b", "holds", [12, 2, 0]),
    ("V8", "holds", [8, 0, 0]),
    ("V8b", "partly", [2, 0, 2]),
    ("V9", "partly", [3, 0, 1]),
    ("V10", "holds", [38, 2, 0]),
    ("V10b", "partly", [2, 0, 2]),
    ("V10c", "partly", [4, 0, 6]),
    ("A1", "no data", [0, 0, 0]),
    ("A1b", "holds", [11, 0, 0]),
    ("A2", "no data", [0, 0, 0]),
    ("A2b", "holds", [1, 0, 0]),
    ("A3", "partly", [36, 3, 5]),
    ("A4", "partly", [4, 0, 1]),
    ("A5", "partly", [29, 3, 4]),
    ("A5b", "holds", [12, 0, 0]),
    ("A6", "no data", [0, 0, 0]),
    ("T1", "holds", [12, 0, 0]),
    ("T2", "holds", [1, 0, 0]),
    ("T2b", "partly", [2, 0, 1]),
    ("T2c", "fails", [0, 0, 2]),
    ("T3", "no data", [0, 0, 0]),
    ("T3b", "undecided", [0, 1, 0]),
    ("T4", "no data", [0, 0, 0]),
    ("T4b", "undecided", [0, 2, 0]),
    ("T5", "no data", [0, 0, 0]),
    ("T6", "holds", [8, 0, 0]),
    ("T7", "holds", [7, 0, 0]),
    ("T8", "partly", [17, 14, 2]),
    ("T8b", "holds", [32, 1, 0]),
    ("T9", "partly", [24, 1, 8]),
    ("T9b", "holds", [33, 0, 0]),
    ("T10", "partly", [63, 1, 2]),
    ("T11", "holds", [14, 0, 0]),
];

const FILES: [&str; 5] = ["data-quality", "data-quantity", "vision-transformers", "architectures", "strategies"];

fn paper() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/paper")
}

/// The claims of every file, in order.
fn claims() -> Vec<ClaimSpec> {
    FILES.iter().flat_map(|name| claims_of(name)).collect()
}

fn claims_of(name: &str) -> Vec<ClaimSpec> {
    let path = paper().join(format!("claims/{name}.yaml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let read = serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(&text));
    let file: ClaimsFile = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.into_claims()
}

/// The digitised figures, each value passed through `change` (figure and panel, image encoder, column to text).
fn values(change: impl Fn(&BTreeMap<String, String>) -> Option<f64>) -> Values {
    let mut values = Values::default();
    let mut paths: Vec<PathBuf> = fs::read_dir(paper().join("reference"))
        .expect("the reference folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "csv"));
    paths.sort();
    assert_eq!(paths.len(), 7, "reference files");
    for path in paths {
        let mut reader = csv::Reader::from_path(&path).expect("a CSV file");
        let header = reader.headers().expect("a header").clone();
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&header).expect("memory");
        for record in reader.records() {
            let record = record.expect("a row");
            let row: BTreeMap<String, String> = header.iter().zip(&record).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let changed = change(&row).map(|value| value.to_string());
            let fields = header.iter().zip(&record).map(|(column, text)| match (column, &changed) {
                ("value", Some(value)) => value.as_str(),
                _ => text,
            });
            writer.write_record(fields).expect("memory");
        }
        values.add(&path.display().to_string(), &writer.into_inner().expect("memory")).expect("cells");
    }
    values
}

fn as_published() -> Values {
    values(|_| None)
}

fn word(verdict: VerdictKind) -> &'static str {
    match verdict {
        VerdictKind::Supported => "holds",
        VerdictKind::Mixed => "partly",
        VerdictKind::Refuted => "fails",
        VerdictKind::Undecided => "undecided",
        VerdictKind::NoData => "no data",
    }
}

fn found(verdict: &Verdict) -> (String, &'static str, [usize; 3]) {
    (verdict.id.clone(), word(verdict.verdict), [verdict.num_true, verdict.num_tie, verdict.num_false])
}

fn one<'a>(verdicts: &'a [Verdict], id: &str) -> &'a Verdict {
    verdicts.iter().find(|verdict| verdict.id == id).unwrap_or_else(|| panic!("no claim {id}"))
}

#[test]
fn every_claim_gets_the_listed_verdict_with_the_listed_counts() {
    let verdicts = judge(&claims(), &as_published());
    let listed: Vec<_> = LISTED.iter().map(|(id, verdict, counts)| ((*id).to_owned(), *verdict, *counts)).collect();
    let found: Vec<_> = verdicts.iter().map(found).collect();
    let wrong: Vec<_> = listed.iter().zip(&found).filter(|(a, b)| a != b).collect();
    assert!(wrong.is_empty(), "listed and found differ: {wrong:#?}");
    assert_eq!(listed.len(), found.len(), "claims missing or too many");
}

#[test]
fn every_claim_states_the_verdict_it_gets_and_names_its_cells_clearly() {
    let claims = claims();
    for (claim, verdict) in claims.iter().zip(judge(&claims, &as_published())) {
        assert!(verdict.is_as_expected(), "{}: {:?}, {:?}", claim.id, verdict.verdict, verdict.ambiguous);
        assert_eq!(validate(claim, None), [], "{}", claim.id);
    }
}
