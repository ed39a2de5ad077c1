//! The language of claims is read as written, and nothing else is.

use super::*;

fn claim(text: &str) -> Result<ClaimSpec, serde_yaml::Error> {
    serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(text))
}

const WHOLE: &str = "
id: X1
says: everything at once
cells: { table: [a, b], where: { metric: acc1 } }
defaults: { model: small, size: 64000 }
each: { size: all, keep: [40%, 20%], epochs: { at_least: 4 }, seed: 3 }
at: [40, 45.5]
test:
  - greater: { left: { cell: { keep: 40% } }, right: [{ number: 3 }, 0.5, { gain: { along: size, from: 1k, to: 2k } }] }
  - at_most: { value: { abs: { minus: [{ cell: {} }, { cell: { size: 2k } }] } }, limit: 2, each: { keep: all } }
  - rises: { along: size }
  - best: { along: keep, is: 40%, lowest: true }
  - crossover: { along: size, first: { cell: { model: a } }, later: { cell: { model: b } } }
  - trend: { along: size, over: [1k, 2k], of: { mean: { over: { model: all } } } }
  - equal: { left: { mean: { over: { model: [a, b] }, of: { cell: { size: 1k } } } }, right: 3, within: 2 }
  - greater: { left: 1, right: 0, by: 2, in_more_than: 50% }
  - fit: { x: { cell: {} }, y: { cell: { metric: b } }, over: { size: all }, r2_at_least: 0.95 }
  - greater:
      left: { interpolate: { along: size, x: { column: gmacs }, y: {}, error: 0.5 } }
      right: { interpolate: { along: size, x: { cell: { metric: b } }, y: { metric: a }, at: 40 } }
expect: no data
confidence: 99%
tie_band: 1
ties: allowed
";

#[test]
fn every_form_of_the_language_is_read_and_written_back_unchanged() {
    let spec = claim(WHOLE).unwrap();
    assert_eq!(spec.test.0.len(), 10);
    assert_eq!(spec.confidence(), Confidence::Interval(0.99));
    assert_eq!(spec.expect, VerdictKind::NoData);
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ClaimSpec>(&json).unwrap(), spec);
}

#[test]
fn one_test_needs_no_list_and_expects_support() {
    let spec =
        claim("{id: Q1, says: s, cells: {table: fig5b}, test: {best: {along: data.quality.keep, is: 40%}}, confidence: none}")
            .unwrap();
    let [TestSpec::Best(best)] = spec.test.0.as_slice() else { panic!("{:?}", spec.test) };
    assert_eq!((best.is.as_str(), spec.expect, spec.tie_band()), ("40%", VerdictKind::Supported, 0.5));
    assert_eq!(spec.confidence(), Confidence::NotAsked);
}

#[test]
fn unknown_words_are_refused_at_every_depth() {
    let with = |test: &str, rest: &str| claim(&format!("{{id: a, says: b, cells: {{table: t}}, test: {test}{rest}}}"));
    assert!(with("{best: {along: a, is: b}}", "").is_ok());
    for (test, rest) in [
        ("{best: {along: a, is: b, wher: c}}", ""),
        ("{bets: {along: a, is: b}}", ""),
        ("{best: {along: a, is: b, of: {cel: {}}}}", ""),
        ("{best: {along: a, is: b, among: {at_leats: 4}}}", ""),
        ("{best: {along: a, is: b}}", ", confidence: 95"),
        ("{best: {along: a, is: b}}", ", expect: holds"),
        ("[]", ""),
    ] {
        assert!(with(test, rest).is_err(), "{test}{rest}");
    }
}

#[test]
fn a_file_fills_in_what_its_claims_leave_open() {
    let text = "{defaults: {columns: {n: 3.4B, s: CLIP}, rounding: 0.1, tie_band: 2}, claims: [
        {id: a, says: b, cells: {where: {}}, defaults: {n: 1B}, tie_band: 1, test: {rises: {along: x}}}]}";
    let file: ClaimsFile =
        serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(text)).unwrap();
    let [claim] = file.into_claims().try_into().unwrap();
    assert_eq!(claim.defaults["n"].as_str(), "1B");
    assert_eq!(claim.defaults["s"].as_str(), "CLIP");
    assert_eq!((claim.rounding, claim.tie_band()), (Some(0.1), 1.0));
}

#[test]
fn the_schema_can_be_made() {
    let schema = schemars::schema_for!(ClaimsFile);
    let text = serde_json::to_string(&schema).unwrap();
    assert!(text.contains("\"at_most\"") && text.contains("\"no data\""), "{text}");
    let operand = &schema.as_value()["$defs"]["Operand"]["oneOf"];
    assert!(operand.as_array().unwrap().iter().any(|form| form["type"] == "number"), "{operand}");
}
