//! Chooses samples of a pool: a list of indices, never a copy.

use super::{files, read};
use crate::data::{Pack, Ranking, choose, read_subset, write_subset};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::{SubsetBy, SubsetSpec};

pub(super) fn run(spec: &SubsetSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let SubsetSpec { pool, samples: _, keep, by, within, draw } = spec;
    let pack = Pack::open(&ctx.checked_input(pool)?)?;
    let within = match within {
        Some(within) => Some(read_subset(&ctx.checked_input(within)?.join(files::SUBSET), pack.len())?),
        None => None,
    };
    let scores: Option<Vec<f64>> = match by {
        SubsetBy::Random => None,
        SubsetBy::Scores(scores) => {
            let bytes = read(&ctx.checked_input(scores)?.join(files::SCORES))?;
            Some(bytes.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().expect("eight bytes"))).collect())
        }
    };
    let ranking = scores.as_deref().map_or(Ranking::Random { draw: *draw }, Ranking::Scores);
    let subset = choose(pack.len(), *keep, ranking, within.as_deref())?;
    if subset.unscored > 0 {
        let looked_at = within.as_ref().map_or(pack.len(), Vec::len);
        ctx.warn(format!("{} of {looked_at} samples have no score and are left out", subset.unscored));
    }
    write_subset(&ctx.out().join(files::SUBSET), &subset.indices)?;
    Ok(JobOutput::finished(&serde_json::json!({
        "pool": pack.len(),
        "kept": subset.indices.len(),
        "without_score": subset.unscored,
    })))
}
