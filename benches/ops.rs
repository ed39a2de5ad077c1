//! How fast are the operations of the CPU trainer on one thread?
//!
//! Sizes are those of a chunk of samples in cache, as a block of the trainer calls them: width 192 with 64 tokens (ViT-Ti) and
//! the widths and lengths of the small studies. Throughput of products is in floating point operations a second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use scaledown::run::Activation;
use scaledown::trainer::ops::attention::{self, AttentionShape};
use scaledown::trainer::ops::contrastive::{self, Contrastive};
use scaledown::trainer::ops::linear::{self, Linear, LinearShape};
use scaledown::trainer::ops::{
    Accumulation, AlignedFloats, Scratch, Sequential, WeightLayout, activation, instructions, layer_norm, normalize,
};

/// Numbers in [-1, 1) that depend on the length alone.
fn numbers(len: usize) -> Vec<f32> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(format!("{name}/{}", instructions()));
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    group
}

fn linear(c: &mut Criterion) {
    let mut group = group(c, "linear");
    let mut s = Scratch::new();
    for (rows, inputs, outputs) in [(256, 192, 576), (256, 192, 768), (256, 768, 192), (512, 64, 192), (512, 48, 144)] {
        let shape = LinearShape { inputs, outputs, layout: WeightLayout::OutIn };
        let (x, w, b) = (numbers(rows * inputs), numbers(inputs * outputs), numbers(outputs));
        let (mut y, mut dx) = (numbers(rows * outputs), numbers(rows * inputs));
        let (mut dw, mut db) = (numbers(inputs * outputs), numbers(outputs));
        let mut packed = AlignedFloats::zeros(linear::packed_len(&shape));
        linear::pack(&shape, &w, &mut packed);
        let l = Linear { shape, weight: &w, packed: &packed };
        let name = |what| format!("{what} {rows} x {inputs} -> {outputs}");
        group.throughput(Throughput::Elements(2 * (rows * inputs * outputs) as u64));
        group.bench_function(name("forward"), |b_| b_.iter(|| linear::forward(&l, rows, &x, Some(&b), &mut y, &mut s)));
        group.bench_function(name("backward_input"), |b| b.iter(|| linear::backward_input(&l, rows, &y, &mut dx, &mut s)));
        group.bench_function(name("backward_weight"), |b| {
            b.iter(|| linear::backward_weight(&shape, rows, &x, &y, &mut dw, Some(&mut db), false, &mut s));
        });
    }
}

fn attention(c: &mut Criterion) {
    let mut group = group(c, "attention");
    let mut s = Scratch::new();
    for (tokens, heads, head_dim, causal) in
        [(64, 3, 64, false), (64, 3, 64, true), (64, 3, 16, false), (16, 4, 16, true), (197, 3, 64, false)]
    {
        let a = AttentionShape { tokens, heads, head_dim, causal };
        let (qkv, grad_out) = (numbers(tokens * 3 * a.width()), numbers(tokens * a.width()));
        let (mut out, mut lse, mut grad_qkv) = (grad_out.clone(), vec![0.0; heads * tokens], qkv.clone());
        let name = |what| format!("{what} {heads} heads of {tokens} x {head_dim}{}", if causal { " causal" } else { "" });
        let products = 2 * (heads * tokens * tokens * head_dim) as u64;
        group.throughput(Throughput::Elements(2 * products));
        group.bench_function(name("forward"), |b| b.iter(|| attention::forward(&a, &qkv, &mut out, &mut lse, &mut s)));
        group.throughput(Throughput::Elements(5 * products));
        group.bench_function(name("backward"), |b| {
            b.iter(|| attention::backward(&a, &qkv, &out, &grad_out, &lse, &mut grad_qkv, &mut s));
        });
    }
}

fn rows(c: &mut Criterion) {
    let mut group = group(c, "rows");
    let (rows, width) = (256, 192);
    let (x, gain, bias) = (numbers(rows * width), numbers(width), numbers(width));
    let (mut y, mut mean, mut rstd) = (x.clone(), vec![0.0; rows], vec![0.0; rows]);
    group.throughput(Throughput::Elements(x.len() as u64));
    group.bench_function("layer_norm forward", |b| b.iter(|| layer_norm::forward(&x, &gain, &bias, &mut y, &mut mean, &mut rstd)));
    let (mut dx, mut dgain, mut dbias) = (x.clone(), vec![0.0; width], vec![0.0; width]);
    group.bench_function("layer_norm backward", |b| {
        b.iter(|| layer_norm::backward(&x, &y, &gain, &mean, &rstd, &mut dx, Accumulation::Overwrite, &mut dgain, &mut dbias));
    });
    let x = numbers(rows * 4 * width);
    let (mut y, upstream) = (x.clone(), vec![1.0; x.len()]);
    let mut grad = upstream.clone();
    group.throughput(Throughput::Elements(x.len() as u64));
    for kind in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu] {
        group.bench_function(format!("{kind:?} forward"), |b| b.iter(|| activation::forward(kind, &x, &mut y)));
        group.bench_function(format!("{kind:?} backward"), |b| {
            b.iter(|| {
                grad.copy_from_slice(&upstream);
                activation::backward(kind, &x, &mut y, &mut grad);
            });
        });
    }
}

fn contrastive(c: &mut Criterion) {
    let mut group = group(c, "contrastive");
    for (batch, embed_dim) in [(256, 128), (512, 256)] {
        let features = |seed: usize| {
            let raw = numbers((seed + 1) * batch * embed_dim).split_off(seed * batch * embed_dim);
            let (mut rows, mut norm) = (raw.clone(), vec![0.0; batch]);
            normalize::forward(embed_dim, &raw, &mut rows, &mut norm);
            rows
        };
        let (image, text) = (features(0), features(1));
        let (mut grad_image, mut grad_text) = (image.clone(), text.clone());
        let shape = Contrastive { batch, embed_dim };
        group.bench_function(format!("{batch} x {embed_dim}"), |b| {
            b.iter(|| {
                black_box(contrastive::forward_backward(&shape, &image, &text, 14.3, &mut grad_image, &mut grad_text, &Sequential))
            });
        });
    }
}

criterion_group!(benches, linear, attention, rows, contrastive);
criterion_main!(benches);
