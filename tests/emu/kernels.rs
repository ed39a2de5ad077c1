//! The checks of each kernel file on the emulator.

use scaledown::trainer::check::{KERNELS, Runner, on_device};

use crate::device::EmulatedDevice;
use crate::harness::is_available;

/// Makes the checks of one kernel file, each on devices of its own.
fn check(file: &str) {
    if !is_available() {
        return;
    }
    let prefix = format!("{file}::");
    let checks: Vec<_> = KERNELS.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
    assert!(!checks.is_empty(), "no check of `{file}`");
    for (name, check) in checks {
        println!("{name}");
        on_device(|real, order| Ok(Box::new(EmulatedDevice::new(real, order)) as Box<dyn Runner>), check);
    }
}

macro_rules! files {
    ($($file:ident),* $(,)?) => {$(
        #[test]
        fn $file() {
            check(stringify!($file));
        }
    )*};
}

files!(activation, adafactor, adamw, attention, contrastive, elementwise, embedding, layer_norm, normalize, patchify, product);

#[test]
fn every_kernel_file_is_checked() {
    for module in scaledown::trainer::backend::cuda::modules() {
        let prefix = format!("{}::", module.name);
        assert!(KERNELS.iter().any(|(name, _)| name.starts_with(&prefix)), "nothing checks kernels/{}.cu", module.name);
    }
}
