//! Finds the driver, NVRTC and cuBLASLt at run time, and says how to get what is missing.
//!
//! Input: the environment and the file system. Output: a [`Place`] a library, decided once in a process. A library that the
//! dynamic loader does not find is looked for in toolkits and in pip's wheels and opened by its absolute path; glibc then takes it
//! for cudarc's plain name by its SONAME. Invariant: no panic without CUDA; this is asked before any other call of cudarc, which
//! would. Must not know a device.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::trainer::TrainerError;

/// A library that is opened at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// libcuda.
    Driver,
    /// The kernel compiler.
    Nvrtc,
    /// Matrix products.
    CublasLt,
}

/// Where a library is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Where the dynamic loader looks; the path where the system tells it.
    Loader(Option<PathBuf>),
    /// Opened by this path, where the loader does not look.
    Opened(PathBuf),
    /// Nowhere, or not usable; why, where there is more to say than that.
    Missing(Option<String>),
}

impl Library {
    /// All, in the order they are needed.
    pub const ALL: [Self; 3] = [Self::Driver, Self::Nvrtc, Self::CublasLt];

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "NVIDIA driver",
            Self::Nvrtc => "NVRTC",
            Self::CublasLt => "cuBLASLt",
        }
    }

    /// How to get it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        if cfg!(target_os = "macos") {
            return "there is no CUDA for macOS: use `--device cpu`";
        }
        match self {
            Self::Driver => {
                "install the driver of your GPU (https://www.nvidia.com/drivers), 580 or newer for CUDA 13; or use `--device cpu`"
            }
            Self::Nvrtc => {
                "`pip install nvidia-cuda-nvrtc==13.0.88` (with a driver older than 580: `nvidia-cuda-nvrtc-cu12`), or point CUDA_HOME to a toolkit"
            }
            Self::CublasLt => {
                "`pip install nvidia-cublas==13.0.2.14` (with a driver older than 580: `nvidia-cublas-cu12`), or point CUDA_HOME to a toolkit"
            }
        }
    }

    /// Where it is; looked for at the first call.
    pub fn place(self) -> &'static Place {
        static PLACES: [OnceLock<Place>; 3] = [const { OnceLock::new() }; 3];
        PLACES[self as usize].get_or_init(|| {
            let folders = || folders(&|name| std::env::var_os(name), Path::new("/"));
            find(self, &folders)
        })
    }

    /// That it is there.
    ///
    /// # Errors
    /// [`TrainerError::NoCuda`] with how to get it.
    pub fn require(self) -> Result<(), TrainerError> {
        let Place::Missing(why) = self.place() else { return Ok(()) };
        let reason = match why {
            Some(why) => format!("{}: {why}", self.name()),
            None => format!("{} was not found ({})", self.name(), self.stem()),
        };
        Err(TrainerError::NoCuda { reason, hint: self.hint().into() })
    }

    /// Begin of its file names.
    fn stem(self) -> &'static str {
        match self {
            Self::Driver => "libcuda.so",
            Self::Nvrtc => "libnvrtc.so",
            Self::CublasLt => "libcublasLt.so",
        }
    }

    /// File names that cudarc asks for too, newest first.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Driver => &["libcuda.so.1"],
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12"],
            Self::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12"],
        }
    }

    fn is_present(self) -> bool {
        // SAFETY: these open and close the library, whose initialisers are the vendor's; nothing in it is called.
        unsafe {
            match self {
                Self::Driver => cudarc::driver::sys::is_culib_present(),
                Self::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
                Self::CublasLt => cudarc::cublaslt::sys::is_culib_present(),
            }
        }
    }

    /// A function that this program calls and the library does not have: cudarc would panic at the call.
    fn lacks(self) -> Option<&'static str> {
        // SAFETY: only after `is_present`; symbols are looked up and not called.
        let (library, names): (_, &[&str]) = unsafe {
            match self {
                Self::Driver => (cudarc::driver::sys::culib(), &["cuInit", "cuDeviceGetCount"]),
                Self::Nvrtc => (cudarc::nvrtc::sys::culib(), &["nvrtcGetCUBIN", "nvrtcGetSupportedArchs"]),
                Self::CublasLt => (cudarc::cublaslt::sys::culib(), &["cublasLtMatmul", "cublasLtMatmulAlgoGetHeuristic"]),
            }
        };
        // SAFETY: as above.
        names.iter().copied().find(|name| unsafe { library.get::<*const ()>(name.as_bytes()) }.is_err())
    }
}

/// Functions of the driver that recordings need and old drivers lack.
pub(super) fn missing_driver_function() -> Option<&'static str> {
    const NEEDED: [&str; 9] = [
        "cuDriverGetVersion",
        "cuDevicePrimaryCtxRetain",
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphUpload",
        "cuGraphLaunch",
        "cuFuncSetAttribute",
        "cuMemHostAlloc",
    ];
    // SAFETY: the driver is present where this is called; symbols are looked up and not called.
    let library = unsafe { cudarc::driver::sys::culib() };
    // SAFETY: as above.
    NEEDED.into_iter().find(|name| unsafe { library.get::<*const ()>(name.as_bytes()) }.is_err())
}

fn find(library: Library, folders: &dyn Fn() -> Vec<PathBuf>) -> Place {
    let mut refused = None;
    let mut place = library.is_present().then_some(Place::Loader(None));
    if place.is_none() {
        for path in candidates(library, &folders()) {
            match open(library, &path) {
                Ok(()) if library.is_present() => {
                    place = Some(Place::Opened(path));
                    break;
                }
                Ok(()) => refused = Some(format!("{} opens, but not by its plain name", path.display())),
                Err(error) => refused = Some(format!("{} does not open: {error}", path.display())),
            }
        }
    }
    let Some(place) = place else { return Place::Missing(refused) };
    if let Some(function) = library.lacks() {
        return Place::Missing(Some(format!("the library found has no `{function}`: it is too old")));
    }
    match place {
        Place::Loader(_) => Place::Loader(loaded_path(library.stem())),
        other => other,
    }
}

/// Files of a library in folders, in the order to try them.
fn candidates(library: Library, folders: &[PathBuf]) -> Vec<PathBuf> {
    let in_folder = |folder: &PathBuf| library.files().iter().map(|file| folder.join(file)).collect::<Vec<_>>();
    folders.iter().flat_map(in_folder).filter(|path| path.exists()).collect()
}

/// Opens a library for good, and first what it opens by plain name itself.
fn open(library: Library, path: &Path) -> Result<(), String> {
    if library == Library::Nvrtc {
        let folder = path.parent().unwrap_or(Path::new("/"));
        for builtins in entries(folder, "libnvrtc-builtins.so.") {
            // Where it does not open, NVRTC says so at the first compilation.
            let _ = open_file(&builtins);
        }
    }
    open_file(path)
}

fn open_file(path: &Path) -> Result<(), String> {
    // SAFETY: the vendor's library, whose initialisers expect to be run so; it is never closed.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    std::mem::forget(library);
    Ok(())
}

/// What toolkits call machines of this kind: servers, then small boards.
const TARGETS: &[&str] = if cfg!(target_arch = "aarch64") { &["sbsa-linux", "aarch64-linux"] } else { &["x86_64-linux"] };
/// Where Debian and its kin put the libraries of machines of this kind.
const SYSTEM: &str = if cfg!(target_arch = "aarch64") { "usr/lib/aarch64-linux-gnu" } else { "usr/lib/x86_64-linux-gnu" };

/// Folders that toolkits, drivers and wheels put libraries into, in the order to look.
fn folders(env: &dyn Fn(&str) -> Option<OsString>, root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let toolkit = |home: &Path| {
        let targets = TARGETS.iter().map(|target| home.join("targets").join(target).join("lib"));
        [home.join("lib64")].into_iter().chain(targets).chain([home.join("lib")]).collect::<Vec<_>>()
    };
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        found.extend(env(name).filter(|value| !value.is_empty()).into_iter().flat_map(|home| toolkit(Path::new(&home))));
    }
    let local = root.join("usr/local");
    found.extend(entries(&local, "cuda").iter().rev().flat_map(|home| toolkit(home)));
    // Drivers of WSL and of containers.
    found.extend(["usr/lib/wsl/lib", "usr/local/nvidia/lib64", SYSTEM].map(|folder| root.join(folder)));
    for packages in python_packages(env, root) {
        found.extend(["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib", "nvidia/cublas/lib"].map(|folder| packages.join(folder)));
    }
    found.retain(|folder| folder.is_dir());
    found
}

/// Folders of Python packages: of the active environment, of the `python3` on PATH, of the user, of the system.
fn python_packages(env: &dyn Fn(&str) -> Option<OsString>, root: &Path) -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(env).map(PathBuf::from).collect();
    let path = env("PATH").unwrap_or_default();
    if let Some(python) = std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|python| python.is_file()) {
        // The link's own place is a virtual environment's prefix, its target's the base installation's.
        for python in [Some(python.clone()), python.canonicalize().ok()].into_iter().flatten() {
            prefixes.extend(python.parent().and_then(Path::parent).map(Path::to_path_buf));
        }
    }
    prefixes.extend(env("HOME").map(|home| Path::new(&home).join(".local")));
    prefixes.push(root.join("usr/local"));
    let mut packages = Vec::new();
    for prefix in prefixes {
        for python in entries(&prefix.join("lib"), "python3").iter().rev() {
            packages.extend([python.join("site-packages"), python.join("dist-packages")]);
        }
    }
    packages.push(root.join("usr/lib/python3/dist-packages"));
    packages
}

/// Entries of a folder whose names begin so, sorted; none where it cannot be read.
fn entries(folder: &Path, begin: &str) -> Vec<PathBuf> {
    let Ok(listing) = std::fs::read_dir(folder) else { return Vec::new() };
    let begins = |name: &OsString| name.to_string_lossy().starts_with(begin);
    let mut found: Vec<_> = listing.flatten().filter(|entry| begins(&entry.file_name())).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// The file that this process has mapped whose name begins so.
fn loaded_path(stem: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem))).map(Path::to_path_buf).next()
}

/// cuBLASLt's version, as one number.
///
/// # Errors
/// [`TrainerError::NoCuda`] without it.
pub fn cublaslt_version() -> Result<usize, TrainerError> {
    Library::CublasLt.require()?;
    // SAFETY: the library is present; the call has no arguments.
    Ok(unsafe { cudarc::cublaslt::sys::cublasLtGetVersion() })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn toolkits_come_before_wheels_and_the_active_environment_before_the_system() -> Outcome {
        let root = tempfile::tempdir()?;
        let make = |folder: &str| std::fs::create_dir_all(root.path().join(folder)).map(|()| root.path().join(folder));
        let system = make("usr/local/lib/python3.12/dist-packages/nvidia/cublas/lib")?;
        let active = make("venv/lib/python3.11/site-packages/nvidia/cu13/lib")?;
        let (old, new) = (make("usr/local/cuda-12.4/lib64")?, make(&format!("usr/local/cuda-13.0/targets/{}/lib", TARGETS[0]))?);
        let home = make("opt/cuda/lib64")?;
        let env = |name: &str| match name {
            "CUDA_HOME" => Some(root.path().join("opt/cuda").into_os_string()),
            "VIRTUAL_ENV" => Some(root.path().join("venv").into_os_string()),
            _ => None,
        };
        assert_eq!(folders(&env, root.path()), [home, new, old, active, system]);
        Ok(())
    }

    #[test]
    fn the_wheels_of_the_python_on_path_are_found_without_running_it() -> Outcome {
        let root = tempfile::tempdir()?;
        let wheel = root.path().join("env/lib/python3.11/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&wheel)?;
        std::fs::create_dir_all(root.path().join("env/bin"))?;
        std::fs::write(root.path().join("env/bin/python3"), "not a program")?;
        std::fs::write(wheel.join("libnvrtc.so.13"), "not a library")?;
        let path = std::env::join_paths([root.path().join("nothing"), root.path().join("env/bin")])?;
        let env = |name: &str| (name == "PATH").then(|| path.clone());
        let found = folders(&env, root.path());
        assert!(found.contains(&wheel), "{found:?}");
        assert_eq!(candidates(Library::Nvrtc, &found)[0], wheel.join("libnvrtc.so.13"));
        assert!(open(Library::Nvrtc, &wheel.join("libnvrtc.so.13")).is_err(), "a file that is no library is refused, not fatal");
        Ok(())
    }

    #[test]
    fn a_missing_library_is_an_error_with_a_way_to_get_it() {
        for library in Library::ALL {
            match library.require() {
                Ok(()) => assert!(!matches!(library.place(), Place::Missing(_))),
                Err(error) => assert!(error.hint().is_some() && error.to_string().starts_with("no CUDA: "), "{error}"),
            }
        }
    }
}
