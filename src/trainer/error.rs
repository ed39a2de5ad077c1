//! What can go wrong while one run is trained or measured.

use std::path::PathBuf;

/// An error of the trainer; divergence is not one (it is a status).
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The thread pool could not start.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// Asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// dfdx could not allocate.
    #[error("out of memory while making an activation")]
    OutOfMemory,
    /// A parameter buffer of another model.
    #[error("found {found} parameters, the model has {expected}")]
    ParameterCount {
        /// Found.
        found: usize,
        /// Expected.
        expected: usize,
    },
    /// An update was asked of a step that was prepared for encoding.
    #[error("this step was prepared without an optimiser")]
    NoOptimizer,
    /// What a step found was asked for before there was one.
    #[error("no step has been done yet")]
    NoStep,
    /// A checkpoint's optimiser state does not fit.
    #[error("the optimiser state `{buffer}` is missing or of another length")]
    OptimizerState {
        /// Which.
        buffer: String,
    },
    /// A batch whose parts have more elements than a GPU kernel counts.
    #[error("a part of a batch is too large for a GPU: kernel {kernel} would count {count} elements, 2^32 at most")]
    TooLarge {
        /// The kernel.
        kernel: &'static str,
        /// What it would count.
        count: u64,
        /// Parts that are small enough.
        parts: u64,
    },
    /// A part of the config that no backend here can train.
    #[error("{what} cannot be trained yet on {device}")]
    Unsupported {
        /// What.
        what: String,
        /// Device.
        device: &'static str,
        /// What to do instead.
        hint: String,
    },
    /// A checkpoint or model file could not be read.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// CUDA was asked for and is not usable on this machine.
    #[error("no CUDA: {reason}")]
    NoCuda {
        /// What is missing or refused.
        reason: String,
        /// How to get it.
        hint: String,
    },
    /// A call of the driver, of NVRTC or of cuBLASLt failed.
    #[error("the GPU failed at {operation}: {code}")]
    Cuda {
        /// What was tried.
        operation: String,
        /// The library's own name of the failure.
        code: String,
    },
    /// A kernel file does not compile.
    #[error("the kernels of `{module}` do not compile:\n{log}")]
    Compile {
        /// Name of the file without `.cu`.
        module: String,
        /// What the compiler said.
        log: String,
    },
    /// Device memory ran out.
    #[error(
        "the GPU has no memory left: asked for {} beyond {}, available {}, planned for a training step in all {}",
        mib(*asked), mib(*held), known(*available), known(*planned)
    )]
    DeviceMemory {
        /// Bytes of the allocation that failed.
        asked: u64,
        /// Bytes that this program holds already.
        held: u64,
        /// Bytes that were free on the device.
        available: Option<u64>,
        /// Bytes that a training step is planned with; unknown where nothing is trained.
        planned: Option<u64>,
    },
    /// A batch that would hold a pair twice, as its own negative.
    #[error("a batch of {batch} pairs is larger than the subset of {subset} samples")]
    BatchBeyondSubset {
        /// Pairs of a step, the strategy's multiplier included.
        batch: u64,
        /// Samples in a pass.
        subset: usize,
    },
    /// A model whose features are no features (not finite, or of no length): it has diverged, whatever its last loss was.
    #[error("{what}: the model has diverged")]
    Diverged {
        /// Which feature, and what it is.
        what: String,
    },
    /// The data does not fit the model or the evaluation.
    #[error("{0}")]
    Input(String),
}

impl TrainerError {
    /// What a user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OutOfMemory => Some("use a smaller batch, or cut it with `train.accumulate`".into()),
            Self::DeviceMemory { .. } => {
                Some("use a smaller batch, cut it with `train.accumulate`, or run fewer jobs at once on the GPU".into())
            }
            Self::TooLarge { parts, .. } => {
                Some(format!("cut the batch with `train.accumulate: {parts}` or more, or use a smaller one"))
            }
            Self::Unsupported { hint, .. } | Self::NoCuda { hint, .. } => Some(hint.clone()),
            Self::Cuda { .. } => {
                Some("run it again with SCALEDOWN_CUDA_REPLAY=checked: the message then names the node that fails".into())
            }
            Self::BatchBeyondSubset { .. } => {
                Some("a pair would meet itself in its own batch; lower `train.batch_size` or enlarge the subset".into())
            }
            Self::Diverged { .. } => Some("lower `train.lr` or `train.weight_decay`, or warm up for longer".into()),
            Self::Checkpoint { .. } => Some("remove the file; the run starts again from the checkpoint before it, or anew".into()),
            _ => None,
        }
    }
}

fn known(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".into(), mib)
}

/// Bytes for people.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl From<dfdx::tensor::CpuError> for TrainerError {
    fn from(_: dfdx::tensor::CpuError) -> Self {
        Self::OutOfMemory
    }
}
