//! Plain types that every stage shares: what one run is ([`RunConfig`]), what it left behind ([`RunRecord`], [`Outcomes`]), what is
//! happening now ([`Event`]).
//!
//! Invariant: data only. No I/O, no defaults that depend on the machine, no behaviour beyond small questions a value can
//! answer about itself. `serde` of these types is the canonical form that keys are hashed from, so renaming a field is a new
//! key version.

mod config;
mod drawn;
mod encoder;
mod evaluation;
mod event;
mod milestone;
mod outcome;
mod quality;
mod record;
mod scenes;
mod seeds;
mod source;
mod ssl;
mod words;

pub use config::{
    Activation, Augmentation, DataConfig, DataSource, DecayScale, DeviceKind, FilterConfig, Framing, LossConfig, ModelConfig,
    OptimizerConfig, Precision, QualityBy, QualityConfig, RunConfig, StrategyConfig, TextEncoderConfig, TokenizerConfig,
    TrainConfig, kept_patches, whole_patches,
};
pub use encoder::{ConvNextConfig, ImageEncoderConfig, MixerConfig, Pooling, ResNetConfig, ResNetNorm, SwinConfig, VitConfig};
pub use evaluation::{EvalConfig, EvalSet, EvalSource, EvalTask, matched_classes};
pub use event::{Event, JobKind};
pub use milestone::{END, Milestone, add_best, best_metric, best_step_metric, end_metric, is_at_milestone};
pub use outcome::{Outcomes, SetOutcomes};
pub use quality::{Basic, Clustering, FeatureRule, Keep, NegClipLoss, Norm, ScoreFile};
pub use record::{CurvePoint, GMACS_AS_STATED, RunRecord, RunStatus};
pub use scenes::ScenesConfig;
pub use seeds::{SeedPart, SeedParts};
pub use source::Source;
pub use ssl::SslConfig;
pub use words::counted;
