//! Packs a training pool or an evaluation set: decoded, resized, memory-mapped from then on.

use serde::{Deserialize, Serialize};

use super::in_pool;
use crate::data::{Frame, Oddities, PackSummary, PoolPart, ShardCount, SkipKind, pack_eval as pack_eval_set, pack_training};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::{DatasetSpec, EvalSetSpec};

/// Summary of a job that packs: what of its source was there, and was good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackedSummary {
    /// Samples packed.
    pub samples: u64,
    /// Samples left out.
    pub skipped: u64,
    /// Samples left out, by reason.
    #[serde(default)]
    pub skipped_by_kind: Vec<(SkipKind, u64)>,
    /// Shards listed and missing, where there are shards.
    #[serde(default)]
    pub shards: Option<ShardCount>,
    /// What the samples were like, besides.
    #[serde(default)]
    pub oddities: Oddities,
    /// Bytes of the pack.
    pub bytes: u64,
}

pub(super) fn pack_pool(spec: &DatasetSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let DatasetSpec { source, size, draw, image_size, framing, fingerprint: _ } = spec;
    let frame = Frame { side: *image_size, framing: *framing };
    let part = PoolPart { size: *size, draw: *draw };
    let summary = in_pool(ctx, || pack_training(source, part, frame, ctx.out(), &|done, total| ctx.progress(done, total)))??;
    Ok(packed(summary, ctx))
}

pub(super) fn pack_eval(spec: &EvalSetSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let EvalSetSpec { source, image_size, fingerprint: _ } = spec;
    let summary = in_pool(ctx, || pack_eval_set(source, *image_size, ctx.out(), &|done, total| ctx.progress(done, total)))??;
    Ok(packed(summary, ctx))
}

fn packed(summary: PackSummary, ctx: &JobContext<'_>) -> JobOutput {
    let PackSummary { samples, skips, shards, oddities, warnings, bytes } = summary;
    let (samples, skipped) = (samples as u64, skips.total);
    if skipped > 0 {
        ctx.warn(format!("{skipped} of {} samples were skipped; `data inspect` lists them", samples + skipped));
    }
    warnings.into_iter().chain(oddities.in_words()).for_each(|warning| ctx.warn(warning));
    JobOutput::finished(&PackedSummary { samples, skipped, skipped_by_kind: skips.by_kind, shards, oddities, bytes })
}
