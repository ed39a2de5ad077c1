//! Whole recorded steps in the emulator: the checks that `gpu-check` makes on a GPU, and what only the emulator can show.

use std::sync::Arc;

use scaledown::run::Pooling;
use scaledown::trainer::TrainerError;
use scaledown::trainer::backend::Step as _;
use scaledown::trainer::backend::cuda::{CudaStep, planned_bytes};
use scaledown::trainer::check::steps::{self, ADAMW, batch, model, train};
use scaledown::trainer::check::{curves, gradients};
use scaledown::trainer::model::{build, initial_parameters};
use scaledown::trainer::ops::launch::Real;

use crate::device::EmulatedDevice;
use crate::harness::is_available;

const SEED: u64 = 5;

/// One test a check, so that a failure has its name.
macro_rules! check {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            if is_available() {
                steps::$name(&|real, order| Ok(EmulatedDevice::new(real, order)));
            }
        }
    )*};
}

check!(
    gradients_in_f32_are_those_of_the_cpu_also_in_parts,
    gradients_in_bf16_are_near_those_of_f32,
    masked_patches_are_drawn_on_the_device_as_on_the_cpu,
    steps_of_both_optimisers_follow_the_cpu_and_state_can_be_exchanged,
    steps_on_the_sigmoid_loss_follow_the_cpu,
    a_last_update_that_overflows_is_found_in_the_parameters,
    a_step_that_is_not_finite_changes_nothing_and_is_remembered,
    features_of_both_encoders_are_those_of_the_cpu,
    a_held_pool_gives_the_same_bytes_as_written_images,
    a_place_beyond_a_held_pool_is_refused_before_the_device_sees_it,
    a_pool_of_larger_pictures_is_cropped_as_the_host_does,
    towers_side_by_side_give_the_bytes_of_towers_in_turn,
);

#[test]
fn the_loss_curve_follows_the_cpu() {
    if is_available() {
        curves::follows_the_cpu(&|real, order| Ok(EmulatedDevice::new(real, order)), 24);
    }
}

#[test]
fn one_batch_has_the_known_losses() {
    if is_available() {
        curves::one_batch_has_the_known_losses(&|real, order| Ok(EmulatedDevice::new(real, order)));
    }
}

#[test]
fn gradients_are_written_for_a_comparison_outside() {
    if !is_available() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let losses = gradients::write(folder.path(), 1, &|real, order| Ok(EmulatedDevice::new(real, order))).expect("it is written");
    assert!(losses.len() == 1 && (losses[0][1] / losses[0][0] - 1.0).abs() < 0.01, "{losses:?}");
    for (name, tensors) in [("parameters", 86), ("0/gradients-f32", 86), ("0/gradients-bf16", 86), ("0/batch", 3)] {
        let bytes = std::fs::read(folder.path().join(format!("{name}.safetensors"))).expect("the file is there");
        assert_eq!(safetensors::SafeTensors::deserialize(&bytes).expect("it is whole").len(), tensors, "{name}");
    }
}

#[test]
fn too_little_memory_is_an_error_with_numbers_and_the_plan_says_how_much() {
    if !is_available() {
        return;
    }
    let config = train(ADAMW, 0.0);
    let program = Arc::new(build(&model(Pooling::Mean), 0.0));
    let planned = planned_bytes(&program, &config, Real::F32).expect("a GPU trains it");
    let parameters = initial_parameters(&program, SEED);
    let run = |capacity: u64| {
        let device = EmulatedDevice::new(Real::F32, 0).with_capacity(capacity as usize);
        CudaStep::new(device, program.clone(), &parameters, Some(&config), None)?.gradient(&batch(), 1).map(|_| ())
    };
    let error = run(planned / 2).expect_err("half of it is too little");
    assert!(matches!(error, TrainerError::DeviceMemory { planned: Some(bytes), .. } if bytes == planned), "{error}");
    run(planned + 4096).expect("what the plan says is enough");
}
