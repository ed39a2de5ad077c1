//! Kernels of one device: compiled and loaded when first asked for.
//!
//! Input: a [`Module`] and a kernel's name. Output: a function of the driver. Invariant: a module is loaded once for a device,
//! for its one compute type, and stays loaded as long as a function of it is held. Must not know arguments.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError};
use cudarc::nvrtc::Ptx;

use super::cache::Cache;
use super::compile::{Architecture, Compiled, Target, compile};
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Launch, Module, Real};

/// The kernels.
pub(super) struct Kernels {
    context: Arc<CudaContext>,
    real: Real,
    target: Target,
    cache: Cache,
    /// Not loaded yet.
    compiled: HashMap<ModuleKey, Compiled>,
    modules: HashMap<ModuleKey, Arc<CudaModule>>,
    functions: HashMap<(ModuleKey, &'static str), CudaFunction>,
}

/// What tells modules apart.
type ModuleKey = (&'static str, Option<(&'static str, u32)>);

fn key(module: &Module) -> ModuleKey {
    (module.name, module.define)
}

impl Kernels {
    /// For a device; nothing is compiled yet.
    pub(super) fn new(context: &Arc<CudaContext>, real: Real, cache: Cache) -> Result<Self, TrainerError> {
        let (major, minor) = context.compute_capability().map_err(failed("reading the compute capability"))?;
        let architecture = Architecture { major: major.unsigned_abs(), minor: minor.unsigned_abs() };
        let target = Target::for_device(architecture)?;
        let (compiled, modules, functions) = Default::default();
        Ok(Self { context: context.clone(), real, target, cache, compiled, modules, functions })
    }

    /// The compute type.
    pub(super) fn real(&self) -> Real {
        self.real
    }

    /// Compiles what launches need and what is not loaded yet, side by side: the first step on a new GPU waits for the slowest file
    /// alone. The results are found in the cache, or kept here until they are loaded.
    pub(super) fn compile_all<'a>(&mut self, launches: impl Iterator<Item = &'a Launch>) -> Result<(), TrainerError> {
        let mut missing: HashMap<ModuleKey, &Module> = HashMap::new();
        for launch in launches.filter(|launch| !self.is_known(&launch.module)) {
            missing.insert(key(&launch.module), &launch.module);
        }
        let (target, real, cache) = (self.target, self.real, &self.cache);
        let compiled = std::thread::scope(|scope| {
            let compiling: Vec<_> =
                missing.iter().map(|(key, module)| (*key, scope.spawn(move || compile(module, target, real, cache)))).collect();
            let done = compiling.into_iter().map(|(key, thread)| Ok((key, thread.join().expect("compiling does not panic")?)));
            done.collect::<Result<Vec<_>, TrainerError>>()
        })?;
        self.compiled.extend(compiled);
        Ok(())
    }

    fn is_known(&self, module: &Module) -> bool {
        self.modules.contains_key(&key(module)) || self.compiled.contains_key(&key(module))
    }

    /// The function of a launch, with room for its dynamic shared memory.
    pub(super) fn function(&mut self, launch: &Launch) -> Result<CudaFunction, TrainerError> {
        let name = (key(&launch.module), launch.kernel);
        let function = match self.functions.get(&name) {
            Some(function) => function.clone(),
            None => {
                let module = self.module(&launch.module)?;
                let function = module.load_function(launch.kernel).map_err(failed(&format!(
                    "loading kernel {} of {}",
                    launch.kernel,
                    launch.module.describe()
                )))?;
                self.functions.insert(name, function.clone());
                function
            }
        };
        fit(&function, launch)?;
        Ok(function)
    }

    fn module(&mut self, module: &Module) -> Result<Arc<CudaModule>, TrainerError> {
        if let Some(loaded) = self.modules.get(&key(module)) {
            return Ok(loaded.clone());
        }
        let failed = failed(&format!("loading the kernels of {}", module.describe()));
        let loaded = match (self.load(module, self.target)?, self.target) {
            (Ok(loaded), _) => loaded,
            // A driver may refuse the machine code of a newer compiler and still translate its PTX.
            (Err(refused), Target::Cubin(architecture)) => {
                self.load(module, Target::Ptx(architecture))?.map_err(|_| failed(refused))?
            }
            (Err(refused), Target::Ptx(_)) => return Err(failed(refused)),
        };
        self.modules.insert(key(module), loaded.clone());
        Ok(loaded)
    }

    /// The module, or the driver's refusal of its code.
    fn load(&mut self, module: &Module, target: Target) -> Result<Result<Arc<CudaModule>, DriverError>, TrainerError> {
        let compiled = match self.compiled.remove(&key(module)) {
            Some(compiled) if target == self.target => compiled,
            _ => compile(module, target, self.real, &self.cache)?,
        };
        Ok(self.context.load_module(Ptx::from_binary(compiled.image)))
    }
}

/// Makes room for a launch's dynamic shared memory, and checks its block size, which the driver would refuse without a reason.
/// Asking for attributes also makes a lazy driver load the kernel now and not inside a capture.
fn fit(function: &CudaFunction, launch: &Launch) -> Result<(), TrainerError> {
    let operation = |what: &str| format!("{what} of kernel {}", launch.kernel);
    let attribute = |which| function.get_attribute(which).map_err(failed(&operation("reading an attribute")));
    let most = attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
    if i64::from(launch.threads) > i64::from(most) {
        let code = format!("{} threads asked for, {most} possible", launch.threads);
        return Err(TrainerError::Cuda { operation: operation("the block size"), code });
    }
    let room = attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)?;
    if i64::from(launch.shared_bytes) > i64::from(room) {
        let bytes = i32::try_from(launch.shared_bytes).unwrap_or(i32::MAX);
        function
            .set_attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes)
            .map_err(failed(&operation(&format!("asking for {bytes} bytes of shared memory"))))?;
    }
    Ok(())
}

/// The driver's failure at an operation.
pub(super) fn failed(operation: &str) -> impl Fn(DriverError) -> TrainerError + use<> {
    let operation = operation.to_string();
    // The Debug form of the error itself would call the driver again.
    move |error| TrainerError::Cuda { operation: operation.clone(), code: format!("{:?}", error.0) }
}
