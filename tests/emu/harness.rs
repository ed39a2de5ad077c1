//! The emulator from Rust: kernels compiled into shared libraries, buffers on the heap, nodes run one after another.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};

use libloading::Library;
use scaledown::trainer::ops::launch::{Arg, BufferIdx, Factor, Launch, Module, Node, Product, Real, View};

/// Orders of threads that every case runs under: forward, reversed, shuffled.
pub const ORDERS: [u32; 3] = [0, 1, 7];

/// Both compute types.
pub const REALS: [Real; 2] = [Real::F32, Real::Bf16];

/// Whether kernels can be compiled here; says so once where they cannot.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let is_there = Command::new(compiler()).arg("--version").output().is_ok_and(|out| out.status.success());
        if !is_there {
            println!("skipped: no C++ compiler (`{}`) to run the kernels on the CPU with", compiler());
        }
        is_there
    })
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

/// A CUDA device on the CPU. One at a time in a process: kernels keep their shared memory in statics.
pub struct Emulator {
    real: Real,
    order: u32,
    buffers: Vec<Vec<u8>>,
    _alone: MutexGuard<'static, ()>,
}

impl Emulator {
    /// An emulator whose kernels compute in `real`.
    pub fn new(real: Real, order: u32) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self { real, order, buffers: Vec::new(), _alone: alone }
    }

    /// A buffer of f32.
    pub fn floats(&mut self, values: &[f32]) -> View {
        self.bytes(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A buffer of u32.
    pub fn words(&mut self, values: &[u32]) -> View {
        self.bytes(values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// A buffer of the compute type, rounded to it.
    pub fn reals(&mut self, values: &[f32]) -> View {
        match self.real {
            Real::F32 => self.floats(values),
            Real::Bf16 => self.bytes(values.iter().flat_map(|value| to_bf16(*value).to_le_bytes()).collect()),
        }
    }

    /// A buffer of f32 filled with NaN: whatever a kernel must write.
    pub fn unwritten_floats(&mut self, len: usize) -> View {
        self.floats(&vec![f32::NAN; len])
    }

    /// A buffer of the compute type filled with NaN.
    pub fn unwritten_reals(&mut self, len: usize) -> View {
        self.reals(&vec![f32::NAN; len])
    }

    /// A buffer of bytes.
    pub fn bytes(&mut self, bytes: Vec<u8>) -> View {
        // Exactly as long as asked for, on the heap of its own: the address sanitizer then sees every byte beyond it.
        self.buffers.push(bytes.into_boxed_slice().into_vec());
        View { buffer: BufferIdx(u32::try_from(self.buffers.len() - 1).expect("a test has few buffers")), offset: 0 }
    }

    /// Elements of a buffer of f32.
    pub fn read_floats(&self, view: View, len: usize) -> Vec<f32> {
        self.part(view, 4 * len).chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// Elements of a buffer of u32.
    pub fn read_words(&self, view: View, len: usize) -> Vec<u32> {
        self.part(view, 4 * len).chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// Elements of a buffer of the compute type.
    pub fn read_reals(&self, view: View, len: usize) -> Vec<f32> {
        self.read(view, len, self.real)
    }

    /// Bytes of a buffer.
    pub fn part(&self, view: View, bytes: usize) -> &[u8] {
        &self.buffers[view.buffer.0 as usize][view.offset..view.offset + bytes]
    }

    fn read(&self, view: View, len: usize, real: Real) -> Vec<f32> {
        match real {
            Real::F32 => self.read_floats(view, len),
            Real::Bf16 => self.part(view, 2 * len).chunks_exact(2).map(|b| from_bf16(u16::from_le_bytes([b[0], b[1]]))).collect(),
        }
    }

    /// Runs nodes in order.
    pub fn run<N: Into<Node>>(&mut self, nodes: impl IntoIterator<Item = N>) {
        for node in nodes {
            match node.into() {
                Node::Launch(launch) => self.launch(&launch),
                Node::Product(product) => self.product(&product),
                Node::Zero { view, bytes } => self.part_mut(view, bytes).fill(0),
                Node::Copy { from, to, bytes } => {
                    let copied = self.part(from, bytes).to_vec();
                    self.part_mut(to, bytes).copy_from_slice(&copied);
                }
            }
        }
    }

    fn part_mut(&mut self, view: View, bytes: usize) -> &mut [u8] {
        &mut self.buffers[view.buffer.0 as usize][view.offset..view.offset + bytes]
    }

    fn address(&mut self, view: View) -> u64 {
        let buffer = &mut self.buffers[view.buffer.0 as usize];
        assert!(view.offset <= buffer.len(), "a view beyond its buffer");
        buffer.as_mut_ptr() as u64 + view.offset as u64
    }

    fn launch(&mut self, launch: &Launch) {
        // Every argument in 8 bytes: a kernel reads as many as its type has.
        let mut values: Vec<u64> = launch.args.iter().map(|arg| self.argument(*arg)).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let library = library(launch.module, self.real);
        let name = CString::new(format!("run_{}", launch.kernel)).expect("a kernel's name");
        let block = [launch.threads, 1, 1];
        // SAFETY: the library was compiled from the kernel's source with this signature (EMU_EXPORT), the number of arguments is
        // checked there, and the pointers live until it returns.
        unsafe {
            type Set = unsafe extern "C" fn(u32);
            type Run = unsafe extern "C" fn(*const u32, *const u32, u32, *mut *mut c_void, u32);
            let set: libloading::Symbol<Set> = library.get(b"set_order\0").expect("every library sets its order");
            set(self.order);
            let run: libloading::Symbol<Run> = library.get(name.as_bytes_with_nul()).expect("the kernel is in its module");
            let count = u32::try_from(pointers.len()).expect("few arguments");
            run(launch.grid.as_ptr(), block.as_ptr(), launch.shared_bytes, pointers.as_mut_ptr(), count);
        }
    }

    fn argument(&mut self, arg: Arg) -> u64 {
        match arg {
            Arg::In(view) | Arg::Out(view) | Arg::InOut(view) => self.address(view),
            Arg::Null => 0,
            Arg::U32(value) => u64::from(value),
            Arg::F32(value) => u64::from(value.to_bits()),
        }
    }

    fn product(&mut self, p: &Product) {
        let a = self.factor(p.a, p.m, p.k);
        let b = self.factor(p.b, p.k, p.n);
        let bias = p.bias.map(|bias| self.read_floats(bias, p.n));
        let addend = p.addend.map(|addend| self.read_floats(addend, p.m * p.n));
        let mut out = Vec::with_capacity(p.m * p.n * p.out_real.bytes());
        for row in 0..p.m {
            for column in 0..p.n {
                let mut sum = addend.as_ref().map_or(0.0, |addend| f64::from(addend[row * p.n + column]));
                sum += bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
                sum += (0..p.k).map(|k| f64::from(a[row * p.k + k]) * f64::from(b[k * p.n + column])).sum::<f64>();
                match p.out_real {
                    Real::F32 => out.extend((sum as f32).to_le_bytes()),
                    Real::Bf16 => out.extend(to_bf16(sum as f32).to_le_bytes()),
                }
            }
        }
        self.part_mut(p.out, out.len()).copy_from_slice(&out);
    }

    fn factor(&self, factor: Factor, rows: usize, columns: usize) -> Vec<f32> {
        let values = self.read(factor.view, rows * columns, factor.real);
        if !factor.transposed {
            return values;
        }
        (0..rows * columns).map(|idx| values[idx % columns * rows + idx / columns]).collect()
    }
}

/// Rounds to the nearest bf16, ties to even.
pub fn to_bf16(value: f32) -> u16 {
    half::bf16::from_f32(value).to_bits()
}

/// The value of a bf16.
pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Values as a kernel that computes in `real` sees them.
pub fn rounded(values: &[f32], real: Real) -> Vec<f32> {
    match real {
        Real::F32 => values.to_vec(),
        Real::Bf16 => values.iter().map(|value| from_bf16(to_bf16(*value))).collect(),
    }
}

/// Numbers in [-1, 1) that depend on the seed alone.
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut draws = scaledown::data::Philox::new(seed, scaledown::data::Stream::Scenes).at(0, 0);
    (0..len).map(|_| draws.between(-1.0, 1.0)).collect()
}

/// Checks max|a - b| <= limit * max|expected| (at least 1e-6 of it), and that nothing is left unwritten.
#[track_caller]
pub fn assert_near(what: &str, found: &[f32], expected: &[f32], limit: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
    for (idx, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= limit * largest, "{what}: element {idx}: {found} for {expected}, largest {largest}");
    }
}

fn library(module: Module, real: Real) -> &'static Library {
    static LIBRARIES: Mutex<Option<HashMap<(&str, Real), &'static Library>>> = Mutex::new(None);
    let mut libraries = LIBRARIES.lock().expect("compilation does not panic twice");
    libraries.get_or_insert_default().entry((module.name, real)).or_insert_with(|| {
        let path = compile(module, real);
        // SAFETY: the library runs no code when it is loaded.
        let library = unsafe { Library::new(&path) }.expect("the compiled kernels load");
        Box::leak(Box::new(library))
    })
}

/// Compiles a module for the CPU; the file is named by its content, so an unchanged one is compiled once.
fn compile(module: Module, real: Real) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_sanitized = std::env::var_os("SCALEDOWN_EMU_ASAN").is_some();
    let mut source = String::new();
    if real == Real::Bf16 {
        source.push_str("#define REAL_BF16\n");
    }
    source.push_str(module.source);
    source.push_str("\nextern \"C\" void set_order(unsigned order) { emu::order = order; }\n");
    for kernel in kernels(module.source) {
        source.push_str(&format!("EMU_EXPORT({kernel})\n"));
    }
    let mut digest = blake3::Hasher::new();
    digest.update(source.as_bytes()).update(&[u8::from(is_sanitized)]);
    for header in ["kernels/ptx.cuh", "kernels/common.cuh", "tests/emu/emu.h"] {
        digest.update(&std::fs::read(root.join(header)).expect("the headers are in the repository"));
    }
    let name = format!("emu-{}-{}", module.name, &digest.finalize().to_hex()[..16]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}.so"));
    if path.exists() {
        return path;
    }
    let unit = folder.join(format!("{name}.cpp"));
    std::fs::write(&unit, source).expect("the target folder is writable");
    let beside = folder.join(format!("{name}.{}.so", std::process::id()));
    let mut command = Command::new(compiler());
    command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-DEMU", "-Wall", "-Wno-unused-function"]);
    command.args(["-Wno-unknown-pragmas", "-Wno-ignored-attributes"]);
    if is_sanitized {
        command.args(["-g", "-fsanitize=address"]);
    }
    command.arg("-I").arg(root.join("kernels")).arg("-I").arg(root.join("tests/emu"));
    let out = command.arg(&unit).arg("-o").arg(&beside).output().expect("the compiler starts");
    assert!(out.status.success(), "{}:\n{}", unit.display(), String::from_utf8_lossy(&out.stderr));
    std::fs::rename(&beside, &path).expect("the target folder is writable");
    path
}

/// Names of the kernels of a source: what follows `KERNEL(n)`.
fn kernels(source: &str) -> Vec<&str> {
    source
        .split("KERNEL(")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .filter_map(|(_, rest)| rest.split('(').next())
        .map(str::trim)
        .collect()
}
