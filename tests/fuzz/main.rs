//! Mutated inputs to everything that reads a user's files: no panic, no file outside the folder at hand, no memory above 1 GB.
//!
//! Seeds are valid inputs of each room; a mutator with a counter-based generator changes them, so a run is repeated by its seed.
//! `SCALEDOWN_FUZZ_S` is the CPU time that a room takes in seconds (1 by default), `SCALEDOWN_FUZZ_SEED` another sequence of inputs. The
//! input at hand lies in `<target>/tmp/fuzz/<room>` while it is tried, and stays there when it fails.
#![expect(clippy::unwrap_used, reason = "tests")]

mod memory;
mod mutate;
mod rooms;
#[path = "../support/shard.rs"]
mod shard;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mutate::Mutator;
use rooms::{Input, Room};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Bytes that the handling of one input may allocate at a time.
const MOST_BYTES: usize = 1 << 30;

/// One room at a time: the counted memory is that of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Files and folders directly in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn fuzz(room: &Room) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let limit = Duration::from_secs(number("SCALEDOWN_FUZZ_S", 1));
    // Three levels: what leaves the folder at hand by `..` is seen, and is not the checkout's.
    let outside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(room.name);
    let _ = std::fs::remove_dir_all(&outside);
    let inside = outside.join("a").join("b");
    let mut mutator = Mutator::new(number("SCALEDOWN_FUZZ_SEED", 1), room.name, room.words);
    let (begin, mut inputs, mut accepted) = (cpu_time(), 0_u64, 0_u64);
    let (mut slowest, mut most_bytes) = (Duration::ZERO, 0);
    while inputs < 20 || cpu_time() - begin < limit {
        let seed = &room.seeds[inputs as usize % room.seeds.len()];
        // The seeds themselves come first: each must be taken.
        let input = if (inputs as usize) < room.seeds.len() { seed.clone() } else { mutator.mutate(seed) };
        lay(&input, &inside);
        let before = memory::reset_peak();
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (room.read)(&inside)));
        slowest = slowest.max(start.elapsed());
        let bytes = memory::peak().saturating_sub(before);
        most_bytes = most_bytes.max(bytes);
        let taken =
            outcome.unwrap_or_else(|_| panic!("{}: a panic on input {inputs}, which lies in {}", room.name, outside.display()));
        assert!(bytes <= MOST_BYTES, "{}: {bytes} bytes for input {inputs}, which lies in {}", room.name, outside.display());
        assert!(
            entries(&outside).len() == 1 && entries(&outside.join("a")).len() == 1,
            "{}: input {inputs} writes outside its folder, see {}",
            room.name,
            outside.display()
        );
        assert!(taken || inputs as usize >= room.seeds.len(), "{}: seed {inputs} is not taken", room.name);
        accepted += u64::from(taken);
        inputs += 1;
    }
    println!(
        "fuzz {}: {inputs} inputs in {:.0} CPU s, {accepted} taken, at most {:.1} MB and {:.0} ms for one",
        room.name,
        (cpu_time() - begin).as_secs_f64(),
        most_bytes as f64 / 1e6,
        slowest.as_secs_f64() * 1e3,
    );
    std::fs::remove_dir_all(&outside).unwrap();
}

/// Puts the files of an input into a folder that holds nothing else.
fn lay(input: &Input, folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
    for (name, bytes) in input {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn experiment_files() {
    fuzz(&rooms::experiments());
}

#[test]
fn tar_shards() {
    fuzz(&rooms::shards());
}

#[test]
fn tables_of_images_and_captions() {
    fuzz(&rooms::image_tables());
}

#[test]
fn score_files() {
    fuzz(&rooms::score_files());
}

#[test]
fn parquet_files_of_scores() {
    fuzz(&rooms::parquet_files());
}

#[test]
fn lists_of_uids() {
    fuzz(&rooms::uid_lists());
}

#[test]
fn evaluation_folders() {
    fuzz(&rooms::evaluation_folders());
}

#[test]
fn model_files() {
    fuzz(&rooms::models());
}

#[test]
fn results_folders() {
    fuzz(&rooms::results());
}

#[test]
fn tables_of_values_that_claims_are_judged_on() {
    fuzz(&rooms::value_tables());
}
