//! Drivers that are there and do not work: each ends in one line with a hint, not in a panic.
//!
//! A stand-in libcuda is compiled at test time and put first on LD_LIBRARY_PATH; prints a line and passes without a C compiler.

use std::path::Path;
use std::process::{Command, Output};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A libcuda whose `cuInit` answers `init` and which has `devices` devices.
fn stand_in(folder: &Path, init: u32, devices: u32) -> Result<bool, std::io::Error> {
    let source = folder.join("cuda.c");
    let functions = format!(
        "int cuInit(unsigned flags) {{ return {init}; }}\n\
         int cuDeviceGetCount(int* count) {{ *count = {devices}; return 0; }}\n"
    );
    std::fs::write(&source, functions)?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let library = folder.join("libcuda.so");
    match Command::new(&compiler).args(["-shared", "-fPIC"]).arg(&source).arg("-o").arg(&library).output() {
        Ok(out) if out.status.success() => Ok(true),
        Ok(out) => panic!("{}", String::from_utf8_lossy(&out.stderr)),
        Err(error) => {
            println!("skipped: no C compiler (`{compiler}`: {error}) to make a stand-in driver with");
            Ok(false)
        }
    }
}

fn doctor(libraries: &Path, folder: &Path) -> Result<Output, std::io::Error> {
    Command::new(env!("CARGO_BIN_EXE_scaledown"))
        .arg("doctor")
        .current_dir(folder)
        .env("LD_LIBRARY_PATH", libraries)
        .env_remove("CUDA_VISIBLE_DEVICES")
        .output()
}

#[test]
fn a_driver_that_does_not_work_is_one_line_and_a_hint() -> Outcome {
    // CUDA_ERROR_NO_DEVICE, CUDA_ERROR_STUB_LIBRARY, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, CUDA_ERROR_UNKNOWN; no device at all; a
    // library that lacks what is called next.
    let cases = [
        (100, 1, "no CUDA: the NVIDIA driver finds no GPU"),
        (34, 1, "no CUDA: the libcuda that was found is a toolkit's stub, not a driver"),
        (803, 1, "no CUDA: libcuda and the driver's kernel module are of different versions"),
        (999, 1, "no CUDA: the NVIDIA driver does not start (CUDA_ERROR_UNKNOWN)"),
        (0, 0, "no CUDA: the NVIDIA driver finds no GPU"),
        (0, 1, "no CUDA: the NVIDIA driver has no `cuDriverGetVersion`: it is too old"),
    ];
    for (init, devices, expected) in cases {
        let folder = tempfile::tempdir()?;
        if !stand_in(folder.path(), init, devices)? {
            return Ok(());
        }
        let out = doctor(folder.path(), folder.path())?;
        let text = String::from_utf8(out.stdout)?;
        let line = text.lines().position(|line| line == format!("GPU        {expected}"));
        let line = line.ok_or_else(|| format!("expected `{expected}` in\n{text}"))?;
        assert!(text.lines().nth(line + 1).is_some_and(|hint| hint.trim_start().starts_with("hint: ")), "{text}");
        let shown = folder.path().join("libcuda.so").display().to_string();
        assert!(text.contains(&format!("NVIDIA driver: {shown}")), "{text}");
        assert_eq!((out.status.code(), String::from_utf8(out.stderr)?), (Some(0), String::new()));
    }
    Ok(())
}

#[test]
fn a_libcuda_without_its_functions_is_not_called() -> Outcome {
    let folder = tempfile::tempdir()?;
    if !stand_in(folder.path(), 0, 0)? {
        return Ok(());
    }
    std::fs::write(folder.path().join("cuda.c"), "int nothing;\n")?;
    let library = folder.path().join("libcuda.so");
    let made = Command::new("cc").args(["-shared", "-fPIC"]).arg(folder.path().join("cuda.c")).arg("-o").arg(library).status()?;
    assert!(made.success());
    let out = doctor(folder.path(), folder.path())?;
    let text = String::from_utf8(out.stdout)?;
    assert!(text.contains("no CUDA: NVIDIA driver: the library found has no `cuInit`: it is too old"), "{text}");
    assert_eq!(out.status.code(), Some(0));
    Ok(())
}
