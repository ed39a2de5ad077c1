//! Both backends against `open_clip`: a small random model, recorded by `fixtures/open_clip/make.py`.
//!
//! The fixture was computed in f64 from f32 parameters and rounded to f32 at the end, so the f64 reference has to agree to the
//! rounding of f32, and the CPU backend to 1e-4 of the largest element of each tensor.

use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use scaledown::run::{Activation, ImageEncoderConfig, ModelConfig, Pooling, TextEncoderConfig, VitConfig};
use scaledown::trainer::backend::cpu::{CpuSettings, CpuStep};
use scaledown::trainer::backend::reference::ReferenceStep;
use scaledown::trainer::backend::{Step as _, StepBatch};
use scaledown::trainer::model;
use scaledown::trainer::program::{Output, Program};

use crate::near::{assert_gradients_near, assert_near};

const CPU_TOLERANCE: f64 = 1e-4;
/// The fixture's own rounding to f32, with a small margin for sums in another order.
const REFERENCE_TOLERANCE: f64 = 2e-7;

/// The recorded model; sizes as in `make.py`.
fn config(activation: Activation) -> ModelConfig {
    ModelConfig {
        image_encoder: ImageEncoderConfig::Vit(VitConfig {
            width: 24,
            layers: 2,
            heads: 3,
            mlp_width: 48,
            patch_size: 4,
            pooling: Pooling::ClassToken,
            pre_norm: true,
        }),
        text_encoder: TextEncoderConfig { width: 20, layers: 2, heads: 4, mlp_width: 40, context_length: 12, vocab_size: 40 },
        embed_dim: 14,
        image_size: 16,
        activation,
        logit_scale_init: 1.0 / 0.07,
        logit_scale_max: 100.0,
        // open_clip's OPENAI_DATASET_MEAN and OPENAI_DATASET_STD.
        pixel_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        pixel_std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
    }
}

/// The recorded tensors.
struct Recorded(Vec<u8>);

impl Recorded {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/open_clip/small.safetensors");
        Self(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> (Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.0).expect("the fixture is a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("`{name}`: {error}"));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        (tensor.shape().to_vec(), tensor.data().to_vec())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let (_, bytes) = self.bytes(name, Dtype::F32);
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn wide(&self, name: &str) -> Vec<f64> {
        self.floats(name).into_iter().map(f64::from).collect()
    }

    fn indices(&self, name: &str) -> Vec<u32> {
        let (_, bytes) = self.bytes(name, Dtype::U32);
        bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    }

    /// Tensors under a prefix as one flat buffer, by the program's names.
    fn flat(&self, prefix: &str, program: &Program) -> Vec<f32> {
        program.params.iter().flat_map(|view| self.floats(&format!("{prefix}.{}", view.name))).collect()
    }

    fn batch(&self, masked: bool) -> StepBatch {
        let (shape, images) = self.bytes("images", Dtype::U8);
        let keep = if masked { self.indices("keep") } else { Vec::new() };
        let (tokens, ends) = (self.indices("tokens"), self.indices("ends"));
        StepBatch { samples: shape[0], images, keep, tokens, ends, ..StepBatch::default() }
    }
}

/// Cases of the fixture: name, activation, masked share (7 of 16 patches are kept).
const CASES: [(&str, Activation, f64); 3] =
    [("gelu", Activation::Gelu, 0.0), ("quick_gelu", Activation::QuickGelu, 0.0), ("masked", Activation::Gelu, 0.5625)];

fn reference_step(recorded: &Recorded, program: &Arc<Program>) -> ReferenceStep {
    ReferenceStep::new(program.clone(), &recorded.flat("state", program), None).expect("one value a parameter")
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

#[test]
fn names_and_shapes_of_parameters_are_those_of_open_clip() {
    let recorded = Recorded::read();
    let file = SafeTensors::deserialize(&recorded.0).expect("the fixture is a safetensors file");
    let program = model::build(&config(Activation::Gelu), 0.0);
    let mut expected: Vec<(String, Vec<usize>)> = (file.names().into_iter())
        .filter_map(|name| Some((name.strip_prefix("state.")?.to_owned(), file.tensor(name).ok()?.shape().to_vec())))
        .collect();
    let shape = |shape: &[usize]| if shape.is_empty() { vec![1] } else { shape.to_vec() };
    let mut found: Vec<_> = program.params.iter().map(|view| (view.name.clone(), shape(&view.shape))).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_reference_backend_reproduces_open_clip() {
    let recorded = Recorded::read();
    for (case, activation, masked) in CASES {
        let program = Arc::new(model::build(&config(activation), masked));
        let batch = recorded.batch(masked > 0.0);
        let mut step = reference_step(&recorded, &program);
        let (image, text) = step.features(&batch);
        assert_near(case, &narrow(&image), &recorded.wide(&format!("{case}.image_features")), REFERENCE_TOLERANCE);
        assert_near(case, &narrow(&text), &recorded.wide(&format!("{case}.text_features")), REFERENCE_TOLERANCE);
        assert_near(case, &[step.loss(&batch) as f32], &recorded.wide(&format!("{case}.loss")), REFERENCE_TOLERANCE);
        step.gradient_from_features(&batch, &recorded.wide("upstream.image"), &recorded.wide("upstream.text"));
        let expected = widen(&recorded.flat(&format!("{case}.grad_linear"), &program));
        assert_gradients_near(case, &program, &step.gradients().expect("the CPU can be read"), &expected, REFERENCE_TOLERANCE);
        if masked == 0.0 {
            step.gradient(&batch, 1).expect("a reference step does not fail");
            let expected = widen(&recorded.flat(&format!("{case}.grad_loss"), &program));
            assert_gradients_near(case, &program, &step.gradients().expect("the CPU can be read"), &expected, REFERENCE_TOLERANCE);
        }
    }
}

#[test]
fn the_cpu_backend_reproduces_open_clip() {
    let recorded = Recorded::read();
    for (case, activation, masked) in CASES {
        let program = Arc::new(model::build(&config(activation), masked));
        let batch = recorded.batch(masked > 0.0);
        let settings = CpuSettings { threads: 2, lanes: 8 };
        let mut step = CpuStep::new(program.clone(), recorded.flat("state", &program), settings, None).expect("threads start");
        let (image, text) = step.features(&batch).expect("memory for a small batch");
        assert_near(case, &image, &recorded.wide(&format!("{case}.image_features")), CPU_TOLERANCE);
        assert_near(case, &text, &recorded.wide(&format!("{case}.text_features")), CPU_TOLERANCE);
        let (image, text) = (recorded.floats("upstream.image"), recorded.floats("upstream.text"));
        step.gradient_from(&batch, 1, &[(Output::ImageFeatures, &image), (Output::TextFeatures, &text)])
            .expect("memory for a small batch");
        let expected = widen(&recorded.flat(&format!("{case}.grad_linear"), &program));
        assert_gradients_near(case, &program, &step.gradients().expect("the CPU can be read"), &expected, CPU_TOLERANCE);
        let report = step.gradient(&batch, 1).expect("memory for a small batch");
        assert_near(case, &[report.loss as f32], &recorded.wide(&format!("{case}.loss")), CPU_TOLERANCE);
        if masked == 0.0 {
            let expected = widen(&recorded.flat(&format!("{case}.grad_loss"), &program));
            assert_gradients_near(case, &program, &step.gradients().expect("the CPU can be read"), &expected, CPU_TOLERANCE);
        }
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}
