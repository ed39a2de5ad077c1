//! Counts from the configs against recorded counts of other programs' modules.
//!
//! Paper sizes: timm 1.0.31 and torchvision 0.29.2, parameters of the trunk and half of `FlopCounterMode`'s count at 224 px. Small
//! sizes: modules of the same libraries with these shapes.

use scaledown::run::ImageEncoderConfig;
use scaledown::spec::{encoder_names, image_encoder};

use crate::encoder_cost::{Cost, cost};

fn counted(name: &str, side: usize) -> Cost {
    cost(&image_encoder(name, side).unwrap_or_else(|error| panic!("{name}: {error}")), side)
}

fn is_near(found: usize, expected: f64, unit: f64, digits: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let found = found as f64 / unit;
    (found - expected).abs() <= 0.51 * digits
}

/// Name, parameters, thousand million multiply-accumulates, channels of the feature.
const PAPER: [(&str, usize, f64, usize); 9] = [
    ("resnet-50", 23_508_032, 4.087, 2048),
    ("convnext-t", 27_820_128, 4.455, 768),
    ("swin-t", 27_519_354, 4.490, 768),
    ("mixer-b/32", 59_524_428, 3.237, 768),
    ("vit-ti/16", 5_524_416, 1.253, 192),
    ("vit-s/16", 21_665_664, 4.599, 384),
    ("vit-b/32", 87_455_232, 4.408, 768),
    ("vit-b/16", 85_798_656, 17.563, 768),
    ("vit-l/16", 303_301_632, 61.554, 1024),
];

#[test]
fn the_papers_models_cost_what_other_programs_count() {
    for (name, parameters, gmacs, features) in PAPER {
        let found = counted(name, 224);
        // timm's patches have a bias and no norm follows them: C parameters fewer than here.
        let layout = if name.starts_with("vit") { features } else { 0 };
        assert_eq!((found.parameters, found.features), (parameters + layout, features), "{name}");
        assert!(is_near(found.macs, gmacs, 1e9, 1e-3), "{name}: {found:?}, expected {gmacs}");
    }
}

/// Name, million parameters at 32 px, million multiply-accumulates at 32 px and at 64 px.
const SMALL: [(&str, f64, f64, f64); 15] = [
    ("vit-5m", 0.314, 5.43, 6.02),
    ("vit-20m", 1.217, 20.89, 22.07),
    ("vit-80m", 4.793, 81.89, 84.25),
    ("resnet-5m", 0.355, 4.84, 5.01),
    ("resnet-20m", 1.409, 19.25, 19.58),
    ("resnet-80m", 5.609, 76.77, 77.43),
    ("convnext-5m", 0.448, 5.49, 5.60),
    ("convnext-20m", 1.784, 21.53, 21.75),
    ("convnext-80m", 6.951, 82.57, 83.01),
    ("swin-5m", 0.410, 5.55, 5.66),
    ("swin-20m", 1.620, 21.27, 21.49),
    ("swin-80m", 6.448, 83.24, 83.68),
    ("mixer-5m", 0.222, 3.93, 4.52),
    ("mixer-20m", 0.837, 15.34, 16.52),
    ("mixer-80m", 3.248, 60.56, 62.91),
];

#[test]
fn small_families_cost_what_they_were_made_for_at_both_image_sizes() {
    for (name, parameters, at_32, at_64) in SMALL {
        let (small, large) = (counted(name, 32), counted(name, 64));
        assert!(is_near(small.parameters, parameters, 1e6, 1e-3), "{name}: {small:?}, expected {parameters} M");
        assert!(is_near(small.macs, at_32, 1e6, 1e-2), "{name} at 32: {small:?}, expected {at_32}");
        assert!(is_near(large.macs, at_64, 1e6, 1e-2), "{name} at 64: {large:?}, expected {at_64}");
    }
}

#[test]
fn every_known_name_is_counted_here() {
    let listed: Vec<&str> = PAPER.iter().map(|row| row.0).chain(SMALL.iter().map(|row| row.0)).chain(SWEEP.map(|r| r.0)).collect();
    let is_listed = |name: &str| listed.iter().any(|listed| listed.split('/').next() == Some(name));
    // Made for small studies, not for a ratio of costs.
    let own = ["vit-xxs", "vit-xs"];
    for name in encoder_names().iter().filter(|name| !name.starts_with("text-") && !own.contains(&name.as_str())) {
        assert!(is_listed(name), "{name}");
    }
}

/// Name, million parameters and million multiply-accumulates at 32 px.
const SWEEP: [(&str, f64, f64); 10] = [
    ("vit-ti-quarter/4", 0.175, 13.36),
    ("vit-s-quarter/4", 0.682, 48.29),
    ("vit-b-quarter/8", 2.710, 46.38),
    ("vit-b-quarter/4", 2.692, 182.85),
    ("vit-l-quarter/4", 9.507, 640.2),
    ("vit-ti-eighth/4", 0.032, 2.68),
    ("vit-s-eighth/4", 0.119, 8.96),
    ("vit-b-eighth/8", 0.468, 8.04),
    ("vit-b-eighth/4", 0.459, 32.29),
    ("vit-l-eighth/4", 1.601, 111.3),
];

#[test]
fn the_sweep_of_vits_keeps_the_papers_ratios() {
    for (name, parameters, mmacs) in SWEEP {
        let found = counted(name, 32);
        // The layout's C parameters, at most 0.3 thousand here.
        assert!(is_near(found.parameters - found.features, parameters, 1e6, 1e-3), "{name}: {found:?}, expected {parameters} M");
        let digits = if mmacs > 100.0 && mmacs != 182.85 { 0.1 } else { 0.01 };
        assert!(is_near(found.macs, mmacs, 1e6, digits), "{name}: {found:?}, expected {mmacs}");
    }
}

#[test]
fn wide_and_shallow_variants_are_stated_by_their_keys() {
    let variants = [
        ("{ name: convnext-5m, width: 16, depths: [2, 2, 2, 2] }", 5.39),
        ("{ name: convnext-20m, width: 32, depths: [1, 1, 6, 1] }", 21.80),
        ("{ name: convnext-80m, width: 64, depths: [1, 1, 6, 1] }", 84.49),
        ("{ name: swin-5m, width: 16, depths: [2, 2, 1, 1] }", 5.59),
        ("{ name: swin-20m, width: 32, depths: [2, 2, 1, 1] }", 21.41),
        ("{ name: swin-80m, width: 64, depths: [2, 2, 1, 1] }", 83.71),
    ];
    for (stated, mmacs) in variants {
        let found = counted(stated, 32);
        assert!(is_near(found.macs, mmacs, 1e6, 1e-2), "{stated}: {found:?}, expected {mmacs}");
    }
}

#[test]
fn group_norm_costs_what_batch_norm_does() {
    let [batch, group] = ["resnet-20m", "{ name: resnet-20m, norm: group }"].map(|name| image_encoder(name, 32).unwrap());
    assert_ne!(batch, group);
    assert_eq!(cost(&batch, 32), cost(&group, 32));
    assert_eq!((batch.batch_group(), group.batch_group()), (Some(32), None));
}

#[test]
fn only_what_has_tokens_to_drop_says_how_many() {
    for name in encoder_names().iter().filter(|name| name.starts_with("vit-")) {
        assert_eq!(image_encoder(&format!("{name}/8"), 32).unwrap().droppable(32), Some(16), "{name}");
    }
    for name in ["resnet-20m", "convnext-20m", "swin-20m", "mixer-20m"] {
        let config: ImageEncoderConfig = image_encoder(name, 32).unwrap();
        assert_eq!((config.droppable(32), name.starts_with(config.family())), (None, true), "{name}");
    }
}
