//! Round trips of whole results folders, and records that other rooms' tests build on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::run::{
    Activation, Augmentation, CurvePoint, DataConfig, DataSource, DecayScale, EvalConfig, EvalSet, EvalSource, EvalTask,
    ImageEncoderConfig, Keep, LossConfig, Milestone, ModelConfig, OptimizerConfig, Pooling, Precision, QualityBy, QualityConfig,
    RunConfig, RunStatus, ScenesConfig, SeedParts, SetOutcomes, SslConfig, StrategyConfig, TextEncoderConfig, TokenizerConfig,
    TrainConfig, VitConfig,
};

/// A small config.
pub(crate) fn config(size: u64, seed: u64) -> RunConfig {
    RunConfig {
        data: DataConfig {
            source: DataSource::Scenes(ScenesConfig::of_seed(1)),
            size: Some(size),
            quality: None,
            tokenizer: TokenizerConfig::Bpe { vocab_size: 512 },
            pack_side: None,
        },
        model: ModelConfig {
            image_encoder: ImageEncoderConfig::Vit(VitConfig {
                width: 64,
                layers: 2,
                heads: 2,
                mlp_width: 256,
                patch_size: 8,
                pooling: Pooling::Mean,
                pre_norm: false,
            }),
            text_encoder: TextEncoderConfig { width: 64, layers: 2, heads: 2, mlp_width: 256, context_length: 16, vocab_size: 512 },
            embed_dim: 64,
            image_size: 32,
            activation: Activation::Gelu,
            logit_scale_init: 1.0 / 0.07,
            logit_scale_max: 100.0,
            pixel_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            pixel_std: [0.1 + 0.2, 0.26, 0.27],
        },
        train: TrainConfig {
            strategy: StrategyConfig::clip(),
            loss: LossConfig::Contrastive,
            batch_size: 32,
            accumulate: 1,
            steps: 10,
            lr: 1e-3,
            warmup_steps: 2,
            optimizer: OptimizerConfig::Adamw { beta1: 0.9, beta2: 0.98, eps: 1e-6 },
            weight_decay: 0.1,
            decay_scale: DecayScale::Rate,
            grad_clip_norm: None,
            lanes: 8,
            milestones: Vec::new(),
        },
        evaluate: vec![EvalConfig {
            task: EvalTask::Zeroshot,
            name: "scenes".to_owned(),
            sets: vec![EvalSet {
                name: "iid".to_owned(),
                source: EvalSource::Scenes { world_seed: 1, variant: "iid".to_owned(), samples: 100, shifts: 1.0 },
            }],
            train: None,
            shots: Vec::new(),
        }],
        seed,
        device: DeviceKind::Cpu,
        precision: Precision::F32,
        seeds_draw: SeedParts::default(),
    }
}

/// A finished run with one metric.
pub(crate) fn run(run_id: &str, size: u64, seed: u64, acc1: f64) -> RunRecord {
    RunRecord {
        run_id: run_id.to_owned(),
        config: config(size, seed),
        status: RunStatus::Finished,
        reason: None,
        subset_samples: size,
        steps: 10,
        samples_seen: 320,
        gmacs: 12.345,
        metrics: BTreeMap::from([("zeroshot/scenes.acc1".to_owned(), acc1)]),
        curve: Vec::new(),
    }
}

/// A point of these labels and runs.
pub(crate) fn point(labels: &[(&str, &str)], run_ids: &[&str]) -> PointView {
    PointView {
        labels: labels.iter().map(|(path, label)| ((*path).to_owned(), (*label).to_owned())).collect(),
        also: BTreeMap::new(),
        run_ids: run_ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

/// Where results of tests come from.
pub(crate) fn provenance() -> Provenance {
    Provenance {
        version: "0.1.0".to_owned(),
        commit: Some("abc123".to_owned()),
        experiment: "small/data".to_owned(),
        experiment_digest: "00ff".to_owned(),
        device: DeviceKind::Cpu,
        cpu: Some("a processor, avx2".to_owned()),
        precision: Precision::F32,
        command: "scaledown run experiments/small/data.yaml".to_owned(),
        data: BTreeMap::from([("scenes".to_owned(), "11ee".to_owned())]),
        samples: BTreeMap::from([(
            "webdataset at 16 px".to_owned(),
            SampleCounts {
                packed: 90,
                skipped: 10,
                skipped_by_kind: BTreeMap::from([("undecodable".to_owned(), 10)]),
                shards_listed: Some(10),
                shards_missing: Some(1),
            },
        )]),
    }
}

fn curve(scale: f64) -> Vec<CurvePoint> {
    (1..=3)
        .map(|step| CurvePoint {
            step,
            samples_seen: step * 32,
            loss: 3.3 / scale,
            terms: BTreeMap::new(),
            lr: 1e-3 / 7.0 / scale,
            logit_scale: 14.285_714_285_714_286,
            grad_norm: 1e-310 * scale,
        })
        .collect()
}

fn terms(loss: f64) -> BTreeMap<String, f64> {
    [("contrastive".to_owned(), loss / 3.0), ("nt_xent".to_owned(), 1e-17 * loss)].into()
}

/// Runs that differ in every way that records must carry.
fn varied() -> Records {
    let mut scorer = config(16, 9);
    scorer.evaluate.clear();
    let mut filtered = run("b2", 64, 1, 33.333_333_333_333_336);
    filtered.config.data.quality =
        Some(QualityConfig::single(Keep::Share(0.4), QualityBy::Similarity { scorer: Box::new(scorer) }));
    for (rank, value) in [(10, 3.0), (5, 2.0), (1, 0.1 + 0.2)] {
        filtered.metrics.insert(format!("retrieval/scenes.image_retrieval_recall@{rank}"), value);
    }
    let mut augmented = run("c3", 64, 0, 12.5);
    augmented.config.data.source = DataSource::Webdataset { shards: vec!["a,\"b\".tar".to_owned(), "c.tar".to_owned()] };
    augmented.config.data.size = None;
    augmented.config.train.strategy = StrategyConfig {
        augmentation: Augmentation::CropFlip { min_area: 0.2, flip: 0.5 },
        masked: 0.5,
        unmasked_tuning: 0.0,
        batch_multiplier: 2,
        ssl: Some(SslConfig { weight: 1.0, temperature: 0.1, hidden: 64, out: 16, bn_group: 32 }),
    };
    augmented.config.train.grad_clip_norm = Some(1.0);
    let mut failed = run("d4", 128, 0, 0.0);
    failed.metrics.clear();
    failed.status = RunStatus::Failed;
    failed.reason = Some("out of memory: needed 3 GB,\nhad \"2\" GB".to_owned());
    let mut runs = vec![run("a1", 64, 0, 20.0), filtered, augmented, failed];
    for (idx, record) in runs.iter_mut().enumerate() {
        record.curve = curve(f64::from(u32::try_from(idx).unwrap() + 1));
        if record.config.train.strategy.ssl.is_some() {
            record.curve.iter_mut().for_each(|point| point.terms = terms(point.loss));
        }
    }
    runs[3].curve.clear();
    Records {
        provenance: provenance(),
        runs,
        axes: vec!["data.train.size".to_owned(), "train.optimizer".to_owned()],
        points: vec![
            point(&[("data.train.size", "64"), ("train.optimizer", "adamw")], &["a1", "b2"]),
            point(&[("data.train.size", "0.064k")], &["a1", "b2"]),
            point(&[("data.train.size", "128")], &["d4", "not-there"]),
        ],
        statements: serde_json::json!({"tables": [{"name": "t"}], "claims": []}),
        outcomes: outcomes(),
        stated: Some(Stated { finished: 2, ..Stated::of(&serde_json::json!({"claims": [{"id": "c"}]}), [&config(8, 0)]) }),
        identities: identities(),
    }
}

/// One run that was trained here and one that was taken over.
fn identities() -> BTreeMap<String, Identity> {
    let origin =
        Origin { experiment: "other".to_owned(), version: "0.0.9".to_owned(), commit: None, cpu: Some("another".to_owned()) };
    let of = |key: &str, adopted| Identity { key: key.repeat(64), adopted };
    BTreeMap::from([("a1".to_owned(), of("a", None)), ("b2".to_owned(), of("b", Some(origin)))])
}

/// One run's outcomes on two metrics, one of them the mean over two sets.
fn outcomes() -> Outcomes {
    let set = |set: &str, hits: &[u8], of| SetOutcomes { set: set.to_owned(), hits: hits.to_vec(), of };
    let mean: Arc<[SetOutcomes]> = Arc::new([set("e1", &[1, 0, 0, 1, 1], 5), set("e2", &[0, 1], 2)]);
    let one: Arc<[SetOutcomes]> = Arc::new([set("e1", &[2, 0, 3, 1, 0], 15)]);
    let metrics = BTreeMap::from([("retrieval/x,y.acc1".to_owned(), one), ("zeroshot/scenes.acc1".to_owned(), mean)]);
    Outcomes(BTreeMap::from([("b2".to_owned(), metrics)]))
}

fn texts(records: &Records) -> BTreeMap<&'static str, String> {
    files(records).unwrap().into_iter().map(|file| (file.name, String::from_utf8(file.bytes).unwrap())).collect()
}

fn parse_texts(texts: &BTreeMap<&'static str, String>) -> Result<Records, RecordError> {
    let text = |name| texts.get(name).map(String::as_bytes);
    let needed = |name| text(name).unwrap_or_default();
    parse(needed("runs.csv"), needed("curves.csv"), needed("provenance.json"), b"", text("outcomes.csv"))
}

#[test]
fn records_read_back_are_the_records_written() {
    let records = varied();
    let written = texts(&records);
    let back = parse_texts(&written).unwrap();
    assert_eq!(back, records);
    assert_eq!(texts(&back), written, "and are written as the same bytes");
}

#[test]
fn records_of_no_runs_read_back_too() {
    let records =
        Records { runs: Vec::new(), points: Vec::new(), outcomes: Outcomes::default(), identities: BTreeMap::new(), ..varied() };
    assert_eq!(parse_texts(&texts(&records)).unwrap(), records);
}

#[test]
fn a_run_is_a_row_with_what_varies_then_its_outcome_then_its_metrics() {
    let written = texts(&varied());
    let header = written["runs.csv"].lines().next().unwrap();
    assert_eq!(
        header,
        "run_id,data.train.size,train.optimizer,data.source.webdataset.shards,data.source.scenes.world_seed,data.size,data.quality.keep.share,\
         train.strategy.augmentation.crop_flip.min_area,train.strategy.augmentation,train.strategy.masked,\
         train.strategy.batch_multiplier,train.strategy.ssl.weight,train.grad_clip_norm,\
         seed,subset_samples,samples_seen,steps,gmacs,status,reason,\
         retrieval/scenes.image_retrieval_recall@1,retrieval/scenes.image_retrieval_recall@5,\
         retrieval/scenes.image_retrieval_recall@10,zeroshot/scenes.acc1"
    );
    let row = |run_id: &str| written["runs.csv"].lines().find(|line| line.starts_with(run_id)).unwrap();
    assert_eq!(
        row("b2"),
        "b2,64 | 0.064k,adamw,,1,64,0.4,,none,0,1,,,1,64,320,10,12.345,finished,,0.30000000000000004,2,3,33.333333333333336"
    );
    assert_eq!(
        row("c3"),
        "c3,,,\"[\"\"a,\\\"\"b\\\"\".tar\"\",\"\"c.tar\"\"]\",,,,0.2,crop_flip,0.5,2,1,1,0,64,320,10,12.345,finished,,,,,12.5"
    );
}

#[test]
fn what_is_not_finite_becomes_an_empty_cell() {
    let mut records = varied();
    records.runs[0].status = RunStatus::Diverged;
    records.runs[0].metrics.insert("zeroshot/scenes.acc1".to_owned(), f64::NAN);
    records.runs[0].curve[2].loss = f64::NAN;
    records.runs[0].curve[2].grad_norm = f64::INFINITY;
    let written = texts(&records);
    assert!(
        written["curves.csv"].contains("\na1,3,96,,0.00014285714285714287,14.285714285714286,,,\n"),
        "{}",
        written["curves.csv"]
    );
    let back = parse_texts(&written).unwrap();
    assert!(back.runs[0].metrics.is_empty() && back.runs[0].curve[2].loss.is_nan());
    assert_eq!(texts(&back), written);
}

#[test]
fn runs_share_what_they_have_in_common() {
    let one = varied();
    let mut many = one.clone();
    many.runs = (0..50_u64).map(|seed| run(&format!("r{seed}"), 64, seed, 1.0)).collect();
    many.points.clear();
    many.outcomes = Outcomes::default();
    let size = texts(&many)["provenance.json"].len();
    assert!(size < 50 * 200, "{size} bytes for 50 runs that differ in their seed");
}

#[test]
fn broken_folders_are_refused_with_the_place() {
    let written = texts(&varied());
    let broken = |file: &'static str, from: &str, to: &str| {
        let mut texts = written.clone();
        assert!(texts[file].contains(from), "{file} has no {from}");
        texts.insert(file, texts[file].replacen(from, to, 1));
        parse_texts(&texts).unwrap_err().to_string()
    };
    assert_eq!(broken("runs.csv", "finished", "done"), "runs.csv:2: `status` is `done`, expected a status");
    assert_eq!(broken("runs.csv", "\nb2,", "\nx9,"), "runs.csv: run x9 is not in the other files of the folder");
    assert_eq!(broken("curves.csv", "\na1,1,", "\na1,one,"), "curves.csv:2: `step` is `one`, not a number");
    assert_eq!(broken("curves.csv", "\na1,1,", "\nx9,1,"), "curves.csv: run x9 is not in the other files of the folder");
    assert_eq!(broken("outcomes.csv", "\nb2,", "\nx9,"), "outcomes.csv: run x9 is not in the other files of the folder");
    // Counts 2 0 3 1 0 of two bits: 8, d, 0.
    let cut = "outcomes.csv:2: `hits` is `8d0`, expected counts of 7 items in hexadecimal digits";
    assert_eq!(broken("outcomes.csv", ",5,15,2,", ",7,15,2,"), cut);
    assert_eq!(broken("provenance.json", "\"format\": 1", "\"format\": 99"), "provenance.json: format version 99, expected 1");
    assert!(broken("runs.csv", "run_id,", "id,").starts_with("runs.csv:1: columns"));
    let mut twice = varied();
    twice.runs[1].run_id = "a1".to_owned();
    assert_eq!(files(&twice).unwrap_err().to_string(), "run a1 is there twice");
}

#[test]
fn a_folder_is_written_through_the_caller_and_read_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let records = varied();
    write(folder.path(), &records, &mut |path, bytes| std::fs::write(path, bytes)).unwrap();
    assert_eq!(read(folder.path()).unwrap(), records);
    let refused = write(folder.path(), &records, &mut |_, _| Err(io::Error::other("disk full"))).unwrap_err();
    assert!(refused.to_string().ends_with("runs.csv: disk full"), "{refused}");
    let missing = read(&folder.path().join("nowhere")).unwrap_err();
    assert!(missing.hint().is_some(), "{missing}");
}

#[test]
fn timings_keep_to_the_millisecond() {
    let timing = Timing {
        run_id: "a1".to_owned(),
        job: "train".to_owned(),
        wall_s: 1.234_567,
        cpu_s: 2.5,
        threads: 2,
        samples_per_s: Some(99.96),
    };
    let file = timings_file(&[timing]).unwrap();
    assert_eq!(
        String::from_utf8(file.bytes).unwrap(),
        "run_id,job,wall_s,cpu_s,threads,samples_per_s\na1,train,1.235,2.5,2,100.0\n"
    );
}

#[test]
fn metrics_at_milestones_have_a_file_of_their_own_and_come_back() {
    let milestones = [("10%", 1), ("50%", 5)].map(|(label, step)| Milestone { label: label.to_owned(), step });
    let mut measured = run("a", 8, 0, 30.0);
    measured.config.train.milestones = milestones.to_vec();
    measured.metrics.insert("zeroshot/scenes.acc1 at 10%".to_owned(), 10.5);
    measured.metrics.insert("zeroshot/scenes.acc1 at 50%".to_owned(), 40.25);
    crate::run::add_best(&mut measured.metrics, &milestones, 10);
    let plain = run("b", 8, 1, 20.0);
    let points = vec![point(&[("data.train.size", "8")], &["a", "b"])];
    let axes = vec!["data.train.size".to_owned()];
    let mut records = Records {
        provenance: provenance(),
        runs: vec![measured, plain],
        axes,
        points,
        statements: serde_json::json!({}),
        outcomes: Outcomes::default(),
        identities: BTreeMap::new(),
        stated: None,
    };
    let written = files(&records).unwrap();
    let text = |name: &str| {
        let file = written.iter().find(|file| file.name == name).unwrap();
        String::from_utf8(file.bytes.clone()).unwrap()
    };
    let expected = "run_id,milestone,step,samples_seen,zeroshot/scenes.acc1\na,10%,1,32,10.5\na,50%,5,160,40.25\na,100%,10,320,30\nb,100%,10,320,20\n";
    assert_eq!(text(MILESTONES), expected);
    let runs_csv = text("runs.csv");
    let header = runs_csv.lines().next().unwrap();
    assert!(header.ends_with("zeroshot/scenes.acc1,zeroshot/scenes.acc1 at best,zeroshot/scenes.acc1 best step"), "{header}");
    assert!(!header.contains("train.milestones"), "{header}");
    assert!(runs_csv.lines().nth(1).unwrap().ends_with(",30,40.25,5"), "{runs_csv}");
    assert!(runs_csv.lines().nth(2).unwrap().ends_with(",20,,"), "{runs_csv}");

    let [runs, curves, provenance] = NAMES.map(text);
    let parsed = |milestones: &str| parse(runs.as_bytes(), curves.as_bytes(), provenance.as_bytes(), milestones.as_bytes(), None);
    assert_eq!(parsed(expected).unwrap(), records);
    for (wrong, why) in [
        (String::new(), "no metrics at the milestones of run a"),
        (expected.replace("a,50%,5", "a,60%,5"), "`milestone` is `60%`"),
        (expected.replace("a,50%,5", "a,50%,6"), "`step` is `6`, expected 5"),
        (expected.replace("40.25", "x"), "`x`, not a number"),
        (expected.replace("b,100%", "c,100%"), "run c is not in the other files"),
    ] {
        let error = parsed(&wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    records.runs[0].config.train.milestones.clear();
    records.runs[0].metrics.retain(|name, _| name == "zeroshot/scenes.acc1");
    assert!(files(&records).unwrap().iter().all(|file| file.name != MILESTONES), "nothing has milestones");
}

/// A folder with the files of records, each changed by `edit`.
fn folder_of(records: &Records, edit: &dyn Fn(&str, String) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in texts(records) {
        std::fs::write(folder.path().join(name), edit(name, text)).unwrap();
    }
    folder
}

#[test]
fn a_run_that_was_edited_is_known_by_its_seal_and_the_others_are_as_they_were() {
    let mut records = varied();
    records.runs[0].metrics.insert("zeroshot/scenes.nan".to_owned(), f64::NAN);
    records.runs[1].curve[1].loss = f64::INFINITY;
    let altered = |edit: &dyn Fn(&str, String) -> String| {
        let folder = folder_of(&records, edit);
        let Sealed { altered, records: read } = read_sealed(folder.path()).unwrap();
        assert!(read.identities.keys().eq(records.identities.keys()));
        altered.into_iter().collect::<Vec<_>>()
    };
    let replaced = |file: &'static str, from: &'static str, to: &'static str| {
        move |name: &str, text: String| {
            assert!(name != file || text.contains(from), "{from} is not in {text}");
            if name == file { text.replacen(from, to, 1) } else { text }
        }
    };
    assert_eq!(altered(&|_, text| text), [""; 0]);
    assert_eq!(altered(&|_, text| text.replace('\n', "\r\n")), [""; 0], "another ending of lines is no edit");
    assert_eq!(altered(&replaced("runs.csv", ",33.333333333333336", ",33.4")), ["b2"]);
    assert_eq!(altered(&replaced("curves.csv", "a1,2,64,3.3,", "a1,2,64,3.4,")), ["a1"]);
    assert_eq!(altered(&replaced("outcomes.csv", "b2,", "a1,")), ["a1", "b2"]);
    assert_eq!(altered(&replaced("provenance.json", "0.0.9", "0.0.8")), ["b2"]);
    assert_eq!(altered(&replaced("provenance.json", "abc123", "abc124")), ["a1"]);
    assert_eq!(altered(&replaced("provenance.json", "\"seal\": \"", "\"seal\": \"0")), ["a1"]);
}
