//! The emulator from Rust: kernels compiled into shared libraries, nodes run one after another.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};

use libloading::Library;
use scaledown::trainer::ops::launch::{Arg, Factor, Launch, Module, Node, Product, Real, View};
use scaledown::trainer::ops::reference::Matrix;

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

/// Waits until no other emulated device is in use.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where a view lies in this process.
type Resolve<'a> = &'a mut dyn FnMut(View) -> *mut u8;

/// Runs one node; kernels keep their shared memory in statics, so one thread at a time.
pub fn execute(node: &Node, real: Real, order: u32, address: Resolve) {
    match node {
        Node::Launch(launch) => execute_launch(launch, real, order, address),
        Node::Product(product) => execute_product(product, address),
        Node::Zero { view, bytes } => {
            // SAFETY: views lie in buffers that hold what their nodes touch; a product of the tests' own buffers.
            unsafe { std::ptr::write_bytes(address(*view), 0, *bytes) }
        }
        Node::Copy { from, to, bytes } => {
            // SAFETY: as above; two buffers do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(address(*from), address(*to), *bytes) }
        }
    }
}

fn execute_launch(launch: &Launch, real: Real, order: u32, address: Resolve) {
    // Every argument in 8 bytes: a kernel reads as many as its type has.
    let argument = |arg: &Arg| match arg {
        Arg::In(view) | Arg::Out(view) | Arg::InOut(view) => address(*view) as u64,
        Arg::Null => 0,
        Arg::U32(value) => u64::from(*value),
        Arg::F32(value) => u64::from(value.to_bits()),
        Arg::TooLarge(value) => panic!("{} counts to {value}", launch.kernel),
    };
    let mut values: Vec<u64> = launch.args.iter().map(argument).collect();
    let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
    let library = library(launch.module, real);
    let name = CString::new(format!("run_{}", launch.kernel)).expect("a kernel's name");
    let block = [launch.threads, 1, 1];
    // SAFETY: the library was compiled from the kernel's source with this signature (EMU_EXPORT), the number of arguments is
    // checked there, and the pointers live until it returns.
    unsafe {
        type Set = unsafe extern "C" fn(u32);
        type Run = unsafe extern "C" fn(*const u32, *const u32, u32, *mut *mut c_void, u32);
        let set: libloading::Symbol<Set> = library.get(b"set_order\0").expect("every library sets its order");
        set(order);
        let run: libloading::Symbol<Run> = library.get(name.as_bytes_with_nul()).expect("the kernel is in its module");
        let count = u32::try_from(pointers.len()).expect("few arguments");
        run(launch.grid.as_ptr(), block.as_ptr(), launch.shared_bytes, pointers.as_mut_ptr(), count);
    }
}

fn execute_product(p: &Product, address: Resolve) {
    let mut read = |view: View, len: usize, real: Real| -> Vec<f64> {
        // SAFETY: as for `execute`.
        let bytes = unsafe { std::slice::from_raw_parts(address(view), len * real.bytes()) };
        match real {
            Real::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Real::Bf16 => bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f64()).collect(),
        }
    };
    let mut factor = |factor: Factor, rows: usize, columns: usize, is_wanted_transposed: bool| {
        let values = read(factor.view, rows * columns, factor.real);
        let stored = Matrix::from_rows(if factor.transposed { rows } else { columns }, values);
        if factor.transposed == is_wanted_transposed { stored } else { stored.transposed() }
    };
    // Rows of A and columns of B, both along the inner dimension.
    let (a, b) = (factor(p.a, p.m, p.k, false), factor(p.b, p.k, p.n, true));
    let sums = a.times_transposed(&b);
    let bias = p.bias.map(|bias| read(bias, p.n, p.out_real));
    let addend = p.addend.map(|addend| read(addend, p.m * p.n, Real::F32));
    let mut out = Vec::with_capacity(p.m * p.n * p.out_real.bytes());
    for (idx, sum) in sums.values.iter().enumerate() {
        let sum = sum + addend.as_ref().map_or(0.0, |addend| addend[idx]) + bias.as_ref().map_or(0.0, |bias| bias[idx % p.n]);
        match p.out_real {
            Real::F32 => out.extend((sum as f32).to_le_bytes()),
            Real::Bf16 => out.extend(half::bf16::from_f32(sum as f32).to_le_bytes()),
        }
    }
    // SAFETY: as for `execute`.
    unsafe { std::ptr::copy_nonoverlapping(out.as_ptr(), address(p.out), out.len()) }
}

fn library(module: Module, real: Real) -> &'static Library {
    static LIBRARIES: Mutex<Option<HashMap<(String, Real), &'static Library>>> = Mutex::new(None);
    let mut libraries = LIBRARIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    libraries.get_or_insert_default().entry((module.describe(), real)).or_insert_with(|| {
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
    let is_noisy = std::env::var_os("SCALEDOWN_EMU_NOISE").is_some();
    // From the folder, not from the library: a kernel can be edited and tested without building the library again.
    let kernel = std::fs::read_to_string(root.join("kernels").join(format!("{}.cu", module.name))).expect("kernels/ is here");
    let mut source = module.prefix();
    if real == Real::Bf16 {
        source.push_str("#define REAL_BF16\n");
    }
    source.push_str(&kernel);
    source.push_str("\nextern \"C\" void set_order(unsigned order) { emu::order = order; }\n");
    for kernel in kernels(&kernel) {
        source.push_str(&format!("EMU_EXPORT({kernel})\n"));
    }
    let mut digest = blake3::Hasher::new();
    digest.update(source.as_bytes()).update(&[u8::from(is_sanitized), u8::from(is_noisy)]);
    let kernels =
        std::fs::read_dir(root.join("kernels")).expect("kernels/ is here").map(|entry| entry.expect("it is readable").path());
    let mut headers: Vec<PathBuf> = kernels.filter(|path| path.extension().is_some_and(|kind| kind == "cuh")).collect();
    headers.push(root.join("tests/emu/emu.h"));
    headers.sort();
    for header in headers {
        digest.update(&std::fs::read(header).expect("the headers are in the repository"));
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
    command.args(["-std=c++17", "-O2", "-fPIC", "-shared", "-DEMU", "-Wall", "-Wno-unused-function"]);
    command.args(["-Wno-unknown-pragmas", "-Wno-ignored-attributes"]);
    if is_noisy {
        command.args(["-DEMU_NOISE", "-ffp-contract=fast"]);
        if cfg!(target_arch = "x86_64") {
            command.arg("-mfma");
        }
    } else {
        command.arg("-ffp-contract=off");
    }
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
