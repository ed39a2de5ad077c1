//! How near a backend's f32 numbers must be to the reference's: max|a - b| <= tolerance * max|reference|, tensor by tensor.

use scaledown::trainer::program::Program;

/// Compares one tensor.
pub fn assert_near(what: &str, found: &[f32], reference: &[f64], tolerance: f64) {
    assert_within(what, found, reference, tolerance * largest(reference));
}

/// Compares a flat gradient view by view.
///
/// A key's bias moves every score of a query alike, so its gradient is zero in theory and rounding in practice: it is measured
/// against the query's, and q, k and v each by themselves. So it is with the second bias of a Mixer's MLP over tokens, which moves all
/// channels of a token alike and which every later norm takes away, and with the biases before batch norms of SLIP's head: they are
/// measured against their weights'.
pub fn assert_gradients_near(what: &str, program: &Program, found: &[f32], reference: &[f64], tolerance: f64) {
    assert_eq!(found.len(), program.num_params(), "{what}: length of the flat gradient");
    for (idx, view) in program.params.iter().enumerate() {
        let name = format!("{what}, {}", view.name);
        let is_taken_away = ["mlp_tokens.fc2.bias", "image_mlp.layer1.bias", "image_mlp.layer2.bias"];
        if is_taken_away.iter().any(|end| view.name.ends_with(end)) {
            let weight = largest(&reference[program.params[idx - 1].range()]);
            assert_within(&name, &found[view.range()], &reference[view.range()], tolerance * weight);
            continue;
        }
        let (found, reference) = (&found[view.range()], &reference[view.range()]);
        if !view.name.ends_with("attn.in_proj_bias") {
            assert_near(&name, found, reference, tolerance);
            continue;
        }
        let width = view.len() / 3;
        let value = largest(&reference[2 * width..]);
        // With a single token there is nothing to choose between, and the query's gradient is zero too.
        let query = Some(largest(&reference[..width])).filter(|query| *query > 1e-9 * value).unwrap_or(value);
        for (part, scale) in [query, query, value].into_iter().enumerate() {
            let rows = part * width..(part + 1) * width;
            let name = format!("{name} [{}]", ["q", "k", "v"][part]);
            assert_within(&name, &found[rows.clone()], &reference[rows], tolerance * scale);
        }
    }
}

fn assert_within(what: &str, found: &[f32], reference: &[f64], limit: f64) {
    assert_eq!(found.len(), reference.len(), "{what}: length");
    for (idx, (found, reference)) in found.iter().zip(reference).enumerate() {
        let difference = (f64::from(*found) - reference).abs();
        assert!(difference <= limit, "{what}: element {idx} is {found}, expected {reference} within {limit:.1e}");
    }
}

/// max|x|.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}
