//! What an experiment stated when its first run started, and what was stated or edited later.
//!
//! Owns [`Stated`], in `provenance.json` under its name. Input: statements as JSON and the configs of runs. Output: digests, and [`Marks`]
//! where later statements have others. A caption is no statement, nor are the verdict that a claim expects and its remark, which may say what
//! came; the sentence of a claim is one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::{RunConfig, SeedParts};

/// Digests of what was stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// Runs of the experiment that had finished by then, in a store or in records of other experiments.
    pub finished: usize,
    /// Runs of the experiment then.
    pub runs: usize,
    /// By id.
    pub claims: BTreeMap<String, String>,
    /// By name.
    pub tables: BTreeMap<String, String>,
    /// By name; `None` in records from before fits were noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fits: Option<BTreeMap<String, String>>,
    /// Seeds of the runs.
    pub seeds: BTreeSet<u64>,
    /// What they draw.
    #[serde(default, skip_serializing_if = "SeedParts::is_default")]
    pub seeds_draw: SeedParts,
    /// Of the evaluation sets of all runs together.
    pub evaluations: String,
}

/// What was stated late.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// What is said of a claim, by id.
    pub claims: BTreeMap<String, String>,
    /// What is said of a table, by name.
    pub tables: BTreeMap<String, String>,
    /// What is said of a fit, by name.
    pub fits: BTreeMap<String, String>,
    /// What is said of every claim.
    pub all: Vec<String>,
}

impl Stated {
    /// What these statements and runs are, none of which has finished.
    #[must_use]
    pub fn of<'a>(statements: &Value, configs: impl IntoIterator<Item = &'a RunConfig>) -> Self {
        let (mut seeds, mut seeds_draw, mut evaluations, mut runs) = (BTreeSet::new(), SeedParts::default(), BTreeSet::new(), 0);
        for config in configs {
            runs += 1;
            seeds.insert(config.seed);
            seeds_draw = config.seeds_draw;
            evaluations.insert(serde_json::to_string(&config.evaluate).expect("a config has only text keys and finite numbers"));
        }
        Self {
            finished: 0,
            runs,
            claims: digests(statements, "claims", "id"),
            tables: digests(statements, "tables", "name"),
            fits: Some(digests(statements, "fits", "name")),
            seeds,
            seeds_draw,
            evaluations: digest(&evaluations.into_iter().collect::<Vec<_>>().join("\n")),
        }
    }

    /// What of `now` was stated or edited after this was.
    #[must_use]
    pub fn marks(&self, now: &Self) -> Marks {
        let late = if self.finished > 0 {
            format!("stated when {} of {} runs had finished", self.finished, self.runs)
        } else {
            String::new()
        };
        let of = |first: &BTreeMap<String, String>, now: &BTreeMap<String, String>| {
            let mark = |(name, digest): (&String, &String)| {
                let said = match first.get(name) {
                    None => "stated after runs had finished".to_owned(),
                    Some(before) if before != digest => "edited after runs had finished".to_owned(),
                    Some(_) => late.clone(),
                };
                (!said.is_empty()).then(|| (name.clone(), said))
            };
            now.iter().filter_map(mark).collect()
        };
        let mut all = Vec::new();
        let listed = |seeds: Vec<&u64>| seeds.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        for (seeds, what) in [(now.seeds.difference(&self.seeds), "added"), (self.seeds.difference(&now.seeds), "taken out")] {
            let seeds: Vec<&u64> = seeds.collect();
            if !seeds.is_empty() {
                let noun = if seeds.len() == 1 { "seed" } else { "seeds" };
                all.push(format!("{noun} {} {what} after runs had finished", listed(seeds)));
            }
        }
        if now.seeds_draw != self.seeds_draw {
            all.push(format!("seeds draw {} since runs had finished, before {}", now.seeds_draw, self.seeds_draw));
        }
        if now.evaluations != self.evaluations {
            all.push("evaluation sets edited after runs had finished".to_owned());
        }
        let fits = self.fits.iter().zip(&now.fits).map(|(first, now)| of(first, now)).next().unwrap_or_default();
        Marks { claims: of(&self.claims, &now.claims), tables: of(&self.tables, &now.tables), fits, all }
    }
}

/// Fields of tables, fits and claims that decide neither a cell nor a verdict.
const NO_STATEMENT: [&str; 3] = ["caption", "expect", "remark"];

/// Digests of the entries of a list, by the field that names them.
fn digests(statements: &Value, list: &str, name: &str) -> BTreeMap<String, String> {
    let entries = statements.get(list).and_then(Value::as_array).into_iter().flatten();
    let of = |entry: &Value| {
        let is_statement = |field: &str| !NO_STATEMENT.contains(&field);
        let fields: BTreeMap<&String, &Value> = entry.as_object()?.iter().filter(|(field, _)| is_statement(field)).collect();
        let text = serde_json::to_string(&fields).expect("JSON values serialise");
        Some((entry.get(name)?.as_str()?.to_owned(), digest(&text)))
    };
    entries.filter_map(of).collect()
}

/// Hexadecimal digits that name a text.
fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::config;
    use crate::run::SeedPart;
    use serde_json::json;

    #[test]
    fn what_is_added_edited_or_taken_out_is_marked_and_captions_and_expectations_are_not() {
        let statements = json!({
            "tables": [{ "name": "t", "rows": ["a"], "caption": "c" }, { "name": "u", "rows": ["a"] }],
            "claims": [{ "id": "x", "says": "s" }, { "id": "y", "says": "s" }],
            "fits": [{ "name": "f", "of": "loss", "caption": "c" }],
        });
        let configs = [config(8, 0), config(8, 1)];
        let first = Stated::of(&statements, &configs);
        assert_eq!(first.marks(&first), Marks::default());
        let mut later = statements.clone();
        later["tables"][0]["caption"] = "d".into();
        later["tables"][1]["rows"][0] = "b".into();
        later["fits"][0]["caption"] = "d".into();
        later["fits"].as_array_mut().expect("a list").push(json!({ "name": "g", "of": "loss" }));
        later["claims"][0]["expect"] = "mixed".into();
        later["claims"][0]["remark"] = "two of three".into();
        later["claims"][1]["says"] = "z".into();
        later["claims"].as_array_mut().expect("a list").push(json!({ "id": "w", "says": "s" }));
        let mut more = config(8, 2);
        more.evaluate.clear();
        let marks = first.marks(&Stated::of(&later, configs[1..].iter().chain([&more])));
        let said = |marks: &BTreeMap<String, String>| marks.iter().map(|(name, said)| format!("{name} {said}")).collect::<Vec<_>>();
        assert_eq!(said(&marks.claims), ["w stated after runs had finished", "y edited after runs had finished"]);
        assert_eq!(said(&marks.tables), ["u edited after runs had finished"]);
        assert_eq!(said(&marks.fits), ["g stated after runs had finished"]);
        let before = Stated { fits: None, ..first.clone() };
        assert!(before.marks(&Stated::of(&later, &configs)).fits.is_empty(), "of records that do not note them nothing is said");
        let all =
            ["seed 2 added", "seed 0 taken out", "evaluation sets edited"].map(|what| format!("{what} after runs had finished"));
        assert_eq!(marks.all, all);
        let mut drawing = configs.clone();
        drawing.iter_mut().for_each(|config| config.seeds_draw = [SeedPart::Init].into_iter().collect());
        let all = first.marks(&Stated::of(&statements, &drawing)).all;
        assert_eq!(all, ["seeds draw initial parameters since runs had finished, before initial parameters and order of samples"]);
        let over_finished = Stated { finished: 1, ..first.clone() };
        assert_eq!(said(&over_finished.marks(&first).claims)[0], "x stated when 1 of 2 runs had finished");
    }
}
