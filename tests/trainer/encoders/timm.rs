//! Whole encoders against timm: tiny ones with random weights, recorded by `fixtures/timm_resnet_convnext/make.py`.

use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use scaledown::run::{Activation, ConvNextConfig, ImageEncoderConfig, ModelConfig, ResNetConfig, ResNetNorm, TextEncoderConfig};
use scaledown::trainer::backend::cpu::{CpuSettings, CpuStep};
use scaledown::trainer::backend::reference::ReferenceStep;
use scaledown::trainer::backend::{Step as _, StepBatch};
use scaledown::trainer::model::{build, initial_parameters};
use scaledown::trainer::program::{Output, Program};

use crate::near::{assert_near, largest};

const BATCH: usize = 4;
const EMBED: usize = 5;
/// A share of the largest element of each tensor.
const TOLERANCE: f64 = 1e-4;

/// An encoder of the fixture.
struct Case {
    name: &'static str,
    side: usize,
    encoder: ImageEncoderConfig,
}

/// Sizes as in `make.py`.
fn cases() -> [Case; 3] {
    let resnet = |depths: &[usize], stem_kernel, stem_pool| {
        let norm = ResNetNorm::Batch { group: BATCH };
        ImageEncoderConfig::Resnet(ResNetConfig { width: 2, depths: depths.to_vec(), stem_kernel, stem_pool, norm, norm_eps: 1e-5 })
    };
    let convnext = ConvNextConfig { width: 3, depths: vec![2, 1, 1, 1], stem_stride: 2, norm_eps: 1e-6 };
    [
        Case { name: "resnet50", side: 32, encoder: resnet(&[1, 2, 1, 1], 7, true) },
        Case { name: "resnet", side: 16, encoder: resnet(&[1, 1, 1], 3, false) },
        Case { name: "convnext", side: 16, encoder: ImageEncoderConfig::Convnext(convnext) },
    ]
}

impl Case {
    fn program(&self) -> Arc<Program> {
        let model = ModelConfig {
            image_encoder: self.encoder.clone(),
            text_encoder: TextEncoderConfig { width: 4, layers: 1, heads: 1, mlp_width: 8, context_length: 3, vocab_size: 9 },
            embed_dim: EMBED,
            image_size: self.side,
            activation: Activation::Gelu,
            logit_scale_init: 1.0 / 0.07,
            logit_scale_max: 100.0,
            pixel_mean: [0.5, 0.4, 0.45],
            pixel_std: [0.25, 0.3, 0.2],
        };
        Arc::new(build(&model, 0.0))
    }
}

/// The recorded tensors of a case.
struct Recorded {
    bytes: Vec<u8>,
    case: &'static str,
}

impl Recorded {
    fn of(case: &Case) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/timm_resnet_convnext/small.safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { bytes, case: case.name }
    }

    fn raw(&self, name: &str, dtype: Dtype) -> Vec<u8> {
        let (file, name) = (SafeTensors::deserialize(&self.bytes).unwrap(), format!("{}.{name}", self.case));
        let tensor = file.tensor(&name).unwrap_or_else(|error| panic!("`{name}`: {error}"));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor.data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.raw(name, Dtype::F32))
    }

    fn wide(&self, name: &str) -> Vec<f64> {
        self.floats(name).into_iter().map(f64::from).collect()
    }

    /// Names that are recorded of a kind, such as `state`.
    fn names(&self, kind: &str) -> Vec<String> {
        let (file, prefix) = (SafeTensors::deserialize(&self.bytes).unwrap(), format!("{}.{kind}.", self.case));
        let mut names: Vec<String> = file.names().into_iter().filter_map(|n| Some(n.strip_prefix(&prefix)?.to_owned())).collect();
        names.sort();
        names
    }

    /// The recorded parameters of the image encoder; the text encoder's are those that training starts with.
    fn parameters(&self, program: &Program) -> Vec<f32> {
        let mut flat = initial_parameters(program, 1);
        for view in of_image(program) {
            flat[view.range()].copy_from_slice(&view.from_exported(self.floats(&format!("state.{}", view.name))));
        }
        flat
    }

    /// Running statistics before or after the step.
    fn statistics(&self, program: &Program, kind: &str) -> Vec<f32> {
        let name = |name: &str| name.strip_prefix("visual.trunk.").unwrap().to_owned();
        program.state.iter().flat_map(|view| self.floats(&format!("{kind}.{}", name(&view.name)))).collect()
    }

    fn batch(&self) -> StepBatch {
        let images = self.raw("images", Dtype::U8);
        StepBatch { samples: BATCH, images, tokens: vec![1; BATCH * 3], ends: vec![2; BATCH], ..StepBatch::default() }
    }

    /// Features and every gradient; `form` says whose they are.
    fn compare(&self, program: &Program, form: &str, features: &[f32], grads: &[f32]) {
        assert_near(&format!("{}, {form}, features", self.case), features, &self.wide("features"), TOLERANCE);
        for view in of_image(program) {
            let expected = self.wide(&format!("grad.{}", view.name));
            assert!(largest(&expected) > 1e-3, "{}: nothing but rounding is recorded", view.name);
            let what = format!("{}, {form}, gradient of {}", self.case, view.name);
            assert_near(&what, &view.to_exported(&grads[view.range()]), &expected, TOLERANCE);
        }
    }
}

fn of_image(program: &Program) -> impl Iterator<Item = &scaledown::trainer::program::ParamView> {
    program.params.iter().filter(|view| view.name.starts_with("visual."))
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

#[test]
fn parameters_and_statistics_are_those_of_timm() {
    for case in cases() {
        let (recorded, program) = (Recorded::of(&case), case.program());
        let mut found: Vec<String> = of_image(&program).map(|view| view.name.clone()).collect();
        found.sort();
        assert_eq!(found, recorded.names("state"), "{}", case.name);
        let mut found: Vec<String> =
            program.state.iter().map(|view| view.name.strip_prefix("visual.trunk.").unwrap().to_owned()).collect();
        found.sort();
        assert_eq!(found, recorded.names("before"), "{}", case.name);
    }
}

#[test]
fn the_reference_has_the_features_and_gradients_of_timm() {
    for case in cases() {
        let (recorded, program) = (Recorded::of(&case), case.program());
        let batch = recorded.batch();
        let mut step = ReferenceStep::new(program.clone(), &recorded.parameters(&program), None).unwrap();
        step.set_state(&recorded.statistics(&program, "before")).unwrap();
        let features = step.features(&batch).0;
        step.gradient_from_features(&batch, &recorded.wide("upstream"), &[0.0; BATCH * EMBED]);
        recorded.compare(&program, "f64", &narrow(&features), &narrow(step.gradients_f64()));
    }
}

#[test]
fn the_cpu_has_the_features_gradients_and_statistics_of_timm() {
    for case in cases() {
        let (recorded, program) = (Recorded::of(&case), case.program());
        let batch = recorded.batch();
        let settings = CpuSettings { threads: 2, lanes: 2 };
        let mut step = CpuStep::new(program.clone(), recorded.parameters(&program), settings, None).unwrap();
        step.set_state(&recorded.statistics(&program, "before")).unwrap();
        let features = step.features(&batch).unwrap().0;
        step.gradient_from(&batch, 1, &[(Output::ImageFeatures, &recorded.floats("upstream"))]).unwrap();
        recorded.compare(&program, "CPU", &features, &step.gradients().unwrap());
        if program.state.is_empty() {
            continue;
        }
        let (moved, after) = (step.state().unwrap(), recorded.statistics(&program, "after"));
        for view in &program.state {
            let expected: Vec<f64> = after[view.range()].iter().copied().map(f64::from).collect();
            assert_near(&format!("{}, {}", case.name, view.name), &moved[view.range()], &expected, TOLERANCE);
        }
        step.set_state(&after).unwrap();
        let evaluated = step.encode_images(BATCH, &batch.images).unwrap();
        assert_near(&format!("{}, evaluation", case.name), &evaluated, &recorded.wide("eval.features"), TOLERANCE);
    }
}
