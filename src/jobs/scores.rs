//! Scores every sample of a pool: a field of its metadata, or image-text similarity under a trained model.

use super::{files, train_spec, write};
use crate::data::{Pack, Tokenizer};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::{ScoreBy, ScoresSpec};
use crate::store::JobStatus;
use crate::trainer::TrainerError;
use crate::trainer::backend::Placement;
use crate::trainer::checkpoint::load_model;
use crate::trainer::eval::Encoder;
use crate::trainer::model::build;

pub(super) fn run(spec: &ScoresSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let pack = Pack::open(&ctx.checked_input(&spec.pool)?)?;
    let scores = match &spec.by {
        ScoreBy::Field(name) => pack.field_values(name)?,
        ScoreBy::Similarity { scorer, tokenizer, device, precision } => {
            let record = ctx.input_record(scorer)?;
            if record.status == JobStatus::Diverged {
                return Err(diverged(record.reason.as_deref().unwrap_or("no reason is noted")));
            }
            let train = train_spec(ctx, scorer)?;
            let weights = load_model(&ctx.checked_input(scorer)?.join(files::MODEL), &build(&train.model, 0.0))?;
            let tokenizer = Tokenizer::load(&ctx.checked_input(tokenizer)?)?;
            let placement = Placement { device: *device, precision: *precision, threads: ctx.threads() };
            let scores = Encoder::new(&train.model, weights, placement)?.similarities(&tokenizer, &pack);
            let scores = scores.map_err(|error| match error {
                TrainerError::Diverged { what } => diverged(&what),
                other => other.into(),
            })?;
            all_finite(&scores)?;
            scores
        }
    };
    let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    write(&ctx.out().join(files::SCORES), &bytes)?;
    let scored = scores.iter().filter(|score| score.is_finite()).count();
    Ok(JobOutput::finished(&serde_json::json!({ "samples": scores.len(), "scored": scored })))
}

/// A model that finds a similarity that is no number ranks nothing: it has diverged, whatever its training said.
fn all_finite(scores: &[f64]) -> Result<(), JobError> {
    match scores.iter().filter(|score| !score.is_finite()).count() {
        0 => Ok(()),
        wrong => Err(diverged(&format!("{wrong} of {} similarities are not finite", scores.len()))),
    }
}

fn diverged(why: &str) -> JobError {
    JobError::failed(format!("the scorer diverged: {why}")).with_hint("lower the learning rate in the scorer's file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_are_no_numbers_are_a_diverged_scorer() {
        assert!(all_finite(&[0.5, -1.0]).is_ok());
        let error = all_finite(&[0.5, f64::NAN, f64::INFINITY]).expect_err("two are no numbers");
        assert_eq!(error.to_string(), "the scorer diverged: 2 of 3 similarities are not finite");
    }
}
