//! Names and keys: how they merge over files, axes and overrides, and what is said of those that do not fit.

use std::io::{Error, ErrorKind};
use std::path::Path;

use scaledown::grid::{Digests, expand};
use scaledown::run::{ImageEncoderConfig, RunConfig};
use scaledown::spec::{LoadOptions, ValidSpec, image_encoder, load};

const REST: &str = "experiment: t
data: { train: { dataset: scenes, size: 8k } }
model: { text_encoder: text-xxs, embed_dim: 64, image_size: 32 }
train: { strategy: clip, batch_size: 128, lr: 1e-3, budget: { epochs: 1 } }
";

/// The experiment of these lines over a base with this image encoder.
fn spec(base: &str, lines: &str, set: &[&str]) -> Result<ValidSpec, String> {
    let base = REST.replace("model: {", &format!("model: {{ image_encoder: {base},"));
    let main = format!("experiment: t\nbase: base.yaml\n{lines}");
    let read = |path: &Path| match path.to_str() {
        Some("base.yaml") => Ok(base.clone()),
        Some("main.yaml") => Ok(main.clone()),
        _ => Err(Error::new(ErrorKind::NotFound, "no such file")),
    };
    let set = set.iter().map(|set| (*set).to_owned()).collect();
    let options = LoadOptions { set, read: &read, ..LoadOptions::default() };
    load(Path::new("main.yaml"), &options).map_err(|errors| errors.to_string())
}

fn configs(base: &str, lines: &str, set: &[&str]) -> Vec<RunConfig> {
    let spec = spec(base, lines, set).unwrap_or_else(|errors| panic!("{errors}"));
    let expansion = expand(&spec, &Digests::default());
    (0..expansion.runs().len()).map(|run| expansion.config(run)).collect()
}

fn encoders(base: &str, lines: &str, set: &[&str]) -> Vec<ImageEncoderConfig> {
    configs(base, lines, set).into_iter().map(|config| config.model.image_encoder).collect()
}

fn named(name: &str) -> ImageEncoderConfig {
    image_encoder(name, 32).unwrap()
}

const SHAPED: &str = "{ name: vit, width: 96, layers: 4, heads: 3, patch_size: 4, pooling: mean }";

#[test]
fn keys_of_another_family_do_not_leak_into_a_new_name() {
    let stated = "model: { image_encoder: { name: convnext-20m, depths: [1, 1, 2, 1] } }";
    assert_eq!(encoders(SHAPED, stated, &[]), [named("{ name: convnext-20m, depths: [1, 1, 2, 1] }")]);
    assert_eq!(encoders(SHAPED, "model: { image_encoder: convnext-20m }", &[]), [named("convnext-20m")]);
    assert_eq!(encoders(SHAPED, "", &["model.image_encoder.name=convnext-20m"]), [named("convnext-20m")]);
    assert_eq!(encoders(SHAPED, "", &["model.image_encoder=swin-20m"]), [named("swin-20m")]);
}

#[test]
fn keys_stay_where_the_name_is_of_the_same_family() {
    let stated = "model: { image_encoder: { name: vit-s/16 } }";
    let expected = named("{ name: vit-s/16, width: 96, layers: 4, heads: 3, patch_size: 4, pooling: mean }");
    assert_eq!(encoders(SHAPED, stated, &[]), [expected]);
}

#[test]
fn overrides_of_a_new_family_hold_in_any_order() {
    let expected = named("{ name: convnext-20m, width: 12 }");
    let set = ["model.image_encoder.name=convnext-20m", "model.image_encoder.width=12"];
    assert_eq!(encoders(SHAPED, "", &set), std::slice::from_ref(&expected));
    assert_eq!(encoders(SHAPED, "", &[set[1], set[0]]), [expected]);
}

#[test]
fn size_fields_are_axes_that_a_name_on_another_axis_does_not_take_away() {
    let sweep = "sweep: { grid: { model.image_encoder.width: [12, 24], model.image_encoder.name: [convnext-20m, swin-20m] } }";
    let expected = ["convnext-20m, width: 12", "swin-20m, width: 12", "convnext-20m, width: 24", "swin-20m, width: 24"];
    let expected: Vec<ImageEncoderConfig> = expected.iter().map(|keys| named(&format!("{{ name: {keys} }}"))).collect();
    assert_eq!(encoders(SHAPED, sweep, &[]), expected);
    let sweep = "sweep: { grid: { model.image_encoder.depths: [[1, 1, 1, 1], [2, 2, 6, 2]] } }";
    let spec = spec("swin-20m", sweep, &[]).unwrap();
    let labels: Vec<String> = (0..2).filter_map(|point| spec.label(point, "model.image_encoder.depths")).collect();
    assert_eq!(labels, ["[1,1,1,1]", "[2,2,6,2]"]);
    let expected = ["[1, 1, 1, 1]", "[2, 2, 6, 2]"].map(|depths| named(&format!("{{ name: swin-20m, depths: {depths} }}")));
    assert_eq!(encoders("swin-20m", sweep, &[]), expected);
}

#[test]
fn a_size_in_millions_takes_its_stem_from_the_image_and_says_where_it_has_none() {
    for (name, key) in
        [("vit-20m", "patch_size"), ("mixer-20m", "patch_size"), ("swin-20m", "stem_stride"), ("resnet-20m", "stem_pool")]
    {
        assert_ne!(image_encoder(name, 32).unwrap(), image_encoder(name, 64).unwrap(), "{name}");
        let refused = image_encoder(name, 96).unwrap_err();
        assert!(refused.contains(&format!("state `{key}`")) && refused.contains("found 96"), "{refused}");
    }
    assert!(image_encoder("vit-20m/12", 96).is_ok() && image_encoder("{ name: swin-20m, stem_stride: 6 }", 96).is_ok());
}

#[test]
fn what_does_not_fit_is_refused_with_a_way_out() {
    let refused = [
        ("{ name: swin-20m, window: 5 }", "windows of 5 do not divide a map of 16 x 16", "windows of 2, 4, 8, 16"),
        ("swin-t", "windows of 7 do not divide a map of 8 x 8", "windows of 2, 4, 8"),
        ("{ name: swin-20m, heads: [1, 5, 4, 8] }", "5 heads do not divide width 48 of stage 2", "1, 2, 3, 4, 6"),
        ("{ name: swin-20m, heads: [1, 2] }", "found heads of 2 stages, `depths` has 4", "one number of heads a stage"),
        ("{ name: convnext-20m, stem_stride: 5 }", "a stem of stride 5 does not divide images", "strides of 1, 2, 4, 8"),
        ("{ name: convnext-20m, depths: [1, 1, 1, 1, 1, 1] }", "the map of 1 x 1 after stage 5", "an `image_size` that 64 divides"),
        ("{ name: convnext-20m, depths: [] }", "found 0 stages, expected from 1 to 8", "one number a stage"),
        ("{ name: convnext-20m, norm_eps: 0 }", "found 0, expected a number above 0", "1e-6"),
        ("{ name: convnext, width: 24 }", "missing key `depths`", "known size"),
        ("{ name: mixer-20m, patch_size: 7 }", "patches of 7 do not divide", "patches of 2, 4, 8"),
        ("mixer-b", "`mixer-b` states no patch size", "mixer-b/16"),
        ("{ name: resnet-20m, stem_kernel: 4 }", "expected an odd number", "3 or 7"),
        ("{ name: resnet-20m, norm: group, norm_groups: 6 }", "6 groups do not divide width 16", "1, 2, 4, 8, 16"),
        ("{ name: resnet-20m, norm: group, bn_group: 8 }", "it goes with `norm: batch`", "remove it"),
        ("resnet-18", "unknown encoder `resnet-18`, expected one of `resnet-50`", "did you mean `resnet-50`"),
        ("alexnet", "expected a name that begins with `vit`, `resnet`", ""),
    ];
    for (stated, says, hint) in refused {
        let errors = image_encoder(stated, 32).expect_err(stated);
        assert!(errors.contains(says) && errors.contains(hint), "{stated}: {errors}");
    }
}

#[test]
fn masking_what_needs_whole_images_is_refused_while_the_file_is_read() {
    let flip = "train: { strategy: { name: flip, masked: 50% } }";
    for name in ["resnet-20m", "convnext-20m", "swin-20m", "mixer-20m"] {
        let errors = spec(name, flip, &[]).unwrap_err();
        let family = named(name).family();
        assert!(
            errors.contains(&format!("main.yaml:3:42: `train.strategy.masked`: found 50%, but `{family}` needs whole images")),
            "{errors}"
        );
        assert!(errors.contains("patches can be left out of `vit`"), "{errors}");
        assert_eq!(configs(name, flip, &["train.strategy.masked=0%"]).len(), 1);
    }
    assert_eq!(configs("vit-20m", flip, &[]).len(), 1);
    let errors = spec("vit-20m", "train: { strategy: { name: flip, masked: 100% } }", &[]).unwrap_err();
    assert!(errors.contains("found 100%, expected less") && errors.contains("hint: for example `75%`"), "{errors}");
}

#[test]
fn groups_of_batch_norm_divide_every_chunk() {
    assert_eq!(configs("resnet-20m", "train: { accumulate: 4 }", &[]).len(), 1);
    let errors = spec("resnet-20m", "train: { accumulate: 8 }", &[]).unwrap_err();
    let says = "`model.image_encoder.bn_group`: groups of 32 samples do not divide a chunk of 16 samples, of 8 chunks";
    assert!(errors.contains(says) && errors.contains("hint: groups of 2, 4, 8, 16 do"), "{errors}");
    let grouped = "train: { accumulate: 8 }\nmodel: { image_encoder: { bn_group: 16 } }";
    assert_eq!(encoders("resnet-20m", grouped, &[])[0].batch_group(), Some(16));
    let errors = spec("resnet-20m", "train: { batch_size: 100 }", &[]).unwrap_err();
    assert!(errors.contains("groups of 32 samples do not divide a batch of 100") && errors.contains("base.yaml:3:"), "{errors}");
    assert_eq!(configs("{ name: resnet-20m, norm: group }", "train: { batch_size: 100 }", &[]).len(), 1);
}

#[test]
fn the_schema_describes_the_keys_of_each_family() {
    let schema = scaledown::spec::schema();
    let families = schema["$defs"]["ImageEncoderSpec"]["anyOf"].as_array().unwrap();
    for family in families {
        let names = family["properties"]["name"]["examples"].as_array().unwrap();
        assert!(family["additionalProperties"] == false && !names.is_empty(), "{family}");
        for key in family["properties"].as_object().unwrap().keys() {
            assert!(family["properties"][key]["description"].is_string() || key == "name", "{key} of {names:?} is not described");
        }
    }
    let errors = spec("{ name: convnext-20m, layers: 4 }", "", &[]).unwrap_err();
    assert!(errors.contains("key `layers` in `model.image_encoder` does not go with `convnext-20m`"), "{errors}");
    assert!(errors.contains("hint: it belongs to `vit`, `mixer`"), "{errors}");
    let errors = spec("vitt-b/8", "", &[]).unwrap_err();
    assert!(
        errors.contains("found `vitt-b/8`, expected one of `vit`, `resnet`") && errors.contains("did you mean `vit-b/8`?"),
        "{errors}"
    );
}
