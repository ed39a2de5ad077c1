//! `bench claims`: how often the rule by which claims are judged is wrong, on runs whose truth is known.
//!
//! Input: cases ([`cases`]) and draws of them ([`world`]). Output: four CSV files and a plot. Invariant: every verdict is one that
//! [`judge`] gives on tables and outcomes, as it does on those of runs; the same seed and number of draws give the same bytes.

mod cases;
mod fits;
mod plot;
mod world;

use std::io::Write;
use std::path::Path;

use rayon::prelude::*;

use super::args::BenchClaims;
use crate::claims::{ClaimSpec, RunTables, Verdict, VerdictKind, judge};
use crate::error::Error;
use crate::store::write_atomic;
use cases::{Case, all};
use plot::Curve;
use world::World;

/// Seeds of a cell that are looked at.
const SEEDS: [u64; 3] = [3, 5, 10];

/// Verdicts in the order of the columns.
const VERDICTS: [VerdictKind; 5] =
    [VerdictKind::Supported, VerdictKind::Leaning, VerdictKind::Mixed, VerdictKind::Refuted, VerdictKind::Undecided];

/// What came of many draws.
#[derive(Debug, Clone, Default)]
struct Tally {
    draws: u64,
    /// By verdict, in the order of [`VERDICTS`].
    verdicts: [u64; 5],
    /// Draws that said between which two places lines meet, and those of which it was so.
    met: [u64; 2],
    /// Sum of the first comparison's bands.
    bands: f64,
}

impl Tally {
    fn add(mut self, verdict: &Verdict, meets: Option<f64>) -> Self {
        self.draws += 1;
        if let Some(idx) = VERDICTS.iter().position(|kind| *kind == verdict.verdict) {
            self.verdicts[idx] += 1;
        }
        let first = verdict.comparisons.first();
        self.bands += first.and_then(|comparison| comparison.band).unwrap_or(0.0);
        if let (Some(at), Some(found)) = (meets, first.and_then(|comparison| comparison.meets)) {
            let is_inside = found.low.is_none_or(|low| low <= at) && found.high.is_none_or(|high| high >= at);
            self.met[0] += 1;
            self.met[1] += u64::from(is_inside);
        }
        self
    }

    fn and(mut self, other: &Self) -> Self {
        self.draws += other.draws;
        self.verdicts.iter_mut().zip(other.verdicts).for_each(|(a, b)| *a += b);
        self.met.iter_mut().zip(other.met).for_each(|(a, b)| *a += b);
        self.bands += other.bands;
        self
    }

    fn share(&self, kinds: &[VerdictKind]) -> f64 {
        let count = VERDICTS.iter().zip(self.verdicts).filter(|(kind, _)| kinds.contains(kind)).map(|(_, count)| count).sum();
        percent(count, self.draws)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of draws")]
fn percent(count: u64, of: u64) -> f64 {
    100.0 * count as f64 / of as f64
}

/// Draws that one thread does one after another; sums are taken chunk by chunk, so that threads do not change their order.
const CHUNK: u64 = 100;

/// Judges a claim on draws of a world.
fn tally(claim: &ClaimSpec, world: &World, meets: Option<f64>, args: &BenchClaims) -> Tally {
    let claims = std::slice::from_ref(claim);
    let one = |tally: Tally, number: u64| {
        let (table, outcomes) = world.draw(args.seed, number);
        let verdict = judge(claims, &RunTables::new(&[table]).with(&outcomes)).remove(0);
        tally.add(&verdict, meets)
    };
    let chunks: Vec<u64> = (0..args.draws.div_ceil(CHUNK)).collect();
    let of_chunk = |chunk: &u64| (chunk * CHUNK..((chunk + 1) * CHUNK).min(args.draws)).fold(Tally::default(), one);
    let tallies: Vec<Tally> = chunks.par_iter().map(of_chunk).collect();
    tallies.iter().fold(Tally::default(), Tally::and)
}

/// The same with a share of the draws.
fn fewer(args: &BenchClaims, by: u64) -> BenchClaims {
    BenchClaims { out: None, draws: args.draws.div_ceil(by), seed: args.seed }
}

fn claim(test: &str, more: &str) -> Result<ClaimSpec, Error> {
    let text = format!("{{ id: c, says: s, cells: {{ table: t }}, {more}test: {{ {test} }} }}");
    let read = serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(&text));
    read.map_err(|error| Error::Invalid { message: format!("{text}: {error}"), hint: None })
}

pub(super) fn run(args: &BenchClaims, out: &mut dyn Write) -> Result<(), Error> {
    let verdicts = verdicts(args, out)?;
    let (power, widths) = differences(args, out)?;
    let coverage = coverage(args, out)?;
    let Some(folder) = &args.out else { return Ok(()) };
    let save = |name: &str, bytes: &[u8]| -> Result<(), Error> { Ok(write_atomic(&folder.join(name), bytes)?) };
    create(folder)?;
    save("verdicts.csv", &verdicts)?;
    save("power.csv", &power)?;
    save("fits.csv", &coverage)?;
    save("half-widths.csv", &csv(&WIDTHS_HEADER, &widths.iter().flat_map(Curve::rows).collect::<Vec<_>>()))?;
    save("half-widths.svg", plot::svg(&widths).as_bytes())?;
    Ok(writeln!(out, "written to {}", folder.display())?)
}

/// How often the intervals of fits hold, on a sixteenth of the draws.
fn coverage(args: &BenchClaims, out: &mut dyn Write) -> Result<Vec<u8>, Error> {
    let rows = fits::rows(&fewer(args, 16), &SEEDS);
    for row in &rows {
        let [level, asked, seeds, .., refused, holds, noted] = row.as_slice() else { continue };
        writeln!(out, "fit, {level}: interval holds the {asked}, {seeds} seeds: {holds} % (noted {noted}); refused {refused} %")?;
    }
    Ok(csv(&fits::HEADER, &rows))
}

fn create(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::File { operation: "create", path: folder.to_owned(), source })
}

const WIDTHS_HEADER: [&str; 3] = ["items", "seeds", "half_width_pt"];

fn csv(header: &[&str], rows: &[Vec<String>]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |row: &[String]| writer.write_record(row).expect("writing to memory does not fail");
    write(&header.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| write(row));
    writer.into_inner().expect("writing to memory does not fail")
}

/// Every case at every number of seeds: shares of verdicts, which of them are wrong and how often, and what the earlier simulation gave.
fn verdicts(args: &BenchClaims, out: &mut dyn Write) -> Result<Vec<u8>, Error> {
    let header = [
        "test",
        "truth",
        "seeds",
        "items",
        "draws",
        "seed",
        "supported",
        "leaning",
        "mixed",
        "refuted",
        "undecided",
        "asked",
        "percent",
        "noted_percent",
        "interval_covers",
    ];
    let mut rows = Vec::new();
    writeln!(out, "{:<34} {:<70} {:>5}  {:<26} {:>5} {:>6}", "test", "truth", "seeds", "asked", "%", "noted")?;
    for case in all() {
        let stated = claim(&case.claim, "")?;
        for (seeds_idx, seeds) in SEEDS.into_iter().enumerate() {
            // A power needs no such accuracy as a rare error.
            let args = if case.wrong.is_empty() { &fewer(args, 5) } else { args };
            let found = tally(&stated, &case.with_seeds(seeds), case.meets, args);
            let at =
                |noted: Option<[f64; 2]>| noted.and_then(|noted| noted.get(seeds_idx).copied()).filter(|noted| noted.is_finite());
            let wrong = case.wrong.iter().map(|wrong| {
                let names: Vec<&str> = wrong.kinds.iter().map(|kind| kind.name()).collect();
                (format!("wrong: {}", names.join(" or ")), wrong.kinds, at(wrong.noted))
            });
            let mut asked: Vec<(String, &[VerdictKind], Option<f64>)> = wrong.collect();
            if asked.is_empty() {
                asked.push(("power".to_owned(), &[VerdictKind::Supported], at(case.noted)));
            }
            for (what, kinds, noted) in asked {
                let row = row(&case, seeds, &found, (&what, found.share(kinds), noted), args);
                writeln!(out, "{:<34} {:<70} {seeds:>5}  {what:<26} {:>5} {:>6}", case.test, case.truth, row[12], row[13])?;
                rows.push(row);
            }
        }
    }
    Ok(csv(&header, &rows))
}

fn row(case: &Case, seeds: u64, found: &Tally, (what, share, noted): (&str, f64, Option<f64>), args: &BenchClaims) -> Vec<String> {
    let one = |share: f64| format!("{share:.1}");
    let mut row = vec![case.test.to_owned(), case.truth.to_owned(), seeds.to_string(), case.world.num_items.to_string()];
    row.extend([args.draws.to_string(), args.seed.to_string()]);
    row.extend(VERDICTS.map(|kind| one(found.share(&[kind]))));
    row.extend([what.to_owned(), one(share), noted.map_or(String::new(), one)]);
    row.push(if found.met[0] == 0 { String::new() } else { one(percent(found.met[1], found.met[0])) });
    row
}

/// `greater` at differences from 0 to 6 points, and half the width of its interval at numbers of seeds and items.
fn differences(args: &BenchClaims, out: &mut dyn Write) -> Result<(Vec<u8>, Vec<Curve>), Error> {
    let stated = claim("greater: { left: { cell: { model: m0 } }, right: { cell: { model: m1 } } }", "tie_band: 0, ")?;
    let base = cases::level();
    let at = |difference: f64, num_seeds: u64, num_items: usize| {
        let mut world = World { num_seeds, num_items, ..base.clone() };
        world.cells[0].mean += difference;
        world
    };
    let mut power = Vec::new();
    for seeds in SEEDS {
        for difference in 0..=6 {
            let difference = f64::from(difference);
            let found = tally(&stated, &at(difference, seeds, base.num_items), None, &fewer(args, 5));
            power.push(vec![seeds.to_string(), difference.to_string(), format!("{:.1}", found.share(&[VerdictKind::Supported]))]);
        }
    }
    let few = fewer(args, 20);
    let mut widths = Vec::new();
    for items in [800, 2000, 8000] {
        let width = |seeds: u64| {
            let found = tally(&stated, &at(0.0, seeds, items), None, &few);
            #[expect(clippy::cast_precision_loss, reason = "a count of draws")]
            let mean = found.bands / found.draws as f64;
            (seeds, mean)
        };
        let points: Vec<(u64, f64)> = [3, 4, 5, 7, 10].map(width).to_vec();
        let listed = points.iter().map(|(seeds, width)| format!("{width:.2} at {seeds}")).collect::<Vec<_>>().join(", ");
        writeln!(out, "half-width of a difference on {items} items, points: {listed} seeds")?;
        widths.push(Curve { items, points });
    }
    Ok((csv(&["seeds", "difference_pt", "supported_percent"], &power), widths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_states_a_claim_that_can_be_judged_and_draws_repeat() {
        let args = BenchClaims { out: None, draws: 3, seed: 1 };
        for case in all() {
            let world = World { num_items: 100, ..case.with_seeds(3) };
            let stated = claim(&case.claim, "").map_err(|error| error.to_string());
            let stated = stated.unwrap_or_else(|error| panic!("{}: {error}", case.test));
            let (table, outcomes) = world.draw(1, 0);
            let verdict = judge(std::slice::from_ref(&stated), &RunTables::new(&[table]).with(&outcomes)).remove(0);
            assert!(verdict.num_missing == 0 && verdict.ambiguous.is_empty() && !verdict.comparisons.is_empty(), "{verdict:?}");
            let found = tally(&stated, &world, case.meets, &args);
            assert_eq!((found.draws, found.verdicts), (3, tally(&stated, &world, case.meets, &args).verdicts), "{}", case.test);
            assert_eq!(found.verdicts.iter().sum::<u64>(), 3);
        }
    }

    #[test]
    fn a_difference_that_is_not_there_is_seldom_supported_and_a_large_one_always() {
        let args = BenchClaims { out: None, draws: 400, seed: 0 };
        let stated = claim("greater: { left: { cell: { model: m0 } }, right: { cell: { model: m1 } } }", "");
        let stated = stated.unwrap_or_else(|error| panic!("{error}"));
        let mut world = World { num_items: 300, ..all().remove(0).with_seeds(3) };
        // 2.5 % at most: of 400, 25 are far more.
        assert!(tally(&stated, &world, None, &args).verdicts[0] < 25);
        world.cells[0].mean += 15.0;
        assert!(tally(&stated, &world, None, &args).share(&[VerdictKind::Supported]) > 95.0);
    }
}
