//! The whole program with `--device cuda`: a sweep's numbers against the CPU's, stopping and going on, a device that is too small.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::standins;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// CLIP and FLIP with whole images at the end; both optimisers; 8 steps each.
const SWEEP: &str = "\
experiment: small
data:
  train: { dataset: scenes, size: 200 }
  tokenizer: { name: bpe, vocab_size: 300 }
model:
  image_encoder: { name: vit, width: 32, layers: 1, heads: 2, patch_size: 8, pooling: mean, pre_norm: false }
  text_encoder: { name: text, width: 16, layers: 1, heads: 1 }
  context_length: 8
  embed_dim: 16
  image_size: 32
train:
  strategy: { name: clip, augmentation: crop_flip }
  batch_size: 20
  lr: 1e-3
  budget: { steps: 8 }
evaluate: [{ zeroshot: scenes, samples: 80 }, { retrieval: scenes, samples: 80 }]
sweep:
  union:
    - grid: { train.optimizer: [{ name: adamw }, { name: adafactor }] }
    - grid: { train.strategy: [{ name: flip, masked: 50%, batch_multiplier: 2, unmasked_tuning: 25% }] }
tables:
  - { name: zeroshot, rows: train.strategy, columns: train.optimizer, values: [zeroshot/scenes.acc1] }
";

struct Place {
    standins: tempfile::TempDir,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(experiment: &str) -> Result<Option<Self>, std::io::Error> {
        let Some(standins) = standins::compiled()? else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("small.yaml"), experiment)?;
        Ok(Some(Self { standins, folder }))
    }

    /// `run` into a store and results of that name.
    fn command(&self, name: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scaledown"));
        standins::prepare(&mut command, self.standins.path());
        let (store, results) = (format!("store-{name}"), format!("results-{name}"));
        command.current_dir(self.folder.path()).args(["run", "small.yaml", "--store", &store, "--results", &results]);
        command.args(options);
        command
    }

    fn run(&self, name: &str, options: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
        let out = self.command(name, options).output()?;
        if out.status.success() { Ok(()) } else { Err(said(&out).into()) }
    }

    fn result(&self, name: &str, file: &str) -> Result<String, std::io::Error> {
        std::fs::read_to_string(self.folder.path().join(format!("results-{name}/small/{file}")))
    }

    /// Losses of all runs, in the order of the file.
    fn losses(&self, name: &str) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
        let text = self.result(name, "curves.csv")?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let column = reader.headers()?.iter().position(|header| header == "loss").ok_or("no losses")?;
        reader.records().map(|record| Ok(record?[column].parse()?)).collect()
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned()
}

#[test]
fn a_sweep_has_the_losses_of_the_cpu_and_the_same_bytes_twice() -> Outcome {
    let Some(place) = Place::new(SWEEP)? else { return Ok(()) };
    place.run("cpu", &["--device", "cpu"])?;
    let expected = place.losses("cpu")?;
    assert_eq!(expected.len(), 3 * 8);
    for (precision, limit) in [("f32", 1e-4), ("bf16", 2e-2)] {
        place.run(precision, &["--device", "cuda", "--precision", precision])?;
        let found = place.losses(precision)?;
        assert_eq!(found.len(), expected.len());
        for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= limit * expected, "{precision}, row {step}: {found} for {expected}");
        }
    }
    // The default precision is bf16; records know neither how they were replayed nor what ran beside them.
    let options = ["--device", "cuda", "-j", "2"];
    let out = place.command("again", &options).env("SCALEDOWN_CUDA_REPLAY", "eager").output()?;
    assert!(out.status.success(), "{}", said(&out));
    for file in ["runs.csv", "curves.csv", "provenance.json"] {
        assert_eq!(place.result("again", file)?, place.result("bf16", file)?, "{file}");
    }
    Ok(())
}

/// The device crops and flips alone: images that RandAugment changed are made on the CPU, and every batch of them is uploaded.
#[test]
fn what_a_device_cannot_augment_reaches_it_augmented() -> Outcome {
    let whole = SWEEP.replace("[{ name: adamw }, { name: adafactor }]", "[{ name: adamw }]");
    let flip = whole.lines().find(|line| line.contains("name: flip")).ok_or("a line of FLIP")?;
    let strategies = "{ name: clip, augmentation: rand_augment }, { name: clip, augmentation: stacked_rand_augment }";
    let augmented = format!("    - grid: {{ train.strategy: [{strategies}] }}");
    let Some(place) = Place::new(&whole.replace(flip, &augmented))? else { return Ok(()) };
    place.run("cpu", &["--device", "cpu"])?;
    place.run("f32", &["--device", "cuda", "--precision", "f32"])?;
    let (expected, found) = (place.losses("cpu")?, place.losses("f32")?);
    assert_eq!((expected.len(), found.len()), (3 * 8, 3 * 8));
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 1e-4 * expected, "row {step}: {found} for {expected}");
    }
    Ok(())
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bytes() -> Outcome {
    let experiment = SWEEP.replace("steps: 8", "steps: 60");
    let experiment = experiment.replace("  budget", "  checkpoint_every: 10%\n  budget");
    let experiment = experiment.replace("[{ name: adamw }, { name: adafactor }]", "[{ name: adafactor }]");
    let Some(place) = Place::new(&experiment)? else { return Ok(()) };
    let options = ["--device", "cuda"];
    place.run("whole", &options)?;
    let mut stops = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(600) {
        let mut child = place.command("parts", &options).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let before = checkpoints(place.folder.path());
        let ended = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if checkpoints(place.folder.path()) != before {
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        child.kill()?;
        child.wait()?;
        stops += 1;
    }
    assert!(stops >= 2, "stopped {stops} times");
    for file in ["runs.csv", "curves.csv"] {
        assert_eq!(place.result("parts", file)?, place.result("whole", file)?, "{file}");
    }
    Ok(())
}

/// The checkpoints of running jobs.
fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.join("store-parts/work")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(_) if entry.file_name().to_string_lossy().starts_with("checkpoint-") => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_device_that_is_too_small_makes_failed_rows_with_bytes_and_a_hint() -> Outcome {
    let Some(place) = Place::new(SWEEP)? else { return Ok(()) };
    // The products' own memory is 32 MiB for each of six branches.
    let out = place.command("full", &["--device", "cuda"]).env("STANDIN_MIB", "193").output()?;
    assert!(!out.status.success() && said(&out).contains("hint: use a smaller batch"), "{}", said(&out));
    let rows = place.result("full", "runs.csv")?;
    assert_eq!(rows.lines().filter(|row| row.contains(",failed,")).count(), 3, "{rows}");
    for word in ["MiB", "planned", "available"] {
        assert!(rows.contains(word), "no `{word}` in\n{rows}");
    }
    Ok(())
}

/// What was opened in a process, as the stand-ins tell at its end.
fn opens(path: &Path) -> Result<Vec<(String, u32)>, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(path)?;
    let mut opens = Vec::new();
    for line in text.lines() {
        let (what, count) = line.split_once(' ').ok_or("a count")?;
        opens.push((what.to_owned(), count.parse()?));
    }
    opens.sort_unstable();
    Ok(opens)
}

#[test]
fn a_sweep_makes_one_context_and_opens_one_device_for_all_its_jobs() -> Outcome {
    let Some(place) = Place::new(SWEEP)? else { return Ok(()) };
    let path = place.folder.path().join("opens");
    let out = place.command("counted", &["--device", "cuda"]).env("STANDIN_OPENS", &path).output()?;
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(opens(&path)?, [("contexts".to_owned(), 1), ("devices".to_owned(), 1)]);
    Ok(())
}

#[test]
fn a_gpu_check_makes_one_context_and_opens_few_devices_and_its_rows_say_what_was_left_out() -> Outcome {
    let Some(place) = Place::new(SWEEP)? else { return Ok(()) };
    let (path, rows) = (place.folder.path().join("opens"), place.folder.path().join("rows.jsonl"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_scaledown"));
    standins::prepare(&mut command, place.standins.path());
    command.current_dir(place.folder.path()).args(["gpu-check", "--only", "steps,kernels,models", "--seconds", "6", "small.yaml"]);
    let out = command.arg("--out").arg(&rows).env("STANDIN_OPENS", &path).env("STANDIN_MIB", "400").output()?;
    assert!(out.status.success(), "{}", said(&out));
    let opens = opens(&path)?;
    assert_eq!(opens[0], ("contexts".to_owned(), 1));
    assert!(opens[1].1 <= 4, "{opens:?}");
    let rows = std::fs::read_to_string(&rows)?;
    let rows = rows.lines().map(serde_json::from_str::<serde_json::Value>).collect::<Result<Vec<_>, _>>()?;
    let of = |kind: &str| rows.iter().filter(|row| row["row"] == kind).count();
    assert!(of("machine") == 1 && of("end") == 1 && of("check") > 0 && of("left_out") > 0, "{rows:?}");
    // Every check and every model is there, done or left out.
    let checks = scaledown::trainer::check::KERNELS.len() + 1 + 13;
    assert_eq!(of("check") + of("left_out") + of("model"), checks + 10, "{rows:?}");
    Ok(())
}
