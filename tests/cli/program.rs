//! Every exit code, and what stands on which stream.

use std::path::Path;
use std::process::Output;

use crate::place::{Outcome, Place, SMALL, program, text_of as text};

/// Replaces the last values of every model file of a store by what is no number.
fn spoil_models(store: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    let mut spoilt = 0;
    for shard in std::fs::read_dir(store.join("jobs"))? {
        for job in std::fs::read_dir(shard?.path())? {
            let path = job?.path().join("model.safetensors");
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            let start = bytes.len() - 64;
            bytes[start..].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&f32::NAN.to_le_bytes()));
            std::fs::write(&path, bytes)?;
            spoilt += 1;
        }
    }
    Ok(spoilt)
}

#[test]
fn a_model_that_was_damaged_on_disk_is_not_measured_and_the_same_command_trains_it_again() -> Outcome {
    let place = Place::new(SMALL)?;
    assert_eq!(place.scaledown(&["run", "small.yaml"])?.status.code(), Some(0));
    // What was measured from now on: another number of images.
    std::fs::write(
        place.path().join("small.yaml"),
        SMALL.replace("zeroshot: scenes, samples: 80", "zeroshot: scenes, samples: 90"),
    )?;
    assert_eq!(spoil_models(&place.path().join(".scaledown"))?, 4);
    let broken = place.scaledown(&["run", "small.yaml"])?;
    let said = text(&[&broken.stdout[..], &broken.stderr[..]].concat());
    assert_eq!(broken.status.code(), Some(4), "{said}");
    assert!(said.contains("model.safetensors is not what its job wrote"), "{said}");
    let mended = place.scaledown(&["run", "small.yaml"])?;
    assert_eq!(mended.status.code(), Some(0), "{}", text(&mended.stderr));
    let whole = Place::new(&std::fs::read_to_string(place.path().join("small.yaml"))?)?;
    assert_eq!(whole.scaledown(&["run", "small.yaml"])?.status.code(), Some(0));
    assert_eq!(place.results()?, whole.results()?, "as if nothing had happened");
    Ok(())
}

#[test]
fn a_run_whose_last_update_is_not_finite_has_diverged_and_no_metric() -> Outcome {
    let text_of =
        |lr: &str| SMALL.replace("train.lr: [1e-3, 2e-3]", &format!("train.lr: [1e-3, {lr}]")).replace("steps: 6", "steps: 1");
    for lr in ["3e38", "1e30"] {
        let place = Place::new(&text_of(lr))?;
        let out = place.scaledown(&["run", "small.yaml"])?;
        assert!(text(&out.stderr).contains("`train.lr`: found"), "a warning: {}", text(&out.stderr));
        let rows = std::fs::read_to_string(place.path().join("results/small/runs.csv"))?;
        let bad: Vec<&str> = rows.lines().filter(|row| row.contains(",diverged,") || row.contains(",failed,")).collect();
        assert_eq!(bad.len(), 2, "both seeds: {rows}");
        assert!(!rows.contains(",100"), "nothing is always right: {rows}");
    }
    Ok(())
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
    let other = place.scaledown(&["run", "small.yaml", "--no-adopt", "--store", "other", "--threads", "1", "-q"])?;
    assert_eq!((other.status.code(), text(&other.stderr)), (Some(0), String::new()));
    assert_eq!(text(&other.stdout), "", "quiet is quiet");
    assert_eq!(written, place.results()?);
    // Tables that were lost come back from the records, and only where that is asked for.
    std::fs::remove_dir_all(place.path().join("results/small/tables"))?;
    std::fs::remove_file(place.path().join("results/small/claims.csv"))?;
    let printed = place.scaledown(&["table", "small.yaml"])?;
    assert!(text(&printed.stdout).contains("| 1e-3 |") && !place.path().join("results/small/tables").exists());
    assert_eq!(place.scaledown(&["table", "--from", "results/small"])?.status.code(), Some(0));
    assert_eq!(written, place.results()?);
    let check = place.scaledown(&["check", "small.yaml"])?;
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    Ok(())
}

#[test]
fn an_axis_that_some_runs_lack_has_its_rows_its_columns_and_its_label() -> Outcome {
    let text = SMALL
        .replace("  strategy: { name: clip, augmentation: none }\n", "")
        .replace("seeds: 2", "seeds: 1")
        .replace(
            "grid: { train.lr: [1e-3, 2e-3] }",
            "grid:\n    train.strategy: [clip, { name: flip, batch_multiplier: 1 }]\n    \
             train.strategy.masked: { values: [25%, 50%], when: { train.strategy: \"name=flip,batch_multiplier=1\" } }\n    \
             train.optimizer: [adamw, adafactor]",
        )
        .replace(
            "{ name: zeroshot, rows: train.lr, values: [zeroshot/scenes.acc1] }",
            "{ name: zeroshot, rows: [train.strategy, train.strategy.masked], columns: train.optimizer, where: { train.lr: 0.001 }, \
             values: [zeroshot/scenes.acc1] }\n  - { name: whole, rows: train.optimizer, where: { train.strategy.masked: none }, values: steps }",
        )
        .replace("each: { train.lr: all }", "each: { train.optimizer: all }")
        .replace("cell: {}", "cell: { train.strategy: clip, train.strategy.masked: none }");
    let place = Place::new(&text)?;
    let ran = place.scaledown(&["run", "small.yaml"])?;
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let read = |name: &str| std::fs::read_to_string(place.path().join("results/small").join(name));
    let rows = |text: &str| text.lines().skip(1).map(|l| l.split(',').take(4).collect::<Vec<_>>().join(",")).collect::<Vec<_>>();
    let table = read("tables/zeroshot.csv")?;
    assert_eq!(
        rows(&table)[..2],
        ["clip,,adamw,zeroshot/scenes.acc1".to_string(), "clip,,adafactor,zeroshot/scenes.acc1".to_string()],
        "{table}"
    );
    assert_eq!((rows(&table).len(), rows(&read("tables/whole.csv")?).len()), (6, 2));
    let runs = read("runs.csv")?;
    assert!(runs.starts_with("run_id,train.strategy,train.strategy.masked,train.optimizer,"), "{runs}");
    assert!(runs.contains(",clip,,adafactor,") && runs.contains(",\"name=flip,batch_multiplier=1\",25%,adamw,"), "{runs}");
    let header = runs.lines().next().unwrap_or_default();
    let at = |name: &str| header.find(&format!("image_retrieval_recall@{name}"));
    assert!(at("1") < at("5") && at("5") < at("10"), "{header}");
    assert!(read("claims.csv")?.contains("supported"), "{}", read("claims.csv")?);
    Ok(())
}

#[test]
fn plan_warns_of_hidden_runs_counts_in_the_singular_and_prints_configurations() -> Outcome {
    let place = Place::new(&SMALL.replace("rows: train.lr,", "rows: train.lr, where: { train.lr: 1e-3 },"))?;
    let plan = place.scaledown(&["plan", "small.yaml"])?;
    let warning = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(warning.contains("1 of 2 points is shown by no table: `train.lr=2e-3`"), "{warning}");
    let resolved = |args: &[&str]| -> Result<Vec<serde_yaml::Value>, Box<dyn std::error::Error>> {
        let out = place.scaledown(&[&["plan", "small.yaml"], args].concat())?;
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout)?;
        serde_yaml::Deserializer::from_str(&text).map(|one| Ok(serde::Deserialize::deserialize(one)?)).collect()
    };
    let all = resolved(&["--resolved"])?;
    assert_eq!(all.len(), 4);
    let id = all[2]["run_id"].as_str().unwrap_or_default().to_owned();
    let one = resolved(&[&format!("--resolved={}", &id[..8])])?;
    assert_eq!(one, [all[2].clone()]);
    assert_eq!((one[0]["points"][0]["train.lr"].as_str(), one[0]["config"]["train"]["lr"].as_f64()), (Some("2e-3"), Some(0.002)));
    assert_eq!(one[0]["config"]["train"]["optimizer"]["adafactor"]["beta1"].as_f64(), Some(0.9));
    // The id is the digest of what is printed.
    let config = serde_yaml::with::singleton_map_recursive::deserialize(one[0]["config"].clone())?;
    assert_eq!(scaledown::grid::run_id(&config, &scaledown::grid::Digests::default()).to_string(), id);
    assert_eq!(place.scaledown(&["plan", "small.yaml", "--resolved=zz"])?.status.code(), Some(2));
    let dot = String::from_utf8(place.scaledown(&["plan", "small.yaml", "--format", "dot"])?.stdout)?;
    assert!(dot.contains("train.lr=2e-3 seed=1"), "{dot}");
    Ok(())
}

#[test]
fn two_programs_on_one_store_both_end_with_the_whole_results() -> Outcome {
    let place = Place::new(SMALL)?;
    let start = |results: &str| {
        let args = ["run", "small.yaml", "--store", "shared", "--results", results, "-q"];
        program().current_dir(place.path()).args(args).stdout(std::process::Stdio::null()).spawn()
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
    assert_eq!(place.scaledown(&["run", "small.yaml", "-q"])?.status.code(), Some(0), "run exits 0 whatever the verdicts");
    assert_eq!(place.scaledown(&["run", "small.yaml", "-q", "--check"])?.status.code(), Some(5));
    assert_eq!(place.scaledown(&["check", "small.yaml"])?.status.code(), Some(5));

    let place = Place::new(SMALL)?;
    assert_eq!(place.scaledown(&["run", "small.yaml", "-q"])?.status.code(), Some(0));
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
    let priced = place.scaledown(&["plan", "small.yaml", "--tflops", "0.5", "--format", "json"])?;
    let priced: serde_json::Value = serde_json::from_slice(&priced.stdout)?;
    let (seconds, gmacs) = (priced["estimate"]["seconds"].as_f64(), priced["gmacs"].as_f64());
    let operations = gmacs.ok_or("no GMACs")? * 6e9;
    assert!((seconds.ok_or("no estimate")? / (operations / 0.5e12) - 1.0).abs() < 1e-9, "{seconds:?} for {gmacs:?} GMACs");
    assert_eq!(place.scaledown(&["plan", "small.yaml", "--tflops", "0"])?.status.code(), Some(2));
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
fn data_that_cannot_be_read_are_refused_at_their_key_before_any_work() -> Outcome {
    let place =
        Place::new(&SMALL.replace("{ dataset: scenes, size: 200 }", "{ dataset: webdataset, shards: broken.tar, size: 100 }"))?;
    std::fs::write(place.path().join("broken.tar"), [b'x'; 700])?;
    let run = place.scaledown(&["run", "small.yaml", "-q"])?;
    assert_eq!(run.status.code(), Some(3), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("small.yaml:3:41: `data.train.shards`: broken.tar: not a tar"), "{}", text(&run.stderr));
    assert!(!place.path().join("results").exists());
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
fn the_instructions_computed_with_can_be_named_and_unknown_ones_are_refused() -> Outcome {
    let doctor = |name: &str| program().arg("doctor").env("SCALEDOWN_INSTRUCTIONS", name).output();
    if cfg!(target_arch = "x86_64") {
        assert!(text(&doctor("portable")?.stdout).contains("portable kernels"));
    }
    let refused = doctor("avx1024")?;
    let error = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("SCALEDOWN_INSTRUCTIONS is `avx1024`") && error.contains("hint: it has "), "{error}");
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
    let named = ["bench", "step", "--image-encoder", "vit-5m", "--batch", "4", "--seconds", "0", "--format", "json"];
    let report: serde_json::Value = serde_json::from_slice(&place.scaledown(&named)?.stdout)?;
    assert_eq!(report["what"], "image, vit-5m");
    for (refused, says) in [
        (&["--image-encoder", "vit-tii/8"][..], "did you mean `vit-ti`?"),
        (&["--image-encoder", "vit-5m", "--patch-size", "4"], "cannot be used with"),
    ] {
        let out = place.scaledown(&[&["bench", "step"], refused].concat())?;
        assert!(out.status.code() == Some(2) && text(&out.stderr).contains(says), "{}", text(&out.stderr));
    }
    Ok(())
}

#[test]
fn every_family_of_image_encoders_trains_from_the_command_line() -> Outcome {
    let vit = "{ name: vit, width: 16, layers: 1, heads: 2, patch_size: 8, pooling: mean, pre_norm: false }";
    for encoder in [
        "{ name: convnext-5m, width: 8, depths: [1, 1, 1, 1] }",
        "{ name: swin-5m, width: 8, depths: [1, 1, 1, 1], heads: [1, 1, 2, 2] }",
        "{ name: mixer-5m, width: 8, layers: 1, token_mlp_width: 8 }",
        "{ name: resnet-5m, width: 4, depths: [1, 1, 1, 1], bn_group: 10 }",
    ] {
        let place = Place::new(&SMALL.replace(vit, encoder).replace("image_size: 16", "image_size: 32"))?;
        let out = place.scaledown(&["run", "small.yaml"])?;
        assert_eq!(out.status.code(), Some(0), "{encoder}: {}", text(&out.stderr));
        let bench = place.scaledown(&[
            "bench",
            "step",
            "--image-encoder",
            encoder,
            "--image-size",
            "32",
            "--batch",
            "32",
            "--seconds",
            "0",
        ])?;
        assert_eq!(bench.status.code(), Some(0), "{encoder}: {}", text(&bench.stderr));
    }
    Ok(())
}

#[test]
fn explain_says_what_differs_from_the_nearest_finished_run() -> Outcome {
    let place = Place::new(SMALL)?;
    place.scaledown(&["run", "small.yaml", "-q"])?;
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
    assert!(shown.contains("200 samples of 16x16 pixels") && shown.contains("50 classes"), "{shown}");
    assert!(std::fs::read_dir(place.path().join("sheets"))?.count() >= 2);
    Ok(())
}

/// A tar shard of these files.
fn shard_of(path: &Path, files: &[(&str, &[u8])]) -> Outcome {
    let mut tar = tar::Builder::new(std::fs::File::create(path)?);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, *bytes)?;
    }
    Ok(tar.finish()?)
}

/// A tar shard of pictures with captions, made of these numbers.
fn shard(path: &Path, numbers: std::ops::Range<u8>) -> Outcome {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for number in numbers {
        let shade = |x: u32, y: u32| image::Rgb([(x * u32::from(number)) as u8, (y * 13) as u8, number.wrapping_mul(7)]);
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_fn(16, 16, shade).write_to(&mut png, image::ImageFormat::Png)?;
        files.push((format!("{number:03}.png"), png.into_inner()));
        files.push((format!("{number:03}.txt"), format!("a picture number {number}").into_bytes()));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    shard_of(path, &files)
}

fn run_ids(place: &Place) -> Result<Vec<String>, std::io::Error> {
    let runs = std::fs::read_to_string(place.path().join("results/small/runs.csv"))?;
    Ok(runs.lines().skip(1).filter_map(|line| line.split(',').next()).map(str::to_owned).collect())
}

#[test]
fn runs_are_known_by_the_content_of_their_data_and_records_do_not_tell_where_it_lay() -> Outcome {
    let source = "{ dataset: webdataset, shards: \"${DATA}/t.tar\" }";
    let place = Place::new(&SMALL.replace("{ dataset: scenes, size: 200 }", source))?;
    for name in ["a", "b"] {
        std::fs::create_dir(place.path().join(name))?;
        shard(&place.path().join(name).join("t.tar"), 1..25)?;
    }
    let run = |data: &str| -> Result<Output, Box<dyn std::error::Error>> {
        let mut command = program();
        let command = command.current_dir(place.path()).env_remove("SCALEDOWN_STORE").env("DATA", place.path().join(data));
        Ok(command.args(["run", "small.yaml", "--device", "cpu"]).output()?)
    };
    let first = run("a")?;
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let (here, ids) = (place.results()?, run_ids(&place)?);
    let moved = run("b")?;
    assert!(text(&moved.stderr).contains("nothing to do"), "{}", text(&moved.stderr));
    assert_eq!(here, place.results()?, "the same bytes of data in another folder");
    let provenance = std::fs::read_to_string(place.path().join("results/small/provenance.json"))?;
    assert!(provenance.contains("${DATA}/t.tar") && !provenance.contains(&place.path().display().to_string()), "{provenance}");

    shard(&place.path().join("b/t.tar"), 1..24)?;
    assert_eq!(run("b")?.status.code(), Some(0));
    let changed = run_ids(&place)?;
    assert!(changed.len() == ids.len() && changed.iter().all(|id| !ids.contains(id)), "other data are other runs");
    Ok(())
}

#[test]
fn a_diverged_scorer_fails_what_stands_on_it_and_nothing_else() -> Outcome {
    let quality = "  quality: { keep: 50%, by: { similarity: { scorer: scorer.yaml } } }\n";
    let file = SMALL
        .replace("  tokenizer:", &format!("{quality}  tokenizer:"))
        .replace("grid: { train.lr: [1e-3, 2e-3] }", "grid: { data.quality.keep: [50%, 100%] }")
        .replace("rows: train.lr", "rows: data.quality.keep")
        .replace("{ train.lr: all }", "{ data.quality.keep: 100% }");
    let place = Place::new(&file)?;
    let scorer = SMALL.split("evaluate:").next().unwrap_or_default().replace("experiment: small\n", "");
    std::fs::write(place.path().join("scorer.yaml"), scorer.replace("lr: 1e-3", "lr: 1e30\n  warmup: 0\n  grad_clip_norm: none"))?;
    let run = place.scaledown(&["run", "small.yaml", "-q", "--device", "cpu"])?;
    assert_eq!(run.status.code(), Some(4), "{}", text(&run.stderr));
    let runs = std::fs::read_to_string(place.path().join("results/small/runs.csv"))?;
    let failed: Vec<&str> = runs.lines().filter(|line| line.contains(",failed,")).collect();
    assert!(failed.len() == 2 && failed.iter().all(|row| row.contains("the scorer diverged: ")), "{runs}");
    assert_eq!(runs.matches(",finished,").count(), 2, "{runs}");
    let status = text(&place.scaledown(&["status", "small.yaml", "--device", "cpu"])?.stdout);
    assert!(status.contains("the scorer diverged") && status.contains("4 runs: 2 finished, 0 running, 2 failed"), "{status}");
    Ok(())
}

#[test]
fn a_run_whose_one_evaluation_failed_keeps_the_others() -> Outcome {
    let place = Place::new(&SMALL.replace("{ retrieval: scenes, samples: 80 }", "{ retrieval: x, folder: ev }"))?;
    // A set that can be planned, and not be packed: its pictures are none.
    std::fs::create_dir_all(place.path().join("ev/test"))?;
    for (name, bytes) in [("test/nshards.txt", "1"), ("dataset_type.txt", "retrieval")] {
        std::fs::write(place.path().join("ev").join(name), bytes)?;
    }
    let shard = place.path().join("ev/test/0.tar");
    shard_of(&shard, &[("0.png", b"no picture"), ("0.txt", b"a caption")])?;
    let run = place.scaledown(&["run", "small.yaml", "--device", "cpu"])?;
    assert_eq!(run.status.code(), Some(4), "{}", text(&run.stderr));
    let table = std::fs::read_to_string(place.path().join("results/small/tables/zeroshot.csv"))?;
    assert!(table.lines().skip(1).all(|row| row.contains(",2,0")), "every cell has its two seeds: {table}");
    let runs = std::fs::read_to_string(place.path().join("results/small/runs.csv"))?;
    assert_eq!(runs.matches(",failed,").count(), 4, "{runs}");
    Ok(())
}

#[test]
fn good_results_are_not_replaced_by_less_and_bad_places_are_found_before_any_work() -> Outcome {
    let place = Place::new(SMALL)?;
    assert_eq!(place.scaledown(&["run", "small.yaml", "-q", "--device", "cpu"])?.status.code(), Some(0));
    std::fs::write(place.path().join("results/small/notes.txt"), "mine")?;
    let good = place.results()?;
    std::fs::write(place.path().join("file"), "x")?;
    for (store, results) in [("file/below", "results"), ("/proc/nowhere", "results"), (".scaledown2", "file")] {
        let args = ["run", "small.yaml", "--device", "cpu", "--no-adopt", "--store", store, "--results", results];
        let run = place.scaledown(&args)?;
        assert_eq!(run.status.code(), Some(6), "{store} {results}: {}", text(&run.stderr));
        assert!(text(&run.stderr).contains("hint: "), "{}", text(&run.stderr));
        assert_eq!(good, place.results()?);
    }
    // Every run fails at once: another store, and no time.
    let args = ["run", "small.yaml", "--device", "cpu", "--no-adopt", "--store", "other", "--time-limit", "0.000001s"];
    let run = place.scaledown(&[&args[..], &["--max-failures", "1"]].concat())?;
    assert_eq!(run.status.code(), Some(4), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("results/small is left as it is"), "{}", text(&run.stderr));
    assert_eq!(good, place.results()?);
    assert_eq!(std::fs::read_to_string(place.path().join("results/small/notes.txt"))?, "mine");
    Ok(())
}

#[test]
fn a_stopped_run_is_known_by_its_step_and_its_timings_are_those_of_all_its_steps() -> Outcome {
    let file = SMALL.replace("steps: 6", "steps: 3000").replace("grid: { train.lr: [1e-3, 2e-3] }", "grid: { train.lr: [1e-3] }");
    let place = Place::new(&file.replace("seeds: 2", "seeds: 1"))?;
    let flags = ["--device", "cpu", "--threads", "1", "--set", "train.checkpoint_every=5%"];
    let stopped = place.scaledown(&[&["run", "small.yaml", "--time-limit", "0.4s", "-q"][..], &flags].concat())?;
    if stopped.status.code() == Some(4) {
        let status = text(&place.scaledown(&["status", "small.yaml", "--device", "cpu"])?.stdout);
        assert!(status.contains("failed: time limit of 0.4 s") || status.contains("stopped at step"), "{status}");
        let plan = text(&place.scaledown(&["plan", "small.yaml", "--device", "cpu"])?.stdout);
        assert!(plan.contains(" at step ") && plan.contains(" of 3000"), "{plan}");
    } else {
        println!("skipped: this machine trains it in less than the time limit");
    }
    let run = place.scaledown(&[&["run", "small.yaml", "-q"][..], &flags].concat())?;
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let timings = std::fs::read_to_string(place.path().join("results/small/timings.csv"))?;
    let row: Vec<&str> = timings.lines().find(|line| line.contains(",train ")).unwrap_or_default().split(',').collect();
    let (wall_s, rate): (f64, f64) = (row[2].parse()?, row[5].parse()?);
    let samples = wall_s * rate;
    assert!((samples / 60_000.0 - 1.0).abs() < 0.02, "{samples} samples by {timings}");
    Ok(())
}

#[test]
fn the_model_of_a_run_is_found_by_its_id() -> Outcome {
    let place = Place::new(SMALL)?;
    let json: serde_json::Value = serde_json::from_slice(&place.scaledown(&["plan", "small.yaml", "--format", "json"])?.stdout)?;
    let id = json["runs"][0]["run_id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(place.scaledown(&["path", &id, "small.yaml"])?.status.code(), Some(2), "it is not trained yet");
    place.scaledown(&["run", "small.yaml", "-q"])?;
    let path = text(&place.scaledown(&["path", &id[..8], "small.yaml"])?.stdout);
    assert!(path.ends_with("model.safetensors\n") && place.path().join(path.trim()).is_file(), "{path}");
    let status = place.scaledown(&["status", "small.yaml", "--format", "json"])?;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    assert_eq!(status["runs"][0]["model"].as_str(), Some(path.trim()));
    Ok(())
}

#[test]
fn nothing_but_training_makes_a_record_and_no_name_in_records_leads_out_of_their_folder() -> Outcome {
    let place = Place::new(SMALL)?;
    assert_eq!(place.scaledown(&["run", "small.yaml", "--fake"])?.status.code(), Some(2));
    assert_eq!(place.scaledown(&["run", "small.yaml", "-q"])?.status.code(), Some(0));
    let path = place.path().join("results/small/provenance.json");
    let provenance = std::fs::read_to_string(&path)?;
    std::fs::write(&path, provenance.replace("\"name\": \"zeroshot\"", "\"name\": \"../../../x\""))?;
    let table = place.scaledown(&["table", "--from", "results/small"])?;
    assert_eq!(table.status.code(), Some(2), "{}", text(&table.stderr));
    assert!(text(&table.stderr).contains("is not a file name"), "{}", text(&table.stderr));
    assert!(!place.path().join("x.csv").exists() && !place.path().join("../x.csv").exists());
    Ok(())
}

#[test]
fn results_name_the_commit_of_the_program_that_wrote_them() -> Outcome {
    let root = env!("CARGO_MANIFEST_DIR");
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").arg("-C").arg(root).args(args).output().ok()?;
        output.status.success().then(|| text(&output.stdout).trim().to_owned())
    };
    let commit = scaledown::record::COMMIT;
    if git(&["rev-parse", "--show-toplevel"]).is_some_and(|top| Path::new(&top) == Path::new(root)) {
        let head = git(&["rev-parse", "HEAD"]).unwrap_or_default();
        assert!(commit.is_some_and(|commit| commit.starts_with(&head)), "{commit:?}, expected {head}");
    } else {
        println!("skipped: these sources are in no repository of their own");
    }
    let place = Place::new(SMALL)?;
    place.scaledown(&["run", "small.yaml", "-q"])?;
    let provenance = std::fs::read(place.path().join("results/small/provenance.json"))?;
    let provenance: serde_json::Value = serde_json::from_slice(&provenance)?;
    assert_eq!(provenance["provenance"]["commit"].as_str(), commit);
    Ok(())
}
