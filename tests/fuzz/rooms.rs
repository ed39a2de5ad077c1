//! What is read, from which seeds, with which words of its format.

use crate::shard;
use std::collections::{BTreeSet, HashSet};
use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use scaledown::claims::{ClaimsFile, Values, judge};
use scaledown::data::{
    Frame, ScoreTable, UidList, count, fingerprint, fingerprint_eval, pack_eval, pack_training, survey, survey_eval,
};
use scaledown::grid::{Digests, expand};
use scaledown::jobs::{Adopted, publish, rebuild, results_folders};
use scaledown::plan::PlannedRun;
use scaledown::record;
use scaledown::run::{DataSource, EvalSource, EvalTask, ScoreFile};
use scaledown::spec::{LoadOptions, load, load_claims};
use scaledown::trainer::checkpoint::{Checkpoint, Weights, load_model, save_model};
use scaledown::trainer::model::build;

/// Files by their path within the folder.
pub type Input = Vec<(String, Vec<u8>)>;

/// One reader and what it is tried with.
pub struct Room {
    pub name: &'static str,
    pub seeds: Vec<Input>,
    pub words: &'static [&'static str],
    /// Reads the folder; whether it was taken.
    pub read: Box<dyn Fn(&Path) -> bool>,
}

fn repository(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

const EXPERIMENT: &str = "\
experiment: t
question: what is it?
base: base.yaml
data:
  train: { dataset: scenes, size: 64 }
  quality: { keep: 50%, by: random }
train:
  batch_size: 8
  lr: 1e-3
  budget: { steps: 4 }
evaluate: [zeroshot/scenes, { retrieval: scenes, samples: 60 }]
sweep:
  seeds: 2
  union:
    - grid: { train.lr: [1e-3, 2e-3], train.strategy: [clip, { name: flip, masked: 50% }] }
    - zip: { train.lr: { from: 1e-4, to: 1e-2, num: 3, scale: log }, train.weight_decay: [0, 0.1, 0.2] }
tables:
  - { name: t, rows: train.lr, columns: train.strategy, where: { train.strategy: clip }, values: [zeroshot/scenes.acc1] }
claims:
  - id: c
    says: it is
    cells: { table: t }
    test: { greater: { left: { cell: { train.lr: 2e-3, train.strategy: clip } }, right: { cell: { train.lr: 1e-3, train.strategy: clip } } } }
";

const BASE: &str = "\
model:
  image_encoder: { name: vit, width: 16, layers: 1, heads: 1, patch_size: 8 }
  text_encoder: { name: text, width: 16, layers: 1, heads: 1 }
  context_length: 8
  embed_dim: 16
  image_size: 16
data: { tokenizer: { name: bpe, vocab_size: 300 } }
train: { strategy: { name: clip, augmentation: none }, warmup: 0 }
";

const YAML_WORDS: &[&str] = &[
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!str ",
    "|\n  ",
    ">\n",
    "#",
    "---\n",
    "...\n",
    "? ",
    "'",
    "~",
    "null",
    "${HOME}",
    "${",
    "50%",
    "1e6",
    "64k",
    "32px",
    "{0..9}",
    "{a,b}",
    "::",
    "when: ",
    "exclude: ",
    "sweep: ",
    "grid: ",
    "zip: ",
    "union: ",
    "seeds: ",
    "base: e.yaml\n",
    "train.lr: ",
    "data.quality.keep: ",
    "layers: ",
    "heads: ",
    "num: ",
    "from: ",
    "budget: ",
    "epochs: 3",
];

/// Experiment files with a base: loaded and expanded.
pub fn experiments() -> Room {
    let files =
        |text: &str| vec![("e.yaml".to_owned(), text.as_bytes().to_vec()), ("base.yaml".to_owned(), BASE.as_bytes().to_vec())];
    let claims = [("e.yaml".to_owned(), repository("experiments/paper/claims/strategies.yaml"))].to_vec();
    Room {
        name: "experiments",
        seeds: vec![files(EXPERIMENT), claims],
        words: YAML_WORDS,
        read: Box::new(|folder| {
            let options = LoadOptions { env: &|_| None, ..LoadOptions::default() };
            let path = folder.join("e.yaml");
            let is_claims = load_claims(&path, &options).is_ok();
            load(&path, &options).map(|spec| expand(&spec, &Digests::default())).is_ok() || is_claims
        }),
    }
}

fn picture(seed: u32, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(12, 9, |x, y| Rgb([(x * 17 + seed) as u8, (y * 23) as u8, (seed * 31) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn pictures() -> Vec<Vec<u8>> {
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP].iter().zip(1..).map(|(&format, seed)| picture(seed, format)).collect()
}

fn pairs(kind: &str, text: impl Fn(usize) -> String) -> Vec<u8> {
    let mut members = Vec::new();
    for (idx, bytes) in pictures().into_iter().enumerate() {
        let suffix = ["png", "jpg", "webp"][idx];
        members.push((format!("{idx:05}.{suffix}"), bytes));
        members.push((format!("{idx:05}.{kind}"), text(idx).into_bytes()));
        members
            .push((format!("{idx:05}.json"), format!("{{\"caption\": \"picture {idx}\", \"similarity\": 0.{idx}}}").into_bytes()));
    }
    shard::tar(&members)
}

/// Packs into a folder beside the input's files.
fn packed(folder: &Path, source: &DataSource) -> bool {
    let cache = folder.join("cache");
    let _ = (survey(source, 0.1, &cache), count(source), fingerprint(source, &cache.join("fingerprints.json")));
    let whole = pack_training(source, None, Frame::whole(8), &folder.join("whole"), &|_, _| {}).is_ok();
    let centre = pack_training(source, None, Frame::centre(8), &folder.join("centre"), &|_, _| {}).is_ok();
    assert_eq!(whole, centre, "a source is good or not whatever is made of its pictures");
    centre
}

const TAR_WORDS: &[&str] = &[
    "ustar",
    "././@PaxHeader",
    "././@LongLink",
    "path=../x\n",
    "18 size=4294967295\n",
    "NaN",
    "{\"caption\": ",
    "[",
    "GNU.sparse.major=1\n",
];

/// Training shards.
pub fn shards() -> Room {
    let shard = |bytes| vec![("00000.tar".to_owned(), bytes)];
    Room {
        name: "shards",
        seeds: vec![shard(pairs("txt", |idx| format!("picture {idx}")))],
        words: TAR_WORDS,
        read: Box::new(|folder| {
            let shards = vec![folder.join("00000.tar").display().to_string()];
            packed(folder, &DataSource::Webdataset { shards })
        }),
    }
}

/// Tables of image paths and captions.
pub fn image_tables() -> Room {
    let table = |name: &str, text: &str| {
        let mut files = vec![(name.to_owned(), text.as_bytes().to_vec())];
        files.extend(pictures().into_iter().enumerate().map(|(idx, bytes)| (format!("{idx}.png"), bytes)));
        files
    };
    Room {
        name: "image-tables",
        seeds: vec![
            table("t.csv", "image,caption,score\n0.png,\"one, two\",0.5\n1.png,\"a \"\"word\"\"\",1\n2.png,three,2\n"),
            table("t.tsv", "image\tcaption\n0.png\tone\n1.png\ttwo\n2.png\tthree\n"),
        ],
        words: &["\"", "\"\"", ",", "\t", ";", "\r\n", "../../x.png", "/dev/zero", "image", "caption", "\u{feff}"],
        read: Box::new(|folder| {
            let name = if folder.join("t.csv").exists() { "t.csv" } else { "t.tsv" };
            let file = folder.join(name).display().to_string();
            packed(folder, &DataSource::Table { file, image_column: "image".into(), caption_column: "caption".into() })
        }),
    }
}

/// The files of tests/fixtures/score_files with these names.
fn score_fixtures(names: &[&str]) -> Vec<Input> {
    let file = |name: &&str| vec![((*name).to_owned(), repository(&format!("tests/fixtures/score_files/{name}")))];
    names.iter().map(file).collect()
}

/// Whether a table of scores is taken, by any of these pairs of columns.
fn takes_scores(folder: &Path, columns: &[[&str; 2]]) -> bool {
    let file = entry(folder);
    let reads = |[id, score]: &[&str; 2]| {
        ScoreTable::read(&ScoreFile { file: file.clone(), id_column: (*id).into(), score_column: (*score).into() }).is_ok()
    };
    columns.iter().filter(|columns| reads(columns)).count() > 0
}

/// The one file of a folder.
fn entry(folder: &Path) -> String {
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path().display().to_string()
}

/// Tables of scores as texts.
pub fn score_files() -> Room {
    let table = |name: &str, text: &str| vec![(name.to_owned(), text.as_bytes().to_vec())];
    Room {
        name: "score-files",
        seeds: vec![
            table("s.csv", "uid,score\n000000000000000000000000000003e8,0.5\n\"a\",-1e3\nb,\nc,nan\n"),
            table("s.tsv", "score\tuid\n1\ta\n2\tb\n"),
        ],
        words: &["\"", ",", "\t", "\r\n", "uid", "score", "1e999", "-0", "PAR1", "\u{feff}"],
        read: Box::new(|folder| takes_scores(folder, &[["uid", "score"]])),
    }
}

/// Tables of scores as Parquet.
pub fn parquet_files() -> Room {
    Room {
        name: "parquet-files",
        seeds: score_fixtures(&[
            "pandas.parquet",
            "types-gzip.parquet",
            "types-zstd.parquet",
            "required.parquet",
            "polars.parquet",
        ]),
        words: &["PAR1", "PARE", "uid", "score", "\u{15}\u{2}", "\u{19}\u{1c}", "\u{0}\u{0}", "\u{7f}\u{7f}\u{7f}\u{7f}", "\u{1}"],
        read: Box::new(|folder| {
            takes_scores(
                folder,
                &[
                    ["uid", "score"],
                    ["uid", "clip_b32_similarity_score"],
                    ["text", "f16"],
                    ["large", "f32"],
                    ["bytes", "i64"],
                    ["fixed", "u32"],
                    ["number", "i32"],
                ],
            )
        }),
    }
}

/// Lists of uids.
pub fn uid_lists() -> Room {
    let mut seeds = score_fixtures(&["subset.npy", "subset-s32.npy", "subset-u32.npy"]);
    seeds.push(vec![("list.txt".to_owned(), b"000000000000000000000000000003e8\r\nkey-1\n\n".to_vec())]);
    Room {
        name: "uid-lists",
        seeds,
        words: &[
            "'descr'",
            "'<u8'",
            "'|S32'",
            "'<U32'",
            "[('f0', '<u8'), ('f1', '<u8')]",
            "'shape': (",
            ",)",
            "18446744073709551615",
            "\n",
        ],
        read: Box::new(|folder| UidList::read(&entry(folder)).is_ok()),
    }
}

/// Evaluation folders.
pub fn evaluation_folders() -> Room {
    let text = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let classes = vec![
        text("classnames.txt", "cat\ndog\nowl\n"),
        text("zeroshot_classification_templates.txt", "a photo of a {c}.\na {c}\n"),
        text("test/nshards.txt", "1\n"),
        ("test/0.tar".to_owned(), pairs("cls", |idx| idx.to_string())),
    ];
    let retrieval = vec![
        text("dataset_type.txt", "retrieval\n"),
        text("test/nshards.txt", "1\n"),
        ("test/0.tar".to_owned(), pairs("txt", |idx| format!("one {idx}\ntwo {idx}"))),
    ];
    Room {
        name: "evaluation-folders",
        seeds: vec![classes, retrieval],
        words: &["{c}", "\n\n", "retrieval", "ustar", "18446744073709551615", "-1", "3", "\r\n"],
        read: Box::new(|folder| {
            let source = EvalSource::Folder { path: folder.display().to_string(), split: "test".into() };
            let cache = folder.join("cache");
            let task = if folder.join("dataset_type.txt").exists() { EvalTask::Retrieval } else { EvalTask::Zeroshot };
            let _ = (survey_eval(&source, task, 0.0, &cache), fingerprint_eval(&source, &cache.join("fingerprints.json")));
            pack_eval(&source, 8, &folder.join("pack"), &|_, _| {}).is_ok()
        }),
    }
}

/// Model files and checkpoints.
pub fn models() -> Room {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("e.yaml", EXPERIMENT), ("base.yaml", BASE)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let spec = load(&folder.path().join("e.yaml"), &LoadOptions::default()).unwrap();
    let model = expand(&spec, &Digests::default()).config(0).model;
    let program = build(&model, 0.0);
    let path = folder.path().join("model.safetensors");
    save_model(&path, &program, &Weights { parameters: vec![0.5; program.num_params()], ..Weights::default() }, 1).unwrap();
    let file = std::fs::read(&path).unwrap();
    // A checkpoint that is not there is no error; one that is there and cannot be read is refused or passed over.
    Room {
        name: "models",
        seeds: vec![vec![
            ("model.safetensors".to_owned(), file.clone()),
            ("checkpoint-00000000000000000007.safetensors".to_owned(), file),
        ]],
        words: &[
            "\"F32\"",
            "\"BF16\"",
            "\"shape\":[",
            "\"data_offsets\":[0,",
            "18446744073709551615",
            "{",
            "}",
            "]",
            "__metadata__",
        ],
        read: Box::new(move |folder| {
            let _ = Checkpoint::load_newest(folder, "a run", &[1]);
            load_model(&folder.join("model.safetensors"), &program).is_ok()
        }),
    }
}

/// Results folders: read, rebuilt, published, and looked into for runs that are adopted.
pub fn results() -> Room {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let options = LoadOptions { env: &|_| None, ..LoadOptions::default() };
    let expansion = expand(&load(&root.join("experiments/ci.yaml"), &options).unwrap(), &Digests::default());
    let planned = (0..expansion.runs().len())
        .map(|run| PlannedRun { run_id: expansion.runs()[run].id.to_string(), config: expansion.config(run) });
    let plan = scaledown::plan::build(planned, None, |_| Ok(String::new())).unwrap();
    let folder = root.join("results/ci");
    let committed = ["runs.csv", "curves.csv", "provenance.json"];
    let old: Input = committed.iter().map(|name| ((*name).to_owned(), std::fs::read(folder.join(name)).unwrap())).collect();
    // With keys and seals, whether or not the committed records have them.
    let mut records = record::read(&folder).unwrap();
    for run in plan.runs() {
        let origin = record::Origin { experiment: "e".into(), version: "0".into(), commit: None, cpu: None };
        let adopted = Some(origin).filter(|_| records.identities.len() % 2 == 1);
        records.identities.insert(run.run_id.clone(), record::Identity { key: plan.run_key(run).hex(), adopted });
    }
    let first = record::Stated::of(&records.statements, records.runs.iter().map(|run| &run.config));
    records.stated = Some(record::Stated { finished: 1, ..first });
    let sealed: Input = record::files(&records).unwrap().into_iter().map(|file| (file.name.to_owned(), file.bytes)).collect();
    let place = tempfile::tempdir().unwrap();
    sealed.iter().for_each(|(name, bytes)| std::fs::write(place.path().join(name), bytes).unwrap());
    assert_eq!(Adopted::find(&plan, &HashSet::new(), place.path(), &[]).len(), plan.runs().len(), "the seed itself is adopted");
    Room {
        name: "results",
        seeds: vec![old, sealed],
        words: &[
            "\"../../x\"",
            "\"/tmp/x\"",
            "\"name\": \"..\"",
            "null",
            "[]",
            "{}",
            "NaN",
            "\"\"",
            "finished",
            "diverged",
            ",,",
            "\"seed\": ",
            "\"key\": ",
            "\"seal\": ",
            "\"adopted\": {",
        ],
        read: Box::new(move |folder| {
            // From its own folder, and from one that is found among others.
            let own = Adopted::find(&plan, &HashSet::new(), folder, &[]);
            let _ = (own.warnings(&BTreeSet::from(["zeroshot/scenes.acc1"])), own.job_keys(&plan));
            let _ = Adopted::find(&plan, &HashSet::new(), &folder.join("none"), &results_folders(folder));
            let Ok(records) = record::read(folder) else { return false };
            let Ok(findings) = rebuild(&records) else { return false };
            let files: Vec<(String, Vec<u8>)> = findings.files.into_iter().map(|file| (file.name, file.bytes)).collect();
            publish(&folder.join("again"), &records, &files).is_ok()
        }),
    }
}

/// Tables of values, with the claims that are judged on them.
pub fn value_tables() -> Room {
    let files = vec![
        ("values.csv".to_owned(), repository("experiments/paper/reference/quality.csv")),
        ("claims.yaml".to_owned(), repository("experiments/paper/claims/data-quality.yaml")),
    ];
    Room {
        name: "value-tables",
        seeds: vec![files],
        words: &["value", ",", "\"", "NaN", "inf", "1e999", "table: ", "cells: ", "along: ", "{ best: ", "each: ", "\n"],
        read: Box::new(|folder| {
            let options = LoadOptions { env: &|_| None, ..LoadOptions::default() };
            let Ok(claims) = load_claims(&folder.join("claims.yaml"), &options) else { return false };
            judged(&claims, folder)
        }),
    }
}

fn judged(claims: &ClaimsFile, folder: &Path) -> bool {
    let mut values = Values::default();
    let bytes = std::fs::read(folder.join("values.csv")).unwrap();
    values.add("values.csv", &bytes).map(|()| judge(&claims.clone().into_claims(), &values)).is_ok()
}
