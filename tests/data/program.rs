//! The real program on users' files that are not as they should be: exit codes, places, counts.

use std::path::Path;
use std::process::{Command, Output};

use image::ImageFormat;

use super::{eval_folder, output_in_time, picture, write_tar};

/// A folder with an experiment file on data of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A shard of samples with captions; what `json` gives is their metadata.
    fn shard(&self, name: &str, from: u32, samples: u32, json: impl Fn(u32) -> Option<String>) {
        let mut members = Vec::new();
        for i in from..from + samples {
            members.push((format!("{i}.png"), picture(i, 16, ImageFormat::Png)));
            members.push((format!("{i}.txt"), format!("a picture number {i}").into_bytes()));
            members.extend(json(i).map(|json| (format!("{i}.json"), json.into_bytes())));
        }
        std::fs::create_dir_all(self.path().join(name).parent().unwrap()).unwrap();
        write_tar(&self.path().join(name), &members);
    }

    /// Runs the program on an experiment with this training source and these evaluations.
    fn run(&self, args: &[&str], train: &str, evaluate: &str) -> Output {
        let text = format!(
            "experiment: t\ndata:\n  train: {train}\n  tokenizer: {{ name: bpe, vocab_size: 300 }}\nmodel:\n  image_encoder: \
             {{ name: vit, width: 16, layers: 1, heads: 1, patch_size: 8, pooling: mean, pre_norm: false }}\n  text_encoder: \
             {{ name: text, width: 16, layers: 1, heads: 1 }}\n  context_length: 8\n  embed_dim: 16\n  image_size: 16\ntrain:\n  \
             strategy: {{ name: clip, augmentation: none }}\n  batch_size: 8\n  lr: 1e-3\n  warmup: 0\n  budget: {{ steps: 1 }}\n\
             evaluate:\n  - {evaluate}\n"
        );
        self.write("e.yaml", text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_scaledown"));
        let (name, rest) = args.split_at(if args[0] == "data" { 2 } else { 1 });
        let args = [name, &["e.yaml", "--device", "cpu", "--store", "store"], rest].concat();
        // Nothing here may wait for a pipe or read without end.
        output_in_time(command.current_dir(self.path()).args(args))
    }

    /// What the program says where it refuses a file.
    fn refused(&self, train: &str, evaluate: &str) -> String {
        let output = self.run(&["plan"], train, evaluate);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{train}\n{evaluate}\n{stderr}");
        stderr
    }
}

const SCENES: &str = "{ dataset: scenes, size: 64 }";
const ZEROSHOT: &str = "{ zeroshot: scenes, samples: 80 }";

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn none(_: u32) -> Option<String> {
    None
}

#[test]
fn wrong_training_files_are_refused_at_the_key_that_names_them() {
    let place = Place::new();
    place.write("semi.csv", "image;caption\nx.png;a\n");
    place.write("open.csv", "image,caption\na.png,\"a 15 inch\nb.png,b\n");
    place.write("gone.csv", "image,caption\na.png,a\nb.png,b\n");
    place.write("empty/readme", "");
    place.write("cut.tar", [0u8; 100]);
    place.shard("00000.tar", 0, 8, none);
    let table = |file: &str| format!("{{ dataset: table, file: {file}, image_column: image, caption_column: caption }}");
    let shards = |list: &str| format!("{{ dataset: webdataset, shards: \"{list}\" }}");
    for (train, at, what) in [
        (table("nope.csv"), "e.yaml:3:34: `data.train.file`: cannot open nope.csv", "No such file"),
        (table("semi.csv"), "e.yaml:3:58: `data.train.image_column`: ", "no column `image`, expected one of `image;caption`"),
        (table("semi.csv"), "`data.train.caption_column`: ", "hint: the header looks like one column"),
        (table("open.csv"), "e.yaml:3:34: `data.train.file`: open.csv:2: ", "is never closed"),
        (table("gone.csv"), "`data.train.image_column`: 2 of 2 images do not exist, the first a.png in line 2", "10 % may be"),
        (table("empty"), "e.yaml:3:34: `data.train.file`: empty: found a folder", "expected a regular file"),
        (table("/dev/zero"), "e.yaml:3:34: `data.train.file`: /dev/zero: found a device", "expected a regular file"),
        (shards("nope/{0..1}.tar"), "e.yaml:3:41: `data.train.shards`: 2 of 2 listed shards are missing", "nope/0.tar"),
        (shards("{00000..00009}.tar"), "9 of 10 listed shards are missing, more than the 10 % that may be", "max_missing"),
        (shards("00000.tar::./00000.tar"), "`data.train.shards`: 1 shards are named twice", "00000.tar"),
        (shards("*.zip"), "`data.train.shards`: no shard: nothing matches `*.zip`", ""),
        (shards("empty"), "`data.train.shards`: no shard: no `.tar` in folder empty", ""),
        (shards("cut.tar"), "e.yaml:3:41: `data.train.shards`: cut.tar: truncated tar", "at byte 0"),
        (shards("/dev/zero"), "`data.train.shards`: /dev/zero: found a device", "expected a regular file"),
    ] {
        let said = place.refused(&train, ZEROSHOT);
        assert!(said.contains(at) && said.contains(what), "{train}: {said}");
    }
    let field = "{ dataset: webdataset, shards: 00000.tar }\n  quality: { keep: 50%, by: { field: similarity } }";
    let said = place.refused(field, ZEROSHOT);
    assert!(said.contains("e.yaml:4:38: `data.quality.by.field`: no numeric field `similarity`"), "{said}");
}

#[test]
fn wrong_evaluation_folders_are_refused_before_training_all_at_once() {
    let place = Place::new();
    for (name, is_retrieval) in [("good", false), ("captions", true), ("beyond", false), ("bare", false), ("empty", false)] {
        eval_folder(&place.path().join(name), is_retrieval);
        place.write(&format!("{name}/test/1.tar"), std::fs::read(place.path().join(name).join("test/0.tar")).unwrap());
    }
    eval_folder(&place.path().join("beyond"), false);
    for file in ["classnames.txt", "zeroshot_classification_templates.txt"] {
        std::fs::remove_file(place.path().join("bare").join(file)).unwrap();
    }
    for shard in ["0.tar", "1.tar"] {
        write_tar(&place.path().join("empty/test").join(shard), &[] as &[(&str, Vec<u8>)]);
    }
    let folder = |task: &str, name: &str| format!("{{ {task}: x, folder: {name} }}");
    for (evaluate, what) in [
        (folder("zeroshot", "nofolder"), "e.yaml:18:28: `evaluate.0.folder`: cannot read folder nofolder"),
        (folder("zeroshot", "captions"), "captions: a folder for retrieval, and `zeroshot` was asked for"),
        (folder("retrieval", "good"), "good: a folder for classification, and `retrieval` was asked for"),
        (folder("zeroshot", "beyond"), "1 samples have a class up to 2 in their `.cls`, and there are 2 class names"),
        (folder("zeroshot", "bare"), "bare/classnames.txt"),
        (folder("zeroshot", "bare"), "bare/zeroshot_classification_templates.txt"),
        (folder("zeroshot", "empty"), "no sample in its shards"),
        ("{ zeroshot: x, folder: good, split: train }".to_owned(), "`evaluate.0.split`: good/train: no such split"),
    ] {
        let said = place.refused(SCENES, &evaluate);
        assert!(said.contains("e.yaml:18:") && said.contains(what), "{evaluate}: {said}");
    }
    for (number, what) in
        [("18446744073709551615", "listed shards are missing"), ("-1", "no number of shards"), ("1", "says 1, and 2")]
    {
        place.write("good/test/nshards.txt", number);
        let said = place.refused(SCENES, &folder("zeroshot", "good"));
        assert!(said.contains(what), "{number}: {said}");
    }
    let both = format!("{}\n  - {}", folder("zeroshot", "bare"), "{ zeroshot: y, folder: nofolder }");
    let said = place.refused("{ dataset: webdataset, shards: nope.tar }", &both);
    for place in ["e.yaml:3:41", "e.yaml:18:", "e.yaml:19:28"] {
        assert!(said.contains(place), "all at once: {said}");
    }
}

#[test]
fn missing_shards_are_counted_in_plan_inspect_and_records() {
    let place = Place::new();
    for shard in (0..20).filter(|shard| *shard != 7) {
        place.shard(&format!("s/{shard:05}.tar"), shard * 10, 2, none);
    }
    let train = "{ dataset: webdataset, shards: \"s/{00000..00019}.tar\" }";
    let counted = "20 shards listed, 19 present, 1 missing; 38 samples listed";
    let plan = place.run(&["plan"], train, ZEROSHOT);
    assert!(
        stdout(&plan).contains(&format!("data        webdataset s/00000.tar and 19 more at 16 px: {counted}")),
        "{}",
        stdout(&plan)
    );
    let warned = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(warned.contains("1 of 20 listed shards do not exist, from s/00007.tar"), "{warned}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&place.run(&["plan", "--format", "json"], train, ZEROSHOT))).unwrap();
    assert_eq!((json["data"][0]["shards_listed"].as_u64(), json["data"][0]["shards_missing"].as_u64()), (Some(20), Some(1)));
    _ = stdout(&place.run(&["run", "--threads", "1"], train, ZEROSHOT));
    let inspect = stdout(&place.run(&["data", "inspect"], train, ZEROSHOT));
    assert!(inspect.contains("shards: 20 listed, 19 present, 1 missing"), "{inspect}");
    let provenance = std::fs::read_to_string(place.path().join("results/t/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_str(&provenance).unwrap();
    let counts = &provenance["provenance"]["samples"]["dataset webdataset s/{00000..00019}.tar at 16 px"];
    assert_eq!(counts, &serde_json::json!({"packed": 38, "skipped": 0, "shards_listed": 20, "shards_missing": 1}));
}

#[test]
fn inspect_packs_by_itself_and_counts_what_became_of_texts_and_members() {
    let place = Place::new();
    place.shard("t.tar", 0, 20, |i| match i {
        0 => Some("{".into()),
        i if i % 2 == 1 => Some(format!("{{\"similarity\": NaN, \"caption\": \"a picture number {i}\"}}")),
        _ => Some("{\"similarity\": 0.3}".into()),
    });
    eval_folder(&place.path().join("ev"), false);
    place.write("ev/classnames.txt", "one two three four five six a\n\none two three four five six b\n");
    let train = "{ dataset: webdataset, shards: \"*.tar\" }";
    let evaluate = "{ zeroshot: x, folder: ev }";
    let output = place.run(&["data", "inspect", "--format", "json"], train, evaluate);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let (pool, set) = (&json["sets"][0], &json["sets"][1]);
    assert_eq!((pool["samples"].as_u64(), pool["skipped"].as_u64()), (Some(20), Some(0)), "no sample is lost");
    assert_eq!(pool["oddities"]["unread_metadata"], 1);
    assert_eq!(pool["oddities"]["numbers_not_finite"], 10);
    let tokens = &pool["tokens"][0];
    assert_eq!((tokens["captions"].as_u64(), tokens["context_length"].as_u64()), (Some(20), Some(8)));
    assert!(tokens["vocab_used"].as_u64() < tokens["vocab_size"].as_u64(), "{tokens}");
    assert_eq!(set["class_balance"]["counts"], serde_json::json!([1, 1, 1]));
    let equal = serde_json::json!([["one two three four five six a", "one two three four five six b"]]);
    assert_eq!(set["tokens"][0]["equal_classes"], equal);
    assert!(set["warnings"][0].as_str().unwrap().ends_with("classnames.txt:2: an empty class name"), "{set}");
    let human = stdout(&place.run(&["data", "inspect"], train, evaluate));
    assert!(
        human.contains("class balance: 1 to 1 samples a class") && human.contains("2 classes are equal in 8 tokens"),
        "{human}"
    );
    // After a run the plan knows, too.
    _ = stdout(&place.run(&["run", "--threads", "1"], train, evaluate));
    let warned = String::from_utf8_lossy(&place.run(&["plan"], train, evaluate).stderr).into_owned();
    for what in ["an empty class name", "2 classes are equal in 8 tokens", "the captions fill", "`.json` could not be read"] {
        assert!(warned.contains(what), "{what}: {warned}");
    }
}

#[test]
fn pipes_among_the_images_are_skipped_and_cost_no_time() {
    let place = Place::new();
    let mut table = "image,caption\n".to_owned();
    for i in 0..19 {
        place.write(&format!("{i}.png"), picture(i, 16, ImageFormat::Png));
        table += &format!("{i}.png,picture {i}\n");
    }
    assert!(Command::new("mkfifo").arg(place.path().join("p.png")).status().unwrap().success());
    place.write("t.csv", table + "p.png,a pipe\n");
    let train = "{ dataset: table, file: t.csv, image_column: image, caption_column: caption }";
    let made = stdout(&place.run(&["data", "make"], train, ZEROSHOT));
    assert!(made.contains("19 samples, 1 skipped"), "{made}");
    let inspect = stdout(&place.run(&["data", "inspect"], train, ZEROSHOT));
    assert!(inspect.contains("p.png: found a pipe, expected a regular file"), "{inspect}");
}
