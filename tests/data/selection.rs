//! Choosing part of a pool: what files may state, what `data score` writes, and what is refused before any work.

use std::path::{Path, PathBuf};
use std::process::Command;

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;

use super::{encoded, output_in_time, write_tar};

/// A folder with an experiment file and a scorer's file.
struct Place(tempfile::TempDir);

/// A model that is trained in no time.
const MODEL: &str = "model:
  image_encoder: { name: vit, width: 16, layers: 1, heads: 1, patch_size: 8, pooling: mean, pre_norm: false }
  text_encoder: { name: text, width: 16, layers: 1, heads: 1 }
  context_length: 8
  embed_dim: 16
  image_size: 16
train:
  strategy: { name: clip, augmentation: none }
  batch_size: 8
  lr: 1e-3
  warmup: 0
  budget: { steps: 2 }
";

const SCENES: &str = "{ dataset: scenes, size: 96 }";

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("scorer.yaml", &place.text(SCENES, ""));
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn text(&self, train: &str, rest: &str) -> String {
        format!("experiment: t\ndata:\n  train: {train}\n{rest}\n  tokenizer: {{ name: bpe, vocab_size: 300 }}\n{MODEL}")
    }

    /// Runs the program on an experiment with this source, these further lines of `data:` and these at the end.
    fn run(&self, args: &[&str], train: &str, data: &str, rest: &str) -> std::process::Output {
        self.write("e.yaml", &(self.text(train, data) + rest));
        let (name, options) = args.split_at(if args[0] == "data" { 2 } else { 1 });
        let args = [name, &["e.yaml", "--device", "cpu"], options].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_scaledown"));
        output_in_time(command.current_dir(self.path()).args(args))
    }

    /// What `data score` says, as JSON.
    fn score(&self, options: &[&str], train: &str, data: &str, rest: &str) -> Value {
        let args = [&["data", "score", "--out", "out", "--format", "json"], options].concat();
        let output = self.run(&args, train, data, rest);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, train: &str, data: &str) -> String {
        let output = self.run(&["plan"], train, data, "");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{train}\n{data}\n{stderr}");
        stderr
    }
}

/// A picture of blocks that its seed decides.
fn blocks(seed: u32, side: u32) -> Vec<u8> {
    let level = |x: u32, y: u32| {
        let mixed = (seed * 7919 + (y * 8 / side) * 131 + x * 9 / side).wrapping_mul(2_654_435_761);
        (mixed >> 24) as u8
    };
    encoded(RgbImage::from_fn(side, side, |x, y| Rgb([level(x, y); 3])), ImageFormat::Png)
}

/// A shard of so many pictures with captions and, in their metadata, a uid and sizes.
fn shard(path: &Path, samples: u32) {
    let mut members = Vec::new();
    for i in 0..samples {
        members.push((format!("{i:05}.png"), blocks(i, 36)));
        members.push((format!("{i:05}.txt"), format!("a picture number {i}").into_bytes()));
        let json = format!("{{\"uid\": \"{:032x}\", \"original_width\": {}, \"original_height\": 300}}", 1000 + i, 150 + 100 * i);
        members.push((format!("{i:05}.json"), json.into_bytes()));
    }
    write_tar(path, &members);
}

const RULES: &str = "sweep:
  grid:
    data.quality.by:
      - { neg_clip_loss: { scorer: scorer.yaml, batch: 40, permutations: 2 } }
      - { norm_sim: { scorer: scorer.yaml, target: { dataset: scenes, samples: 80 } } }
      - { image_cluster: { scorer: scorer.yaml, target: { dataset: scenes, samples: 80 }, clusters: 8 } }
      - { sem_dedup: { scorer: scorer.yaml, clusters: 8, iterations: 5 } }
      - { similarity: { scorer: scorer.yaml, trained_on: pool } }
      - { field: quality }
      - random
";

#[test]
fn every_rule_scores_a_pool_and_the_bytes_do_not_depend_on_threads() {
    let place = Place::new();
    let score = |threads, store| {
        let options = ["--threads", threads, "--store", store];
        let said = place.score(&options, SCENES, "  quality: { keep: 25%, by: random }", RULES);
        (said, place.read("out/scores.csv"))
    };
    let (said, one) = score("1", "s1");
    let (_, two) = score("2", "s2");
    assert_eq!(one, two);
    let header = one.lines().next().unwrap();
    let names = "quality,similarity,neg_clip_loss,norm_sim,image_cluster,sem_dedup";
    let sorted = |text: &str| {
        let mut names: Vec<String> = text.split(',').map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(header.strip_prefix("index,uid,key,").unwrap()), sorted(names));
    assert_eq!(one.lines().count(), 97);
    let rules = said["pools"][0]["rules"].as_array().unwrap();
    for rule in rules {
        assert_eq!((&rule["scored"], &rule["missing"]), (&96.into(), &0.into()), "{rule}");
        assert!(rule["least"].as_f64() < rule["most"].as_f64(), "{rule}");
        assert!(place.read(rule["histogram"].as_str().unwrap()).ends_with("</svg>\n"));
        for sheet in ["best", "worst"] {
            image::open(place.path().join(rule[sheet].as_str().unwrap())).unwrap();
        }
    }
    let overlaps = said["pools"][0]["overlaps"].as_array().unwrap();
    assert_eq!((overlaps.len(), place.read("out/overlap.csv").lines().count()), (21, 22));
    assert!(overlaps.iter().all(|pair| pair["kept_one"] == 24 && pair["kept_other"] == 24), "{overlaps:?}");
    assert!(overlaps.iter().all(|pair| pair["by_chance"] == 6.0));
}

#[test]
fn filters_in_turn_nest_and_a_size_is_drawn_of_what_they_leave() {
    let place = Place::new();
    let quality = "  quality:
    keep: 60%
    by: { neg_clip_loss: { scorer: scorer.yaml } }
    then: [{ keep: 30%, by: { norm_sim: { scorer: scorer.yaml, target: { dataset: scenes, samples: 80 }, norm: linf } } }]
    size: 20";
    let said = place.score(&["--store", "s"], SCENES, quality, "");
    let overlaps = said["pools"][0]["overlaps"].as_array().unwrap();
    let kept: Vec<[u64; 3]> =
        overlaps.iter().map(|pair| ["kept_one", "kept_other", "both"].map(|name| pair[name].as_u64().unwrap())).collect();
    // 57.6 and 28.8 of 96, rounded down; each inside the one before.
    assert_eq!(kept, [[57, 28, 28], [57, 20, 20], [28, 20, 20]]);
    let output = place.run(&["run", "--store", "s"], SCENES, quality, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn scores_of_a_file_are_joined_by_uid_and_leaks_are_found() {
    let place = Place::new();
    shard(&place.path().join("pool.tar"), 16);
    let rows: String = (0..13).map(|i| format!("{:032x},{}\n", 1000 + 15 - i, f64::from(i) / 10.0)).collect();
    place.write("scores.csv", &format!("uid,clip\n{rows}{:032x},nan\n", 1000));
    std::fs::create_dir_all(place.path().join("set/test")).unwrap();
    place.write("set/test/nshards.txt", "1\n");
    place.write("set/classnames.txt", "one\ntwo\n");
    place.write("set/zeroshot_classification_templates.txt", "a {c}\n");
    let image = |i, seed, class: &str| [(format!("s{i}.png"), blocks(seed, 72)), (format!("s{i}.cls"), class.into())];
    // The first is picture 3 of the pool at another size.
    write_tar(&place.path().join("set/test/0.tar"), &[image(0, 3, "0"), image(1, 500, "1")].concat());
    let train = "{ dataset: webdataset, shards: pool.tar }";
    let quality = "  quality: { keep: 50%, by: { file: { path: scores.csv, score_column: clip } } }";
    let said = place.score(&["--store", "s"], train, quality, "evaluate: [{ zeroshot: set, folder: set }]\n");
    let pool = &said["pools"][0];
    assert_eq!((&pool["rules"][0]["scored"], &pool["rules"][0]["missing"]), (&13.into(), &3.into()));
    let scores = place.read("out/scores.csv");
    assert!(scores.starts_with("index,uid,key,clip\n"), "{scores}");
    assert!(scores.contains(&format!("15,{:032x},00015,0\n", 1015)) && scores.contains(&format!("0,{:032x},00000,\n", 1000)));
    let leaks = &pool["leaks"][0];
    assert_eq!((&leaks["pairs"], &leaks["samples"], &leaks["of_images"]), (&1.into(), &1.into(), &2.into()), "{leaks}");
    let listed = place.read("out/leaks.csv");
    assert!(listed.lines().nth(1).unwrap().starts_with(&format!("3,{:032x},00003,", 1003)), "{listed}");
    assert_eq!(listed.lines().count(), 2);
}

/// A file of tests/fixtures/score_files, whose rows are named as the samples of [`shard`].
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score_files").join(name)
}

#[test]
fn scores_of_parquet_files_are_those_of_a_csv() {
    let place = Place::new();
    shard(&place.path().join("pool.tar"), 40);
    let rows = (0..40).map(|i| {
        let score = if i % 9 == 4 { String::new() } else { (f64::from(7 * i % 40) / 64.0).to_string() };
        format!("{:032x},{score}\n", 1000 + i)
    });
    place.write("scores.csv", &format!("uid,score\n{}", rows.collect::<String>()));
    let train = "{ dataset: webdataset, shards: pool.tar }";
    let score = |path: &str, column: &str| {
        let file = format!("{{ file: {{ path: {path}, score_column: {column} }} }}");
        let said = place.score(&["--store", "s"], train, &format!("  quality: {{ keep: 50%, by: {file} }}"), "");
        let rule = &said["pools"][0]["rules"][0];
        assert_eq!((&rule["scored"], &rule["missing"]), (&36.into(), &4.into()), "{path}: {rule}");
        // Below the header, which names the column.
        place.read("out/scores.csv").split_once('\n').unwrap().1.to_owned()
    };
    let of_csv = score("scores.csv", "score");
    for (file, column) in [
        ("pandas.parquet", "clip_b32_similarity_score"),
        ("pandas.parquet", "clip_l14_similarity_score"),
        ("polars.parquet", "score"),
        ("parts", "score"),
        ("parts/*.parquet", "score"),
    ] {
        assert_eq!(score(&fixture(file).display().to_string(), column), of_csv, "{file}");
    }
}

#[test]
fn uids_that_are_numbers_are_joined_as_numbers() {
    let place = Place::new();
    let members = (0..40).flat_map(|i| {
        let json = format!("{{\"uid\": {}}}", 1000 + i);
        [("png", blocks(i, 36)), ("txt", b"a picture".to_vec()), ("json", json.into_bytes())]
            .map(|(suffix, bytes)| (format!("{i:05}.{suffix}"), bytes))
    });
    write_tar(&place.path().join("pool.tar"), &members.collect::<Vec<_>>());
    let train = "{ dataset: webdataset, shards: pool.tar }";
    let file = fixture("required.parquet").display().to_string();
    let quality = format!("  quality: {{ keep: 50%, by: {{ file: {{ path: {file}, score_column: score }} }} }}");
    place.score(&["--store", "s"], train, &quality, "");
    let rows: String = (0..40).map(|i| format!("{i},{},{i:05},{}\n", 1000 + i, f64::from(7 * i % 40) / 64.0)).collect();
    assert_eq!(place.read("out/scores.csv"), format!("index,uid,key,score\n{rows}"));
}

#[test]
fn a_list_of_uids_keeps_what_it_names_and_says_what_is_not_there() {
    let place = Place::new();
    shard(&place.path().join("pool.tar"), 40);
    let even: String = (0..20).map(|i| format!("{:032x}\n", 1000 + 2 * i)).collect();
    place.write("list.txt", &format!("{even}{}\n", "f".repeat(32)));
    std::fs::copy(fixture("subset.npy"), place.path().join("moved.npy")).unwrap();
    let train = "{ dataset: webdataset, shards: pool.tar }";
    let files = ["subset.npy", "subset-s32.npy", "subset-u32.npy"].map(|name| fixture(name).display().to_string());
    for file in files.into_iter().chain(["list.txt".to_owned(), "moved.npy".to_owned()]) {
        let quality = format!(
            "  quality: {{ keep: {{ at_least: 1 }}, by: {{ uids: {file} }}, then: [{{ keep: {{ count: 8 }}, by: random }}] }}"
        );
        let said = place.score(&["--store", "s"], train, &quality, "");
        let overlap = &said["pools"][0]["overlaps"][0];
        assert_eq!((&overlap["kept_one"], &overlap["kept_other"], &overlap["both"]), (&20.into(), &8.into(), &8.into()), "{file}");
        let scores = place.read("out/scores.csv");
        let is_kept = |i: usize| if i.is_multiple_of(2) { 1 } else { 0 };
        let rows: String = (0..40).map(|i| format!("{i},{:032x},{i:05},{}\n", 1000 + i, is_kept(i))).collect();
        assert_eq!(scores, format!("index,uid,key,uids\n{rows}"), "{file}");
        let stderr = place.run(&["plan", "--store", "s"], train, &quality, "").stderr;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let absent = format!("{file}: not in the pool: 1 of 21 listed uids, the first `{}`", "f".repeat(32));
        assert!(stderr.contains(&absent) && stderr.contains("e.yaml:4:"), "{stderr}");
        let twice = format!("{file}: 1 of 22 entries repeat another: a sample is kept once");
        assert_eq!(stderr.contains(&twice), file.ends_with("subset.npy") || file == "moved.npy", "{stderr}");
    }
}

#[test]
fn bad_parquet_files_and_lists_are_refused_at_their_key_with_a_way_out() {
    let place = Place::new();
    shard(&place.path().join("pool.tar"), 40);
    let whole = std::fs::read(fixture("pandas.parquet")).unwrap();
    let footer = whole.len() - 8 - u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize;
    let corrupt = [&whole[..footer], &[0xff; 64], &whole[footer + 64..]].concat();
    std::fs::write(place.path().join("cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(place.path().join("corrupt.parquet"), corrupt).unwrap();
    std::fs::create_dir(place.path().join("empty")).unwrap();
    place.write("text.parquet", "uid,score\n");
    place.write("elsewhere.txt", "one\ntwo\n");
    let subset = std::fs::read(fixture("subset.npy")).unwrap();
    std::fs::write(place.path().join("cut.npy"), &subset[..subset.len() - 8]).unwrap();
    let header =
        String::from_utf8_lossy(&subset[10..128]).replace("[('f0', '<u8'), ('f1', '<u8')]", "'<f4'                         ");
    std::fs::write(place.path().join("f4.npy"), [&subset[..10], header.as_bytes(), &subset[128..]].concat()).unwrap();
    for name in ["types-gzip", "brotli", "encrypted", "encrypted-column", "twice"] {
        std::fs::copy(fixture(&format!("{name}.parquet")), place.path().join(format!("{name}.parquet"))).unwrap();
    }
    let train = "{ dataset: webdataset, shards: pool.tar }";
    let mut said = String::new();
    for by in [
        "file: { path: cut.parquet, score_column: score }",
        "file: { path: corrupt.parquet, score_column: score }",
        "file: { path: text.parquet, score_column: score }",
        "file: { path: nowhere.parquet, score_column: score }",
        "file: { path: empty, score_column: score }",
        "file: { path: \"*.nothing\", score_column: score }",
        "file: { path: brotli.parquet, score_column: score }",
        "file: { path: encrypted.parquet, score_column: score }",
        "file: { path: encrypted-column.parquet, score_column: score }",
        "file: { path: twice.parquet, score_column: score }",
        "file: { path: types-gzip.parquet, id_column: text, score_column: clip }",
        "file: { path: types-gzip.parquet, id_column: text, score_column: day }",
        "file: { path: types-gzip.parquet, id_column: f32, score_column: f32 }",
        "file: { path: types-gzip.parquet, id_column: number, score_column: f32 }",
        "uids: cut.npy",
        "uids: f4.npy",
        "uids: pool.tar",
        "uids: nowhere.npy",
        "uids: elsewhere.txt",
    ] {
        said += &place.refused(train, &format!("  quality: {{ keep: {{ at_least: 1 }}, by: {{ {by} }} }}"));
    }
    let said =
        said.lines().filter(|line| line.starts_with("e.yaml:") || line.starts_with("hint: ")).collect::<Vec<&str>>().join("\n")
            + "\n";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/score_files.txt");
    if std::env::var_os("SCALEDOWN_UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &said).unwrap();
    }
    assert_eq!(
        said,
        std::fs::read_to_string(&golden).unwrap(),
        "SCALEDOWN_UPDATE_GOLDEN=1 writes tests/golden/score_files.txt anew"
    );
}

#[test]
fn what_chooses_nothing_sensible_is_refused_at_its_key_before_any_work() {
    let place = Place::new();
    shard(&place.path().join("pool.tar"), 16);
    let rows: String = (0..8).map(|i| format!("{:032x},0.5\n", 1000 + i)).collect();
    place.write("half.csv", &format!("uid,clip\n{rows}"));
    let shards = "{ dataset: webdataset, shards: pool.tar }";
    let scorer = "scorer: scorer.yaml";
    let of = |keep: &str, by: &str| format!("  quality: {{ keep: {keep}, by: {by} }}");
    let cases = [
        (SCENES, of("5%", &format!("{{ neg_clip_loss: {{ {scorer} }} }}")), "a batch of 8 is larger than the subset of 4 samples"),
        (SCENES, of("50%", "{ neg_clip_loss: { batch: 8 } }"), "missing key `scorer`"),
        (SCENES, of("50%", &format!("{{ norm_sim: {{ {scorer} }} }}")), "missing key `target`"),
        (SCENES, of("50%", &format!("{{ sem_dedup: {{ {scorer}, clusters: 97 }} }}")), "found 97, expected from 1 to 96"),
        (SCENES, of("50%", &format!("{{ neg_clip_loss: {{ {scorer}, batch: 1 }} }}")), "expected 2 pairs or more"),
        (
            SCENES,
            of("50%", &format!("{{ neg_clip_loss: {{ {scorer}, trained_on: disjoint }} }}")),
            "found `disjoint`, but the scorer learns from the same world",
        ),
        (
            "{ dataset: scenes, size: 64 }",
            of("50%", &format!("{{ similarity: {{ {scorer}, trained_on: pool }} }}")),
            "found `pool`, but the scorer's file states other data",
        ),
        (SCENES, of("{ datacomp: 30% }", "random"), "`data.quality.keep.datacomp` needs a score"),
        (SCENES, of("{ datacomp: 100% }", "{ field: quality }"), "expected a share below 100%"),
        (SCENES, of("50%", "{ basic: {} }"), "`data.quality.by.basic`: sizes of pictures: no numeric field `original_width`"),
        (SCENES, of("50%", "{ basic: { min_side: 0, max_aspect: 0 } }"), "write `keep: {at_least: 1}`"),
        (
            SCENES,
            format!("{}\n    then: [{{ keep: 50%, by: random }}]", "  quality:\n    keep: 40%\n    by: random"),
            "`data.quality.then.0.keep`: found 48 samples, expected at most 38",
        ),
        (
            SCENES,
            "  quality: { keep: 40%, by: random, size: 39 }".to_owned(),
            "`data.quality.size`: found 39, expected from 1 to 38",
        ),
        (SCENES, of("50%", "{ file: { path: half.csv, score_column: clip } }"), "the samples of `scenes` have no names"),
        (SCENES, of("{ at_least: 1 }", "{ uids: half.csv }"), "`data.quality.by.uids`: the samples of `scenes` have no names"),
        (
            shards,
            of("50%", "{ file: { path: nope.csv, score_column: clip } }"),
            "`data.quality.by.file.path`: cannot open nope.csv",
        ),
        (
            shards,
            of("50%", "{ file: { path: half.csv, score_column: score } }"),
            "`data.quality.by.file.score_column`: half.csv: no column `score`, expected one of `uid`, `clip`",
        ),
        (
            shards,
            of("50%", "{ file: { path: half.csv, score_column: clip } }"),
            "half.csv: 8 of 16 samples have a score in `clip`, expected more than half; the first without is `000000000000000000000000000003f0`",
        ),
    ];
    for (train, data, what) in cases {
        let said = place.refused(train, &data);
        assert!(said.contains(what) && said.contains("e.yaml:"), "{data}: {said}");
        assert!(said.contains("hint: ") || what.starts_with("missing key"), "{data}: {said}");
    }
    let nothing = place.run(&["data", "score", "--out", "out"], SCENES, "", "");
    assert_eq!(nothing.status.code(), Some(2), "{}", String::from_utf8_lossy(&nothing.stderr));
}

#[test]
fn captions_and_sizes_choose_without_a_model() {
    let place = Place::new();
    shard(&place.path().join("pool.tar"), 16);
    let train = "{ dataset: webdataset, shards: pool.tar }";
    let quality =
        "  quality: { keep: { at_least: 1 }, by: { basic: { min_words: 4 } }, then: [{ keep: { count: 8 }, by: random }] }";
    let said = place.score(&["--store", "s"], train, quality, "");
    // Widths are 150, 250, ... and heights 300: the first is too narrow, and from 950 on all are too wide.
    let overlap = &said["pools"][0]["overlaps"][0];
    assert_eq!((&overlap["kept_one"], &overlap["kept_other"], &overlap["both"]), (&7.into(), &7.into(), &7.into()), "{overlap}");
}
