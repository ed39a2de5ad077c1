//! How long does a grid take to resolve, validate, hash and deduplicate?
//!
//! From the text to the distinct runs, at a thousand and a million of them. `touching train` puts every axis into one section,
//! which is the worst for the caches; `shared` repeats every run under two budgets that come to the same steps.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scaledown::{grid, spec};

const HEAD: &str = "experiment: bench
data: { train: { dataset: declared, samples: 3.4B, size: 10M } }
model: { image_encoder: vit-b/16, text_encoder: text-b, embed_dim: 512, image_size: 224 }
train: { strategy: clip, batch_size: 16k, lr: 1e-3, budget: { samples_seen: 3.4B } }
evaluate: [zeroshot/scenes, zeroshot/scenes-shifts, retrieval/scenes, fewshot/scenes, linear-probe/scenes]
sweep:
";

const THOUSAND: &str = "  grid:
    data.train.size: { from: 10M, to: 1B, num: 10, scale: log }
    model.image_encoder: [vit-ti/16, vit-s/16, vit-b/32, vit-b/16, vit-l/16]
    train.lr: { from: 1e-4, to: 1e-2, num: 20, scale: log }
";

const MILLION: &str = "  seeds: 5
  grid:
    data.train.size: { from: 10M, to: 1B, num: 10, scale: log }
    data.quality: [{ keep: 20%, by: random }, { keep: 40%, by: random }, { keep: 60%, by: random }, { keep: 80%, by: random }, { keep: 100% }]
    model.image_encoder: [vit-ti/16, vit-s/16, vit-b/32, vit-b/16, vit-l/16]
    train.strategy: [clip, { name: clip, augmentation: crop_flip }, flip, slip]
    train.lr: { from: 1e-4, to: 1e-2, num: 20, scale: log }
    train.batch_size: { from: 1k, to: 10k, num: 10 }
";

const MILLION_IN_TRAIN: &str = "  grid:
    train.lr: { from: 1e-4, to: 1e-2, num: 100, scale: log }
    train.weight_decay: { from: 1e-6, to: 1e-1, num: 100, scale: log }
    train.batch_size: { from: 1k, to: 10k, num: 100 }
";

const MILLION_SHARED: &str = "  grid:
    data.train.size: { from: 1M, to: 100M, num: 50 }
    model.image_encoder: [vit-ti/16, vit-s/16, vit-b/32, vit-b/16, vit-l/16]
    train.lr: { from: 1e-4, to: 1e-2, num: 100, scale: log }
    train.weight_decay: { from: 1e-6, to: 1e-1, num: 20, scale: log }
    train.budget: [{ samples_seen: 163840k }, { steps: 10240 }]
";

fn expand(text: &str) -> grid::Expansion {
    let options = spec::LoadOptions { cost: &|_, _| 10.0, ..spec::LoadOptions::default() };
    grid::expand(&spec::load_str(Path::new("bench.yaml"), text, &options).unwrap(), &grid::Digests::default())
}

fn grids(criterion: &mut Criterion) {
    let cases = [
        ("1k", THOUSAND, 1_000),
        ("1M", MILLION, 1_000_000),
        ("1M touching train", MILLION_IN_TRAIN, 1_000_000),
        ("1M shared", MILLION_SHARED, 500_000),
    ];
    let mut group = criterion.benchmark_group("expand");
    group.sample_size(10);
    for (name, sweep, runs) in cases {
        let text = format!("{HEAD}{sweep}");
        assert_eq!(expand(&text).runs().len(), runs, "{name}");
        group.bench_function(name, |bench| {
            bench.iter_batched(|| text.clone(), |text| black_box(expand(&text)), BatchSize::PerIteration)
        });
    }
    group.finish();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|l| l.starts_with("VmHWM")) {
        println!("peak memory of all cases, {peak}");
    }
}

criterion_group!(benches, grids);
criterion_main!(benches);
