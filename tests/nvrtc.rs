//! Every kernel file compiles for the architectures in use, in both compute types, and keeps its registers.
//!
//! Needs NVRTC and no GPU; prints a line and passes where it is not found, unless `SCALEDOWN_REQUIRE_NVRTC` is set (by `.ci/run`).
//! A kernel file that spills on purpose says why in its header, on a line that begins with `// Spills:`.

use rayon::prelude::*;
use scaledown::trainer::backend::cuda::cache::Cache;
use scaledown::trainer::backend::cuda::compile::{Architecture, Target, compile, version};
use scaledown::trainer::backend::cuda::modules;
use scaledown::trainer::ops::launch::{Module, Real};
use scaledown::trainer::{TrainerError, backend::cuda::libraries::Library};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ARCHITECTURES: [Architecture; 2] = [Architecture { major: 8, minor: 0 }, Architecture { major: 9, minor: 0 }];

/// Whether NVRTC is here; says so where it is not.
fn is_available() -> Result<bool, TrainerError> {
    match Library::Nvrtc.require() {
        Ok(()) => Ok(true),
        Err(error) if std::env::var_os("SCALEDOWN_REQUIRE_NVRTC").is_some() => Err(error),
        Err(error) => {
            println!("skipped: {error}");
            Ok(false)
        }
    }
}

#[test]
fn every_kernel_compiles_without_spills() -> Outcome {
    if !is_available()? {
        return Ok(());
    }
    println!("NVRTC {:?}", version()?);
    let forms = ARCHITECTURES.into_iter().flat_map(|arch| [(arch, Real::F32), (arch, Real::Bf16)]);
    let jobs: Vec<_> = modules().into_iter().flat_map(|module| forms.clone().map(move |form| (module, form))).collect();
    let compiled = jobs.par_iter().map(|(module, (arch, real))| compile(module, Target::Cubin(*arch), *real, &Cache::none()));
    let compiled: Vec<_> = compiled.collect::<Result<_, _>>()?;
    let mut wrong = Vec::new();
    for ((module, (architecture, real)), compiled) in jobs.iter().zip(&compiled) {
        assert!(compiled.image.starts_with(b"\x7fELF"), "{} for sm_{architecture}", module.describe());
        let kernels = compiled.kernels();
        assert!(!kernels.is_empty(), "{}: no kernel in\n{}", module.describe(), compiled.log);
        for kernel in kernels {
            let line = format!("{} sm_{architecture} {real:?} {kernel:?}", module.describe());
            println!("{line}");
            let spills = kernel.spill_store_bytes + kernel.spill_load_bytes > 0;
            if spills && !module.source.lines().any(|line| line.starts_with("// Spills:")) {
                wrong.push(line);
            }
        }
    }
    assert!(wrong.is_empty(), "kernels that spill without a reason: {wrong:#?}");
    Ok(())
}

#[test]
fn compiled_kernels_are_kept_and_ptx_is_text() -> Outcome {
    if !is_available()? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let cache = Cache::at(folder.path().into());
    let (target, module) = (Target::Cubin(ARCHITECTURES[1]), modules()[0]);
    let first = compile(&module, target, Real::Bf16, &cache)?;
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    assert_eq!(compile(&module, target, Real::Bf16, &cache)?, first);
    let ptx = compile(&module, Target::Ptx(ARCHITECTURES[1]), Real::Bf16, &cache)?.image;
    assert!(ptx.ends_with(b"\0") && String::from_utf8_lossy(&ptx).contains(".target sm_90"));
    assert_eq!(Target::for_device(ARCHITECTURES[1])?, target);
    Ok(())
}

#[test]
fn files_compiled_side_by_side_are_those_compiled_alone() -> Outcome {
    if !is_available()? {
        return Ok(());
    }
    let modules: Vec<Module> = modules().into_iter().filter(|module| module.name != "attention").collect();
    let image = |module: &Module| compile(module, Target::Cubin(ARCHITECTURES[1]), Real::Bf16, &Cache::none());
    let beside = std::thread::scope(|scope| {
        let threads: Vec<_> = modules.iter().map(|module| scope.spawn(move || image(module))).collect();
        threads.into_iter().map(|thread| thread.join().expect("compiling does not panic")).collect::<Result<Vec<_>, _>>()
    })?;
    for (module, beside) in modules.iter().zip(beside) {
        assert!(image(module)?.image == beside.image, "{}", module.describe());
    }
    Ok(())
}

#[test]
fn a_mistake_in_a_kernel_is_shown_with_its_own_line() -> Outcome {
    if !is_available()? {
        return Ok(());
    }
    let module = Module::new("mistake", "#include \"common.cuh\"\nKERNEL(32) f() { missing(); }\n");
    match compile(&module, Target::Cubin(ARCHITECTURES[0]), Real::F32, &Cache::none()) {
        Err(TrainerError::Compile { module, log }) => {
            assert!(module == "mistake" && log.contains("mistake.cu(2)") && log.contains("missing"), "{log}");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}
