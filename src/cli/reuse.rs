//! Options of commands that take runs from committed records.

use std::path::PathBuf;

use clap::Args;

/// Whether committed records are taken as finished runs. Without any option: those of the experiment's own results folder and of the
/// other folders of `--results`, where key and seal fit.
#[derive(Debug, Clone, Default, Args)]
pub struct Adoption {
    /// Take runs also from the records at or below this folder, before those of `--results`; may be repeated
    #[arg(long, value_name = "DIR", conflicts_with = "no_adopt")]
    pub adopt: Vec<PathBuf>,
    /// Take no run from committed records: train every one that is not in the store
    #[arg(long)]
    pub no_adopt: bool,
}

/// Whether adopted runs are looked at by training some of them anew.
#[derive(Debug, Default, Args)]
pub struct Verify {
    /// First train N of the adopted runs anew in a scratch store and compare: exit 5, nothing changed, where one differs
    #[arg(long, value_name = "N", conflicts_with = "no_adopt")]
    pub verify: Option<usize>,
    /// Seed by which --verify chooses them
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "verify")]
    pub verify_seed: u64,
    /// How far a value of a verified run may lie from its record, as in `check` [default: 1, and `loss=0.001%` for the first 200 steps]
    #[arg(long, value_name = "[METRIC=]AMOUNT", requires = "verify", allow_negative_numbers = true)]
    pub tolerance: Vec<String>,
}

/// What `run` does with committed records.
#[derive(Debug, Default, Args)]
pub struct Reuse {
    #[command(flatten)]
    pub adoption: Adoption,
    #[command(flatten)]
    pub verify: Verify,
}

impl Reuse {
    /// Nothing is taken from records.
    #[must_use]
    pub fn trained() -> Self {
        Self { adoption: Adoption { adopt: Vec::new(), no_adopt: true }, verify: Verify::default() }
    }
}
