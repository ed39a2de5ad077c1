//! Whether a claim can be judged, asked before anything runs.
//!
//! Owns [`validate`] and the walk over everything that a claim names. Input: a statement and, for claims on tables of runs, the
//! shapes of the tables. Output: [`Problem`]s at key paths inside the statement; `test` and other one-or-many keys are indexed
//! only where they hold several. Must not know: any value.

use std::collections::{BTreeMap, BTreeSet};

use super::statement::{
    AmountRange, AtMostSpec, BestSpec, CellsSpec, ClaimSpec, Columns, CrossoverSpec, EqualSpec, FitSpec, GainSpec, GreaterSpec,
    INTERIOR, InterpolateSpec, MeanSpec, Operand, RisesSpec, Selection, TestSpec, Ties, TrendSpec, XSpec,
};
use crate::tables::{Label, OneOrMany, Problem, TableShape};

/// What is wrong with a claim; empty where it can be judged.
///
/// `tables` holds the shape of every table of the experiment, or is `None` for claims on CSV files, whose columns and values
/// are not required to be there.
#[must_use]
pub fn validate(claim: &ClaimSpec, tables: Option<&BTreeMap<String, TableShape>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let columns = match tables {
        Some(tables) => known_columns(&claim.cells, tables, &mut problems),
        None => {
            if claim.cells.table.is_some() {
                problems.push(Problem::new("cells.table", "names a table of runs, expected `where` with columns of the CSV files"));
            }
            None
        }
    };
    let mut check = ClaimCheck { claim, tables, columns: columns.as_ref(), problems, uses_at: false };
    check.scalars();
    if tables.is_some() && claim.ties() == Ties::Allowed {
        check.problem("ties", "is `allowed`, which is for readings without seeds; a claim on runs counts its ties");
    }
    check.references();
    for (path, test) in indexed("test", &claim.test) {
        check.test(&path, test);
    }
    if !claim.at.is_empty() && !check.uses_at {
        check.problems.push(Problem::new("at", "is not used: no `interpolate` operand leaves its position open"));
    }
    check.problems
}

/// Every column that a claim names: restricted, repeated over, compared along or fixed by an operand.
pub(super) fn named_columns(claim: &ClaimSpec) -> BTreeSet<&str> {
    let mut named: BTreeSet<&str> = BTreeSet::new();
    named.extend(claim.cells.filter.iter().flatten().map(|(column, _)| column.as_str()));
    named.extend(claim.each.keys().map(String::as_str));
    for test in &claim.test {
        let parts = TestParts::of(test);
        named.extend(parts.each.keys().map(String::as_str));
        named.extend(parts.along);
        named.extend(parts.over.into_iter().flat_map(Columns::keys).map(String::as_str));
        for (_, operand) in parts.operands {
            name_operand(operand, &mut named);
        }
    }
    named
}

fn name_operand<'a>(operand: &'a Operand, named: &mut BTreeSet<&'a str>) {
    match operand {
        Operand::Number(_) => {}
        Operand::Cell(columns) => named.extend(columns.keys().map(String::as_str)),
        Operand::Gain(GainSpec { along, of, .. }) => {
            named.insert(along);
            named.extend(of.keys().map(String::as_str));
        }
        Operand::Minus(both) => {
            name_operand(&both.0, named);
            name_operand(&both.1, named);
        }
        Operand::Abs(inner) => name_operand(inner, named),
        Operand::Mean(mean) => {
            let MeanSpec { over, of } = &**mean;
            named.extend(over.keys().map(String::as_str));
            name_operand(of, named);
        }
        Operand::Interpolate(curve) => {
            let InterpolateSpec { along, x, y, of, .. } = &**curve;
            named.insert(along);
            named.extend(y.keys().chain(of.keys()).map(String::as_str));
            match x {
                XSpec::Cell(columns) => named.extend(columns.keys().map(String::as_str)),
                XSpec::Column(column) => _ = named.insert(column),
            }
        }
    }
}

/// What all kinds of test have in common.
struct TestParts<'a> {
    kind: &'static str,
    each: &'a Columns,
    along: Option<&'a str>,
    over: Option<&'a Columns>,
    selection: Option<(&'static str, &'a Selection)>,
    operands: Vec<(String, &'a Operand)>,
}

impl<'a> TestParts<'a> {
    fn of(test: &'a TestSpec) -> Self {
        let parts = |kind, each, operands| Self { kind, each, along: None, over: None, selection: None, operands };
        let one = |key: &str, operand: &'a Operand| (key.to_owned(), operand);
        match test {
            TestSpec::Greater(GreaterSpec { left, right, by: _, in_more_than: _, each }) => {
                parts("greater", each, indexed("left", left).into_iter().chain(indexed("right", right)).collect())
            }
            TestSpec::AtMost(AtMostSpec { value, limit, each }) => {
                parts("at_most", each, indexed("value", value).into_iter().chain([one("limit", limit)]).collect())
            }
            TestSpec::Equal(EqualSpec { left, right, within: _, each }) => {
                parts("equal", each, indexed("left", left).into_iter().chain(indexed("right", right)).collect())
            }
            TestSpec::Trend(TrendSpec { along, over, of, each }) => {
                Self { along: Some(along), selection: Some(("over", over)), ..parts("trend", each, vec![one("of", of)]) }
            }
            TestSpec::Rises(RisesSpec { along, over, of, each }) => {
                Self { along: Some(along), selection: Some(("over", over)), ..parts("rises", each, vec![one("of", of)]) }
            }
            TestSpec::Best(BestSpec { along, is: _, among, of, lowest: _, each }) => {
                Self { along: Some(along), selection: Some(("among", among)), ..parts("best", each, vec![one("of", of)]) }
            }
            TestSpec::Crossover(CrossoverSpec { along, over, first, later, each }) => Self {
                along: Some(along),
                selection: Some(("over", over)),
                ..parts("crossover", each, vec![one("first", first), one("later", later)])
            },
            TestSpec::Fit(FitSpec { x, y, over, r2_at_least: _, steeper_above: _, each }) => {
                Self { over: Some(over), ..parts("fit", each, vec![one("x", x), one("y", y)]) }
            }
        }
    }
}

/// The items of a one-or-many key with their paths.
fn indexed<'a, T>(key: &str, items: &'a OneOrMany<T>) -> Vec<(String, &'a T)> {
    let several = items.0.len() > 1;
    items.iter().enumerate().map(|(idx, item)| (if several { format!("{key}.{idx}") } else { key.to_owned() }, item)).collect()
}

/// The columns of the tables that a claim names, with their labels; `None` where a table is unknown.
fn known_columns(
    cells: &CellsSpec,
    tables: &BTreeMap<String, TableShape>,
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<String, Vec<String>>> {
    let Some(names) = &cells.table else {
        problems.push(Problem::new("cells", "names no table, expected `table`"));
        return None;
    };
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::from([("table".to_owned(), names.0.clone())]);
    for (path, name) in indexed("cells.table", names) {
        let Some(shape) = tables.get(name) else {
            problems.push(Problem::unknown(path, "table", name, tables.keys().map(String::as_str)));
            continue;
        };
        for (column, labels) in &shape.columns {
            let known = columns.entry(column.clone()).or_default();
            let new: Vec<String> = labels.iter().filter(|label| !known.contains(label)).cloned().collect();
            known.extend(new);
        }
    }
    names.iter().all(|name| tables.contains_key(name)).then_some(columns)
}

struct ClaimCheck<'a> {
    claim: &'a ClaimSpec,
    tables: Option<&'a BTreeMap<String, TableShape>>,
    columns: Option<&'a BTreeMap<String, Vec<String>>>,
    problems: Vec<Problem>,
    uses_at: bool,
}

impl<'a> ClaimCheck<'a> {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn scalars(&mut self) {
        let ClaimSpec { id, tie_band, rounding, at, .. } = self.claim;
        if id.trim().is_empty() {
            self.problem("id", "is empty");
        }
        if tie_band.is_some_and(|band| !(band.is_finite() && band >= 0.0)) {
            self.problem("tie_band", "is not a number of points of zero or more");
        }
        if rounding.is_some_and(|unit| !(unit.is_finite() && unit > 0.0)) {
            self.problem("rounding", "is not a number above zero");
        }
        if at.iter().any(|at| !at.is_finite()) {
            self.problem("at", "holds something that is not a finite number");
        }
    }

    fn references(&mut self) {
        for (column, label) in &self.claim.defaults {
            self.label(&format!("defaults.{column}"), column, label);
        }
        self.selections("cells.where", self.claim.cells.filter.as_ref());
        self.selections("each", Some(&self.claim.each));
    }

    fn selections(&mut self, path: &str, columns: Option<&Columns>) {
        for (column, selection) in columns.into_iter().flatten() {
            self.selection(&format!("{path}.{column}"), column, selection);
        }
    }

    fn selection(&mut self, path: &str, column: &str, selection: &Selection) {
        match selection {
            Selection::All => self.column(path, column),
            Selection::Values(labels) => labels.iter().for_each(|label| self.label(path, column, label)),
            Selection::Range(range) => {
                self.column(path, column);
                self.range(path, range);
            }
        }
    }

    fn range(&mut self, path: &str, range: &AmountRange) {
        let AmountRange { at_least, above, at_most, below } = range;
        let bounds = [("at_least", at_least), ("above", above), ("at_most", at_most), ("below", below)];
        if bounds.iter().all(|(_, bound)| bound.is_none()) {
            self.problem(path, "is a range without bounds, expected `at_least`, `above`, `at_most` or `below`");
        }
        for (key, bound) in bounds {
            if let Some(bound) = bound.as_ref().filter(|bound| bound.number().is_none()) {
                self.problem(format!("{path}.{key}"), format!("`{bound}` is not an amount"));
            }
        }
    }

    fn column(&mut self, path: &str, column: &str) {
        if let Some(columns) = self.columns
            && !columns.contains_key(column)
        {
            self.problems.push(Problem::unknown(path, "column", column, columns.keys().map(String::as_str)));
        }
    }

    fn label(&mut self, path: &str, column: &str, label: &Label) {
        self.column(path, column);
        if let Some(known) = self.columns.and_then(|columns| columns.get(column))
            && !known.iter().any(|text| label.names(text))
        {
            if self.is_left_out(column, label) {
                let kept: Vec<String> = known.iter().map(|text| format!("`{text}`")).collect();
                let message = format!(
                    "label `{label}` of `{column}` is left out by the table's `where`, which keeps {}",
                    if kept.is_empty() { "none".to_owned() } else { kept.join(", ") }
                );
                return self.problems.push(Problem::new(path, message));
            }
            let what = format!("label of `{column}`");
            self.problems.push(Problem::unknown(path, &what, label.as_str(), known.iter().map(String::as_str)));
        }
    }

    /// Whether points have a label that the `where` of the claim's tables leaves out.
    fn is_left_out(&self, column: &str, label: &Label) -> bool {
        let shapes = self.claim.cells.table.iter().flatten().filter_map(|name| self.tables?.get(name));
        shapes.filter_map(|shape| shape.left_out.get(column)).flatten().any(|text| label.names(text))
    }

    fn test(&mut self, path: &str, test: &'a TestSpec) {
        let TestParts { kind, each, along, over, selection, operands } = TestParts::of(test);
        let path = format!("{path}.{kind}");
        self.selections(&format!("{path}.each"), Some(each));
        self.selections(&format!("{path}.over"), over);
        if let (Some(along), Some((key, selection))) = (along, selection) {
            self.column(&format!("{path}.along"), along);
            if self.columns.is_some_and(|columns| !columns.contains_key(along)) {
                // What follows from a misspelt column would only repeat it.
                return;
            }
            self.selection(&format!("{path}.{key}"), along, selection);
        }
        self.own_rules(&path, test);
        let mut bound: BTreeSet<&str> = self.claim.each.keys().chain(each.keys()).map(String::as_str).collect();
        bound.extend(along);
        bound.extend(over.into_iter().flat_map(Columns::keys).map(String::as_str));
        let one_number = matches!(test, TestSpec::Fit(_) | TestSpec::Crossover(_));
        for (key, operand) in operands {
            self.operand(&format!("{path}.{key}"), operand, &bound, one_number);
        }
    }

    /// What only one kind of test asks for.
    fn own_rules(&mut self, path: &str, test: &TestSpec) {
        match test {
            TestSpec::Greater(GreaterSpec { in_more_than: Some(share), .. })
                if !share.number().is_some_and(|share| (0.0..1.0).contains(&share)) =>
            {
                self.problem(format!("{path}.in_more_than"), format!("`{share}` is not a share below 100%, such as `50%`"));
            }
            TestSpec::Greater(GreaterSpec { by: Some(by), .. }) if !(by.is_finite() && *by >= 0.0) => {
                self.problem(format!("{path}.by"), "is not a number of points of zero or more");
            }
            TestSpec::Equal(EqualSpec { within, .. }) if !(within.is_finite() && *within > 0.0) => {
                self.problem(format!("{path}.within"), "is not a number of points above zero");
            }
            TestSpec::Best(BestSpec { along, is, among, .. }) if is.as_str() == INTERIOR => self.has_levels(path, along, among, 3),
            TestSpec::Best(BestSpec { along, is, .. }) => self.label(&format!("{path}.is"), along, is),
            TestSpec::Rises(RisesSpec { along, over, .. })
            | TestSpec::Trend(TrendSpec { along, over, .. })
            | TestSpec::Crossover(CrossoverSpec { along, over, .. }) => self.has_levels(path, along, over, 2),
            TestSpec::Fit(FitSpec { r2_at_least: None, steeper_above: None, .. }) => {
                self.problem(path, "states no condition, expected `r2_at_least` or `steeper_above`");
            }
            _ => {}
        }
    }

    /// Whether a column has enough values to compare along it.
    fn has_levels(&mut self, path: &str, along: &str, over: &Selection, least: usize) {
        let known = self.columns.and_then(|columns| columns.get(along));
        let picked = match (over, known) {
            (Selection::Values(labels), _) => Some(labels.len()),
            (_, Some(labels)) => Some(labels.iter().filter(|label| !label.is_empty() && over.picks(label)).count()),
            (_, None) => None,
        };
        if let Some(levels) = picked.filter(|levels| *levels < least) {
            let values = crate::run::counted(levels, "value");
            self.problem(path, format!("compares along {values} of `{along}`, expected {least} or more"));
        }
    }

    fn operand(&mut self, path: &str, operand: &Operand, bound: &BTreeSet<&str>, one_number: bool) {
        match operand {
            Operand::Number(value) => {
                if !value.is_finite() {
                    self.problem(path, "is not a finite number");
                }
            }
            Operand::Cell(columns) => {
                let path = format!("{path}.cell");
                self.selections(&path, Some(columns));
                self.singles(&path, columns, one_number);
                self.is_fixed(&path, bound, columns.keys());
            }
            Operand::Gain(gain) => self.gain(&format!("{path}.gain"), gain, bound, one_number),
            Operand::Minus(both) => {
                self.operand(&format!("{path}.minus.0"), &both.0, bound, one_number);
                self.operand(&format!("{path}.minus.1"), &both.1, bound, one_number);
            }
            Operand::Abs(inner) => self.operand(&format!("{path}.abs"), inner, bound, one_number),
            Operand::Mean(mean) => {
                let MeanSpec { over, of } = &**mean;
                self.selections(&format!("{path}.mean.over"), Some(over));
                if over.is_empty() {
                    self.problem(format!("{path}.mean.over"), "names no column to average over");
                }
                let bound: BTreeSet<&str> = bound.iter().copied().chain(over.keys().map(String::as_str)).collect();
                self.operand(&format!("{path}.mean.of"), of, &bound, one_number);
            }
            Operand::Interpolate(curve) => self.interpolate(&format!("{path}.interpolate"), curve, bound, one_number),
        }
    }

    fn gain(&mut self, path: &str, gain: &GainSpec, bound: &BTreeSet<&str>, one_number: bool) {
        let GainSpec { along, from, to, of } = gain;
        self.column(&format!("{path}.along"), along);
        self.selections(&format!("{path}.of"), Some(of));
        self.singles(&format!("{path}.of"), of, one_number);
        for (key, end) in [("from", from), ("to", to)] {
            match end {
                Some(label) => self.label(&format!("{path}.{key}"), along, label),
                None if bound.contains(along.as_str()) => {}
                None => self.problem(path, format!("states no `{key}`, and `each` gives `{along}` no value")),
            }
        }
        if from.is_none() && to.is_none() {
            self.problem(path, "starts and ends at the same cell, expected `from` or `to`");
        }
        self.is_fixed(path, bound, of.keys().chain([along]));
    }

    fn interpolate(&mut self, path: &str, curve: &InterpolateSpec, bound: &BTreeSet<&str>, one_number: bool) {
        let InterpolateSpec { along, x, y, of, at, error } = curve;
        self.column(&format!("{path}.along"), along);
        self.selections(&format!("{path}.of"), Some(of));
        self.singles(&format!("{path}.of"), of, one_number);
        self.selections(&format!("{path}.y"), Some(y));
        self.singles(&format!("{path}.y"), y, true);
        self.is_fixed(&format!("{path}.y"), bound, y.keys().chain(of.keys()).chain([along]));
        match x {
            XSpec::Cell(columns) => {
                let path = format!("{path}.x.cell");
                self.selections(&path, Some(columns));
                self.singles(&path, columns, true);
                self.is_fixed(&path, bound, columns.keys().chain(of.keys()).chain([along]));
            }
            XSpec::Column(column) => self.column(&format!("{path}.x.column"), column),
        }
        if at.is_none() {
            self.uses_at = true;
            if self.claim.at.is_empty() {
                self.problem(path, "states no `at`, and neither does the claim");
            }
        }
        if error.is_some_and(|error| !(error.is_finite() && error >= 0.0)) {
            self.problem(format!("{path}.error"), "is not a number of points of zero or more");
        }
    }

    /// Where an operand must be one number, its columns hold one value each.
    fn singles(&mut self, path: &str, columns: &Columns, wanted: bool) {
        for (column, selection) in columns.iter().filter(|_| wanted) {
            if selection.single().is_none() {
                self.problem(format!("{path}.{column}"), "picks several values, expected one here");
            }
        }
    }

    /// Whether an operand with these columns is one cell: no column with several labels is left open.
    fn is_fixed<'b>(&mut self, path: &str, bound: &BTreeSet<&str>, own: impl Iterator<Item = &'b String>) {
        let Some(columns) = self.columns else { return };
        let own: BTreeSet<&str> = own.map(String::as_str).collect();
        let filtered = |column: &str, labels: &[String]| {
            let filter = self.claim.cells.filter.as_ref().and_then(|filter| filter.get(column));
            filter.is_some_and(|selection| labels.iter().filter(|label| selection.picks(label)).count() == 1)
        };
        let open: Vec<String> = columns
            .iter()
            .filter(|(column, labels)| {
                let column = column.as_str();
                labels.len() > 1
                    && !own.contains(column)
                    && !bound.contains(column)
                    && !self.claim.defaults.contains_key(column)
                    && !filtered(column, labels)
            })
            .map(|(column, _)| format!("`{column}`"))
            .collect();
        if !open.is_empty() {
            self.problem(path, format!("leaves {} open: name a value there, in `each` or in `cells.where`", open.join(" and ")));
        }
    }
}
