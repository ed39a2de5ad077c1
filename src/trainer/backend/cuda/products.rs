//! Matrix products through cuBLASLt.
//!
//! Input: [`Product`]s and addresses. Output: work on the stream of a [`Lane`]. A row-major matrix is a column-major one
//! transposed, so out = a b is asked for as outᵀ = bᵀ aᵀ: our b is the library's A, our a its B, and a bias over our columns is its
//! bias over rows. Descriptors and the algorithm are made once a distinct shape.
//!
//! A shape that the library has no algorithm for is done without its bias, which a kernel of ours then adds; failing that, by a
//! kernel of ours alone ([`Way`]). Each is told once, as a warning.
//!
//! Invariants: f32 products are never rounded to TF32 unless the precision says so; sums are f32; the same shape uses the same
//! algorithm, and partial sums of a split inner dimension are added in a step of their own in f32 (never in place, where blocks
//! take turns at the output): the same inputs give the same bytes on the same GPU and library. Must not know a recording.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{self, cublasComputeType_t as Compute, cublasLtMatmulDescAttributes_t as DescAttribute};
use cudarc::cublaslt::sys::{cublasLtMatmulPreferenceAttributes_t as Preference, cudaDataType as DataType};

use super::device::Address;
use super::lane::{Lane, WORKSPACE_BYTES};
use super::libraries::Library;
use super::shape::{Operands, Shape};
use super::tune::Tuner;
use crate::run::Precision;
use crate::trainer::TrainerError;
use crate::trainer::ops::launch::{Product, Real};

/// Algorithms that the heuristic is asked for; the first is used unless they are timed.
const CANDIDATES: usize = 8;

/// The products of one device.
pub(super) struct Products {
    // Plans are destroyed before the library's handle.
    plans: Vec<Plan>,
    known: HashMap<Shape, Way>,
    warnings: Vec<String>,
    handle: Handle,
    precision: Precision,
    tuner: Option<Tuner>,
}

/// How a product is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the library, by this plan.
    Library(usize),
    /// By the library, by this plan, without the bias.
    BiasApart(usize),
    /// By a kernel of ours.
    Own,
}

impl Way {
    fn plan(self) -> Option<usize> {
        match self {
            Self::Library(plan) | Self::BiasApart(plan) => Some(plan),
            Self::Own => None,
        }
    }
}

/// How partial sums of a split inner dimension may be kept until they are added, in a step of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reductions {
    /// In the type of the sums.
    InComputeType,
    /// In that, or in the type of the output where that is f32, too.
    InOutputTypeToo,
}

impl Reductions {
    /// For tables.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::InComputeType => "partial sums as sums",
            Self::InOutputTypeToo => "partial sums as sums or output",
        }
    }

    fn mask(self, out: Real) -> u32 {
        let of_sums = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let of_output = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE as u32;
        match (self, out) {
            (Self::InOutputTypeToo, Real::F32) => of_sums | of_output,
            (Self::InOutputTypeToo | Self::InComputeType, _) => of_sums,
        }
    }
}

/// What the library was told of a shape, and what it suggests.
pub(super) struct Plan {
    shape: Shape,
    desc: Desc,
    a: MatrixLayout,
    b: MatrixLayout,
    out: MatrixLayout,
    /// Best guess first; at least one.
    candidates: Vec<sys::cublasLtMatmulAlgo_t>,
    is_rehearsed: bool,
}

impl Products {
    /// Products of a precision; their algorithms are timed where there is a tuner.
    pub(super) fn new(precision: Precision, tuner: Option<Tuner>) -> Result<Self, TrainerError> {
        Library::CublasLt.require()?;
        // Most often a library that is newer than the driver.
        let refused = |error: CublasError| TrainerError::NoCuda {
            reason: format!("cuBLASLt does not start ({:?}); it may be newer than the driver", error.0),
            hint: Library::CublasLt.hint().into(),
        };
        let handle = Handle(result::create_handle().map_err(refused)?);
        let (plans, known, warnings) = Default::default();
        Ok(Self { plans, known, warnings, handle, precision, tuner })
    }

    /// How a product is done: decided where it is new, tried by [`Products::rehearse`].
    ///
    /// # Errors
    /// A product that neither the library nor a kernel of ours knows.
    pub(super) fn way(&mut self, product: &Product, operands: &Operands) -> Result<Way, TrainerError> {
        let shape = Shape::new(product, operands)?;
        if let Some(way) = self.known.get(&shape) {
            return Ok(*way);
        }
        let way = self.first_way(shape, operands, None);
        self.known.insert(shape, way);
        Ok(way)
    }

    /// The first way for which the library suggests an algorithm, after those that `refused`.
    fn first_way(&mut self, shape: Shape, operands: &Operands, refused: Option<Way>) -> Way {
        let mut reason = "an algorithm that was suggested does not run".to_string();
        let mut tried = |products: &mut Self, shape: Shape, operands: &Operands| {
            let plan = Plan::new(&products.handle, shape, products.precision, operands, Reductions::InOutputTypeToo);
            let plan = plan.inspect_err(|error| reason = format!("{:?}", error.0)).ok()?;
            products.plans.push(plan);
            Some(products.plans.len() - 1)
        };
        let whole = if refused.is_none() { tried(self, shape, operands) } else { None };
        if let Some(plan) = whole {
            return Way::Library(plan);
        }
        let without = (shape.without_bias(), Operands { bias: None, ..*operands });
        let is_left = shape.has_bias && !matches!(refused, Some(Way::BiasApart(_)));
        let apart = if is_left { tried(self, without.0, &without.1) } else { None };
        let (way, how) = match apart {
            Some(plan) => (Way::BiasApart(plan), "its bias is added apart"),
            None => (Way::Own, "a plain kernel does it, slowly"),
        };
        self.warnings.push(format!("cuBLASLt has no algorithm for {} ({reason}): {how}", shape.describe()));
        way
    }

    /// What was told of products since this was asked last.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.sort_unstable();
        warnings
    }

    /// Starts a product on the stream of a lane; also inside a capture.
    pub(super) fn run(&self, plan: usize, operands: &Operands, lane: &Lane) -> Result<(), TrainerError> {
        let plan = &self.plans[plan];
        self.run_with(plan, &plan.candidates[0], operands, lane)
    }

    /// Runs every new plan once on memory of its own, and chooses its algorithm by time where that is asked for. A first run loads
    /// the library's kernels, which is better done outside a capture, and an algorithm may be refused at its first run: where all of
    /// a plan's are, the product is done in the next way. Without memory for it, it is left out.
    ///
    /// # Errors
    /// Where the device no longer answers.
    pub(super) fn rehearse(&mut self, lane: &Lane) -> Result<(), TrainerError> {
        let is_new = |products: &Self, way: Way| way.plan().is_some_and(|plan| !products.plans[plan].is_rehearsed);
        let new: Vec<Shape> = self.known.iter().filter(|(_, way)| is_new(self, **way)).map(|(shape, _)| *shape).collect();
        let bytes = new.iter().map(|shape| shape.scratch(Address(0)).1).max().unwrap_or(0);
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller has bound the lane's context; freed below, after all work on it.
        let Ok(base) = (unsafe { cudarc::driver::result::malloc_sync(bytes) }) else { return Ok(()) };
        let outcome = new.into_iter().try_for_each(|shape| self.rehearse_shape(shape, Address(base), lane));
        let waited = lane.stream.synchronize().map_err(super::kernels::failed("trying products"));
        // SAFETY: allocated above; nothing uses it any more.
        unsafe { cudarc::driver::result::free_sync(base) }.map_err(super::kernels::failed("freeing memory"))?;
        outcome.and(waited)
    }

    /// Tries the ways of a shape until one runs.
    fn rehearse_shape(&mut self, shape: Shape, base: Address, lane: &Lane) -> Result<(), TrainerError> {
        while let Some(plan) = self.known[&shape].plan() {
            if self.rehearse_one(plan, base, lane).is_ok() {
                break;
            }
            // A refusal leaves the device as it was; after a failure of its own it does not answer.
            lane.stream.synchronize().map_err(super::kernels::failed(&shape.describe()))?;
            let way = self.first_way(shape, &shape.scratch(base).0, Some(self.known[&shape]));
            self.known.insert(shape, way);
        }
        Ok(())
    }

    fn rehearse_one(&mut self, idx: usize, base: Address, lane: &Lane) -> Result<(), TrainerError> {
        let plan = &self.plans[idx];
        let (operands, _) = plan.shape.scratch(base);
        let mut run = |algorithm: &_| {
            self.run_with(plan, algorithm, &operands, lane)?;
            lane.stream.synchronize().map_err(super::kernels::failed(&plan.shape.describe()))
        };
        let chosen = match &self.tuner {
            Some(tuner) => {
                let subject = format!("{:?} {:?}", plan.shape, self.precision);
                tuner.choose(&subject, &plan.candidates, |algorithm| plan.accepts(&self.handle, algorithm), &mut run)?
            }
            None => first_that_runs(&plan.candidates, &mut run)?,
        };
        let plan = &mut self.plans[idx];
        plan.candidates = vec![chosen];
        plan.is_rehearsed = true;
        Ok(())
    }

    /// What the library suggests for a shape.
    ///
    /// # Errors
    /// The library's code where it has no algorithm.
    pub(super) fn suggestions(&self, shape: Shape, reductions: Reductions, base: Address) -> Result<Plan, String> {
        Plan::new(&self.handle, shape, self.precision, &shape.scratch(base).0, reductions).map_err(|error| format!("{:?}", error.0))
    }

    /// Starts a suggestion for a shape on its scratch operands.
    pub(super) fn run_suggestion(
        &self,
        plan: &Plan,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        base: Address,
        lane: &Lane,
    ) -> Result<(), TrainerError> {
        self.run_with(plan, algorithm, &plan.shape.scratch(base).0, lane)
    }

    fn run_with(
        &self,
        plan: &Plan,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        operands: &Operands,
        lane: &Lane,
    ) -> Result<(), TrainerError> {
        let pointer = |address: Address| address.0 as *mut c_void;
        let (alpha, beta) = (1.0_f32, if plan.shape.has_addend { 1.0_f32 } else { 0.0 });
        let start = || {
            if let Some(bias) = operands.bias {
                plan.desc.set(DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.0)?;
            }
            // SAFETY: descriptors and handle are alive; the addresses are device memory of the described sizes, which the maker
            // of the recording planned; alpha and beta are read before the call returns.
            unsafe {
                result::matmul(
                    self.handle.0,
                    plan.desc.0,
                    (&raw const alpha).cast(),
                    (&raw const beta).cast(),
                    pointer(operands.b),
                    plan.a.0,
                    pointer(operands.a),
                    plan.b.0,
                    pointer(operands.addend),
                    plan.out.0,
                    pointer(operands.out),
                    plan.out.0,
                    algorithm,
                    pointer(lane.workspace),
                    WORKSPACE_BYTES,
                    lane.stream.cu_stream().cast(),
                )
            }
        };
        start().map_err(failed(&plan.shape.describe()))
    }

    /// What a plan computes, for messages.
    pub(super) fn describe(&self, plan: usize) -> String {
        self.plans[plan].shape.describe()
    }
}

/// The heuristic's best guess may still be refused at its first run.
fn first_that_runs(
    candidates: &[sys::cublasLtMatmulAlgo_t],
    run: &mut dyn FnMut(&sys::cublasLtMatmulAlgo_t) -> Result<(), TrainerError>,
) -> Result<sys::cublasLtMatmulAlgo_t, TrainerError> {
    let mut last = None;
    for candidate in candidates {
        match run(candidate) {
            Ok(()) => return Ok(*candidate),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("a plan has a candidate"))
}

impl Plan {
    fn new(
        handle: &Handle,
        shape: Shape,
        precision: Precision,
        operands: &Operands,
        reductions: Reductions,
    ) -> Result<Self, CublasError> {
        let compute = match (precision, shape.factors) {
            (Precision::Tf32, Real::F32) => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
            (Precision::F32 | Precision::Tf32 | Precision::Bf16, _) => Compute::CUBLAS_COMPUTE_32F,
        };
        let desc = Desc(result::create_matmul_desc(compute, DataType::CUDA_R_32F)?);
        let ((a_rows, a_columns, trans_a), (b_rows, b_columns, trans_b)) = (shape.library_a(), shape.library_b());
        desc.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, &u32::from(trans_a))?;
        desc.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSB, &u32::from(trans_b))?;
        if let Some(bias) = operands.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            desc.set(DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            // The heuristic reads the pointer's alignment.
            desc.set(DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias.0)?;
        }
        let a = MatrixLayout::new(shape.factors, a_rows, a_columns)?;
        let b = MatrixLayout::new(shape.factors, b_rows, b_columns)?;
        let out = MatrixLayout::new(shape.out, shape.n, shape.m)?;
        let mut plan = Self { shape, desc, a, b, out, candidates: Vec::new(), is_rehearsed: false };
        plan.candidates = plan.ask(handle, reductions)?;
        Ok(plan)
    }

    /// Algorithms that the library suggests.
    pub(super) fn algorithms(&self) -> &[sys::cublasLtMatmulAlgo_t] {
        &self.candidates
    }

    /// Algorithms for the shape, best guess first.
    fn ask(&self, handle: &Handle, reductions: Reductions) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, CublasError> {
        let preferences = Preferences(result::create_matmul_pref()?);
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(WORKSPACE_BYTES as u64))?;
        let reductions = reductions.mask(self.shape.out);
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions)?;
        let [a, b, addend, out, _] = self.shape.alignments;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &addend)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &out)?;
        // SAFETY: plain numbers, of which zero is a value of each type.
        let mut results: [sys::cublasLtMatmulHeuristicResult_t; CANDIDATES] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        // SAFETY: everything is alive and `results` has room for what is asked for.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle.0,
                self.desc.0,
                self.a.0,
                self.b.0,
                self.out.0,
                self.out.0,
                preferences.0,
                CANDIDATES as i32,
                results.as_mut_ptr(),
                &raw mut count,
            )
        }
        .result()?;
        let found = results.iter().take(usize::try_from(count).unwrap_or(0));
        let usable = found.filter(|result| result.state.result().is_ok() && result.workspaceSize <= WORKSPACE_BYTES);
        let algorithms: Vec<_> = usable.map(|result| result.algo).collect();
        if algorithms.is_empty() {
            return Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED));
        }
        Ok(algorithms)
    }

    /// Whether an algorithm that was kept on disk is still one for this plan.
    fn accepts(&self, handle: &Handle, algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
        // SAFETY: as in `ask`.
        let mut result: sys::cublasLtMatmulHeuristicResult_t = unsafe { std::mem::zeroed() };
        let (a, b, out) = (self.a.0, self.b.0, self.out.0);
        // SAFETY: everything is alive.
        let status = unsafe { sys::cublasLtMatmulAlgoCheck(handle.0, self.desc.0, a, b, out, out, algorithm, &raw mut result) };
        status.result().is_ok() && result.workspaceSize <= WORKSPACE_BYTES
    }
}

/// The failure of cuBLASLt at an operation.
fn failed(operation: &str) -> impl Fn(CublasError) -> TrainerError + use<> {
    let operation = operation.to_string();
    move |error| TrainerError::Cuda { operation: operation.clone(), code: format!("{:?}", error.0) }
}

struct Handle(sys::cublasLtHandle_t);
struct Desc(sys::cublasLtMatmulDesc_t);
struct MatrixLayout(sys::cublasLtMatrixLayout_t);
struct Preferences(sys::cublasLtMatmulPreference_t);

impl Desc {
    fn set<T>(&self, attribute: DescAttribute, value: &T) -> Result<(), CublasError> {
        // SAFETY: the descriptor is alive; `value` has the attribute's type, a plain number, and is copied.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }
}

impl Preferences {
    fn set<T>(&self, attribute: Preference, value: &T) -> Result<(), CublasError> {
        // SAFETY: as for a descriptor.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
    }
}

impl MatrixLayout {
    /// A dense column-major matrix.
    fn new(real: Real, rows: usize, columns: usize) -> Result<Self, CublasError> {
        let element = match real {
            Real::F32 => DataType::CUDA_R_32F,
            Real::Bf16 => DataType::CUDA_R_16BF,
        };
        let leading = i64::try_from(rows).map_err(|_| CublasError(sys::cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE))?;
        result::create_matrix_layout(element, rows as u64, columns as u64, leading).map(Self)
    }
}

macro_rules! destroyed {
    ($($type:ident by $destroy:ident),*) => {$(
        impl Drop for $type {
            fn drop(&mut self) {
                // SAFETY: made by the library and destroyed only here; a drop returns no error.
                let _ = unsafe { result::$destroy(self.0) };
            }
        }
    )*};
}
destroyed!(Handle by destroy_handle, Desc by destroy_matmul_desc, MatrixLayout by destroy_matrix_layout, Preferences by destroy_matmul_pref);
