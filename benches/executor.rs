//! What does the engine itself cost a job, and how long does a store of 20,000 finished jobs take to list?

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use scaledown::executor::{Options, Shutdown, execute};
use scaledown::plan::{Plan, PlannedRun, build};
use scaledown::run::RunConfig;
use scaledown::store::Store;

#[expect(dead_code, reason = "the benchmark scripts no failures")]
#[path = "../tests/support/fake.rs"]
mod fake;

use fake::FakeWorker;

fn plan(num_runs: u64) -> Plan {
    let base: RunConfig = serde_json::from_str(include_str!("../tests/fixtures/run.json")).expect("the fixture is a run");
    let runs = (0..num_runs).map(|seed| {
        let mut config = base.clone();
        config.seed = seed;
        PlannedRun { run_id: format!("{seed:08x}"), config }
    });
    build(runs, None, |_| Ok(String::new())).expect("scenes need no files")
}

/// Where files are memory, and where they are not.
fn places() -> Vec<(&'static str, PathBuf)> {
    let mut places = vec![("disk", PathBuf::from(env!("CARGO_TARGET_TMPDIR")))];
    if Path::new("/dev/shm").is_dir() {
        places.insert(0, ("tmpfs", PathBuf::from("/dev/shm")));
    }
    places
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn run(plan: &Plan, folder: &Path) {
    let store = Store::open(folder.join("store")).expect("the folder is new");
    let options = Options { jobs: NonZero::<usize>::MIN, ..Options::default() };
    let outcome = execute(plan, &store, &FakeWorker::default(), &options, &|_| {}, &Shutdown::new()).expect("it can start");
    assert!(outcome.is_complete());
}

/// Least CPU and wall time a job over some executions, microseconds: what other programs do meanwhile only adds to it.
fn least_of(times: usize, plan: &Plan, place: &Path) -> (f64, f64) {
    let mut least = (f64::INFINITY, f64::INFINITY);
    for _ in 0..times {
        let folder = tempfile::tempdir_in(place).expect("the place can be written");
        let (cpu, wall) = (cpu_time(), Instant::now());
        run(plan, folder.path());
        let per_job = |time: Duration| time.as_secs_f64() * 1e6 / plan.len() as f64;
        least = (least.0.min(per_job(cpu_time() - cpu)), least.1.min(per_job(wall.elapsed())));
    }
    least
}

fn overhead(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("executor");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for (name, place) in places() {
        let plan = plan(if name == "disk" { 50 } else { 1000 });
        let (cpu, wall) = least_of(5, &plan, &place);
        println!("{name}: {} jobs, {cpu:.0} us CPU and {wall:.0} us wall a job", plan.len());
        group.bench_function(format!("{} jobs of a fake worker on {name}", plan.len()), |bench| {
            bench.iter_batched(
                || tempfile::tempdir_in(&place).expect("the place can be written"),
                |folder| {
                    run(&plan, folder.path());
                    folder
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// 20,000 folders as finished jobs leave them.
fn fill(folder: &Path) {
    for number in 0..20_000_u32 {
        let hex = blake3::hash(&number.to_le_bytes()).to_hex();
        let job = folder.join("jobs").join(&hex[..2]).join(&hex[2..]);
        fs::create_dir_all(&job).expect("the folder is ours");
        fs::write(job.join("record.json"), b"{}").expect("the folder is ours");
    }
}

fn listing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    group.sample_size(20);
    for (name, place) in places() {
        let folder = tempfile::tempdir_in(place).expect("the place can be written");
        fill(folder.path());
        let store = Store::open(folder.path()).expect("a store without a format is a new one");
        assert_eq!(store.finished().expect("it can be listed").len(), 20_000);
        group.bench_function(format!("list 20,000 finished jobs on {name}"), |bench| {
            bench.iter(|| store.finished().expect("it can be listed").len());
        });
    }
    group.finish();
}

criterion_group!(benches, overhead, listing);
criterion_main!(benches);
