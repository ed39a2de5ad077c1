//! Trains a tokenizer on a pool's captions, or loads one from its vocabulary file.

use serde::{Deserialize, Serialize};

use crate::data::{Lengths, Pack, Tokenizer};
use crate::executor::{JobContext, JobError, JobOutput};
use crate::plan::TokenizerSpec;

/// Summary of a tokenizer job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizerSummary {
    /// Entries asked for.
    pub vocab_size: u32,
    /// Entries that the captions filled.
    pub used: u32,
    /// Lengths of the captions that it was trained on; `None` where it was loaded.
    #[serde(default)]
    pub lengths: Option<Lengths>,
}

pub(super) fn run(spec: &TokenizerSpec, ctx: &JobContext<'_>) -> Result<JobOutput, JobError> {
    let TokenizerSpec { config, pool, samples: _, fingerprint: _ } = spec;
    let (tokenizer, lengths) = match pool {
        Some(pool) => {
            let pack = Pack::open(&ctx.checked_input(pool)?)?;
            let captions: Vec<&str> = (0..pack.len()).map(|sample| pack.caption(sample)).collect();
            let tokenizer = Tokenizer::train(config, captions.iter().copied())?;
            let lengths = Lengths::of(&tokenizer, &captions);
            (tokenizer, Some(lengths))
        }
        None => (Tokenizer::train(config, std::iter::empty())?, None),
    };
    tokenizer.save(ctx.out())?;
    let (vocab_size, used) = (tokenizer.vocab_size(), tokenizer.used_entries());
    if used < vocab_size {
        ctx.warn(format!("a vocabulary of {vocab_size} was asked for, and the captions filled {used} entries of it"));
    }
    Ok(JobOutput::finished(&TokenizerSummary { vocab_size, used, lengths }))
}
