//! What came of a claim: every comparison with the numbers that decided, and the verdict they make together.
//!
//! Owns [`Verdict`] and its three written forms: JSON, CSV and text. Invariant: the counts are those of the comparisons.

use std::fmt::Write as _;

use serde::Serialize;

use super::statement::VerdictKind;
use crate::record::number;

/// What one comparison said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As claimed, by more than the band.
    True,
    /// Within the band.
    Tie,
    /// The other way round, by more than the band.
    False,
    /// A cell is not there: it does not count.
    Missing,
}

impl Outcome {
    /// The word as written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Tie => "tie",
            Self::False => "false",
            Self::Missing => "missing",
        }
    }
}

/// One comparison and the numbers that decided it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The value on the left.
    pub left: Option<f64>,
    /// The value on the right.
    pub right: Option<f64>,
    /// Left less right.
    pub difference: Option<f64>,
    /// Differences up to this size are ties; none where one seed can decide nothing.
    pub band: Option<f64>,
    /// What it said.
    pub outcome: Outcome,
    /// The comparison in words.
    pub text: String,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The claim.
    pub id: String,
    /// Its sentence.
    pub says: String,
    /// What the comparisons say.
    pub verdict: VerdictKind,
    /// What was expected.
    pub expected: VerdictKind,
    /// Comparisons that came out as claimed.
    pub num_true: usize,
    /// Ties.
    pub num_tie: usize,
    /// Comparisons that came out the other way round.
    pub num_false: usize,
    /// Comparisons that could not be made.
    pub num_missing: usize,
    /// Every comparison, in the order of the statement.
    pub comparisons: Vec<Comparison>,
    /// Cells that the statement does not name clearly enough; such a verdict is never as expected.
    pub ambiguous: Vec<String>,
}

impl Verdict {
    /// Counts the comparisons of a claim.
    #[must_use]
    pub fn new(id: &str, says: &str, expected: VerdictKind, comparisons: Vec<Comparison>) -> Self {
        let count = |outcome| comparisons.iter().filter(|comparison| comparison.outcome == outcome).count();
        let (num_true, num_tie, num_false) = (count(Outcome::True), count(Outcome::Tie), count(Outcome::False));
        let verdict = match (num_true, num_tie, num_false) {
            (0, 0, 0) => VerdictKind::NoData,
            (0, _, 0) => VerdictKind::Undecided,
            (0, _, _) => VerdictKind::Refuted,
            (_, _, 0) => VerdictKind::Supported,
            _ => VerdictKind::Mixed,
        };
        Self {
            id: id.to_owned(),
            says: says.to_owned(),
            verdict,
            expected,
            num_true,
            num_tie,
            num_false,
            num_missing: count(Outcome::Missing),
            comparisons,
            ambiguous: Vec::new(),
        }
    }

    /// Whether the verdict is the one expected, and rests on cells that are clearly named.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.verdict == self.expected && self.ambiguous.is_empty()
    }
}

#[derive(Serialize)]
struct JsonClaims<'a> {
    claims: Vec<JsonClaim<'a>>,
}

#[derive(Serialize)]
struct JsonClaim<'a> {
    id: &'a str,
    verdict: &'static str,
    #[serde(rename = "true")]
    num_true: usize,
    #[serde(rename = "tie")]
    num_tie: usize,
    #[serde(rename = "false")]
    num_false: usize,
    #[serde(rename = "missing")]
    num_missing: usize,
    comparisons: &'a [Comparison],
}

/// The verdicts as `{"claims":[{"id","verdict","true","tie","false","missing","comparisons":[..]}]}`.
#[must_use]
pub fn to_json(verdicts: &[Verdict]) -> String {
    let claims = verdicts.iter().map(|verdict| JsonClaim {
        id: &verdict.id,
        verdict: verdict.verdict.name(),
        num_true: verdict.num_true,
        num_tie: verdict.num_tie,
        num_false: verdict.num_false,
        num_missing: verdict.num_missing,
        comparisons: &verdict.comparisons,
    });
    serde_json::to_string(&JsonClaims { claims: claims.collect() }).expect("verdicts hold nothing that JSON cannot")
}

/// `claims.csv`: one row a claim.
#[must_use]
pub fn to_csv(verdicts: &[Verdict]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |fields: &[&str]| writer.write_record(fields).expect("writing to memory does not fail");
    write(&["id", "verdict", "expected", "as_expected", "true", "tie", "false", "missing", "says"]);
    for verdict in verdicts {
        let counts = [verdict.num_true, verdict.num_tie, verdict.num_false, verdict.num_missing].map(|count| count.to_string());
        let [num_true, num_tie, num_false, num_missing] = counts.each_ref().map(String::as_str);
        let as_expected = if verdict.is_as_expected() { "yes" } else { "no" };
        let words = [verdict.verdict.name(), verdict.expected.name(), as_expected];
        write(&[&verdict.id, words[0], words[1], words[2], num_true, num_tie, num_false, num_missing, &verdict.says]);
    }
    writer.into_inner().expect("writing to memory does not fail")
}

/// The verdicts for people: a line a claim, and its comparisons where `detail` is wanted or the verdict is not as expected.
#[must_use]
pub fn to_text(verdicts: &[Verdict], detail: bool) -> String {
    let mut out = String::new();
    let width = verdicts.iter().map(|verdict| verdict.id.len()).max().unwrap_or(0);
    for verdict in verdicts {
        let Verdict { id, says, verdict: kind, expected, num_true, num_tie, num_false, num_missing, comparisons, ambiguous } =
            verdict;
        let _ = write!(out, "{id:width$}  {:9}  {num_true}/{num_tie}/{num_false}", kind.name());
        if *num_missing > 0 {
            let _ = write!(out, " ({num_missing} missing)");
        }
        let _ = writeln!(out, "  {says}");
        if kind != expected {
            let _ = writeln!(out, "{:width$}  expected {}", "", expected.name());
        }
        for problem in ambiguous {
            let _ = writeln!(out, "{:width$}  {problem}", "");
        }
        for comparison in comparisons.iter().filter(|_| detail || !verdict.is_as_expected()) {
            let _ = writeln!(out, "{:width$}    {:7}  {}", "", comparison.outcome.name(), comparison.text);
            if let (Some(difference), Some(band)) = (comparison.difference, comparison.band) {
                out.truncate(out.trim_end().len());
                let _ = writeln!(out, "  (difference {}, band {})", short(difference), short(band));
            }
        }
    }
    out
}

/// A number to two decimals, without trailing zeros.
pub(super) fn short(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    number(if rounded == 0.0 { 0.0 } else { rounded })
}
