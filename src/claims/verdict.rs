//! What came of a claim: every comparison with the numbers that decided, and the verdict they make together.
//!
//! Owns [`Verdict`] and its three written forms: JSON, CSV and text. Invariant: the counts are those of the comparisons.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::statement::{ClaimSpec, Ties, VerdictKind};
use super::stats::holm;
use crate::tables::short;

/// What one comparison said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// As claimed, by more than the band.
    True,
    /// Within the band.
    Tie,
    /// The other way round, by more than the band.
    False,
    /// A cell has no value.
    Missing,
}

impl Answer {
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
    /// Differences up to this size are ties; none where nothing can be decided.
    pub band: Option<f64>,
    /// What it said.
    pub outcome: Answer,
    /// What is claimed, in words, with the numbers.
    pub text: String,
    /// Why nothing can be decided, or why a number is missing.
    pub reason: Option<String>,
    /// One-sided p of what is claimed, on runs.
    pub p: Option<f64>,
    /// One-sided p of its opposite, on runs.
    pub p_against: Option<f64>,
    /// Seeds that would decide a tie, were difference and spread as they are.
    pub seeds_needed: Option<u64>,
    /// Items of the evaluation sets that would, where no number of seeds does.
    pub items_needed: Option<u64>,
    /// Where two lines meet, of a crossover.
    pub meets: Option<Meets>,
    /// Whether the difference lies on the claimed side, by however little.
    #[serde(skip)]
    pub leans: bool,
}

/// Where two lines meet, in the amounts of the column along which they run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Meets {
    /// Where the difference is zero.
    pub at: f64,
    /// The lowest place where neither leads clearly; none where the interval is open below the lowest level.
    pub low: Option<f64>,
    /// The highest; none where it is open above the highest level.
    pub high: Option<f64>,
}

impl Comparison {
    /// One of which nothing is known but its answer.
    #[must_use]
    pub fn new(text: String, outcome: Answer) -> Self {
        Self {
            left: None,
            right: None,
            difference: None,
            band: None,
            outcome,
            text,
            reason: None,
            p: None,
            p_against: None,
            seeds_needed: None,
            items_needed: None,
            meets: None,
            leans: false,
        }
    }
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
    /// What a reader must know of the verdict: why comparisons decide nothing, what it does not say.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Counts the comparisons of a claim. A false one that does not stand after Holm's correction over them all counts as a tie.
    #[must_use]
    pub fn new(claim: &ClaimSpec, mut comparisons: Vec<Comparison>, ambiguous: Vec<String>, notes: Vec<String>) -> Self {
        let level = claim.confidence().share().map_or(1.0, |share| f64::midpoint(1.0, -share));
        keep_false_after_holm(&mut comparisons, level);
        // Allowed for readings alone.
        let ties = if comparisons.iter().any(|comparison| comparison.p.is_some()) { Ties::Count } else { claim.ties() };
        let count = |outcome| comparisons.iter().filter(|comparison| comparison.outcome == outcome).count();
        Self {
            id: claim.id.clone(),
            says: claim.says.clone(),
            verdict: kind(&comparisons, ties, level),
            expected: claim.expect,
            num_true: count(Answer::True),
            num_tie: count(Answer::Tie),
            num_false: count(Answer::False),
            num_missing: count(Answer::Missing),
            notes: notes.into_iter().chain(reasons(&comparisons)).chain(needs(&comparisons)).collect(),
            comparisons,
            ambiguous,
        }
    }

    /// Whether the verdict is the one expected, and rests on cells that are clearly named.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.verdict == self.expected && self.ambiguous.is_empty()
    }
}

/// Turns false comparisons into ties that would be false alone, but are not after Holm over all comparisons of the claim. Readings
/// have no p values, and stay as they are.
fn keep_false_after_holm(comparisons: &mut [Comparison], level: f64) {
    let p_against = |comparison: &Comparison| match (comparison.outcome, comparison.p_against) {
        (Answer::False, None) => 0.0,
        (_, p) => p.unwrap_or(1.0),
    };
    let stands = holm(&comparisons.iter().map(p_against).collect::<Vec<_>>(), level);
    let of = comparisons.len();
    for (comparison, stands) in comparisons.iter_mut().zip(stands) {
        if comparison.outcome == Answer::False && !stands {
            comparison.outcome = Answer::Tie;
            comparison.reason = Some(format!("false by itself, but not after Holm over the {of} comparisons"));
        }
    }
}

/// What the comparisons say together.
///
/// **Rule**: `supported` where every comparison is true. With false ones it is `mixed` or, with none true, `refuted`. With none
/// false it is `leaning` where at least half are true, one of them also after Holm over all, none is missing and every tie lies
/// on the claimed side; else `undecided`. Where ties are allowed, ties and missing comparisons do not stand against a claim.
fn kind(comparisons: &[Comparison], ties: Ties, level: f64) -> VerdictKind {
    let count = |outcome| comparisons.iter().filter(|comparison| comparison.outcome == outcome).count();
    let (yes, no, tied, missing) = (count(Answer::True), count(Answer::False), count(Answer::Tie), count(Answer::Missing));
    match (yes, no) {
        (0, 0) if tied == 0 => VerdictKind::NoData,
        (0, 0) => VerdictKind::Undecided,
        (0, _) => VerdictKind::Refuted,
        (_, 1..) => VerdictKind::Mixed,
        _ if tied + missing == 0 || ties == Ties::Allowed => VerdictKind::Supported,
        _ if missing == 0
            && yes >= tied
            && comparisons.iter().all(|comparison| comparison.leans)
            && is_one_true_after_holm(comparisons, level) =>
        {
            VerdictKind::Leaning
        }
        _ => VerdictKind::Undecided,
    }
}

/// Whether a true comparison is true also after Holm over all of them; what has no p value is true as it stands.
fn is_one_true_after_holm(comparisons: &[Comparison], level: f64) -> bool {
    let p = |comparison: &Comparison| match (comparison.outcome, comparison.p) {
        (Answer::True, p) => p.unwrap_or(0.0),
        (_, p) => p.unwrap_or(1.0),
    };
    let stands = holm(&comparisons.iter().map(p).collect::<Vec<_>>(), level);
    comparisons.iter().zip(stands).any(|(comparison, stands)| stands && comparison.outcome == Answer::True)
}

/// How many seeds, or items, the ties still need.
fn needs(comparisons: &[Comparison]) -> Vec<String> {
    let ties = comparisons.iter().filter(|comparison| comparison.outcome == Answer::Tie).count();
    let mut needs = Vec::new();
    let mut say = |of: fn(&Comparison) -> Option<u64>, unit: &str| {
        let amounts: Vec<u64> = comparisons.iter().filter_map(of).collect();
        if let Some(most) = amounts.iter().max() {
            let which = if amounts.len() == ties { String::new() } else { format!("{} of {ties} ties: ", amounts.len()) };
            needs.push(format!("{which}about {most} {unit} would decide"));
        }
    };
    say(|comparison| comparison.seeds_needed, "seeds");
    say(|comparison| comparison.items_needed, "items, not seeds,");
    needs
}

/// Why comparisons decide nothing, each reason once with how many it concerns.
fn reasons(comparisons: &[Comparison]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for comparison in comparisons.iter().filter(|comparison| comparison.outcome == Answer::Tie) {
        *counts.entry(comparison.reason.as_deref().unwrap_or_default()).or_default() += 1;
    }
    counts.remove("");
    let of_all = |count| if count == comparisons.len() { String::new() } else { format!("{count} of {}: ", comparisons.len()) };
    let mut reasons: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{}{reason}", of_all(count))).collect();
    if comparisons.is_empty() {
        reasons.push("the claim picks no cells to compare".to_owned());
    }
    reasons
}

#[derive(Serialize)]
struct JsonClaim<'a> {
    id: &'a str,
    says: &'a str,
    verdict: &'static str,
    expected: &'static str,
    as_expected: bool,
    #[serde(rename = "true")]
    num_true: usize,
    #[serde(rename = "tie")]
    num_tie: usize,
    #[serde(rename = "false")]
    num_false: usize,
    #[serde(rename = "missing")]
    num_missing: usize,
    notes: &'a [String],
    ambiguous: &'a [String],
    comparisons: &'a [Comparison],
}

/// The verdicts as a JSON list: of each claim `id`, `says`, `verdict`, `expected`, `as_expected`, the counts `true`, `tie`,
/// `false` and `missing`, `notes`, `ambiguous` and `comparisons`.
#[must_use]
pub fn to_value(verdicts: &[Verdict]) -> Value {
    let claims: Vec<JsonClaim<'_>> = verdicts
        .iter()
        .map(|verdict| JsonClaim {
            id: &verdict.id,
            says: &verdict.says,
            verdict: verdict.verdict.name(),
            expected: verdict.expected.name(),
            as_expected: verdict.is_as_expected(),
            num_true: verdict.num_true,
            num_tie: verdict.num_tie,
            num_false: verdict.num_false,
            num_missing: verdict.num_missing,
            notes: &verdict.notes,
            ambiguous: &verdict.ambiguous,
            comparisons: &verdict.comparisons,
        })
        .collect();
    serde_json::to_value(&claims).expect("verdicts hold nothing that JSON cannot")
}

/// The verdicts as `{"claims":[..]}`, in the form of [`to_value`].
#[must_use]
pub fn to_json(verdicts: &[Verdict]) -> String {
    serde_json::json!({ "claims": to_value(verdicts) }).to_string()
}

/// `claims.csv`: one row a claim.
#[must_use]
pub fn to_csv(verdicts: &[Verdict]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |fields: &[&str]| writer.write_record(fields).expect("writing to memory does not fail");
    write(&["id", "verdict", "expected", "as_expected", "true", "tie", "false", "missing", "notes", "says"]);
    for verdict in verdicts {
        let counts = [verdict.num_true, verdict.num_tie, verdict.num_false, verdict.num_missing].map(|count| count.to_string());
        let [num_true, num_tie, num_false, num_missing] = counts.each_ref().map(String::as_str);
        let as_expected = if verdict.is_as_expected() { "yes" } else { "no" };
        let words = [verdict.verdict.name(), verdict.expected.name(), as_expected];
        let notes = verdict.notes.join("; ");
        write(&[&verdict.id, words[0], words[1], words[2], num_true, num_tie, num_false, num_missing, &notes, &verdict.says]);
    }
    writer.into_inner().expect("writing to memory does not fail")
}

/// The verdicts for people: a line a claim with its notes, and its comparisons where `detail` is wanted or the verdict is not as
/// expected.
#[must_use]
pub fn to_text(verdicts: &[Verdict], detail: bool) -> String {
    let mut out = String::new();
    let width = verdicts.iter().map(|verdict| verdict.id.len()).max().unwrap_or(0);
    for verdict in verdicts {
        let Verdict { id, says, verdict: kind, expected, comparisons, ambiguous, notes, .. } = verdict;
        let _ = writeln!(out, "{id:width$}  {:9}  {}  {says}", kind.name(), counts(verdict));
        if kind != expected {
            let _ = writeln!(out, "{:width$}  expected {}", "", expected.name());
        }
        for line in notes.iter().chain(ambiguous) {
            let _ = writeln!(out, "{:width$}  {line}", "");
        }
        for comparison in comparisons.iter().filter(|_| detail || !verdict.is_as_expected()) {
            let _ = writeln!(out, "{:width$}    {:7}  {}{}", "", comparison.outcome.name(), comparison.text, why(comparison));
        }
    }
    out
}

/// `2 of 4 true, 1 tie, 1 missing`: what is not there is not named.
fn counts(verdict: &Verdict) -> String {
    let Verdict { num_true, num_tie, num_false, num_missing, comparisons, .. } = verdict;
    let ties = if *num_tie == 1 { "tie" } else { "ties" };
    let mut text = format!("{num_true} of {} true", comparisons.len());
    for (count, name) in [(num_tie, ties), (num_false, "false"), (num_missing, "missing")] {
        if *count > 0 {
            let _ = write!(text, ", {count} {name}");
        }
    }
    text
}

/// The numbers that decided, or why none did. The sentence says which side is which, so the difference has no sign.
fn why(comparison: &Comparison) -> String {
    match (comparison.difference, comparison.band, &comparison.reason) {
        (Some(difference), Some(band), reason) => {
            let reason = reason.as_ref().map_or(String::new(), |reason| format!("; {reason}"));
            let needs = match (comparison.seeds_needed, comparison.items_needed) {
                (Some(seeds), _) => format!("; about {seeds} seeds would decide"),
                (None, Some(items)) => format!("; about {items} items would decide, seeds do not"),
                (None, None) => String::new(),
            };
            format!("  (difference {}, band {}{reason}{needs})", short(difference.abs()), short(band))
        }
        (Some(difference), None, Some(reason)) => format!("  (difference {}; {reason})", short(difference.abs())),
        (_, _, Some(reason)) => format!("  ({reason})"),
        _ => String::new(),
    }
}
