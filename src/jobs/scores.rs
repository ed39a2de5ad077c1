//! Scores every sample of a pool: a field of its metadata, a table, a list, its caption and size, or a rule on features of a trained
//! model.

use super::{files, in_pool, train_spec, write};
use crate::data::{Pack, ScoreTable, Tokenizer, UidList, read_subset, select};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::{Key, RuleSpec, ScoreBy, ScoresSpec};
use crate::run::{Basic, FeatureRule};
use crate::store::JobStatus;
use crate::trainer::TrainerError;
use crate::trainer::backend::Placement;
use crate::trainer::checkpoint::load_model;
use crate::trainer::eval::Encoder;
use crate::trainer::model::build;

pub(super) fn run(spec: &ScoresSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let ScoresSpec { pool, samples: _, by, within } = spec;
    let pack = Pack::open(&ctx.checked_input(pool)?)?;
    let within = match within {
        Some(within) => Some(read_subset(&ctx.checked_input(within)?.join(files::SUBSET), pack.len())?),
        None => None,
    };
    let scores = match by {
        ScoreBy::Field(name) => pack.field_values(name)?,
        ScoreBy::File { scores, fingerprint: _ } => ScoreTable::read(scores)?.scores(&pack)?,
        ScoreBy::Uids { file, fingerprint: _ } => listed(file, &pack, ctx)?,
        ScoreBy::Basic(least) => basic(least, &pack)?,
        ScoreBy::Similarity { scorer, tokenizer, device, precision } => {
            let placement = Placement { device: *device, precision: *precision, threads: ctx.threads() };
            let mut encoder = encoder(ctx, scorer, placement)?.0;
            let tokenizer = Tokenizer::load(&ctx.checked_input(tokenizer)?)?;
            encoder.similarities(&tokenizer, &pack).map_err(of_scorer)?
        }
        ScoreBy::Rule(spec) => of_rule(spec, &pack, within, ctx)?,
    };
    if matches!(by, ScoreBy::Similarity { .. }) {
        all_finite(&scores)?;
    }
    let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    write(&ctx.out().join(files::SCORES), &bytes)?;
    let scored = scores.iter().filter(|score| score.is_finite()).count();
    Ok(JobOutput::finished(&serde_json::json!({ "samples": scores.len(), "scored": scored })))
}

/// The scores of the samples that are looked at, NaN for the others.
fn of_rule(spec: &RuleSpec, pack: &Pack, within: Option<Vec<u32>>, ctx: &JobContext<'_>) -> Result<Vec<f64>, JobError> {
    let RuleSpec { rule, scorer, tokenizer, target, device, precision } = spec;
    let placement = Placement { device: *device, precision: *precision, threads: ctx.threads() };
    let (mut encoder, width) = encoder(ctx, scorer, placement)?;
    let all = encoder.images(pack).map_err(of_scorer)?;
    let places = within.unwrap_or_else(|| (0..pack.len() as u32).collect());
    let images = select::Features::new(&all, width).gather(&places);
    drop(all);
    let texts = match tokenizer {
        Some(tokenizer) => {
            let tokenizer = Tokenizer::load(&ctx.checked_input(tokenizer)?)?;
            let captions: Vec<String> = places.iter().map(|&place| pack.caption(place as usize).to_owned()).collect();
            encoder.texts(&tokenizer, &captions).map_err(of_scorer)?
        }
        None => Vec::new(),
    };
    let target = match target {
        Some(target) => encoder.images(&Pack::open(&ctx.checked_input(target)?)?).map_err(of_scorer)?,
        None => Vec::new(),
    };
    let of = |rows| select::Features::new(rows, width);
    let (images, texts, target) = (of(&images), of(&texts), of(&target));
    let found = in_pool(ctx, || match *rule {
        FeatureRule::NegClipLoss(how) => select::neg_clip_loss(images, texts, how),
        FeatureRule::NormSim { norm } => select::norm_sim(images, target, norm),
        FeatureRule::ImageCluster(how) => select::image_cluster(images, target, how),
        FeatureRule::SemDedup(how) => select::sem_dedup(images, how),
    })?;
    all_finite(&found)?;
    let mut scores = vec![f64::NAN; pack.len()];
    places.iter().zip(found).for_each(|(&place, score)| scores[place as usize] = score);
    Ok(scores)
}

/// The trained scorer and the width of its features.
fn encoder(ctx: &JobContext<'_>, scorer: &Key, placement: Placement) -> Result<(Encoder, usize), JobError> {
    let record = ctx.input_record(scorer)?;
    if record.status == JobStatus::Diverged {
        return Err(diverged(record.reason.as_deref().unwrap_or("no reason is noted")));
    }
    let train = train_spec(ctx, scorer)?;
    let parameters = load_model(&ctx.checked_input(scorer)?.join(files::MODEL), &build(&train.model, 0.0))?;
    Ok((Encoder::new(&train.model, parameters, placement)?, train.model.embed_dim))
}

fn of_scorer(error: TrainerError) -> JobError {
    match error {
        TrainerError::Diverged { what } => diverged(&what),
        other => other.into(),
    }
}

/// Whether samples are in a list; how the list and the pool differ is said.
fn listed(file: &str, pack: &Pack, ctx: &JobContext<'_>) -> Result<Vec<f64>, JobError> {
    let (scores, listed) = UidList::read(file)?.scores(pack)?;
    if listed.found == 0 {
        let what = format!("{file}: none of {} listed uids is in the pool of {} samples", listed.named, pack.len());
        return Err(JobError::failed(what).with_hint("`data.train.size` is taken before the list: leave it out to keep more of it"));
    }
    listed.remarks().into_iter().for_each(|what| ctx.warn(format!("{file}: {what}")));
    Ok(scores)
}

/// Whether captions and sizes pass; the sizes are fields of the metadata.
fn basic(least: &Basic, pack: &Pack) -> Result<Vec<f64>, JobError> {
    let [widths, heights] = Basic::SIZE_FIELDS;
    let sizes = match least.needs_size() {
        true => Some((pack.field_values(widths)?, pack.field_values(heights)?)),
        false => None,
    };
    let of = |sample| {
        let size = sizes.as_ref().map(|(widths, heights)| (widths[sample], heights[sample]));
        select::basic(pack.caption(sample), size, least)
    };
    Ok((0..pack.len()).map(of).collect())
}

/// A model that gives a score that is no number ranks nothing: it has diverged, whatever its training said.
fn all_finite(scores: &[f64]) -> Result<(), JobError> {
    match scores.iter().filter(|score| !score.is_finite()).count() {
        0 => Ok(()),
        wrong => Err(diverged(&format!("{wrong} of {} scores are not finite", scores.len()))),
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
        assert_eq!(error.to_string(), "the scorer diverged: 2 of 3 scores are not finite");
    }
}
