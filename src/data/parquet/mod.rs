//! Two columns of a Parquet file, joined by row: names and scores.
//!
//! Input: the bytes of a file and the names of two columns. Output: name and score of each row. Invariants: no other column is read;
//! of these two a page each and a dictionary each are in memory at a time; whatever the bytes are, the outcome is values or
//! an error that says what is wrong, never a panic. Must not know: what the scores are for.
//!
//! **Source**: the specification of Apache Parquet. **Differs**: columns of one value a row only; no encryption; Snappy, gzip and
//! Zstandard only, which have decoders without C. Checksums of pages are not looked at, statistics and indexes are not used.
//!
//! The `parquet` crate (60.1) is not used: damaged files make it panic, and it reads Zstandard, which polars writes, through C alone.

mod bits;
mod footer;
mod form;
mod pages;
mod rows;
mod thrift;
mod values;

pub(super) use footer::MAGIC;
pub(super) use rows::{SCORES, rows};

/// What is wrong with a file, and what to do about it.
#[derive(Debug)]
struct Flaw {
    what: String,
    hint: &'static str,
}

impl Flaw {
    fn hinted(what: impl Into<String>, hint: &'static str) -> Self {
        Self { what: what.into(), hint }
    }

    fn damaged(what: impl Into<String>) -> Self {
        Self::hinted(what, "the file is damaged: fetch or write it again")
    }

    fn footer(what: &'static str) -> Self {
        Self::damaged(format!("its footer is no footer of Parquet: {what}"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
