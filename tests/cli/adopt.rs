//! Runs that are taken from committed records: which, from where, and what is said of them.

use std::collections::BTreeMap;
use std::path::Path;

use scaledown::record;

use crate::place::{Outcome, Place, SMALL, text_of};

/// Exit code and everything that a command said.
type Said = (Option<i32>, String);

impl Place {
    fn said(&self, args: &[&str]) -> Result<Said, Box<dyn std::error::Error>> {
        let output = self.scaledown(&[args, &["--device", "cpu"]].concat())?;
        Ok((output.status.code(), text_of(&output.stdout) + &text_of(&output.stderr)))
    }

    /// Every file below a folder but clocks, with its bytes.
    fn files(&self, folder: &str) -> Result<BTreeMap<String, Vec<u8>>, std::io::Error> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.path().join(folder)];
        while let Some(folder) = left.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    left.push(path);
                } else if !path.ends_with("timings.csv") {
                    found.insert(path.strip_prefix(self.path()).unwrap_or(&path).display().to_string(), std::fs::read(&path)?);
                }
            }
        }
        Ok(found)
    }

    /// The store is lost.
    fn lose_store(&self) -> Result<(), std::io::Error> {
        std::fs::remove_dir_all(self.path().join(".scaledown"))
    }

    /// Jobs in the store, by kind.
    fn jobs(&self, store: &str) -> Result<BTreeMap<String, usize>, Box<dyn std::error::Error>> {
        let mut kinds = BTreeMap::new();
        if !self.path().join(store).join("jobs").exists() {
            return Ok(kinds);
        }
        for (name, bytes) in self.files(&format!("{store}/jobs"))? {
            if name.ends_with("record.json") {
                let record: serde_json::Value = serde_json::from_slice(&bytes)?;
                *kinds.entry(record["job"]["kind"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
            }
        }
        Ok(kinds)
    }

    fn provenance(&self, folder: &str) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_slice(&std::fs::read(self.path().join(folder).join("provenance.json"))?)?)
    }

    /// Changes the records of a folder and writes them as the program would, seals included.
    fn rewrite(&self, folder: &str, change: impl Fn(&mut record::Records)) -> Outcome {
        let folder = self.path().join(folder);
        let mut records = record::read(&folder)?;
        change(&mut records);
        Ok(record::write(&folder, &records, &mut |path: &Path, bytes: &[u8]| std::fs::write(path, bytes))?)
    }
}

fn lines(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Vec<String> {
    files.get(name).map(|bytes| text_of(bytes).lines().map(str::to_owned).collect()).unwrap_or_default()
}

#[test]
fn committed_records_stand_in_for_a_lost_store() -> Outcome {
    let place = Place::with_results(SMALL)?;
    let before = place.files("results")?;
    place.lose_store()?;
    let (code, said) = place.said(&["plan", "small.yaml"])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("adopted     4 runs finished in committed records (4 from results/small)"), "{said}");
    assert!(said.contains("0 finished, 0 to do") && said.contains("time        about 0"), "{said}");
    let (_, dot) = place.said(&["plan", "small.yaml", "--format", "dot"])?;
    assert_eq!(dot.matches("(adopted)").count(), 12, "4 trainings and 8 evaluations: {dot}");
    let (_, status) = place.said(&["status", "small.yaml"])?;
    let says = "4 runs: 0 finished, 4 adopted, 0 running, 0 failed, 0 to do";
    assert!(status.contains(says) && status.contains("finished, adopted from results/small (trained by scaledown "), "{status}");
    let (code, said) = place.said(&["run", "small.yaml", "--check"])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing to do: 4 runs are finished, 4 adopted (4 from results/small), 0 trained"), "{said}");
    assert!(said.contains("| 1e-3 |") && said.contains("supported"), "its tables and verdicts are shown: {said}");
    assert_eq!(place.files("results")?, before);
    assert_eq!(place.jobs(".scaledown")?, BTreeMap::new(), "not even data are packed");
    let id = place.provenance("results/small")?["runs"][0]["run_id"].as_str().unwrap_or_default().to_owned();
    let (_, explained) = place.said(&["explain", &id, "small.yaml"])?;
    assert!(explained.contains("adopted from results/small") && explained.contains("will not run"), "{explained}");
    // Another table over the same runs.
    let second = "acc1] }\n  - { name: second, rows: train.lr, values: [zeroshot/scenes.acc5] }";
    place.edit("small.yaml", "acc1] }", second)?;
    let (code, said) = place.said(&["run", "small.yaml"])?;
    assert!(code == Some(0) && said.contains("0 trained") && said.contains("# second"), "{said}");
    assert!(said.contains("warning: adopted records do not hold what each item came to for zeroshot/scenes.acc5"), "{said}");
    Ok(())
}

#[test]
fn a_grid_that_grew_trains_the_new_runs_alone_and_says_which_are_which() -> Outcome {
    let place = Place::with_results(SMALL)?;
    let before = place.files("results")?;
    place.lose_store()?;
    let grown = SMALL.replace("[1e-3, 2e-3]", "[1e-3, 2e-3, 4e-3]");
    place.write("small.yaml", &grown)?;
    let (code, said) = place.said(&["run", "small.yaml"])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 adopted (4 from results/small), 2 trained\n"), "{said}");
    assert_eq!(place.jobs(".scaledown")?.get("train"), Some(&2));
    let after = place.files("results")?;
    for name in ["results/small/runs.csv", "results/small/curves.csv", "results/small/outcomes.csv"] {
        let (old, new) = (lines(&before, name), lines(&after, name));
        assert!(old.len() > 4 && new.len() > old.len() && old.iter().all(|line| new.contains(line)), "{name}");
    }
    let provenance = place.provenance("results/small")?;
    let marks: Vec<bool> = provenance["runs"].as_array().into_iter().flatten().map(|run| run["adopted"].is_object()).collect();
    assert_eq!(marks, [true, true, true, true, false, false]);
    assert_eq!(provenance["runs"][0]["adopted"]["experiment"], "small");
    assert_eq!(provenance["runs"][0]["adopted"]["commit"], provenance["provenance"]["commit"]);
    // As if all had been trained at once, but for the marks.
    let whole = Place::with_results(&grown)?.files("results")?;
    assert_eq!(after.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    for (name, bytes) in after.iter().filter(|(name, _)| !name.ends_with("provenance.json")) {
        assert!(whole.get(name) == Some(bytes), "{name} differs");
    }
    // And again, with the store of the new runs and without it.
    for is_lost in [false, true] {
        if is_lost {
            place.lose_store()?;
        }
        let (code, said) = place.said(&["run", "small.yaml"])?;
        let adopted = if is_lost { 6 } else { 4 };
        assert!(code == Some(0) && said.contains(&format!("{adopted} adopted (")) && said.contains("0 trained"), "{said}");
        assert_eq!(place.files("results")?, after);
    }
    Ok(())
}

#[test]
fn without_adoption_every_run_is_trained_and_a_check_that_runs_takes_none() -> Outcome {
    let place = Place::with_results(SMALL)?;
    let before = place.files("results")?;
    place.lose_store()?;
    let (code, said) = place.said(&["run", "small.yaml", "--no-adopt"])?;
    assert!(code == Some(0) && said.contains("0 adopted, 4 trained"), "{said}");
    assert_eq!(place.jobs(".scaledown")?.get("train"), Some(&4));
    assert_eq!(place.files("results")?, before, "the same processor gives the same bytes");
    // A scratch folder that is kept and lost its store holds records of the same runs.
    let check = ["check", "small.yaml", "--run", "--keep", "kept", "--against", "results/small", "-q"];
    for _ in 0..2 {
        assert_eq!(place.said(&check)?.0, Some(0));
        assert_eq!(place.jobs("kept/store")?.get("train"), Some(&4));
        std::fs::remove_dir_all(place.path().join("kept/store"))?;
    }
    Ok(())
}

#[test]
fn adopted_runs_are_verified_by_training_some_of_them_anew() -> Outcome {
    let place = Place::with_results(SMALL)?;
    place.lose_store()?;
    let before = place.files("results")?;
    let (code, said) = place.said(&["run", "small.yaml", "--verify", "1"])?;
    assert!(code == Some(0) && said.contains("training 1 of 4 adopted runs anew (seed 0): "), "{said}");
    assert!(said.contains("verified: 1 adopted run as recorded (tolerance 1)"), "{said}");
    let chosen = |seed: &str| -> Result<String, Box<dyn std::error::Error>> {
        let (_, said) = place.said(&["run", "small.yaml", "--verify", "2", "--verify-seed", seed])?;
        Ok(said.lines().find(|line| line.starts_with("training 2")).unwrap_or_default().to_owned())
    };
    assert_eq!(chosen("3")?, chosen("3")?);
    assert_eq!((place.files("results")?, place.jobs(".scaledown")?), (before, BTreeMap::new()), "nothing of it is kept");
    assert_eq!(std::fs::read_dir(place.path().join("tmp"))?.count(), 0, "the scratch store is removed");

    // Records that are whole and say something else.
    place.rewrite("results/small", |records| {
        records.runs[1].curve[2].loss *= 1.0001;
        let acc1 = records.runs[2].metrics.get_mut("zeroshot/scenes.acc1");
        acc1.into_iter().for_each(|value| *value += 3.0);
    })?;
    let wrong = place.files("results")?;
    let (code, said) = place.said(&["run", "small.yaml", "--verify", "99"])?;
    assert_eq!(code, Some(5), "{said}");
    let records = record::read(&place.path().join("results/small"))?;
    let of_run = |idx: usize| format!("differs: run {} of results/small: ", records.runs[idx].run_id);
    assert!(said.contains(&format!("{}curve: loss ", of_run(1))) && said.contains("at step 3"), "{said}");
    assert!(said.contains(&format!("{}zeroshot/scenes.acc1: ", of_run(2))), "{said}");
    assert_eq!(said.matches("differs: ").count(), 2, "{said}");
    assert_eq!((place.files("results")?, place.jobs(".scaledown")?), (wrong, BTreeMap::new()), "neither replaces the other");
    let lax = ["run", "small.yaml", "--verify", "99", "--tolerance", "loss=1%", "--tolerance", "4"];
    assert_eq!(place.said(&lax)?.0, Some(0));
    for bad in [&["--verify", "1", "--no-adopt"][..], &["--verify", "1", "--tolerance", "-1"], &["--tolerance", "1"]] {
        assert_eq!(place.said(&[&["run", "small.yaml"], bad].concat())?.0, Some(2), "{bad:?}");
    }
    Ok(())
}

#[test]
fn a_row_that_was_edited_is_not_adopted() -> Outcome {
    let place = Place::with_results(SMALL)?;
    let before = place.files("results")?;
    place.lose_store()?;
    let row = lines(&before, "results/small/runs.csv")[3].clone();
    let better = row.rsplit_once(',').map(|(rest, _)| format!("{rest},99.5")).unwrap_or_default();
    place.edit("results/small/runs.csv", &row, &better)?;
    let (code, said) = place.said(&["run", "small.yaml"])?;
    assert_eq!(code, Some(0), "{said}");
    let id = row.split(',').next().unwrap_or_default();
    assert!(said.contains(&format!("warning: results/small: 1 run is not as it was written ({id})")), "{said}");
    assert!(said.contains("3 adopted (3 from results/small), 1 trained"), "{said}");
    assert_eq!(place.files("results")?.get("results/small/runs.csv"), before.get("results/small/runs.csv"));
    Ok(())
}

#[test]
fn records_that_cannot_be_used_are_said_so_and_their_runs_are_trained() -> Outcome {
    let place = Place::with_results(SMALL)?;
    let provenance = std::fs::read_to_string(place.path().join("results/small/provenance.json"))?;
    let keyless: String = provenance
        .lines()
        .filter(|line| !line.trim_start().starts_with("\"key\": ") && !line.trim_start().starts_with("\"seal\": "))
        .map(|line| format!("{line}\n"))
        .collect();
    let curves = std::fs::read_to_string(place.path().join("results/small/curves.csv"))?;
    for (file, text, says) in [
        ("provenance.json", keyless.as_str(), "its records hold no keys of runs"),
        ("provenance.json", "{", "provenance.json: EOF while parsing"),
        ("provenance.json", "[1, 2]", "provenance.json: trailing characters"),
        ("provenance.json", &provenance.replace("\"format\": 1", "\"format\": 77"), "format version 77, expected 1"),
        ("curves.csv", &curves.replacen(",1,", ",one,", 1), "curves.csv:2: `step` is `one`, not a number"),
    ] {
        place.lose_store()?;
        place.write(&format!("results/small/{file}"), text)?;
        let (code, said) = place.said(&["run", "small.yaml"])?;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("warning: ") && said.contains(says) && said.contains("no run is adopted from there"), "{said}");
        assert!(said.contains("0 adopted, 4 trained"), "{said}");
    }
    Ok(())
}

#[test]
fn what_failed_is_trained_again_and_what_diverged_is_a_result() -> Outcome {
    let place = Place::new(SMALL)?;
    let (code, said) = place.said(&["run", "small.yaml", "--time-limit", "0.000001s"])?;
    assert!(code == Some(4) && said.contains("0 adopted, 0 trained"), "{said}");
    assert_eq!(lines(&place.files("results")?, "results/small/runs.csv").iter().filter(|row| row.contains(",failed,")).count(), 4);
    place.lose_store()?;
    let (code, said) = place.said(&["run", "small.yaml"])?;
    assert!(code == Some(0) && said.contains("0 adopted, 4 trained"), "{said}");

    let text = SMALL.replace("[1e-3, 2e-3]", "[1e-3, 1e30]").replace("lr: 1e-3\n", "lr: 1e-3\n  grad_clip_norm: none\n");
    let place = Place::with_results(&text)?;
    let before = place.files("results")?;
    place.lose_store()?;
    let (code, said) = place.said(&["run", "small.yaml", "--verify", "4"])?;
    assert!(code == Some(0) && said.contains("4 adopted") && said.contains("verified: 4 adopted runs"), "{said}");
    assert_eq!(lines(&before, "results/small/runs.csv").iter().filter(|row| row.contains(",diverged,")).count(), 2);
    assert_eq!(place.files("results")?, before);
    Ok(())
}

#[test]
fn a_scorer_is_trained_again_only_where_a_new_run_needs_its_model() -> Outcome {
    let quality = "  quality: { keep: 100%, by: { similarity: { scorer: scorer.yaml } } }\n";
    let file = SMALL
        .replace("  tokenizer:", &format!("{quality}  tokenizer:"))
        .replace("grid: { train.lr: [1e-3, 2e-3] }", "grid: { data.quality.keep: [50%, 100%] }")
        .replace("rows: train.lr", "rows: data.quality.keep")
        .replace("{ train.lr: all }", "{ data.quality.keep: all }");
    let place = Place::new(&file)?;
    // The scorer is one of the runs too: that of the whole pool with seed 0.
    let scorer = SMALL.split("evaluate:").next().unwrap_or_default().replace("experiment: small\n", "");
    place.write("scorer.yaml", &scorer)?;
    assert_eq!(place.said(&["run", "small.yaml"])?.0, Some(0));
    assert_eq!(place.jobs(".scaledown")?.get("train"), Some(&4), "4 runs, one of which is the scorer");
    let before = place.files("results")?;
    place.lose_store()?;
    let (_, said) = place.said(&["run", "small.yaml"])?;
    assert!(said.contains("4 adopted (4 from results/small), 0 trained"), "{said}");
    assert_eq!((place.files("results")?, place.jobs(".scaledown")?), (before.clone(), BTreeMap::new()));
    place.edit("small.yaml", "[50%, 100%]", "[25%, 50%, 100%]")?;
    let (code, said) = place.said(&["run", "small.yaml"])?;
    assert!(code == Some(0) && said.contains("4 adopted (4 from results/small), 2 trained and 1 scorer"), "{said}");
    let jobs = place.jobs(".scaledown")?;
    assert_eq!((jobs.get("train"), jobs.get("scores"), jobs.get("subset")), (Some(&3), Some(&1), Some(&1)), "{jobs:?}");
    let rows = lines(&place.files("results")?, "results/small/runs.csv");
    assert!(lines(&before, "results/small/runs.csv").iter().skip(1).all(|row| rows.contains(row)), "{rows:?}");
    Ok(())
}

#[test]
fn runs_of_other_experiments_and_of_named_folders_are_adopted() -> Outcome {
    let place = Place::with_results(SMALL)?;
    place.lose_store()?;
    place.write(
        "other.yaml",
        &SMALL.replace("experiment: small", "experiment: deep/other").replace("[1e-3, 2e-3]", "[2e-3, 4e-3]"),
    )?;
    let (code, said) = place.said(&["plan", "other.yaml"])?;
    assert!(code == Some(0) && said.contains("2 runs finished in committed records (2 from results/small)"), "{said}");
    let (code, said) = place.said(&["run", "other.yaml", "-q"])?;
    assert_eq!((code, said.as_str()), (Some(0), ""), "quiet is quiet");
    let provenance = place.provenance("results/deep/other")?;
    let marks: Vec<_> =
        provenance["runs"].as_array().into_iter().flatten().map(|run| run["adopted"]["experiment"].clone()).collect();
    assert_eq!(marks, [serde_json::json!("small"), "small".into(), serde_json::Value::Null, serde_json::Value::Null]);
    assert_eq!(provenance["provenance"]["samples"].as_object().map(serde_json::Map::len), Some(2), "{provenance}");
    // Where it was trained stays with it, whatever folders it goes through.
    place.lose_store()?;
    std::fs::rename(place.path().join("results"), place.path().join("elsewhere"))?;
    std::fs::remove_dir_all(place.path().join("elsewhere/small"))?;
    let (code, said) = place.said(&["run", "small.yaml", "--adopt", "elsewhere"])?;
    assert!(code == Some(0) && said.contains("2 adopted (2 from elsewhere/deep/other), 2 trained"), "{said}");
    let provenance = place.provenance("results/small")?;
    assert_eq!(provenance["runs"][2]["adopted"]["experiment"], "small", "{provenance}");
    let (code, said) = place.said(&["run", "small.yaml", "--adopt", "nowhere"])?;
    assert!(code == Some(2) && said.contains("--adopt nowhere: there is no results folder"), "{said}");
    Ok(())
}

/// The notes of a claim in `claims.csv`.
fn notes(place: &Place, id: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut reader = csv::Reader::from_path(place.path().join("results/small/claims.csv"))?;
    let rows = reader.records().collect::<Result<Vec<_>, _>>()?;
    Ok(rows.iter().find(|row| &row[0] == id).map(|row| row[8].to_owned()).unwrap_or_default())
}

#[test]
fn what_is_stated_or_edited_after_runs_had_finished_is_marked_in_every_output() -> Outcome {
    let place = Place::with_results(SMALL)?;
    let before = place.files("results")?;
    assert!(!notes(&place, "sane")?.contains("after runs"), "{}", notes(&place, "sane")?);
    let claim = "  - { id: later, says: it is more, cells: { table: zeroshot }, each: { train.lr: all }, \
                 test: { at_most: { value: { cell: {} }, limit: 99 } }, confidence: none }\n";
    let edited =
        SMALL.replace("limit: 100", "limit: 98").replace("[zeroshot/scenes.acc1] }", "[zeroshot/scenes.acc1], caption: new }");
    place.write("small.yaml", &(edited + claim))?;
    // On this machine, then in a fresh clone, whose store is empty.
    for is_lost in [false, true] {
        if is_lost {
            place.lose_store()?;
        }
        let (code, said) = place.said(&["run", "small.yaml"])?;
        assert!(code == Some(0) && !said.contains("this table was"), "a caption is no statement: {said}");
        assert_eq!(said.matches("edited after runs had finished").count(), 1, "{said}");
        assert_eq!(said.matches("stated after runs had finished").count(), 1, "{said}");
        assert!(notes(&place, "sane")?.ends_with("edited after runs had finished"), "{}", notes(&place, "sane")?);
        assert!(notes(&place, "later")?.ends_with("stated after runs had finished"), "{}", notes(&place, "later")?);
    }
    for command in [&["check", "small.yaml"][..], &["check", "small.yaml", "--format", "json"]] {
        let output = text_of(&place.scaledown(command)?.stdout);
        assert!(output.contains("edited after runs had finished"), "{output}");
    }
    // Back to what was stated first: nothing to mark.
    place.write("small.yaml", SMALL)?;
    assert_eq!(place.said(&["run", "small.yaml"])?.0, Some(0));
    assert_eq!(place.files("results")?, before);
    // Another table, more seeds.
    place.edit("small.yaml", "seeds: 2", "seeds: 3")?;
    place.edit("small.yaml", "rows: train.lr, values", "rows: train.lr, where: { train.batch_size: 20 }, values")?;
    let (code, said) = place.said(&["run", "small.yaml"])?;
    assert!(code == Some(0) && said.contains("seed 2 added after runs had finished"), "{said}");
    assert!(said.contains("this table was edited after runs had finished"), "{said}");
    let table = text_of(&std::fs::read(place.path().join("results/small/tables/zeroshot.md"))?);
    assert!(table.contains("this table was edited after runs had finished"), "{table}");
    let after = place.files("results")?;
    assert_eq!(place.scaledown(&["table", "--from", "results/small"])?.status.code(), Some(0));
    assert_eq!(place.files("results")?, after, "rebuilt with its marks");
    // Claims of another experiment over runs that are there.
    place.write("other.yaml", &SMALL.replace("experiment: small", "experiment: other"))?;
    let (code, said) = place.said(&["run", "other.yaml"])?;
    assert!(code == Some(0) && said.contains("stated when 4 of 4 runs had finished"), "{said}");
    Ok(())
}
