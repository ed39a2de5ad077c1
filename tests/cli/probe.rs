//! Probes and few-shot classifiers, from the file to the tables.

use crate::place::{Outcome, Place, SMALL, text_of as text};

/// One model that is trained and one that is not.
fn with_evaluations(evaluate: &str, values: &str) -> String {
    SMALL
        .replace("[{ zeroshot: scenes, samples: 80 }, { retrieval: scenes, samples: 80 }]", evaluate)
        .replace("seeds: 2", "seeds: 1")
        .replace("{ train.lr: [1e-3, 2e-3] }", "{ train.budget: [{ steps: 0 }, { steps: 6 }] }")
        .replace("rows: train.lr, values: [zeroshot/scenes.acc1]", &format!("rows: train.budget, values: [{values}]"))
        .replace("each: { train.lr: all }", "each: { train.budget: all }")
        .replace("value: { cell: {} }", "value: { cell: { metric: zeroshot/scenes.acc1 } }")
}

const ALL: &str = "[{ zeroshot: scenes, samples: 80 }, { retrieval: scenes, samples: 80 }, \
                   { linear-probe: scenes-shifts, samples: 80, train: { samples: 100 } }, \
                   { fewshot: scenes, samples: 80, train: { samples: 100 }, shots: [1, 2] }]";
const VALUES: &str = "zeroshot/scenes.acc1, linear-probe/scenes-shifts.lp_acc1, \
                      linear-probe/scenes-shifts/sketch.lp_acc1, fewshot/scenes.fewshot1_acc1, fewshot/scenes.fewshot2_acc1";

/// Numbers of a little-endian file of u16.
fn ranks(path: &std::path::Path) -> Result<Vec<u16>, std::io::Error> {
    Ok(std::fs::read(path)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
}

#[test]
fn probes_are_measured_on_models_that_are_there_already_and_the_floor_is_a_budget_of_no_step() -> Outcome {
    let place = Place::new(&with_evaluations("[{ zeroshot: scenes, samples: 80 }]", "zeroshot/scenes.acc1"))?;
    let first = place.scaledown(&["run", "small.yaml"])?;
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    // What is measured is in no key of a training: both models are there, and only packs and evaluations are to do.
    place.write("small.yaml", &with_evaluations(ALL, VALUES))?;
    let plan = text(&place.scaledown(&["plan", "small.yaml"])?.stdout);
    assert!(plan.contains("linear-probe/scenes-shifts fitted on scenes train 100"), "{plan}");
    let status: serde_json::Value = serde_json::from_slice(&place.scaledown(&["plan", "small.yaml", "--format", "json"])?.stdout)?;
    let jobs = status["jobs"].as_array().ok_or("a plan has jobs")?;
    let is_to_do = |job: &&serde_json::Value| job["kind"] == "train" && job["finished"] != true;
    assert_eq!(jobs.iter().filter(is_to_do).count(), 0, "{jobs:#?}");
    let then = place.scaledown(&["run", "small.yaml"])?;
    assert_eq!(then.status.code(), Some(0), "{}", text(&then.stderr));
    // The same bytes as at one go, on one thread.
    let whole = Place::new(&with_evaluations(ALL, VALUES))?;
    let at_once = whole.scaledown(&["run", "small.yaml", "--threads", "1"])?;
    assert_eq!(at_once.status.code(), Some(0), "{}", text(&at_once.stderr));
    assert_eq!(place.results()?, whole.results()?);
    let table = std::fs::read_to_string(place.path().join("results/small/tables/zeroshot.csv"))?;
    let rows = table.lines().skip(1).filter(|line| line.starts_with("steps=")).count();
    assert_eq!(rows, 10, "two rows of five columns: {table}");
    outcomes_are_those_of_the_metrics(&place)
}

/// Every file of outcomes gives the metric of its job again.
fn outcomes_are_those_of_the_metrics(place: &Place) -> Outcome {
    let mut seen = std::collections::BTreeMap::new();
    for shard in std::fs::read_dir(place.path().join(".scaledown/jobs"))? {
        for job in std::fs::read_dir(shard?.path())? {
            let folder = job?.path();
            let outcomes = folder.join("outcomes");
            if !outcomes.exists() {
                continue;
            }
            let record: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("record.json"))?)?;
            let metrics = &record["summary"]["metrics"];
            let task = record["job"]["spec"]["task"].as_str().unwrap_or_default().to_owned();
            let first = |what: &str| ranks(&outcomes.join(format!("0-{what}.u16")));
            let share =
                |ranks: &[u16], below: u16| 100.0 * ranks.iter().filter(|rank| **rank < below).count() as f64 / ranks.len() as f64;
            let near = |found: f64, metric: &str| {
                let stated = metrics[metric].as_f64().unwrap_or(f64::NAN);
                assert!((found - stated).abs() < 1e-9, "{metric}: {found} and {stated}");
            };
            match task.as_str() {
                "zeroshot" => near(share(&first("rank")?, 5), "zeroshot/scenes.acc5"),
                "retrieval" => {
                    near(share(&first("text_rank")?, 10), "retrieval/scenes.text_retrieval_recall@10");
                    assert_eq!(first("image_rank")?.len(), 240, "one a caption");
                }
                "linear-probe" => {
                    near(share(&first("rank")?, 5), "linear-probe/scenes-shifts/fresh.lp_acc5");
                    assert_eq!(ranks(&outcomes.join("5-rank.u16"))?.len(), 80, "six shifted sets");
                    let fit: serde_json::Value = serde_json::from_slice(&std::fs::read(outcomes.with_file_name("probe.json"))?)?;
                    assert_eq!((fit["samples"].as_u64(), fit["held_out"].as_u64()), (Some(100), Some(10)));
                }
                "fewshot" => {
                    let of_seed = |seed: u64| Ok::<f64, std::io::Error>(share(&first(&format!("shots-2-seed-{seed}"))?, 1));
                    near((of_seed(0)? + of_seed(1)? + of_seed(2)?) / 3.0, "fewshot/scenes.fewshot2_acc1");
                }
                other => panic!("{other}: {record:#}"),
            }
            *seen.entry(task).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [2, 2, 2, 2], "of both models");
    Ok(())
}

#[test]
fn a_probe_without_a_train_split_is_refused_with_its_line() -> Outcome {
    let place = Place::new(&with_evaluations("[{ linear-probe: mine, folder: mine }]", "linear-probe/mine.lp_acc1"))?;
    let refused = place.scaledown(&["run", "small.yaml"])?;
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("missing key `train` of `linear-probe/mine`") && said.contains("small.yaml:16:"), "{said}");
    Ok(())
}

#[test]
fn features_are_written_once_a_set_with_labels_and_the_lambda_of_probes() -> Outcome {
    use safetensors::SafeTensors;
    let place = Place::new(&with_evaluations(ALL, VALUES))?;
    let plan: serde_json::Value = serde_json::from_slice(&place.scaledown(&["plan", "small.yaml", "--format", "json"])?.stdout)?;
    let run = plan["runs"][1]["run_id"].as_str().ok_or("a run has an id")?.to_owned();
    let features = || place.scaledown(&["features", &run, "small.yaml", "--device", "cpu", "--to", "features"]);
    let early = features()?;
    assert_eq!(early.status.code(), Some(2));
    assert!(
        text(&early.stderr).contains("is not in the store") && text(&early.stderr).contains("hint: `scaledown run small.yaml`")
    );
    assert_eq!(place.scaledown(&["run", "small.yaml", "--device", "cpu", "-q"])?.status.code(), Some(0));
    let written = features()?;
    assert_eq!(written.status.code(), Some(0), "{}", text(&written.stderr));

    let folder = place.path().join("features");
    let sets = std::fs::read_to_string(folder.join("sets.csv"))?;
    let rows: Vec<Vec<&str>> = sets.lines().skip(1).map(|line| line.split(',').collect()).collect();
    // Zero-shot, retrieval and few-shot are measured on one set, six shifted ones are the probe's, both fit on one split.
    assert_eq!(rows.len(), 1 + 1 + 7 + 2, "{sets}");
    let files: std::collections::BTreeSet<&str> = rows.iter().map(|row| row[3]).collect();
    assert_eq!(files.len(), 1 + 6 + 1, "{sets}");
    for file in files {
        let bytes = std::fs::read(folder.join(file))?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        let samples = if file.ends_with("-train.safetensors") { 100 } else { 80 };
        assert_eq!(tensors.tensor("pooled")?.shape(), [samples, 16], "{file}");
        assert_eq!(tensors.tensor("projected")?.shape(), [samples, 16], "{file}");
        let labels: Vec<u8> = (0..samples as i64)
            .flat_map(|sample| (sample % scaledown::data::scenes::difficulty::CLASSES as i64).to_le_bytes())
            .collect();
        assert_eq!(tensors.tensor("labels")?.data(), labels, "classes of scenes take turns: {file}");
        let projected = tensors.tensor("projected")?;
        for row in projected.data().chunks_exact(16 * 4) {
            let square: f32 =
                row.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")).powi(2)).sum();
            assert!((square - 1.0).abs() < 1e-4, "{file}: {square}");
        }
    }
    let fit: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("linear-probe-scenes-shifts.json"))?)?;
    assert!(fit["lambda"].as_f64() > Some(0.0) && fit["samples"] == 100, "{fit}");
    Ok(())
}
