//! What is simulated: every kind of test at its least favourable truth, where what it must not say is known, and where it should
//! speak.
//!
//! Owns [`Case`]. As in an earlier simulation of the same rule, made apart from this program, cells are about 50 % unless a case says otherwise, a difference has an items' part of
//! 0.61 points, and runs of a cell scatter by about 0.9 points beside 0.4 that a seed adds to all cells. Where power is asked for there
//! are 2,000 items; where errors are, 500 that are turned round less often and so give the same parts, and 200 stand for its 800.

use super::world::{TrueCell, World};
use crate::claims::VerdictKind;

/// One claim on one truth.
pub(super) struct Case {
    /// The kind of test.
    pub test: &'static str,
    /// What is true.
    pub truth: &'static str,
    /// What would be wrong to say; nothing where the claim is true, and the share of `supported` is its power.
    pub wrong: Vec<Wrong>,
    /// The power at 3 and 5 seeds in the earlier simulation, percent.
    pub noted: Option<[f64; 2]>,
    /// The test as a claim states it.
    pub claim: String,
    /// Where lines meet, where the test asks for it.
    pub meets: Option<f64>,
    pub world: World,
}

/// Verdicts that are wrong, and how often they come at 3 and 5 seeds in the earlier simulation, percent.
pub(super) struct Wrong {
    pub kinds: &'static [VerdictKind],
    pub noted: Option<[f64; 2]>,
}

impl Case {
    fn new(test: &'static str, truth: &'static str, claim: impl Into<String>, means: &[f64]) -> Self {
        let cells = means.iter().enumerate().map(|(idx, mean)| cell(format!("m{idx}"), None, *mean)).collect();
        let world =
            World { cells, num_seeds: 3, num_items: 500, block_sd: 0.4, scorer_sd: 0.0, level: 50.0, turned: 0.0102, likely: 0.98 };
        Self { test, truth, wrong: Vec::new(), noted: None, claim: claim.into(), meets: None, world }
    }

    fn wrong(mut self, kinds: &'static [VerdictKind]) -> Self {
        self.wrong.push(Wrong { kinds, noted: None });
        self
    }

    /// What is noted of the last that is wrong, or else of the power.
    fn noted(mut self, at_3: f64, at_5: f64) -> Self {
        match self.wrong.last_mut() {
            Some(wrong) => wrong.noted = Some([at_3, at_5]),
            None => self.noted = Some([at_3, at_5]),
        }
        self
    }

    /// The same on as many items as the earlier simulation has, where differences of some points leave the scatter of runs as it is.
    fn powerful(mut self) -> Self {
        self.world = World { num_items: 2000, turned: 0.048, likely: 0.95, ..self.world };
        self.world.cells.iter_mut().for_each(|cell| cell.seed_sd = 0.7);
        self
    }

    fn items(mut self, num_items: usize) -> Self {
        self.world.num_items = num_items;
        self
    }

    /// Cells as model and size, sizes fastest.
    fn by_size(mut self, sizes: &[&str]) -> Self {
        for (idx, cell) in self.world.cells.iter_mut().enumerate() {
            cell.row = format!("m{}", idx / sizes.len());
            cell.column = Some(sizes[idx % sizes.len()].to_owned());
        }
        self
    }

    /// The seeds of one cell add so many points more or less than those of the others.
    fn unequal(mut self, others: f64, cell_idx: usize, one: f64) -> Self {
        self.world.cells.iter_mut().for_each(|cell| cell.seed_sd = others);
        self.world.cells[cell_idx].seed_sd = one;
        self
    }

    /// Seeds draw a scorer of all cells but one, which adds so many points to each of them.
    fn scored_but(mut self, cell_idx: usize, scorer_sd: f64) -> Self {
        self.world.cells.iter_mut().enumerate().for_each(|(idx, cell)| cell.has_scorer = idx != cell_idx);
        self.world.scorer_sd = scorer_sd;
        self
    }

    /// The same about another level.
    fn level(mut self, level: f64) -> Self {
        let by = level - self.world.level;
        self.world.cells.iter_mut().for_each(|cell| cell.mean += by);
        self.world.level = level;
        self
    }

    pub fn with_seeds(&self, num_seeds: u64) -> World {
        World { num_seeds, ..self.world.clone() }
    }
}

fn cell(row: String, column: Option<String>, mean: f64) -> TrueCell {
    TrueCell { row, column, mean, seed_sd: 0.65, has_scorer: false }
}

const SUPPORTED: &[VerdictKind] = &[VerdictKind::Supported];
const LEANING: &[VerdictKind] = &[VerdictKind::Supported, VerdictKind::Leaning];
const REFUTED: &[VerdictKind] = &[VerdictKind::Refuted];
const ANY_FALSE: &[VerdictKind] = &[VerdictKind::Mixed, VerdictKind::Refuted];

pub(super) const SIZES: [&str; 6] = ["1k", "2k", "4k", "8k", "16k", "32k"];

/// `mi` above `mj`, with more keys.
fn above(i: usize, j: usize, more: &str) -> String {
    format!("greater: {{ left: {{ cell: {{ model: m{i} }} }}, right: {{ cell: {{ model: m{j} }} }}{more} }}")
}

/// The first of two models above the second at every size.
fn at_each_size(more: &str) -> String {
    above(0, 1, &format!(", each: {{ size: all }}{more}"))
}

fn lines(differences: &[f64]) -> Vec<f64> {
    let of = |first: bool| move |(idx, difference): (usize, &f64)| 46.0 + 2.0 * idx as f64 + if first { *difference } else { 0.0 };
    let models = |first| differences.iter().enumerate().map(of(first));
    models(true).chain(models(false)).collect()
}

/// All cases, in the order of the tables.
pub(super) fn all() -> Vec<Case> {
    let mut cases = pairs();
    cases.extend(orders());
    cases.extend(sums());
    cases.extend(families());
    cases.into_iter().map(|case| if case.wrong.is_empty() { case.powerful() } else { case }).collect()
}

/// Four cells, of which the first two are level.
pub(super) fn level() -> World {
    Case::new("greater", "equal", "", &[50.0, 50.0, 47.0, 53.0]).powerful().world
}

fn pairs() -> Vec<Case> {
    let greater = |truth, means: &[f64]| Case::new("greater", truth, above(0, 1, ""), means);
    let by_2 = |truth, means: &[f64]| Case::new("greater by 2", truth, above(0, 1, ", by: 2"), means);
    let equal = "equal: { left: { cell: { model: m0 } }, right: { cell: { model: m1 } }, within: 2 }";
    let equal = |truth, means: &[f64]| Case::new("equal within 2", truth, equal, means);
    let gain = "at_most: { value: { minus: [{ cell: { model: m0 } }, { cell: { model: m1 } }] }, limit: 1 }";
    let gain = |truth, means: &[f64]| Case::new("at_most 1", truth, gain, means);
    let same = &[50.0, 50.0, 47.0, 53.0];
    vec![
        greater("equal", same).wrong(SUPPORTED).noted(1.8, 2.2).wrong(REFUTED),
        greater("equal, 200 items", same).items(200).wrong(SUPPORTED).noted(2.4, 2.4).wrong(REFUTED),
        greater("equal, about 12 %", same).level(12.0).wrong(SUPPORTED).wrong(REFUTED),
        greater("equal; runs of one scatter by 1.8, of the others by 0.6", same)
            .unequal(0.0, 0, 1.7)
            .wrong(SUPPORTED)
            .wrong(REFUTED),
        greater("equal; seeds draw the scorer of all 10 cells but one of the two, by 1.8", &[50.0; 10])
            .scored_but(1, 1.8)
            .wrong(SUPPORTED)
            .wrong(REFUTED),
        greater("equal; seeds draw the scorer of both and not of another, by 1.8", &[50.0; 10])
            .scored_but(9, 1.8)
            .wrong(SUPPORTED)
            .wrong(REFUTED),
        greater("by 3", &[53.0, 50.0, 47.0, 53.0]).noted(79.0, 93.0),
        by_2("by 2", &[52.0, 50.0, 47.0, 53.0]).wrong(SUPPORTED).wrong(REFUTED),
        gain("1", &[51.0, 50.0, 47.0, 53.0]).wrong(SUPPORTED).wrong(REFUTED),
        gain("-2", &[48.0, 50.0, 47.0, 53.0]),
        equal("apart by 2", &[52.0, 50.0, 47.0, 53.0]).wrong(SUPPORTED).noted(3.5, 4.6).wrong(REFUTED),
        equal("level", same).noted(25.0, 48.0),
    ]
}

fn orders() -> Vec<Case> {
    let rises = |truth, means: &[f64]| Case::new("rises (4)", truth, "rises: { along: model }", means);
    let best = |truth, means: &[f64]| Case::new("best: X (5)", truth, "best: { along: model, is: m0 }", means);
    let interior = |truth, means: &[f64]| Case::new("best: interior (5)", truth, "best: { along: model, is: interior }", means);
    let trend = |truth, means: &[f64]| Case::new("trend (4)", truth, "trend: { along: model }", means);
    vec![
        rises("the last step is flat", &[44.0, 48.0, 52.0, 52.0]).wrong(SUPPORTED).noted(1.7, 2.2).wrong(ANY_FALSE),
        rises("all flat", &[50.0; 4]).wrong(LEANING).wrong(REFUTED),
        rises("steps of 4", &[44.0, 48.0, 52.0, 56.0]).noted(86.0, 99.0),
        best("one rival is level", &[52.0, 52.0, 48.0, 48.0, 48.0]).wrong(SUPPORTED).noted(2.0, 2.1).wrong(ANY_FALSE),
        best("one rival is level; runs of X scatter by 1.8, of the others by 0.6", &[52.0, 52.0, 48.0, 48.0, 48.0])
            .unequal(0.0, 0, 1.7)
            .wrong(SUPPORTED)
            .noted(5.0, 4.4),
        best("by 4", &[52.0, 48.0, 48.0, 48.0, 48.0]).noted(87.0, 99.0),
        interior("level with the first, above the last", &[52.0, 52.0, 52.0, 52.0, 48.0])
            .wrong(SUPPORTED)
            .noted(2.2, 1.9)
            .wrong(REFUTED),
        interior("one is level with the first, the others below it", &[52.0, 52.0, 48.0, 48.0, 48.0])
            .wrong(SUPPORTED)
            .wrong(REFUTED),
        interior("by 4", &[48.0, 48.0, 52.0, 48.0, 48.0]).noted(80.0, 96.0),
        trend("flat", &[50.0; 4]).wrong(SUPPORTED).noted(2.2, 2.2).wrong(REFUTED),
        trend("flat, 200 items", &[50.0; 4]).items(200).wrong(SUPPORTED).noted(2.3, 2.1).wrong(REFUTED),
        trend("1 a step", &[48.5, 49.5, 50.5, 51.5]).noted(82.0, 94.0),
    ]
}

fn sums() -> Vec<Case> {
    let mean = |model: usize| format!("{{ mean: {{ over: {{ size: all }}, of: {{ cell: {{ model: m{model} }} }} }} }}");
    let means = format!("greater: {{ left: {}, right: {} }}", mean(0), mean(1));
    let mean = |truth, difference: f64| Case::new("mean (6 sizes)", truth, means.clone(), &lines(&[difference; 6])).by_size(&SIZES);
    let crossing = "crossover: { along: size, first: { cell: { model: m0 } }, later: { cell: { model: m1 } } }";
    let crossover = |truth, differences: &[f64]| {
        Case::new("crossover (5)", truth, crossing, &lines(differences)).by_size(&SIZES[..differences.len()])
    };
    let met = Case { meets: Some(4000.0), ..crossover("from 4 to -4", &[4.0, 2.0, 0.0, -2.0, -4.0]).noted(94.0, 99.0) };
    vec![
        mean("equal", 0.0).wrong(SUPPORTED).wrong(REFUTED),
        mean("by 1", 1.0).noted(65.0, f64::NAN),
        crossover("later never leads", &[4.0, 3.0, 2.0, 1.0, 0.0]).wrong(SUPPORTED).noted(1.8, 2.0),
        crossover("level at both ends", &[0.0, 0.0, 0.0, 0.0, 0.0]).wrong(REFUTED),
        met,
    ]
}

fn families() -> Vec<Case> {
    let half = |truth, differences: &[f64]| {
        Case::new("in more than 50 % (6)", truth, at_each_size(", in_more_than: 50%"), &lines(differences)).by_size(&SIZES)
    };
    let twelve = |truth, above: usize, by: f64| {
        let mut means = vec![50.0 + by; above];
        means.resize(12, 50.0);
        means.push(50.0);
        let lefts = (0..12).map(|idx| format!("{{ cell: {{ model: m{idx} }} }}")).collect::<Vec<_>>().join(", ");
        let claim = format!("greater: {{ left: [{lefts}], right: {{ cell: {{ model: m12 }} }} }}");
        Case::new("12 comparisons", truth, claim, &means)
    };
    let own = |truth, above: usize, by: f64| {
        let differences: Vec<f64> = (0..12).map(|idx| if idx < above { by } else { 0.0 }).collect();
        let sizes = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];
        let means: Vec<f64> = differences.iter().map(|difference| 50.0 + difference).chain([50.0; 12]).collect();
        Case::new("12 comparisons of their own cells", truth, at_each_size(""), &means).by_size(&sizes)
    };
    vec![
        half("three of six, clearly", &[8.0, 8.0, 8.0, 0.0, 0.0, 0.0]).wrong(SUPPORTED).noted(1.7, 1.7),
        half("four of six level, two clearly below", &[-8.0, -8.0, 0.0, 0.0, 0.0, 0.0]).wrong(REFUTED),
        half("all by 3", &[3.0; 6]).noted(68.0, 95.0),
        own("half are level, half clear", 6, 8.0).wrong(LEANING).noted(1.6, 2.2).wrong(ANY_FALSE),
        own("one is level, the others clear", 11, 8.0).wrong(SUPPORTED).wrong(ANY_FALSE),
        own("all level", 0, 0.0).wrong(ANY_FALSE).noted(1.5, 1.7),
        twelve("all level, against one", 0, 0.0).wrong(ANY_FALSE),
    ]
}
