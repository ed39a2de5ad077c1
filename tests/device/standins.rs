//! The stand-in CUDA libraries of `standin.c`: compiled at test time, put in front of a child process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in a child: where the stand-ins are.
const FOLDER: &str = "SCALEDOWN_STANDINS";

/// A folder with the stand-ins; `None`, after a line that says why, without a C and a C++ compiler.
pub fn compiled() -> Result<Option<tempfile::TempDir>, std::io::Error> {
    let folder = tempfile::tempdir()?;
    Ok(compile(folder.path())?.then_some(folder))
}

/// Lets a command find the stand-ins first, and nothing of the machine's own CUDA.
pub fn prepare(command: &mut Command, folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    command.env("LD_LIBRARY_PATH", folder).env_remove("CUDA_VISIBLE_DEVICES").env("XDG_CACHE_HOME", folder.join("cache"));
    command.env("STANDIN_EMULATOR", root.join("tests/emu")).env("STANDIN_KERNELS", env!("CARGO_TARGET_TMPDIR"));
}

/// The folder of the stand-ins in a child; in the parent, runs the test in children, one for each way to replay.
pub fn in_children(test: &str) -> Result<Option<PathBuf>, Box<dyn std::error::Error>> {
    // One of the drivers refuses machine code, as one may that is older than the compiler.
    let eager = [("SCALEDOWN_CUDA_REPLAY", "eager"), ("STANDIN_REFUSES", "90")];
    in_children_with(test, &[&[("SCALEDOWN_CUDA_REPLAY", "graph")], &eager, &[("SCALEDOWN_CUDA_REPLAY", "checked")]])
}

/// As [`in_children`], one for each list of variables.
pub fn in_children_with(test: &str, ways: &[&[(&str, &str)]]) -> Result<Option<PathBuf>, Box<dyn std::error::Error>> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Ok(Some(folder.into()));
    }
    let Some(folder) = compiled()? else { return Ok(None) };
    for way in ways {
        let mut child = Command::new(std::env::current_exe()?);
        prepare(&mut child, folder.path());
        child.args(["--exact", test, "--nocapture"]).env(FOLDER, folder.path()).envs(way.iter().copied());
        let out = child.output()?;
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(out.status.success() && said.contains("1 passed"), "{way:?}:\n{said}");
    }
    Ok(None)
}

fn compile(folder: &Path) -> Result<bool, std::io::Error> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    // The stand-in for NVRTC calls it.
    let kernel_compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    if !Command::new(&kernel_compiler).arg("--version").output().is_ok_and(|out| out.status.success()) {
        println!("skipped: no C++ compiler (`{kernel_compiler}`) to run kernels on the CPU with");
        return Ok(false);
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/standin.c");
    for (part, library) in [("DRIVER", "libcuda.so"), ("NVRTC", "libnvrtc.so"), ("CUBLASLT", "libcublasLt.so")] {
        let mut command = Command::new(&compiler);
        command.args(["-shared", "-fPIC", "-O3", "-ffp-contract=off", "-w"]).arg(format!("-D{part}")).arg(&source);
        command.arg("-o").arg(folder.join(library));
        if part == "CUBLASLT" {
            // Its work goes to the driver's stream.
            command.arg(folder.join("libcuda.so")).arg(format!("-Wl,-soname,{library},-rpath,{}", folder.display()));
        } else {
            command.arg(format!("-Wl,-soname,{library}"));
        }
        match command.output() {
            Ok(out) if out.status.success() => {}
            Ok(out) => panic!("{}", String::from_utf8_lossy(&out.stderr)),
            Err(error) => {
                println!("skipped: no C compiler (`{compiler}`: {error}) to make stand-in libraries with");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Objects of the stand-in driver that were not given back.
pub fn live(folder: &Path) -> Result<i64, libloading::Error> {
    // SAFETY: our own library, already loaded; the function takes nothing and returns a long.
    unsafe {
        let library = libloading::Library::new(folder.join("libcuda.so"))?;
        let count: libloading::Symbol<unsafe extern "C" fn() -> i64> = library.get(b"standin_live\0")?;
        Ok(count())
    }
}
