//! Scores every sample of a pool: a field of its metadata, or image-text similarity under a trained model.

use super::{files, train_spec, write};
use crate::data::{Pack, Tokenizer};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::{ScoreBy, ScoresSpec};
use crate::store::JobStatus;
use crate::trainer::backend::Placement;
use crate::trainer::checkpoint::load_model;
use crate::trainer::eval::Encoder;
use crate::trainer::model::build;

pub(super) fn run(spec: &ScoresSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let pack = Pack::open(&ctx.checked_input(&spec.pool)?)?;
    let scores = match &spec.by {
        ScoreBy::Field(name) => pack.field_values(name)?,
        ScoreBy::Similarity { scorer, tokenizer, device, precision } => {
            if ctx.input_record(scorer)?.status == JobStatus::Diverged {
                return Err(JobError::failed(format!("the scorer's training {} diverged", scorer.short()))
                    .with_hint("lower the learning rate in the scorer's file"));
            }
            let train = train_spec(ctx, scorer)?;
            let parameters = load_model(&ctx.checked_input(scorer)?.join(files::MODEL), &build(&train.model, 0.0))?;
            let tokenizer = Tokenizer::load(&ctx.checked_input(tokenizer)?)?;
            let placement = Placement { device: *device, precision: *precision, threads: ctx.threads() };
            Encoder::new(&train.model, parameters, placement)?.similarities(&tokenizer, &pack)?
        }
    };
    let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    write(&ctx.out().join(files::SCORES), &bytes)?;
    let scored = scores.iter().filter(|score| score.is_finite()).count();
    Ok(JobOutput::finished(&serde_json::json!({ "samples": scores.len(), "scored": scored })))
}
