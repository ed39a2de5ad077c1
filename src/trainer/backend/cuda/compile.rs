//! Kernel files to machine code, by NVRTC.
//!
//! Input: a [`Module`], an architecture, a compute type. Output: a CUBIN (or PTX where the compiler or the driver is too old for
//! the device) and what each kernel uses of the machine. Invariants: a kernel is self-contained text, its headers put in, so no
//! file is needed at run time; the same text, options and compiler give the same entry in the [`Cache`]. Must not know a device or
//! a driver.

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::Path;

use cudarc::nvrtc::result::{self, NvrtcError};
use cudarc::nvrtc::sys;

use super::cache::Cache;
use super::libraries::Library;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Module, Real};

macro_rules! headers {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("../../../../kernels/", $name)))),*] };
}

/// What kernel files may include.
const HEADERS: [(&str, &str); 4] = headers!["ptx.cuh", "common.cuh", "attention_blocks.cuh", "contrastive_tiles.cuh"];

/// A compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Architecture {
    /// 9 of 9.0.
    pub major: u32,
    /// 0 of 9.0.
    pub minor: u32,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.major, self.minor)
    }
}

/// What is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Machine code of one architecture.
    Cubin(Architecture),
    /// Text that the driver translates for this architecture or a later one.
    Ptx(Architecture),
}

impl Target {
    /// The best form for a device: machine code where the compiler knows its architecture or kernels were brought along, else PTX
    /// for the newest architecture that it knows below.
    ///
    /// # Errors
    /// [`TrainerError::NoCuda`] without NVRTC, or with one that knows nothing as old as the device.
    pub fn for_device(device: Architecture) -> Result<Self, TrainerError> {
        if carried().is_some() {
            return Ok(Self::Cubin(device));
        }
        Self::among(device, &supported()?).ok_or_else(|| TrainerError::NoCuda {
            reason: format!("this NVRTC does not compile for a GPU of architecture sm_{device}"),
            hint: Library::Nvrtc.hint().into(),
        })
    }

    fn among(device: Architecture, known: &[Architecture]) -> Option<Self> {
        if known.contains(&device) {
            return Some(Self::Cubin(device));
        }
        known.iter().copied().filter(|architecture| *architecture < device).max().map(Self::Ptx)
    }

    fn options(self, real: Real) -> Vec<String> {
        let architecture = match self {
            Self::Cubin(architecture) => format!("--gpu-architecture=sm_{architecture}"),
            Self::Ptx(architecture) => format!("--gpu-architecture=compute_{architecture}"),
        };
        let mut options = vec![architecture, "--std=c++17".into(), "-default-device".into(), "-lineinfo".into()];
        if let Self::Cubin(_) = self {
            // Registers, shared memory and spills go to the log.
            options.push("--ptxas-options=-v".into());
        }
        if real == Real::Bf16 {
            options.push("-DREAL_BF16".into());
        }
        options
    }
}

/// What a kernel uses of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelReport {
    /// Its name.
    pub name: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Static shared memory of a block.
    pub shared_bytes: u32,
    /// Bytes of registers that did not fit, written.
    pub spill_store_bytes: u32,
    /// Bytes of registers that did not fit, read.
    pub spill_load_bytes: u32,
}

/// A compiled kernel file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// CUBIN, or PTX with its final zero.
    pub image: Vec<u8>,
    /// What the compiler said.
    pub log: String,
}

impl Compiled {
    /// What each kernel uses; empty for PTX, whose registers the driver chooses.
    #[must_use]
    pub fn kernels(&self) -> Vec<KernelReport> {
        read_log(&self.log)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.log.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(self.log.as_bytes());
        bytes.extend_from_slice(&self.image);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let (log, image) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        Some(Self { image: image.to_vec(), log: String::from_utf8(log.to_vec()).ok()? })
    }
}

/// Kernels that were compiled on another machine, by any NVRTC: what `SCALEDOWN_KERNELS` names, made by [`compile_to`].
#[must_use]
pub fn carried() -> Option<Cache> {
    std::env::var_os("SCALEDOWN_KERNELS").filter(|folder| !folder.is_empty()).map(|folder| Cache::at(folder.into()))
}

/// Asks for NVRTC where no kernels were brought along.
///
/// # Errors
/// [`TrainerError::NoCuda`] without it.
pub(super) fn require_kernels() -> Result<(), TrainerError> {
    if carried().is_some() { Ok(()) } else { Library::Nvrtc.require() }
}

/// Compiles a kernel file into a folder for another machine; the bytes that were written.
///
/// # Errors
/// As [`compile`], and [`TrainerError::Input`] where the folder cannot be written.
pub fn compile_to(folder: &Path, module: &Module, target: Target, real: Real) -> Result<usize, TrainerError> {
    let (source, options) = (assemble(module), target.options(real));
    Library::Nvrtc.require()?;
    let (name, cache) = (entry(module, &source, &options, None), Cache::at(folder.to_path_buf()));
    let compiled = run(module, &source, target, &options)?;
    let bytes = compiled.to_bytes();
    cache.write(&name, &bytes);
    if cache.read(&name).is_none() {
        return Err(TrainerError::Input(format!("cannot write compiled kernels to {}", folder.display())));
    }
    Ok(bytes.len())
}

/// Compiles a kernel file, or takes it from what another machine compiled, or from the cache.
///
/// # Errors
/// [`TrainerError::Compile`] with the compiler's log, [`TrainerError::NoCuda`] without NVRTC.
pub fn compile(module: &Module, target: Target, real: Real, cache: &Cache) -> Result<Compiled, TrainerError> {
    let (source, options) = (assemble(module), target.options(real));
    let known = carried().and_then(|carried| carried.read(&entry(module, &source, &options, None)));
    if let Some(compiled) = known.and_then(|bytes| Compiled::from_bytes(&bytes)) {
        return Ok(compiled);
    }
    let name = entry(module, &source, &options, Some(version()?));
    if let Some(compiled) = cache.read(&name).and_then(|bytes| Compiled::from_bytes(&bytes)) {
        return Ok(compiled);
    }
    let compiled = run(module, &source, target, &options)?;
    cache.write(&name, &compiled.to_bytes());
    Ok(compiled)
}

/// NVRTC's version: major, minor.
///
/// # Errors
/// [`TrainerError::NoCuda`] without NVRTC.
pub fn version() -> Result<(i32, i32), TrainerError> {
    Library::Nvrtc.require()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC is present and writes two integers.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }.result().map_err(refused("asking NVRTC for its version"))?;
    Ok((major, minor))
}

/// The text that is compiled: the module's macro, then the file with its headers in the place of include lines, each once; messages
/// keep each file's own line numbers.
fn assemble(module: &Module) -> String {
    let mut text = module.prefix();
    append(&mut text, &format!("{}.cu", module.name), module.source, &mut Vec::new());
    text
}

fn append(text: &mut String, name: &str, part: &str, included: &mut Vec<&'static str>) {
    text.push_str(&format!("#line 1 \"{name}\"\n"));
    for (idx, line) in part.lines().enumerate() {
        let directive = line.trim_start().strip_prefix('#').map_or("", str::trim_start);
        let wanted = directive.strip_prefix("include").map(|rest| rest.trim().trim_matches('"'));
        let header = wanted.and_then(|wanted| HEADERS.iter().find(|(header, _)| *header == wanted));
        match header {
            Some((header, part)) if !included.contains(header) => {
                included.push(header);
                append(text, header, part, included);
                text.push_str(&format!("#line {} \"{name}\"\n", idx + 2));
            }
            // One that is in, or the emulator's, which is for another compiler.
            _ if wanted.is_some() => text.push('\n'),
            _ => {
                text.push_str(if directive.starts_with("pragma once") { "" } else { line });
                text.push('\n');
            }
        }
    }
}

/// Name of the entry of a file that NVRTC of that version, or of any, compiled.
fn entry(module: &Module, source: &str, options: &[String], version: Option<(i32, i32)>) -> String {
    let mut digest = blake3::Hasher::new();
    let by = version.map_or("any nvrtc".to_string(), |(major, minor)| format!("nvrtc {major} {minor}"));
    for part in [source, &options.join(" "), &by] {
        digest.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    format!("{}-{}", module.name, &digest.finalize().to_hex()[..32])
}

/// A program of NVRTC, destroyed with the value.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program` and destroyed only here; a drop returns no error.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn run(module: &Module, source: &str, target: Target, options: &[String]) -> Result<Compiled, TrainerError> {
    let text = |text: &str| CString::new(text).map_err(|_| compile_error(module, "a zero byte in the source".into()));
    let (source, name) = (text(source)?, text(&format!("{}.cu", module.name))?);
    let program = Program(result::create_program(&source, Some(&name)).map_err(refused("creating a program"))?);
    // SAFETY: the program is alive, as are its source and name; options hold no zero byte.
    let outcome = unsafe { result::compile_program(program.0, options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program.0) }.map_err(refused("reading the compiler's log"))?;
    // SAFETY: NVRTC ends its log with a zero; an empty vector has none.
    let log = if log.is_empty() { String::new() } else { unsafe { CStr::from_ptr(log.as_ptr()) }.to_string_lossy().into_owned() };
    match outcome {
        Ok(()) => {}
        Err(NvrtcError(sys::nvrtcResult::NVRTC_ERROR_COMPILATION)) => return Err(compile_error(module, log)),
        Err(error) => return Err(compile_error(module, format!("{:?}\n{log}", error.0))),
    }
    let image = match target {
        Target::Cubin(_) => cubin(&program)?,
        // SAFETY: the program is compiled.
        Target::Ptx(_) => unsafe { result::get_ptx(program.0) }
            .map_err(refused("reading PTX"))?
            .into_iter()
            .map(|byte| u8::from_ne_bytes(byte.to_ne_bytes()))
            .collect(),
    };
    Ok(Compiled { image, log })
}

fn cubin(program: &Program) -> Result<Vec<u8>, TrainerError> {
    let mut len = 0;
    // SAFETY: the program is compiled for machine code.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut len) }.result().map_err(refused("reading machine code"))?;
    let mut image = vec![0u8; len];
    // SAFETY: as above, and `image` has the size that was asked for.
    unsafe { sys::nvrtcGetCUBIN(program.0, image.as_mut_ptr().cast()) }.result().map_err(refused("reading machine code"))?;
    Ok(image)
}

/// Architectures that this NVRTC compiles for.
fn supported() -> Result<Vec<Architecture>, TrainerError> {
    Library::Nvrtc.require()?;
    let mut count = 0;
    // SAFETY: NVRTC is present and writes one integer.
    unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) }.result().map_err(refused("asking for architectures"))?;
    let mut list = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: `list` has the length that was asked for.
    unsafe { sys::nvrtcGetSupportedArchs(list.as_mut_ptr()) }.result().map_err(refused("asking for architectures"))?;
    let numbers = list.into_iter().filter_map(|number| u32::try_from(number).ok());
    Ok(numbers.map(|number| Architecture { major: number / 10, minor: number % 10 }).collect())
}

fn compile_error(module: &Module, log: String) -> TrainerError {
    TrainerError::Compile { module: module.describe(), log }
}

fn refused(operation: &'static str) -> impl FnOnce(NvrtcError) -> TrainerError {
    move |error| TrainerError::Cuda { operation: operation.into(), code: format!("{:?}", error.0) }
}

/// Kernels in the log of `ptxas -v`.
fn read_log(log: &str) -> Vec<KernelReport> {
    let mut kernels: Vec<KernelReport> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let name = rest.split('\'').next().unwrap_or_default().to_string();
            kernels.push(KernelReport { name, ..KernelReport::default() });
        }
        let Some(kernel) = kernels.last_mut() else { continue };
        // Functions that were not inlined have lines of their own: all spills of a kernel's section count.
        kernel.spill_store_bytes += number_before(line, " bytes spill stores").unwrap_or(0);
        kernel.spill_load_bytes += number_before(line, " bytes spill loads").unwrap_or(0);
        if let Some(registers) = number_before(line, " registers") {
            kernel.registers = registers;
            kernel.shared_bytes = number_before(line, " bytes smem").unwrap_or(0);
        }
    }
    kernels
}

/// The number that stands right before some text.
fn number_before(line: &str, text: &str) -> Option<u32> {
    let (before, _) = line.split_once(text)?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: Module = Module::new("double", "#include \"common.cuh\"\n// y\nKERNEL(32) f() {}\n");

    #[test]
    fn the_log_gives_registers_shared_memory_and_spills_of_each_kernel() {
        let log = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'a' for 'sm_90'\n\
            ptxas info    : Function properties for a\n    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
            ptxas info    : Used 34 registers, used 1 barriers, 768 bytes smem\n\
            ptxas info    : Compiling entry function 'b' for 'sm_90'\n\
            ptxas info    : Function properties for b\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
            ptxas info    : Used 255 registers, used 0 barriers, 376 bytes cmem[0]\n";
        let a = KernelReport { name: "a".into(), registers: 34, shared_bytes: 768, spill_store_bytes: 4, spill_load_bytes: 12 };
        let b = KernelReport { name: "b".into(), registers: 255, ..KernelReport::default() };
        assert_eq!(read_log(log), [a, b]);
    }

    #[test]
    fn headers_stand_in_the_place_of_include_lines_once_and_lines_keep_their_numbers() {
        let twice = Module::new("double", "#include \"common.cuh\"\n#include \"ptx.cuh\"\n// y\nKERNEL(32) f() {}\n");
        let text = assemble(&Module { define: Some(("SIZE", 3)), ..twice });
        assert!(!text.contains("#pragma once") && !text.contains("#include"));
        assert!(text.starts_with("#define SIZE 3\n#line 1 \"double.cu\"\n#line 1 \"common.cuh\"\n"));
        assert_eq!(text.matches("#line 1 \"ptx.cuh\"").count(), 1);
        assert!(text.ends_with("#line 2 \"double.cu\"\n\n// y\nKERNEL(32) f() {}\n"), "{text}");
    }

    #[test]
    fn an_entry_depends_on_source_options_and_compiler() {
        let (source, options) = (assemble(&MODULE), |arch, real| Target::Cubin(arch).options(real));
        let hopper = Architecture { major: 9, minor: 0 };
        let name = entry(&MODULE, &source, &options(hopper, Real::F32), Some((13, 0)));
        assert_eq!(name, entry(&MODULE, &source, &options(hopper, Real::F32), Some((13, 0))));
        assert_ne!(name, entry(&MODULE, &source, &options(hopper, Real::Bf16), Some((13, 0))));
        assert_ne!(name, entry(&MODULE, &source, &options(hopper, Real::F32), Some((13, 1))));
        assert_ne!(name, entry(&MODULE, "", &options(hopper, Real::F32), Some((13, 0))));
        let compiled = Compiled { image: vec![1, 2, 0], log: "said".into() };
        assert_eq!(Compiled::from_bytes(&compiled.to_bytes()), Some(compiled));
        assert_eq!(Compiled::from_bytes(&[9, 0, 0, 0, 0, 0, 0, 0, 1]), None);
    }

    #[test]
    fn a_device_newer_than_the_compiler_gets_ptx_and_an_older_one_nothing() {
        let at = |major, minor| Architecture { major, minor };
        let known = [at(7, 5), at(8, 0), at(9, 0), at(12, 0)];
        assert_eq!(Target::among(at(9, 0), &known), Some(Target::Cubin(at(9, 0))));
        assert_eq!(Target::among(at(10, 3), &known), Some(Target::Ptx(at(9, 0))));
        assert_eq!(Target::among(at(7, 0), &known), None);
    }
}
