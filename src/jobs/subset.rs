//! Chooses samples of a pool: a list of indices, never a copy.

use super::{files, read};
use crate::data::{Pack, choose, write_subset};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::{SubsetBy, SubsetSpec};
use crate::run::{QualityBy, QualityConfig};

pub(super) fn run(spec: &SubsetSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let SubsetSpec { pool, samples: _, keep, by } = spec;
    let pack = Pack::open(&ctx.checked_input(pool)?)?;
    let (by, scores): (_, Option<Vec<f64>>) = match by {
        SubsetBy::Random => (QualityBy::Random, None),
        SubsetBy::Scores(scores) => {
            let bytes = read(&ctx.checked_input(scores)?.join(files::SCORES))?;
            let scores = bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().expect("eight bytes")));
            // Whatever they came from, they are a column of numbers now.
            (QualityBy::Field(files::SCORES.into()), Some(scores.collect()))
        }
    };
    let subset = choose(pack.len(), Some(&QualityConfig { keep: *keep, by }), scores.as_deref())?;
    write_subset(&ctx.out().join(files::SUBSET), &subset.indices)?;
    Ok(JobOutput::finished(&serde_json::json!({
        "pool": pack.len(),
        "kept": subset.indices.len(),
        "without_score": subset.unscored,
    })))
}
