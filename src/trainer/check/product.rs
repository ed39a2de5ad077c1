//! `kernels/product.cu` against a plain loop in f64.

use crate::trainer::ops::launch::{Factor, Node, Product, Real};
use crate::trainer::ops::product::cuda;

use super::lab::{Bench, ORDERS, REALS, assert_near, random, rounded};

/// m, n, k: one element, odd sizes, tiles and steps that are full and that are not, a long inner dimension.
const SHAPES: [(usize, usize, usize); 6] = [(1, 1, 1), (3, 5, 7), (64, 64, 16), (65, 130, 33), (2, 200, 1), (70, 3, 300)];

/// What a product is made of besides its sizes.
#[derive(Debug, Clone, Copy)]
struct Form {
    factors: Real,
    out: Real,
    a_transposed: bool,
    b_transposed: bool,
    has_addend: bool,
    has_bias: bool,
}

/// Forms of a compute type: every layout, with and without what is added.
fn forms(real: Real) -> Vec<Form> {
    let mut types = vec![(Real::F32, Real::F32), (real, real), (real, Real::F32)];
    types.dedup();
    let bit = |bits: usize, at: usize| bits >> at & 1 == 1;
    let form = |(factors, out), bits| Form {
        factors,
        out,
        a_transposed: bit(bits, 0),
        b_transposed: bit(bits, 1),
        has_addend: bit(bits, 2) && out == Real::F32,
        has_bias: bit(bits, 3),
    };
    types.into_iter().flat_map(|types| (0..16).map(move |bits| form(types, bits))).collect()
}

/// Products of every layout agree with a plain loop.
pub(super) fn products_of_every_layout_agree_with_a_plain_loop() {
    let mut turn = 0;
    for real in REALS {
        for (m, n, k) in SHAPES {
            for form in forms(real) {
                check(real, ORDERS[turn % 3], (m, n, k), form);
                turn += 1;
            }
        }
    }
}

/// The type of a buffer's values: f32 stays f32 in either compute type.
fn buffer(bench: &mut Bench, values: &[f32], real: Real) -> crate::trainer::ops::launch::View {
    if real == Real::F32 { bench.floats(values) } else { bench.reals(values) }
}

fn check(real: Real, order: u32, (m, n, k): (usize, usize, usize), form: Form) {
    let Form { factors, out, a_transposed, b_transposed, has_addend, has_bias } = form;
    let (a, b) = (rounded(&random(1, m * k), factors), rounded(&random(2, k * n), factors));
    let (addend, bias) = (random(3, m * n), rounded(&random(4, n), out));
    let mut bench = Bench::new(real, order);
    let factor = |view, transposed| Factor { view, transposed, real: factors };
    let (a_view, b_view) = (buffer(&mut bench, &a, factors), buffer(&mut bench, &b, factors));
    // What is added may be the output itself.
    let out_view = if has_addend { bench.floats(&addend) } else { buffer(&mut bench, &vec![f32::NAN; m * n], out) };
    let bias_view = buffer(&mut bench, &bias, out);
    let product = Product {
        m,
        n,
        k,
        a: factor(a_view, a_transposed),
        b: factor(b_view, b_transposed),
        addend: has_addend.then_some(out_view),
        bias: has_bias.then_some(bias_view),
        out: out_view,
        out_real: out,
    };
    // With a bias alone, the two kernels in turn.
    let is_apart = has_bias && !has_addend;
    let whole = Product { bias: product.bias.filter(|_| !is_apart), ..product };
    bench.run([Some(cuda::product(&whole)), cuda::add_bias(&product).filter(|_| is_apart)].into_iter().flatten().map(Node::from));
    let expected: Vec<f32> = (0..m * n)
        .map(|i| {
            let (row, column) = (i / n, i % n);
            let a_at = |s: usize| if a_transposed { a[s * m + row] } else { a[row * k + s] };
            let b_at = |s: usize| if b_transposed { b[column * k + s] } else { b[s * n + column] };
            let sum: f64 = (0..k).map(|s| f64::from(a_at(s)) * f64::from(b_at(s))).sum();
            let added = if has_addend { f64::from(addend[i]) } else { 0.0 } + if has_bias { f64::from(bias[column]) } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, reason = "a result in f32")]
            let sum = (sum + added) as f32;
            sum
        })
        .collect();
    let found = if out == Real::F32 { bench.read_floats(out_view, m * n) } else { bench.read_reals(out_view, m * n) };
    // bf16 is rounded once, or twice where the bias is added apart: 2^-9 of an element each.
    assert_near(&format!("{m} x {n} x {k} {form:?}"), &found, &expected, if out == Real::F32 { 2e-6 } else { 8e-3 });
}
