//! How long does it take to plan 10,000 runs, and to find that nothing is left to do?

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scaledown::plan::{Plan, PlannedRun, ReportInput, build};
use scaledown::run::RunConfig;

const NUM_RUNS: u64 = 10_000;

/// Sizes x learning rates x seeds, one evaluation each: 20,000 jobs and the few that they share.
fn runs() -> Vec<PlannedRun> {
    let base: RunConfig = serde_json::from_str(include_str!("../tests/fixtures/run.json")).expect("the fixture is a run");
    (0..NUM_RUNS)
        .map(|number| {
            let mut config = base.clone();
            config.data.size = Some(1000 * (1 + number % 10));
            config.train.lr = 1e-4 * (1 + number / 10 % 100) as f64;
            config.seed = number / 1000;
            PlannedRun { run_id: format!("{number:08x}"), config }
        })
        .collect()
}

fn planned(runs: Vec<PlannedRun>) -> Plan {
    let report = ReportInput { experiment: "bench/plan".into(), statements: String::new() };
    build(runs, Some(&report), |_| Ok(String::new())).expect("scenes need no files")
}

fn plan(criterion: &mut Criterion) {
    let runs = runs();
    let plan = planned(runs.clone());
    println!("{} runs, {} jobs, {} edges, {} shared", plan.runs().len(), plan.len(), plan.num_edges(), plan.shared());
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(20);
    group.bench_function("build 10,000 runs", |bench| bench.iter_batched(|| runs.clone(), planned, BatchSize::LargeInput));
    let finished: std::collections::HashSet<_> = plan.jobs().map(|job| job.key).collect();
    group.bench_function("nothing to do over 10,000 runs", |bench| bench.iter(|| plan.todo(|key| finished.contains(key)).len()));
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
