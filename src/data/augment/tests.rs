//! Against what torchvision and Pillow gave: `tests/fixtures/torchvision`, made by the script there.

use serde_json::Value;

use super::crop::{Crop, resample};
use super::rand_augment::{Drawn, OPS, Op, RandAugment};
use super::stacked::{BlurKind, Jitter};
use super::{Augmenter, Views, color};
use crate::data::pack::PictureView;
use crate::data::philox::{Philox, Stream};
use crate::run::{Augmentation, SslConfig, StrategyConfig};

const SIDES: [usize; 2] = [32, 64];
const PICTURES: [&str; 3] = ["noise", "smooth", "flat"];

fn recorded() -> Value {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/torchvision/recorded.json"));
    serde_json::from_str(text).expect("a recorded file")
}

/// The pictures of the script.
fn picture(name: &str, width: usize, height: usize) -> Vec<u8> {
    let of = |x: usize, y: usize, c: usize| match name {
        "noise" => (x * x * 31 + y * 17 + x * y * 7 + c * 50) % 256,
        "smooth" => 60 + (x * (3 + c) + y * (5 - c)) % 97 + 20 * ((x / 8 + y / 8) % 2),
        "flat" => [77, if 2 * x < width { 10 } else { 200 }, 255][c],
        _ => panic!("no picture `{name}`"),
    };
    (0..width * height * 3).map(|i| of(i / 3 % width, i / 3 / width, i % 3) as u8).collect()
}

/// CRC-32 as zlib has it, in hex.
fn crc(bytes: &[u8]) -> String {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    let all = bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)));
    format!("{:08x}", !all)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn count(value: &Value) -> usize {
    value.as_u64().expect("a count") as usize
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn draws_of(case: &Value) -> Vec<Drawn> {
    let drawn = |draw: &Value| Drawn { op: OPS[count(&draw[0])], is_negative: count(&draw[1]) == 1 };
    list(&case["draws"]).iter().map(drawn).collect()
}

fn image_of(case: &Value) -> (Vec<u8>, usize) {
    let side = count(&case["side"]);
    (picture(text(&case["picture"]), side, side), side)
}

/// Bytes that differ, and the largest difference.
fn difference(found: &[u8], recorded: &Value) -> (usize, u8) {
    let expected = hex::decode(text(recorded)).expect("hex");
    assert_eq!(found.len(), expected.len());
    let differences: Vec<u8> = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).collect();
    (differences.iter().filter(|d| **d > 0).count(), differences.into_iter().max().unwrap_or(0))
}

#[test]
fn magnitudes_are_those_of_torchvision_to_the_bit() {
    let recorded = recorded();
    for op in OPS {
        for side in SIDES {
            let Some(bits) = recorded["magnitudes"][format!("{op:?}")][side.to_string()].as_str() else {
                assert_eq!(op.magnitude(30, side), 0.0, "{op:?} has no magnitude");
                continue;
            };
            let found: Vec<String> = (0..31).map(|bin| format!("{:08x}", op.magnitude(bin, side).to_bits())).collect();
            assert_eq!(found.join(" "), bits, "{op:?} at {side}");
        }
    }
}

#[test]
fn every_operation_has_the_bytes_of_torchvision_at_every_magnitude_and_sign() {
    let recorded = recorded();
    let (mut wrong, mut scratch, mut cases) = (Vec::new(), Vec::new(), 0);
    for op in OPS {
        let bins = if recorded["magnitudes"][format!("{op:?}")].is_null() { 1 } else { 31 };
        for (side, name) in SIDES.into_iter().flat_map(|side| PICTURES.map(|name| (side, name))) {
            let digests = text(&recorded["ops"][format!("{op:?}")][side.to_string()][name]).split(' ');
            assert_eq!(digests.clone().count(), if op.is_signed() { 2 * bins } else { bins });
            for (idx, expected) in digests.enumerate() {
                let (bin, is_negative, mut image) = (idx % bins, idx >= bins, picture(name, side, side));
                Drawn { op, is_negative }.apply(bin as u32, &mut image, side, &mut scratch);
                cases += 1;
                if crc(&image) != expected {
                    wrong.push(format!("{op:?} of `{name}` at {side}, bin {bin}, negative: {is_negative}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} differ:\n{}", wrong.len(), wrong.join("\n"));
    // Nine with a sign and a magnitude, two with a magnitude, three with neither.
    assert_eq!(cases, (9 * 62 + 2 * 31 + 3) * SIDES.len() * PICTURES.len());
}

#[test]
fn a_sequence_of_operations_has_the_bytes_of_rand_augment_given_its_draws() {
    let recorded = recorded();
    for case in list(&recorded["sequences"]) {
        let ((mut image, side), mut scratch) = (image_of(case), Vec::new());
        draws_of(case).iter().for_each(|drawn| drawn.apply(count(&case["bin"]) as u32, &mut image, side, &mut scratch));
        assert_eq!(crc(&image), text(&case["crc"]), "{case}");
    }
}

#[test]
fn the_parts_of_colour_jitter_and_grey_have_the_bytes_of_torchvision() {
    let recorded = recorded();
    for case in list(&recorded["jitter"]) {
        let (mut image, _) = image_of(case);
        let change = [color::brightness, color::contrast, color::saturation, color::hue][count(&case["part"])];
        change(&mut image, case["factor"].as_f64().expect("a factor"));
        assert_eq!(crc(&image), text(&case["crc"]), "{case}");
    }
    for (side, name) in SIDES.into_iter().flat_map(|side| PICTURES.map(|name| (side, name))) {
        let mut image = picture(name, side, side);
        color::grey(&mut image);
        assert_eq!(crc(&image), text(&recorded["grey"][side.to_string()][name]), "`{name}` at {side}");
    }
}

#[test]
fn blurs_are_those_of_torchvision_within_one_and_of_pillow_to_the_byte() {
    let (recorded, mut scratch) = (recorded(), Vec::new());
    for case in list(&recorded["gaussian"]) {
        let (side, sigma) = (count(&case["side"]), case["sigma"].as_f64().expect("a deviation") as f32);
        let mut image = picture("noise", side, side);
        BlurKind::Kernel.apply(&mut image, side, sigma, &mut scratch);
        let (off, far) = difference(&image[..10 * side * 3], &case["rows"]);
        assert!(off <= 2 && far <= 1, "side {side}, sigma {sigma}: {off} differ, by up to {far}");
    }
    for case in list(&recorded["pil_blur"]) {
        let (mut image, side) = image_of(case);
        BlurKind::ExtendedBox.apply(&mut image, side, case["sigma"].as_f64().expect("a deviation") as f32, &mut scratch);
        assert_eq!(crc(&image), text(&case["crc"]), "{case}");
    }
}

#[test]
fn the_stacked_form_is_a_script_of_its_parts() {
    let (recorded, mut scratch) = (recorded(), Vec::new());
    let (mut blurred, mut jittered) = (0, 0);
    for case in list(&recorded["stacked"]) {
        let (mut image, side) = image_of(case);
        if let Some(order) = case["order"].as_array() {
            let order = std::array::from_fn(|i| count(&order[i]));
            let factors = std::array::from_fn(|i| case["factors"][i].as_f64().expect("a factor"));
            Jitter { order, factors }.apply(&mut image);
            jittered += 1;
        }
        draws_of(case).iter().for_each(|drawn| drawn.apply(count(&case["bin"]) as u32, &mut image, side, &mut scratch));
        if case["is_grey"] == true {
            color::grey(&mut image);
        }
        if let Some(sigma) = case["sigma"].as_f64() {
            BlurKind::Kernel.apply(&mut image, side, sigma as f32, &mut scratch);
            let (off, far) = difference(&image[20 * side * 3..28 * side * 3], &case["rows"]);
            assert!(off <= 2 && far <= 1, "{off} differ, by up to {far}: {case}");
            blurred += 1;
        } else {
            assert_eq!(crc(&image), text(&case["crc"]), "{case}");
        }
    }
    assert!(blurred > 2 && jittered > 10, "{blurred} blurred, {jittered} jittered");
}

#[test]
fn crops_are_resized_as_by_pillow() {
    let (recorded, image) = (recorded(), picture("smooth", 90, 70));
    for case in list(&recorded["resized"]) {
        let [left, top, width, height] = std::array::from_fn(|i| count(&case["box"][i]) as f32);
        let side = count(&case["side"]);
        let mut out = vec![0; side * side * 3];
        let view = PictureView { width: 90, height: 70, pixels: &image };
        resample(view, Crop { left, top, width, height }, false, side, &mut out);
        let (off, far) = difference(&out[(side / 2 - 4) * side * 3..(side / 2 + 4) * side * 3], &case["rows"]);
        // Weights have 16 bits of fraction where Pillow's have 22.
        assert!(off * 20 <= 8 * side * 3 && far <= 1, "{off} differ, by up to {far}: {}, {side}", case["box"]);
    }
}

/// How often a thing is done, in percent of many images.
fn percent(times: usize, of: usize) -> f64 {
    100.0 * times as f64 / of as f64
}

#[test]
fn operations_and_signs_are_drawn_evenly_and_for_every_view_anew() {
    let (philox, rand_augment) = (Philox::new(5, Stream::Augment), RandAugment::new(2, 3.0).expect("a bin"));
    assert_eq!(rand_augment.bin, 9);
    let (mut ops, mut negative, mut pairs) = ([0; 14], 0, std::collections::BTreeSet::new());
    let images = 7_000;
    for sample in 0..images {
        let drawn: Vec<Drawn> = rand_augment.draw(&mut philox.at(3, sample)).collect();
        for Drawn { op, is_negative } in &drawn {
            ops[OPS.iter().position(|other| other == op).expect("one of them")] += 1;
            negative += usize::from(*is_negative);
        }
        let [first, second] = drawn.as_slice() else { panic!("two layers") };
        pairs.insert((first.op as u8, second.op as u8));
    }
    assert!(ops.iter().all(|times| (880..1120).contains(times)), "1000 times each: {ops:?}");
    assert!((percent(negative, 2 * images as usize) - 50.0).abs() < 2.0, "{negative}");
    assert_eq!(pairs.len(), 14 * 14, "an operation may come twice");
    assert!(OPS.contains(&Op::Equalize) && !Op::Posterize.is_signed());
}

/// A picture of one colour shows what was done to it: grey has three equal channels, blur leaves it alone, jitter does not.
#[test]
fn the_stack_jitters_greys_and_blurs_as_often_as_it_says() {
    let images = 4_000;
    let coloured: Vec<u8> = [200, 120, 60].repeat(16 * 16);
    let view = PictureView { width: 16, height: 16, pixels: &coloured };
    let augmenter = Augmenter::self_supervised(16);
    let philox = Philox::new(2, Stream::Augment);
    let (mut grey, mut untouched, mut out) = (0, 0, vec![0; 16 * 16 * 3]);
    for sample in 0..images {
        augmenter.apply(view, &mut philox.at(0, sample), &mut out);
        grey += usize::from(out[0] == out[1] && out[1] == out[2]);
        untouched += usize::from(out == coloured);
    }
    assert!((percent(grey, images as usize) - 20.0).abs() < 3.0, "{grey}");
    assert!((percent(untouched, images as usize) - 16.0).abs() < 3.0, "neither jittered nor grey: {untouched}");
    // Stripes lose their contrast to a blur; below 64 pixels there is none.
    for (side, expected) in [(64, 50.0), (63, 0.0)] {
        let stripes: Vec<u8> = (0..side * side).flat_map(|i| [if i % side % 2 == 0 { 0 } else { 255 }; 3]).collect();
        let stack = super::Stack { rand_augment: None, blur: BlurKind::ExtendedBox };
        let (mut blurred, mut scratch, images) = (0, Vec::new(), 400);
        for sample in 0..images {
            let mut image = stripes.clone();
            stack.apply(&mut image, side, &mut philox.at(1, sample), &mut scratch);
            // Jitter leaves two values.
            let middle = &image[side * 3 * (side / 2)..][..side * 3];
            blurred += usize::from(middle.iter().collect::<std::collections::BTreeSet<_>>().len() > 2);
        }
        assert!((percent(blurred, images as usize) - expected).abs() < 10.0, "{blurred} of {images} at {side}");
    }
}

fn slip_strategy() -> StrategyConfig {
    let ssl = SslConfig { weight: 1.0, temperature: 0.1, hidden: 8, out: 8, bn_group: 8 };
    let augmentation = Augmentation::CropFlip { min_area: 0.5, flip: 0.0 };
    StrategyConfig { augmentation, ssl: Some(ssl), ..StrategyConfig::clip() }
}

#[test]
fn views_are_those_of_their_recipes_and_view_0_of_crop_flip_has_its_own_draws() {
    let image = picture("smooth", 50, 40);
    let view = PictureView { width: 50, height: 40, pixels: &image };
    let crop_flip = Augmenter::new(Augmentation::CropFlip { min_area: 0.5, flip: 0.5 }, 32).expect("a crop");
    let (mut expected, mut found) = (vec![0; 32 * 32 * 3], vec![0; 32 * 32 * 3]);
    crop_flip.apply(view, &mut Philox::new(9, Stream::Augment).at(7, 3), &mut expected);
    Views::new(crop_flip, Vec::new(), 9).write(view, 7, 3, 0, &mut found);
    assert_eq!(found, expected);
    let slip = Views::of(&slip_strategy(), 32, 9).expect("three views");
    assert_eq!((slip.num_views(), slip.side()), (3, 32));
    let views: Vec<Vec<u8>> = (0..3)
        .map(|number| {
            slip.write(view, 7, 3, number, &mut found);
            found.clone()
        })
        .collect();
    assert!(views[0] != views[1] && views[1] != views[2]);
    // Each from its own draws, whatever was asked before.
    slip.write(view, 7, 3, 1, &mut found);
    assert_eq!(found, views[1]);
    Augmenter::self_supervised(32).apply(view, &mut Philox::new(9, Stream::Augment).at(7, 3).from_draw(512), &mut found);
    assert_eq!(found, views[2]);
    Augmenter::new(slip_strategy().augmentation, 32).expect("a crop").apply(
        view,
        &mut Philox::new(9, Stream::Augment).at(7, 3),
        &mut found,
    );
    assert_eq!(found, views[0]);
}

#[test]
fn a_device_gets_no_picture_that_it_cannot_augment() {
    let of = |augmentation| Augmenter::new(augmentation, 32).expect("it is built");
    let rand_augment = of(Augmentation::RandAugment { layers: 2, magnitude: 9.0 });
    let stacked = of(Augmentation::StackedRandAugment { layers: 2, magnitude: 10.0, min_area: 0.08 });
    let crop_flip = of(Augmentation::CropFlip { min_area: 0.5, flip: 0.5 });
    let rights = |augmenter: Augmenter| (augmenter.is_for_devices(), augmenter.takes_images());
    assert_eq!(rights(of(Augmentation::None)), (true, true));
    assert_eq!(rights(crop_flip), (true, false));
    assert_eq!(rights(rand_augment), (false, true));
    assert_eq!(rights(stacked), (false, false));
    let mut draws = Philox::new(0, Stream::Augment).at(0, 0);
    assert!(crop_flip.crop((40, 40), &mut draws).is_some());
    assert!(stacked.crop((40, 40), &mut draws).is_none() && rand_augment.crop((40, 40), &mut draws).is_none());
}

#[test]
fn what_rand_augment_does_not_have_is_refused() {
    for (layers, magnitude) in [(0, 3.0), (17, 3.0), (2, -0.2), (2, 10.2), (2, 3.5), (2, f64::NAN)] {
        for augmentation in [
            Augmentation::RandAugment { layers, magnitude },
            Augmentation::StackedRandAugment { layers, magnitude, min_area: 0.08 },
        ] {
            let error = Augmenter::new(augmentation, 32).expect_err("it is none").to_string();
            assert!(error.contains("expected from "), "{error}");
        }
    }
    for (magnitude, bin) in [(0.0, 0), (0.33, 1), (3.0, 9), (3.3, 10), (3.333, 10), (10.0 / 3.0, 10), (9.0, 27), (10.0, 30)] {
        assert_eq!(RandAugment::new(1, magnitude).expect("a bin").bin, bin, "{magnitude}");
    }
}
