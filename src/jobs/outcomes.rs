//! What each item of an evaluation set came to, as files of the job that measured it.
//!
//! `outcomes/<n>-<what>.u16` for the n-th set (from 0): one little-endian u16 an item, the rank of the right answer, 0 for a hit,
//! 65535 for that rank or a later one. `outcomes/sets.json` names the sets, the job that packed each, and the files. Items stand in
//! the order of the packed set:
//!
//! | what | an item is | ranked is |
//! |---|---|---|
//! | `rank` | an image | its true class among all (zero-shot, linear probe) |
//! | `shots-<k>-seed-<seed>` | an image | its true class among all (few-shot) |
//! | `text_rank` | an image | the best of its captions among all captions |
//! | `image_rank` | a caption | its image among all images |

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::write;
use crate::executor::JobError;
use crate::plan::NamedSet;
use crate::trainer::eval::Outcome;

/// Folder of the outcomes among a job's files.
const FOLDER: &str = "outcomes";

/// One set in `sets.json`.
#[derive(Debug, Serialize, Deserialize)]
struct SetOutcomes {
    /// Its name in metrics.
    set: String,
    /// The job that packed it.
    packed: String,
    /// Items in each of its files.
    files: Vec<OutcomeFile>,
}

/// One file of a set.
#[derive(Debug, Serialize, Deserialize)]
struct OutcomeFile {
    name: String,
    items: usize,
}

/// Writes the outcomes of every set under `out`.
pub(super) fn store(out: &Path, sets: &[(NamedSet, Vec<Outcome>)]) -> Result<(), JobError> {
    let folder = out.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(|error| JobError::io("create", &folder, error))?;
    let mut stated = Vec::with_capacity(sets.len());
    for (number, (set, outcomes)) in sets.iter().enumerate() {
        let mut files = Vec::with_capacity(outcomes.len());
        for Outcome { what, ranks } in outcomes {
            let name = format!("{number}-{what}.u16");
            let bytes: Vec<u8> = ranks.iter().flat_map(|rank| u16::try_from(*rank).unwrap_or(u16::MAX).to_le_bytes()).collect();
            write(&folder.join(&name), &bytes)?;
            files.push(OutcomeFile { name, items: ranks.len() });
        }
        stated.push(SetOutcomes { set: set.name.clone(), packed: set.set.to_string(), files });
    }
    write(&folder.join("sets.json"), &serde_json::to_vec(&stated).expect("names and numbers serialise"))
}
