//! What can go wrong with data, each with its place.

use std::io;
use std::path::{Path, PathBuf};

/// Problems of one kind that are shown; the rest are counted.
pub(super) const SHOWN: usize = 10;

/// A result of this room.
pub type DataResult<T> = Result<T, DataError>;

/// Why data cannot be read, packed or drawn from.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder that cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that is no regular file where one was named.
    #[error("{}: found {found}, expected a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A tar that ends inside a member.
    #[error("{}: truncated tar: {what} at byte {at} needs the file to reach byte {needs}, it ends at byte {len}", path.display())]
    TruncatedTar {
        /// The shard.
        path: PathBuf,
        /// Member or header.
        what: String,
        /// Where it starts.
        at: u64,
        /// Where it should end.
        needs: u64,
        /// Length of the file.
        len: u64,
    },
    /// A file that is no tar.
    #[error("{}: not a tar at byte {at}: {what}", path.display())]
    BadTar {
        /// The shard.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What was found.
        what: String,
    },
    /// A sample with two members of one kind.
    #[error("{}: sample `{key}` has more than one member with suffix `{suffix}` (bytes {first} and {second})", path.display())]
    RepeatedSuffix {
        /// The shard.
        path: PathBuf,
        /// Key of the sample.
        key: String,
        /// The suffix, lower case.
        suffix: String,
        /// Where the first starts.
        first: u64,
        /// Where the second starts.
        second: u64,
    },
    /// Shards that were listed and do not exist.
    #[error("{count} of {listed} listed shards are missing{}: {}", share(*most), list(first, *count))]
    MissingShards {
        /// How many are missing.
        count: u64,
        /// The first of them.
        first: Vec<PathBuf>,
        /// How many were listed.
        listed: u64,
        /// The share that may be missing, where so many would have been accepted.
        most: Option<f64>,
    },
    /// Shards that are named more than once, under one path or several.
    #[error("{count} shards are named twice: {}", list(first, *count))]
    RepeatedShards {
        /// How many.
        count: u64,
        /// The first of them.
        first: Vec<PathBuf>,
    },
    /// More shards in a folder than its `nshards.txt` says.
    #[error("{}: says {said}, and {found} numbered shards lie beside it, up to {last}.tar", path.display())]
    UncountedShards {
        /// The file with the number.
        path: PathBuf,
        /// What it says.
        said: u64,
        /// Shards that are there.
        found: u64,
        /// Number of the last of them.
        last: u64,
    },
    /// A pattern or folder without shards.
    #[error("no shard: {what}")]
    NoShards {
        /// What was looked for and found.
        what: String,
    },
    /// A pattern or folder without files of scores.
    #[error("no file of scores: {what}")]
    NoFiles {
        /// What was looked for and found.
        what: String,
    },
    /// A column that a table lacks.
    #[error("{}: no column `{column}`, expected one of {}", path.display(), quoted(known))]
    NoSuchColumn {
        /// The table.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A column of a table that holds something else.
    #[error("{}: column `{column}` holds {found}, expected {expected}", path.display())]
    WrongColumn {
        /// The table.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// What it holds.
        found: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file without lines that is not as its format says.
    #[error("{}: {what}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What was found and expected.
        what: String,
        /// What can be done about it.
        hint: &'static str,
    },
    /// A numeric field that a pack lacks.
    #[error("no numeric field `{field}` in the metadata, expected one of {}", quoted(known))]
    NoSuchField {
        /// The field asked for.
        field: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A file whose text is not as its format says.
    #[error("{}:{line}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What was found and expected.
        what: String,
    },
    /// A table with lines that are not as its format says.
    #[error("{}", table_lines(path, problems, *total))]
    BadTable {
        /// The table.
        path: PathBuf,
        /// Line, from 1, and what was found and expected there; the first of them.
        problems: Vec<(u64, String)>,
        /// How many in all.
        total: u64,
    },
    /// A packed store that is damaged or of another version.
    #[error("{}: {what}", path.display())]
    BadPack {
        /// The file at fault.
        path: PathBuf,
        /// What was found and expected.
        what: String,
    },
    /// A source without one usable sample.
    #[error("no usable sample among {seen}: {first_reason}")]
    NoSamples {
        /// Samples looked at.
        seen: u64,
        /// Why the first was skipped.
        first_reason: String,
    },
    /// A pool that is larger than its source.
    #[error("a pool of {asked} samples was asked for, the source has {available}")]
    PoolTooLarge {
        /// Samples asked for.
        asked: u64,
        /// Samples there are.
        available: u64,
    },
    /// A subset without samples.
    #[error("the subset is empty")]
    EmptySubset,
    /// Scores that do not match their pool.
    #[error("{scores} scores for a pool of {pool} samples")]
    ScoreCount {
        /// Scores given.
        scores: usize,
        /// Samples of the pool.
        pool: usize,
    },
    /// A vocabulary that cannot hold even the single symbols.
    #[error("a vocabulary of {asked} entries is too small, the captions need at least {needed}")]
    VocabTooSmall {
        /// Entries asked for.
        asked: u32,
        /// Entries needed.
        needed: u32,
    },
    /// An unknown evaluation variant of `scenes`.
    #[error("unknown variant `{variant}` of scenes, expected one of {}", quoted(known))]
    NoSuchVariant {
        /// The variant asked for.
        variant: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// Something that a source cannot do.
    #[error("{what}")]
    Unsupported {
        /// What, and what can be done instead.
        what: String,
    },
}

impl DataError {
    /// An I/O error with what was tried on which path.
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_path_buf(), source }
    }

    /// What a person could do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TruncatedTar { .. } => "the download or copy of this shard is incomplete: fetch it again or leave it out",
            Self::BadTar { what, .. } if what.contains("gzip") => "decompress it first (`gunzip`): members are read in place",
            Self::RepeatedSuffix { .. } => "members of a sample share the name up to its first dot; rename one of them",
            Self::MissingShards { count, listed, .. } if count == listed => {
                "none of them is there: check the path, which is relative to the file that states it"
            }
            Self::MissingShards { most: Some(0.0), .. } => "an evaluation set is measured whole: list the shards that there are",
            Self::MissingShards { most: Some(_), .. } => "state `max_missing` beside the shards to train on what is there",
            Self::MissingShards { .. } => "a gap in a numbered range is accepted where another shard of the range exists",
            Self::RepeatedShards { .. } => "name each shard once: its samples would count twice",
            Self::NoSuchColumn { known, .. } if matches!(known.as_slice(), [one] if one.contains([';', '\t', '|'])) => {
                "the header looks like one column: columns are parted by commas, or by tabs in a file called `.tsv`"
            }
            Self::WrongColumn { .. } => "name another column",
            Self::BadFile { hint, .. } => hint,
            Self::UncountedShards { .. } => "write the number of shards, counted from 0.tar, into the file",
            Self::BadPack { .. } => "remove this job's folder from the store; it is packed again on the next run",
            Self::PoolTooLarge { .. } => "lower `data.train.size`, or leave it out to take all there are",
            Self::VocabTooSmall { .. } => "raise `vocab_size`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn share(most: Option<f64>) -> String {
    most.map_or(String::new(), |most| format!(", more than the {} % that may be", most * 100.0))
}

/// The first few paths; a list of thousands helps nobody.
fn list(first: &[PathBuf], count: u64) -> String {
    let shown: Vec<String> = first.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    let more = count.saturating_sub(shown.len() as u64);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn table_lines(path: &Path, problems: &[(u64, String)], total: u64) -> String {
    let mut lines: Vec<String> =
        problems.iter().take(SHOWN).map(|(line, what)| format!("{}:{line}: {what}", path.display())).collect();
    let more = total.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("{}: and {more} more lines", path.display()));
    }
    lines.join("\n")
}
