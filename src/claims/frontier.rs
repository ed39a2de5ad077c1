//! The frontier: the best cell at each cost, what it beats and by how much.
//!
//! A cell is on it where none of no higher cost is as good. What it beats is the next best cell of no higher cost, by the contrast of
//! claims. Invariant: pure; the best is chosen on the same runs that it is measured on, so its lead is biased upwards, the more so the
//! more cells there are.

use std::fmt::Write as _;

use super::versus::{Costed, Versus, pool};
use crate::record::number;
use crate::tables::{Grid, short};

/// One cell of the frontier.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Position among the cells.
    pub cell: usize,
    /// Position of the next best of no higher cost, and how far it is behind; `None` where there is no other.
    pub beats: Option<(usize, Versus)>,
}

/// Costs that differ by less are one.
pub(super) const SAME_COST: f64 = 1e-9;

/// Positions of the cells on the frontier, by cost; a larger value is better.
pub(super) fn best_at_each_cost(cells: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cells.len()).collect();
    // Of one cost the better comes first; of equal cells the first stated.
    order.sort_by(|a, b| cells[*a].0.total_cmp(&cells[*b].0).then(cells[*b].1.total_cmp(&cells[*a].1)));
    let mut kept: Vec<usize> = Vec::new();
    for idx in order {
        match kept.last() {
            Some(last) if cells[*last].1 >= cells[idx].1 => {}
            // Costs that differ by rounding alone are one cost.
            Some(last) if cells[idx].0 <= cells[*last].0 * (1.0 + SAME_COST) => {
                kept.pop();
                kept.push(idx);
            }
            _ => kept.push(idx),
        }
    }
    kept
}

/// The frontier of cells of a metric, by cost. `is_loss` where a smaller value is better.
#[must_use]
pub fn frontier(cells: &[Costed], metric: &str, is_loss: bool) -> Vec<Step> {
    let sign = if is_loss { -1.0 } else { 1.0 };
    let values: Vec<(f64, f64)> = cells.iter().map(|cell| (cell.cost, sign * cell.measure.mean())).collect();
    let pool = pool(cells, metric);
    let step = |idx: usize| {
        let affordable = (0..cells.len()).filter(|other| *other != idx && values[*other].0 <= values[idx].0 * (1.0 + SAME_COST));
        let next = affordable.fold(None, |best: Option<usize>, other| match best {
            Some(best) if values[best].1 >= values[other].1 => Some(best),
            _ => Some(other),
        });
        let beats = next.map(|next| {
            let (ours, theirs) = if is_loss { (next, idx) } else { (idx, next) };
            (next, Versus::of(&vec![(1.0, &cells[ours])], &vec![(1.0, &cells[theirs])], metric, &pool))
        });
        Step { cell: idx, beats }
    };
    best_at_each_cost(&values).into_iter().map(step).collect()
}

/// A frontier with the cells that it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Frontier {
    /// File name behind `frontier-`.
    pub name: String,
    /// One line above it.
    pub caption: Option<String>,
    /// The metric.
    pub of: String,
    /// What is a cost.
    pub against: String,
    /// Axes of the cells.
    pub axes: Vec<String>,
    /// All cells.
    pub cells: Vec<Costed>,
    /// Those on the frontier.
    pub steps: Vec<Step>,
    /// Cells without a value.
    pub missing: usize,
}

impl Frontier {
    /// Tidy CSV: a row a cell of the frontier.
    #[must_use]
    pub fn to_csv(&self) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut write = |fields: Vec<String>| writer.write_record(fields).expect("writing to memory does not fail");
        let fixed =
            ["metric", "mean", "n", "beats", "beats_mean", "difference", "low", "high", "decided", "note"].map(str::to_owned);
        write(std::iter::once(&self.against).chain(&self.axes).cloned().chain(fixed).collect());
        for Step { cell, beats } in &self.steps {
            let cell = &self.cells[*cell];
            let mut row = vec![number(cell.cost)];
            row.extend(cell.labels.iter().map(|(_, label)| label.clone()));
            row.extend([self.of.clone(), number(cell.measure.mean()), cell.run_ids().len().to_string()]);
            match beats {
                None => row.extend(["", "", "", "", "", "", "no other cell costs as little"].map(str::to_owned)),
                Some((next, versus)) => {
                    let next = &self.cells[*next];
                    let [low, high] = versus.interval().map_or([String::new(), String::new()], |ends| ends.map(number));
                    let decided = if versus.is_decided() { "yes" } else { "no" };
                    let note = if versus.is_decided() { String::new() } else { versus.decision() };
                    row.extend([next.name(), number(next.measure.mean()), number(versus.difference), low, high]);
                    row.extend([decided.to_owned(), note]);
                }
            }
            write(row);
        }
        writer.into_inner().expect("writing to memory does not fail")
    }

    /// Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# frontier-{}\n", self.name);
        if let Some(caption) = &self.caption {
            let _ = write!(out, "\n{caption}\n");
        }
        let _ = write!(out, "\n{}\n{}\n", self.grid().to_markdown(), self.footnote());
        out
    }

    /// A row a cell of the frontier: its cost, labels and value, what it beats, by how much, and whether that is decided.
    #[must_use]
    pub fn grid(&self) -> Grid {
        let fixed = [self.of.clone(), "beats".to_owned(), "by".to_owned(), "which is".to_owned()];
        let head: Vec<String> = std::iter::once(&self.against).chain(&self.axes).cloned().chain(fixed).collect();
        let is_number = |idx: usize| idx == 0 || idx == self.axes.len() + 1 || idx == self.axes.len() + 3;
        let row = |Step { cell, beats }: &Step| {
            let cell = &self.cells[*cell];
            let mut row = vec![short(cell.cost)];
            row.extend(cell.labels.iter().map(|(_, label)| label.clone()));
            row.push(short(cell.measure.mean()));
            match beats {
                None => row.extend(["no other cell costs as little", "", ""].map(str::to_owned)),
                Some((next, versus)) => {
                    let ends = versus.interval().map_or(String::new(), |[low, high]| format!(" [{}, {}]", short(low), short(high)));
                    row.extend([self.cells[*next].name(), format!("{}{ends}", short(versus.difference)), versus.decision()]);
                }
            }
            row
        };
        let is_number = (0..head.len()).map(is_number).collect();
        Grid { metric: Some(self.of.clone()), rows: self.steps.iter().map(row).collect(), head, is_number }
    }

    /// What the rows are of.
    #[must_use]
    pub fn footnote(&self) -> String {
        let mut out = format!("The best cell at each cost and the next best of no higher cost, of {} cells", self.cells.len());
        if self.missing > 0 {
            let _ = write!(out, "; {} more have no value", self.missing);
        }
        out.push_str(". The best is chosen on the runs that it is measured on.");
        out
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::claims::{Measure, SeedRun};
    use crate::run::SeedParts;

    fn cell(name: &str, cost: f64, values: &[f64]) -> Costed {
        let run = |(seed, value): (u64, &f64)| SeedRun {
            seed,
            value: *value,
            run_id: format!("{name}{seed}"),
            drawn: SeedParts::none(),
            items: None,
        };
        Costed {
            labels: vec![("model".to_owned(), name.to_owned())],
            cost,
            measure: Measure::Seeds((0..).zip(values).map(run).collect()),
        }
    }

    fn cells() -> Vec<Costed> {
        vec![
            cell("a", 1.0, &[30.0, 31.0, 32.0]),
            cell("b", 2.0, &[29.0, 30.5, 30.0]),
            cell("c", 4.0, &[40.0, 42.0, 41.0]),
            cell("d", 4.0, &[39.0, 42.5, 40.0]),
            cell("e", 8.0, &[41.0, 41.0, 41.0]),
        ]
    }

    #[test]
    fn each_step_is_the_best_at_its_cost_and_says_what_it_beats_and_by_how_much() {
        let cells = cells();
        let steps = frontier(&cells, "acc1", false);
        assert_eq!(steps.iter().map(|step| step.cell).collect::<Vec<_>>(), [0, 2], "e is no better than c and costs more");
        assert_eq!(steps[0].beats, None);
        let (next, versus) = steps[1].beats.as_ref().unwrap();
        // c less d: 1, -0.5, 1.
        assert!(*next == 3 && (versus.difference - 0.5).abs() < 1e-12 && !versus.is_decided(), "{versus:?}");
        assert!(versus.decision().starts_with("not decided at 95 %: about "), "{}", versus.decision());
    }

    #[test]
    fn a_frontier_is_written_with_its_differences() {
        let cells = cells();
        let steps = frontier(&cells, "acc1", false);
        let axes = vec!["model".to_owned()];
        let (of, against) = ("acc1".to_owned(), "gmacs".to_owned());
        let frontier = Frontier { name: "f".to_owned(), caption: None, of, against, axes, cells, steps, missing: 1 };
        let csv = String::from_utf8(frontier.to_csv()).unwrap();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "gmacs,model,metric,mean,n,beats,beats_mean,difference,low,high,decided,note");
        assert_eq!(lines[1], "1,a,acc1,31,3,,,,,,,no other cell costs as little");
        assert!(lines[2].starts_with("4,c,acc1,41,3,model=d,40.5,0.5,-") && lines[2].contains(",no,not decided"), "{csv}");
        let markdown = frontier.to_markdown();
        assert!(markdown.contains("| 4 | c | 41 | model=d | 0.5 [-"), "{markdown}");
        assert!(markdown.contains("of 5 cells; 1 more have no value."), "{markdown}");
    }

    #[test]
    fn of_a_loss_the_smaller_is_better() {
        let cells = [cell("a", 1.0, &[3.0, 3.1, 3.2]), cell("b", 1.0, &[2.0, 2.2, 2.1])];
        let steps = frontier(&cells, "loss", true);
        let (next, versus) = steps[0].beats.as_ref().unwrap();
        assert!(steps.len() == 1 && steps[0].cell == 1 && *next == 0 && (versus.difference - 1.0).abs() < 1e-9, "{versus:?}");
    }
}
