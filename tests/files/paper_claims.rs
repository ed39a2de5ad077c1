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

/// The digitised figures, with the value of every row that `change` gives another one for.
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
            let changed = row.get("value").and_then(|_| change(&row)).map(|value| value.to_string());
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
        VerdictKind::Leaning => "leans",
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

/// Claims that hold in the paper's figures only because ties, or cells that cannot be read, are passed over there.
const WITH_GAPS: [&str; 8] = ["Q3", "Q4", "N3", "V1", "V2", "V7b", "V10", "T8b"];

#[test]
fn ties_are_passed_over_only_because_the_files_say_so() {
    let mut claims = claims();
    claims.iter_mut().for_each(|claim| claim.ties = None);
    let (allowed, counted) = (judge(&self::claims(), &as_published()), judge(&claims, &as_published()));
    let mut weaker = Vec::new();
    for (a, b) in allowed.iter().zip(&counted) {
        assert_eq!((a.num_true, a.num_tie, a.num_false), (b.num_true, b.num_tie, b.num_false), "{}", a.id);
        match a.verdict {
            VerdictKind::Supported if b.num_tie + b.num_missing > 0 => {
                assert!(matches!(b.verdict, VerdictKind::Leaning | VerdictKind::Undecided), "{}: {:?}", b.id, b.verdict);
                weaker.push(b.id.as_str());
            }
            same => assert_eq!(b.verdict, same, "{}", a.id),
        }
    }
    assert_eq!(weaker, WITH_GAPS);
}

#[test]
fn every_claim_states_the_verdict_it_gets_and_names_its_cells_clearly() {
    let claims = claims();
    for (claim, verdict) in claims.iter().zip(judge(&claims, &as_published())) {
        assert!(verdict.is_as_expected(), "{}: {:?}, {:?}", claim.id, verdict.verdict, verdict.ambiguous);
        assert_eq!(validate(claim, None), [], "{}", claim.id);
    }
}

/// Claims whose every comparison is of the form a > b, in which turning all values round turns every outcome round.
const ORDERS: [&str; 29] = [
    "Q1", "Q2", "Q3", "Q4", "Q5", "Q5b", "Q5c", "N2", "N2b", "N3", "N3b", "V1", "V2", "V3", "V5", "V8", "V8b", "V10", "V10b",
    "A1b", "A2b", "A3", "A5", "A5b", "T1", "T2c", "T6", "T8", "T9",
];

#[test]
fn turning_every_value_round_turns_true_and_false_round() {
    let turned = values(|row| row["value"].parse::<f64>().ok().map(|value| ((100.0 - value) * 10.0).round() / 10.0));
    let (before, after) = (judge(&claims(), &as_published()), judge(&claims(), &turned));
    for id in ORDERS {
        let (a, b) = (one(&before, id), one(&after, id));
        assert_eq!([a.num_true, a.num_tie, a.num_false], [b.num_false, b.num_tie, b.num_true], "{id}");
        let turned_round = match a.verdict {
            VerdictKind::Supported => VerdictKind::Refuted,
            VerdictKind::Refuted => VerdictKind::Supported,
            same => same,
        };
        assert_eq!(b.verdict, turned_round, "{id}");
    }
}

#[test]
fn one_changed_cell_changes_the_claims_that_rest_on_it_and_no_others() {
    let is = |row: &BTreeMap<String, String>, column: &str, text: &str| row[column] == text;
    let changed =
        values(|row| (is(row, "figure", "5") && is(row, "panel", "b") && is(row, "quality_percent", "40")).then_some(60.0));
    let (before, after) = (judge(&claims(), &as_published()), judge(&claims(), &changed));
    let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a.comparisons != b.comparisons).map(|(_, b)| found(b)).collect();
    assert_eq!(moved, [("Q1".to_owned(), "partly", [2, 0, 2])]);
}

#[test]
fn a_longer_gain_breaks_the_claims_of_a_plateau() {
    let longer = values(|row| {
        let value = row["value"].parse::<f64>().ok()?;
        (row["epochs"] == "32").then_some(value + 6.0)
    });
    let verdicts = judge(&claims(), &longer);
    for (id, verdict, counts) in [("N1", "fails", [0, 0, 1]), ("N2", "holds", [1, 0, 0]), ("N4", "fails", [0, 0, 10])] {
        assert_eq!(found(one(&verdicts, id)), (id.to_owned(), verdict, counts));
    }
    let widened = values(|row| (row["figure"] == "17" && row["panel"] == "a" && row["strategy"] == "FLIP").then_some(20.0));
    assert_eq!(found(one(&judge(&claims(), &widened), "T11")), ("T11".to_owned(), "partly", [7, 0, 7]));
}

#[test]
fn without_values_every_claim_has_no_data_and_counts_what_is_missing() {
    for verdict in judge(&claims(), &Values::default()) {
        assert_eq!(found(&verdict), (verdict.id.clone(), "no data", [0, 0, 0]));
    }
    let mut only_one_file = Values::default();
    let text = fs::read(paper().join("reference/quality.csv")).expect("the file");
    only_one_file.add("quality.csv", &text).expect("cells");
    let verdicts = judge(&claims(), &only_one_file);
    assert_eq!(found(one(&verdicts, "Q4")), ("Q4".to_owned(), "holds", [15, 1, 0]));
    let (missing, without) = (one(&verdicts, "V8"), one(&verdicts, "T6"));
    assert_eq!((missing.verdict, without.verdict), (VerdictKind::NoData, VerdictKind::NoData));
}

#[test]
fn the_numbers_named_in_the_study_decide() {
    let verdicts = judge(&claims(), &as_published());
    let lefts = |id: &str| one(&verdicts, id).comparisons.iter().filter_map(|comparison| comparison.left).collect::<Vec<_>>();
    assert_eq!(lefts("N1b"), [3.1, 21.1]);
    assert_eq!(lefts("N2b"), [0.9, 1.7, 5.0, 9.1]);
    assert_eq!(lefts("V10c"), [5.2, 2.9, 1.8, 1.1, 0.7, 0.8, 2.5, 0.9, 2.8, 1.3]);
    assert_eq!(lefts("T2b"), [6.2, 1.5, 1.0]);
    let widths = [8.2, 14.8, 17.3, 20.9, 25.1, 24.0, 24.6, 26.9, 25.0, 23.5];
    assert_eq!(lefts("V5"), widths);
    let at_50: Vec<_> = one(&verdicts, "V7b").comparisons.iter().filter(|comparison| comparison.text.contains("x=50")).collect();
    let numbers: Vec<_> = at_50.iter().filter_map(|comparison| comparison.left.zip(comparison.right)).collect();
    assert_eq!(numbers, [(42.0, 40.3), (42.0, 39.4), (42.0, 39.1)]);
    assert_eq!(one(&verdicts, "V7b").num_missing, 2);
    let fit = &one(&verdicts, "V6b").comparisons[0];
    assert!(fit.text.contains("0.97"), "{}", fit.text);
}

#[test]
fn the_mean_over_variants_bends_upwards_at_fifty() {
    let text = "{id: bend, says: slopes, cells: {where: {figure: 9}}, test: {fit: {x: {cell: {panel: a}}, y: {cell: {panel: b}},
        over: {image_encoder: all, dataset_size: all}, steeper_above: 50}}}";
    let claim: ClaimSpec =
        serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(text)).expect("a claim");
    let verdicts = judge(&[claim], &as_published());
    let [comparison] = verdicts[0].comparisons.as_slice() else { panic!("{verdicts:?}") };
    let round = |value: Option<f64>| (value.unwrap_or_default() * 100.0).round() / 100.0;
    assert_eq!((round(comparison.left), round(comparison.right)), (1.30, 0.76));
}

#[test]
fn the_json_has_the_keys_that_scripts_rely_on() {
    let json: serde_json::Value = serde_json::from_str(&to_json(&judge(&claims(), &as_published()))).expect("JSON");
    let claims = json["claims"].as_array().expect("a list");
    assert_eq!((json.as_object().map(serde_json::Map::len), claims.len()), (Some(1), LISTED.len()));
    for claim in claims {
        let keys: Vec<&str> = claim.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "id",
                "says",
                "verdict",
                "expected",
                "as_expected",
                "true",
                "tie",
                "false",
                "missing",
                "notes",
                "ambiguous",
                "comparisons"
            ]
        );
    }
    assert_eq!((&claims[4]["verdict"], &claims[4]["false"]), (&"refuted".into(), &4.into()));
    assert_eq!((&claims[4]["expected"], &claims[4]["as_expected"]), (&"refuted".into(), &true.into()));
    assert_eq!(claims[4]["comparisons"][0]["difference"], -8.9);
}
