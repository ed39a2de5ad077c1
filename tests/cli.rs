//! The real program: every exit code, and what stands on which stream.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Four runs that the stand-in worker does in a moment.
const SMALL: &str = "\
experiment: small
data:
  train: { dataset: scenes, size: 200 }
  tokenizer: { name: bpe, vocab_size: 300 }
model:
  image_encoder: { name: vit, width: 16, layers: 1, heads: 2, patch_size: 8, pooling: mean, pre_norm: false }
  text_encoder: { name: text, width: 16, layers: 1, heads: 2 }
  context_length: 8
  embed_dim: 16
  image_size: 16
train:
  strategy: { name: clip, augmentation: none }
  batch_size: 20
  lr: 1e-3
  budget: { steps: 6 }
evaluate: [{ zeroshot: scenes, samples: 80 }, { retrieval: scenes, samples: 80 }]
sweep:
  seeds: 2
  grid: { train.lr: [1e-3, 2e-3] }
tables:
  - { name: zeroshot, rows: train.lr, values: [zeroshot/scenes.acc1] }
claims:
  - id: sane
    says: accuracy is a percentage
    cells: { table: zeroshot }
    each: { train.lr: all }
    test: { at_most: { value: { cell: {} }, limit: 100 } }
    confidence: none
";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(text: &str) -> Result<Self, std::io::Error> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("small.yaml"), text)?;
        Ok(Self { folder })
    }
    fn path(&self) -> &Path {
        self.folder.path()
    }
    fn scaledown(&self, args: &[&str]) -> Result<Output, Box<dyn std::error::Error>> {
        let mut command = Command::cargo_bin("scaledown")?;
        Ok(command.current_dir(self.path()).env_remove("SCALEDOWN_STORE").args(args).output()?)
    }
    fn results(&self) -> Result<Vec<(String, Vec<u8>)>, std::io::Error> {
        let mut files = Vec::new();
        for name in ["runs.csv", "curves.csv", "provenance.json", "claims.csv", "tables/zeroshot.csv", "tables/zeroshot.md"] {
            files.push((name.to_string(), std::fs::read(self.path().join("results/small").join(name))?));
        }
        Ok(files)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_sweep_trains_measures_and_judges_and_the_second_time_has_nothing_to_do() -> Outcome {
    let place = Place::new(SMALL)?;
    let first = place.scaledown(&["run", "small.yaml", "--check"])?;
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let stdout = text(&first.stdout);
    assert!(stdout.contains("sane") && stdout.contains("supported") && stdout.contains("| 1e-3 |"), "{stdout}");
    let written = place.results()?;
    let again = place.scaledown(&["run", "small.yaml"])?;
    assert!(text(&again.stderr).contains("nothing to do"), "{}", text(&again.stderr));
    assert_eq!(written, place.results()?);
    // Another store and one thread: the same bytes.
    let other = place.scaledown(&["run", "small.yaml", "--store", "other", "--threads", "1", "-q"])?;
    assert_eq!((other.status.code(), text(&other.stderr)), (Some(0), String::new()));
    assert_eq!(written, place.results()?);
    // Tables that were lost come back from the records.
    std::fs::remove_dir_all(place.path().join("results/small/tables"))?;
    std::fs::remove_file(place.path().join("results/small/claims.csv"))?;
    assert_eq!(place.scaledown(&["table", "--from", "results/small"])?.status.code(), Some(0));
    assert_eq!(written, place.results()?);
    let check = place.scaledown(&["check", "small.yaml", "--against", "results/small"])?;
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    Ok(())
}

#[test]
fn two_programs_on_one_store_both_end_with_the_whole_results() -> Outcome {
    let place = Place::new(SMALL)?;
    let program = assert_cmd::cargo::cargo_bin("scaledown");
    let start = |results: &str| {
        let args = ["run", "small.yaml", "--store", "shared", "--results", results, "-q"];
        std::process::Command::new(&program).current_dir(place.path()).args(args).stdout(std::process::Stdio::null()).spawn()
    };
    let (mut one, mut two) = (start("one")?, start("two")?);
    assert!(one.wait()?.success() && two.wait()?.success());
    for name in ["runs.csv", "curves.csv", "claims.csv", "provenance.json", "tables/zeroshot.csv"] {
        let read = |results: &str| std::fs::read(place.path().join(results).join("small").join(name));
        assert!(read("one")? == read("two")?, "{name} differs");
    }
    Ok(())
}

#[test]
fn a_check_fails_where_a_verdict_is_not_the_expected_one_or_a_table_drifted() -> Outcome {
    let place = Place::new(&SMALL.replace("limit: 100", "limit: -1"))?;
    assert_eq!(
        place.scaledown(&["run", "small.yaml", "--fake", "-q"])?.status.code(),
        Some(0),
        "run exits 0 whatever the verdicts"
    );
    assert_eq!(place.scaledown(&["run", "small.yaml", "--fake", "-q", "--check"])?.status.code(), Some(5));
    assert_eq!(place.scaledown(&["check", "small.yaml"])?.status.code(), Some(5));

    let place = Place::new(SMALL)?;
    assert_eq!(place.scaledown(&["run", "small.yaml", "--fake", "-q"])?.status.code(), Some(0));
    let committed = place.path().join("committed/tables");
    std::fs::create_dir_all(&committed)?;
    let table = text(&std::fs::read(place.path().join("results/small/tables/zeroshot.csv"))?);
    let shifted: String = table.lines().filter(|line| !line.starts_with("1e-3")).map(|line| format!("{line}\n")).collect();
    std::fs::write(committed.join("zeroshot.csv"), shifted)?;
    let check = place.scaledown(&["check", "small.yaml", "--against", "committed"])?;
    assert_eq!(check.status.code(), Some(5), "{}", text(&check.stdout));
    assert!(text(&check.stdout).contains("drift:"), "{}", text(&check.stdout));
    Ok(())
}

#[test]
fn mistakes_have_their_own_exit_codes_and_leave_stdout_empty() -> Outcome {
    let place = Place::new(&SMALL.replace("batch_size: 20", "batchsize: 20"))?;
    let spec = place.scaledown(&["plan", "small.yaml"])?;
    assert_eq!((spec.status.code(), text(&spec.stdout)), (Some(3), String::new()));
    assert!(text(&spec.stderr).contains("small.yaml:13:3"), "{}", text(&spec.stderr));

    let place = Place::new(SMALL)?;
    assert_eq!(place.scaledown(&["plan"])?.status.code(), Some(2));
    if scaledown::trainer::backend::cuda::usable().is_err() {
        let run = place.scaledown(&["run", "small.yaml", "--device", "cuda"])?;
        assert_eq!(run.status.code(), Some(6));
        assert!(text(&run.stderr).starts_with("error: no CUDA: ") && text(&run.stderr).contains("hint: "), "{}", text(&run.stderr));
    }
    if scaledown::trainer::backend::cuda::usable().is_err() {
        assert_eq!(place.scaledown(&["gpu-check"])?.status.code(), Some(6));
    }
    let bf16 = place.scaledown(&["run", "small.yaml", "--device", "cpu", "--precision", "bf16"])?;
    assert_eq!(bf16.status.code(), Some(2), "{}", text(&bf16.stderr));
    assert_eq!(place.scaledown(&["explain", "ffff", "small.yaml"])?.status.code(), Some(2));
    assert_eq!(place.scaledown(&["plan", "missing.yaml"])?.status.code(), Some(3));
    assert_eq!(place.scaledown(&["table", "small.yaml"])?.status.code(), Some(6), "no results yet");

    let declared = SMALL.replace("{ dataset: scenes, size: 200 }", "{ dataset: declared, samples: 3.4B }");
    let place = Place::new(&declared)?;
    assert_eq!(place.scaledown(&["plan", "small.yaml"])?.status.code(), Some(0), "declared data can be planned");
    let run = place.scaledown(&["run", "small.yaml"])?;
    assert_eq!(run.status.code(), Some(2), "but not trained on: {}", text(&run.stderr));
    assert!(!place.path().join("results").exists());
    Ok(())
}

#[test]
fn a_run_that_diverges_is_a_row_and_no_failure() -> Outcome {
    let text_file = SMALL.replace("[1e-3, 2e-3]", "[1e-3, 1e30]").replace("lr: 1e-3\n", "lr: 1e-3\n  grad_clip_norm: none\n");
    let place = Place::new(&text_file)?;
    let run = place.scaledown(&["run", "small.yaml", "-q"])?;
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let runs = std::fs::read_to_string(place.path().join("results/small/runs.csv"))?;
    assert_eq!((runs.matches("diverged").count(), runs.matches("finished").count()), (2, 2), "{runs}");
    Ok(())
}

#[test]
fn data_that_cannot_be_read_is_a_failed_run_with_its_reason() -> Outcome {
    let place =
        Place::new(&SMALL.replace("{ dataset: scenes, size: 200 }", "{ dataset: webdataset, shards: broken.tar, size: 100 }"))?;
    std::fs::write(place.path().join("broken.tar"), [b'x'; 700])?;
    let run = place.scaledown(&["run", "small.yaml", "-q"])?;
    assert_eq!(run.status.code(), Some(4), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("broken.tar"), "{}", text(&run.stderr));
    let runs = std::fs::read_to_string(place.path().join("results/small/runs.csv"))?;
    assert_eq!(runs.matches(",failed,").count(), 4, "{runs}");
    Ok(())
}

#[test]
fn plans_are_printed_for_people_programs_and_graphviz() -> Outcome {
    let place = Place::new(SMALL)?;
    let human = text(&place.scaledown(&["plan", "small.yaml"])?.stdout);
    assert!(human.contains("runs        4 distinct, 2 seeds") && human.contains("GMACs"), "{human}");
    let json: serde_json::Value = serde_json::from_slice(&place.scaledown(&["plan", "small.yaml", "--format", "json"])?.stdout)?;
    assert_eq!((json["runs"].as_array().map(Vec::len), json["points"].as_u64()), (Some(4), Some(2)));
    let dot = text(&place.scaledown(&["plan", "small.yaml", "--format", "dot"])?.stdout);
    assert!(dot.starts_with("digraph"), "{dot}");
    assert!(!place.path().join(".scaledown/jobs").exists(), "a plan does nothing");
    Ok(())
}

#[test]
fn what_needs_no_experiment_works_anywhere() -> Outcome {
    let place = Place::new(SMALL)?;
    let schema: serde_json::Value = serde_json::from_slice(&place.scaledown(&["schema"])?.stdout)?;
    assert!(schema["properties"]["sweep"].is_object());
    assert!(text(&place.scaledown(&["doctor"])?.stdout).contains("CPU"));
    assert!(text(&place.scaledown(&["completions", "bash"])?.stdout).contains("scaledown"));
    assert_eq!(place.scaledown(&["--version"])?.status.code(), Some(0));
    let bench =
        ["bench", "step", "--width", "16", "--depth", "1", "--heads", "2", "--batch", "4", "--seconds", "0", "--format", "json"];
    let report: serde_json::Value = serde_json::from_slice(&place.scaledown(&bench)?.stdout)?;
    assert!(report["median_ms"].as_f64() > Some(0.0));
    Ok(())
}

#[test]
fn explain_says_what_differs_from_the_nearest_finished_run() -> Outcome {
    let place = Place::new(SMALL)?;
    place.scaledown(&["run", "small.yaml", "--fake", "-q"])?;
    let changed = ["plan", "small.yaml", "--format", "json", "--set", "train.batch_size=25"];
    let json: serde_json::Value = serde_json::from_slice(&place.scaledown(&changed)?.stdout)?;
    let run = json["runs"][0]["run_id"].as_str().unwrap_or_default().to_string();
    let explained = text(&place.scaledown(&["explain", &run, "small.yaml", "--set", "train.batch_size=25"])?.stdout);
    assert!(explained.contains("train.batch_size: 20 there, 25 here"), "{explained}");
    let status = text(&place.scaledown(&["status", "small.yaml"])?.stdout);
    assert!(status.contains("4 runs: 4 finished"), "{status}");
    Ok(())
}

#[test]
fn a_pool_is_filtered_by_the_similarities_of_a_scorer_that_is_itself_a_run() -> Outcome {
    let quality = "  quality: { keep: 100%, by: { similarity: { scorer: scorer.yaml } } }\n";
    let sweep = "grid: { data.quality.keep: [25%, 50%, 100%] }";
    let file = SMALL
        .replace("  tokenizer:", &format!("{quality}  tokenizer:"))
        .replace("grid: { train.lr: [1e-3, 2e-3] }", sweep)
        .replace("rows: train.lr", "rows: data.quality.keep")
        .replace("{ train.lr: all }", "{ data.quality.keep: all }");
    let place = Place::new(&file)?;
    let scorer = SMALL.split("evaluate:").next().unwrap_or_default().replace("experiment: small\n", "");
    std::fs::write(place.path().join("scorer.yaml"), scorer)?;
    let run = place.scaledown(&["run", "small.yaml", "-q", "--check"])?;
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let runs = std::fs::read_to_string(place.path().join("results/small/runs.csv"))?;
    for subset in [",50,", ",100,", ",200,"] {
        assert!(runs.lines().filter(|line| line.contains(subset)).count() >= 2, "subset {subset} in {runs}");
    }
    Ok(())
}

#[test]
fn data_is_packed_and_inspected_without_training() -> Outcome {
    let place = Place::new(SMALL)?;
    let first = place.scaledown(&["data", "inspect", "small.yaml", "-q"])?;
    assert_eq!(first.status.code(), Some(0), "what is not packed yet is packed: {}", text(&first.stderr));
    let made = place.scaledown(&["data", "make", "small.yaml", "-q"])?;
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let shown = text(&place.scaledown(&["data", "inspect", "small.yaml", "--sheets", "sheets", "--samples", "12"])?.stdout);
    assert!(shown.contains("200 samples of 16x16 pixels") && shown.contains("80 classes"), "{shown}");
    assert!(std::fs::read_dir(place.path().join("sheets"))?.count() >= 2);
    Ok(())
}
