//! The ablation that README shows, taken from there and run on shards that are made here.

use std::path::Path;
use std::process::Command;

use image::ImageFormat;

use super::{output_in_time, picture, write_tar};

/// More pairs than the largest batch.
const PAIRS: u32 = 300;

/// Two training shards and an evaluation folder of two classes, as README names them.
fn make_data(root: &Path) {
    std::fs::create_dir_all(root.join("train")).unwrap();
    std::fs::create_dir_all(root.join("eval/test")).unwrap();
    let pair = |i: u32| {
        let caption = format!("a {} picture number {i}", if i.is_multiple_of(2) { "dark" } else { "light" });
        [(format!("{i:05}.png"), picture(i, 16, ImageFormat::Png)), (format!("{i:05}.txt"), caption.into_bytes())]
    };
    for (shard, from) in [(0, 0), (1, PAIRS / 2)] {
        let members: Vec<_> = (from..from + PAIRS / 2).flat_map(pair).collect();
        write_tar(&root.join(format!("train/{shard:05}.tar")), &members);
    }
    let labelled = |i: u32| {
        let class = if i.is_multiple_of(2) { "0" } else { "1" };
        [(format!("s{i:07}.png"), picture(i, 16, ImageFormat::Png)), (format!("s{i:07}.cls"), class.as_bytes().to_vec())]
    };
    write_tar(&root.join("eval/test/0.tar"), &(0..20).flat_map(labelled).collect::<Vec<_>>());
    std::fs::write(root.join("eval/test/nshards.txt"), "1\n").unwrap();
    std::fs::write(root.join("eval/classnames.txt"), "dark\nlight\n").unwrap();
    std::fs::write(root.join("eval/zeroshot_classification_templates.txt"), "a {c} picture\n").unwrap();
}

#[test]
fn the_ablation_of_readme_is_short_and_trains_on_the_users_shards() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let section = readme.split("\n## Your own data\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(yaml.lines().count() < 25, "{} lines", yaml.lines().count());
    let place = tempfile::tempdir().unwrap();
    make_data(place.path());
    std::fs::write(place.path().join("ablation.yaml"), yaml).unwrap();
    let program = |args: &[&str]| {
        let output = output_in_time(Command::new(env!("CARGO_BIN_EXE_scaledown")).current_dir(place.path()).args(args));
        assert_eq!(output.status.code(), Some(0), "{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let plan = program(&["plan", "ablation.yaml", "--device", "cpu"]);
    assert!(plan.contains("points      9 ") && plan.contains("runs        27 distinct, 3 seeds"), "{plan}");
    // All of its points, for a few steps of one seed.
    let short = ["--set", "train.budget={ steps: 2 }", "--set", "sweep.seeds=1"];
    program(&[&["run", "ablation.yaml", "--device", "cpu", "-q"], &short[..]].concat());
    let read = |name: &str| std::fs::read_to_string(place.path().join("results/mine/ablation").join(name)).unwrap();
    let runs = read("runs.csv");
    assert_eq!(runs.lines().filter(|line| line.contains(",2,") && line.contains(",finished,")).count(), 9, "{runs}");
    let table = read("tables/patches.csv");
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').take(2).collect()).collect();
    for (batch, scale) in [("64", "10"), ("128", "14.3"), ("256", "20")] {
        for patch in ["4", "8", "16"] {
            assert!(rows.contains(&vec![batch, patch]), "{batch} {patch}: {table}");
            assert!(
                runs.contains(&format!(",{scale},{batch},{patch},")) || runs.contains(&format!(",{patch},{scale},{batch},")),
                "{runs}"
            );
        }
    }
    assert!(read("claims.csv").contains("patch,"), "{}", read("claims.csv"));
}
