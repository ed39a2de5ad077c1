//! What is to be said of claims before anything is trained: those that no run as planned can decide.

use super::contrast::SEEDS_NEEDED;
use super::statement::{AtMostSpec, ClaimSpec, EqualSpec, GreaterSpec, Operand, TestSpec};
use super::stats;
use crate::run::counted;
use crate::tables::{TableSpec, short};

/// What is to be said of claims that so few seeds of a point can never decide.
#[must_use]
pub fn too_few_seeds(claims: &[ClaimSpec], num_seeds: usize) -> Option<String> {
    let asking: Vec<&str> =
        claims.iter().filter(|claim| claim.confidence().share().is_some()).map(|claim| claim.id.as_str()).collect();
    if num_seeds >= SEEDS_NEEDED || asking.is_empty() {
        return None;
    }
    let (seeds, claims) = (counted(num_seeds, "seed"), if asking.len() == 1 { "claim" } else { "claims" });
    Some(format!(
        "{seeds} of a point will decide nothing of {claims} {}: state `seeds: {SEEDS_NEEDED}` or more, or `confidence: none`",
        asking.join(", ")
    ))
}

/// Standard deviation over items of the difference of two cells, points: what is expected before outcomes are known.
///
/// **Source** `results/small/quality/outcomes.csv`: the median over the 36 pairs of its zero-shot cells; they go from 10 to 27.
const ITEM_SD: f64 = 17.0;

/// The margin of claims that state none, points.
const PLAIN_MARGIN: f64 = 3.0;

/// What is to be said of claims whose margin is below what the items of their evaluation sets move a difference by, however many seeds
/// there are. `items` says how many items a metric rests on, as one set of so many would: of a mean over sets, more than any of them.
#[must_use]
pub fn too_few_items(claims: &[ClaimSpec], tables: &[TableSpec], items: &dyn Fn(&str) -> Option<f64>) -> Vec<String> {
    claims.iter().filter_map(|claim| of_items(claim, tables, items)).collect()
}

fn of_items(claim: &ClaimSpec, tables: &[TableSpec], items: &dyn Fn(&str) -> Option<f64>) -> Option<String> {
    let tail = f64::midpoint(1.0, -claim.confidence().share()?);
    let fewest = metrics(claim, tables).into_iter().filter_map(|metric| Some((items(metric)?, metric)));
    let (items, metric) = fewest.min_by(|one, other| one.0.total_cmp(&other.0))?;
    let reach = stats::quantile(tail, f64::INFINITY) * ITEM_SD / items.sqrt();
    let margin = claim.test.iter().filter_map(margin).min_by(f64::total_cmp);
    let asks = match margin {
        Some(margin) => format!("asks for a margin of {} points", short(margin)),
        None => format!("may rest on differences of {} points and less", short(PLAIN_MARGIN)),
    };
    (reach > margin.unwrap_or(PLAIN_MARGIN)).then(|| {
        format!(
            "claim {} {asks}, and the {items:.0} items behind {metric} alone move a difference by about {}: more seeds will not \
             decide it, more items would",
            claim.id,
            short(reach)
        )
    })
}

/// The metrics of a claim's tables that its cells or tests name, in whatever place, or all of them where they name none.
fn metrics<'a>(claim: &ClaimSpec, tables: &'a [TableSpec]) -> Vec<&'a str> {
    let ClaimSpec { cells, defaults, each, test, .. } = claim;
    let text = serde_json::to_string(&(cells, defaults, each, test)).expect("a claim is plain structs with text keys");
    let of_claim = tables.iter().filter(|table| claim.cells.table.iter().flatten().any(|name| name == &table.name));
    let all: Vec<&str> = of_claim.flat_map(|table| table.values.iter()).map(String::as_str).collect();
    let named: Vec<&str> = all.iter().copied().filter(|metric| text.contains(&format!("\"{metric}\""))).collect();
    if named.is_empty() { all } else { named }
}

/// The margin that a test states of a difference, points.
fn margin(test: &TestSpec) -> Option<f64> {
    let is_difference = |operand: &Operand| matches!(operand, Operand::Gain(_) | Operand::Minus(_) | Operand::Abs(_));
    match test {
        TestSpec::Equal(EqualSpec { within, .. }) => Some(*within),
        TestSpec::Greater(GreaterSpec { by, .. }) => *by,
        TestSpec::AtMost(AtMostSpec { value, limit: Operand::Number(limit), .. })
            if *limit > 0.0 && value.iter().all(is_difference) =>
        {
            Some(*limit)
        }
        _ => None,
    }
}
