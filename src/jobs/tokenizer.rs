//! Trains a tokenizer on a pool's captions, or loads one from its vocabulary file.

use crate::data::{Pack, Tokenizer};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::TokenizerSpec;

pub(super) fn run(spec: &TokenizerSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let TokenizerSpec { config, pool, samples: _, fingerprint: _ } = spec;
    let tokenizer = match pool {
        Some(pool) => {
            let pack = Pack::open(&ctx.checked_input(pool)?)?;
            Tokenizer::train(config, (0..pack.len()).map(|sample| pack.caption(sample)))?
        }
        None => Tokenizer::train(config, std::iter::empty())?,
    };
    tokenizer.save(ctx.out())?;
    Ok(JobOutput::finished(&serde_json::json!({ "vocab_size": tokenizer.vocab_size(), "used": tokenizer.used_entries() })))
}
