//! The parts of a page that have figures: tables, fits, frontiers and losses, each with what was drawn of it.
//!
//! Invariant: every figure of a page is a file under `figures/` as well, as SVG, CSV and Vega-Lite.

use maud::{Markup, PreEscaped, html};

use super::Study;
use super::figure::{
    Figure, Looks, MeetingOn, draw, how_curves_are_drawn, of_curves, of_fit, of_frontier, of_paper, of_table, style,
};
use super::rows::grid;
use crate::claims::Artefact;
use crate::claims::fits::{FILE_PREFIX, FRONTIER_PREFIX};
use crate::claims::statement::TestSpec;
use crate::tables::{Table, TableInput, build};

/// The parts.
pub(super) struct Sections {
    pub figures: Markup,
    pub fits: Option<Markup>,
    pub tables: Markup,
    pub losses: Option<Markup>,
}

/// Draws everything, and adds the files of figures.
pub(super) fn sections(study: &Study<'_>, files: &mut Vec<Artefact>) -> Sections {
    let mut looks = Looks::default();
    let tables = &study.findings.tables;
    let figures = html! { @for table in tables { (of_one_table(study, table, &mut looks, files)) } };
    let fits = fits(study, &mut looks, files);
    let losses = of_curves(study.records, &study.axes(), &mut looks);
    let losses = (!losses.is_empty()).then(|| {
        html! {
            p.note { (how_curves_are_drawn(study.records)) }
            div.frames { @for figure in &losses { (frame(figure, files)) } }
        }
    });
    Sections { figures, fits, tables: html! { @for table in tables { (of_table_rows(table)) } }, losses }
}

fn of_one_table(study: &Study<'_>, table: &Table, looks: &mut Looks, files: &mut Vec<Artefact>) -> Markup {
    let drawn = of_table(table, looks, &meetings(study, &table.name));
    let paper = of_paper(table, study.source, looks);
    html! {
        h3 id=(format!("figure-{}", table.name)) { (heading(table)) }
        @if let Some(why) = &drawn.left_out { p.note { (why) } }
        div.frames {
            @for figure in drawn.figures.iter().chain(&paper) { (frame(figure, files)) }
        }
    }
}

fn heading(table: &Table) -> Markup {
    html! { (table.name) @if let Some(caption) = &table.caption { ": " (caption) } }
}

/// The single crossings that claims of a table found.
fn meetings<'a>(study: &Study<'a>, table: &str) -> Vec<MeetingOn<'a>> {
    let mut found = Vec::new();
    for (claim, verdict) in study.statements.claims.iter().zip(&study.findings.verdicts) {
        let is_of_table = claim.cells.table.iter().flatten().any(|name| name == table);
        let tests: Vec<&TestSpec> = claim.test.iter().collect();
        let ([TestSpec::Crossover(test)], [comparison], true) = (tests.as_slice(), verdict.comparisons.as_slice(), is_of_table)
        else {
            continue;
        };
        let Some(meets) = comparison.meets else { continue };
        let metric = claim.defaults.get("metric").map(crate::tables::Label::as_str);
        let meeting = super::figure::Meeting { claim: verdict.id.clone(), at: meets.at, low: meets.low, high: meets.high };
        found.push(MeetingOn { axis: &test.along, metric, meeting });
    }
    found
}

/// A figure with its caption and its files.
fn frame(figure: &Figure, files: &mut Vec<Artefact>) -> Markup {
    let base = free_name(&figure.name, files);
    let svg = draw(figure);
    let spec = serde_json::to_string_pretty(&figure.to_vega()).expect("a specification is plain JSON");
    let alone = svg.replacen(">\n", &format!("><style>\n{}</style>\n", style()), 1);
    let names = ["svg", "csv", "vl.json"].map(|ending| format!("{base}.{ending}"));
    let bytes = [alone.into_bytes(), figure.to_csv(), format!("{spec}\n").into_bytes()];
    files.extend(names.iter().zip(bytes).map(|(name, bytes)| Artefact { name: format!("figures/{name}"), bytes }));
    let meets = figure.meets.iter().map(|meeting| {
        let ends = [meeting.low, meeting.high].map(|end| end.map_or("open".to_owned(), super::units::brief));
        let at = super::units::brief(meeting.at);
        format!("Lines meet at {at} [{}, {}] by claim {}: the dashed line and the band.", ends[0], ends[1], meeting.claim)
    });
    let notes: Vec<String> = figure.notes.iter().cloned().chain(meets).collect();
    html! {
        figure {
            figcaption.quiet[figure.title == figure.y.name] { (figure.title) }
            (PreEscaped(svg))
            @if !notes.is_empty() { p.note { (notes.join(" ")) } }
            p.links {
                @for (name, what) in names.iter().zip(["SVG", "CSV", "Vega-Lite"]) {
                    @let path = format!("figures/{name}");
                    a href=(path) data-file=(path) download=(name) aria-label=(format!("{what} of {base}")) { (what) }
                }
            }
        }
    }
}

/// The name of a figure, with a number where another figure has it: a table may be called as a frame of another one.
fn free_name(name: &str, files: &[Artefact]) -> String {
    let is_free = |name: &String| files.iter().all(|file| file.name != format!("figures/{name}.svg"));
    let numbered = (2..).map(|number: u64| format!("{name}.{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

/// Fits with their curves, and frontiers; none where the experiment states none.
fn fits(study: &Study<'_>, looks: &mut Looks, files: &mut Vec<Artefact>) -> Option<Markup> {
    let findings = study.findings;
    if findings.fits.is_empty() {
        return None;
    }
    let input = TableInput::new(&study.records.points, &study.records.runs);
    Some(html! {
        @for (fit, spec) in findings.fits.iter().zip(&study.statements.fits) {
            @let name = format!("{FILE_PREFIX}{}", fit.name);
            h3 { (name) @if let Some(caption) = &fit.caption { ": " (caption) } }
            p { code { (fit.form()) } }
            @if let Some(figure) = build(&spec.table(), &input).ok().and_then(|cells| of_fit(fit, &cells, looks)) {
                div.frames { (frame(&figure, files)) }
            }
            (grid(&format!("rows-{name}"), &name, &fit.grid()))
            @for line in fit.held_out() { p.note { "Held out: " (line) } }
            p.note { "95 % intervals in brackets, of refits of what other seeds and items would have given." (csv(&name)) }
        }
        @for frontier in &findings.frontiers {
            @let name = format!("{FRONTIER_PREFIX}{}", frontier.name);
            h3 { (name) @if let Some(caption) = &frontier.caption { ": " (caption) } }
            @if let Some(figure) = of_frontier(frontier, looks) { div.frames { (frame(&figure, files)) } }
            (grid(&format!("rows-{name}"), &name, &frontier.grid()))
            p.note { (frontier.footnote()) (csv(&name)) }
        }
    })
}

fn of_table_rows(table: &Table) -> Markup {
    let fixed: Vec<String> = table.fixed.iter().map(|(path, label)| format!("{path} = {label}")).collect();
    html! {
        h3 id=(format!("table-{}", table.name)) { (heading(table)) }
        @if !fixed.is_empty() { p { "Where " (fixed.join(", ")) "." } }
        @for (idx, one) in table.grids().iter().enumerate() {
            @if let (Some(metric), Some(path)) = (&one.metric, &table.columns) { p { strong { (metric) } " by " code { (path) } } }
            @let name = one.metric.as_ref().map_or(table.name.clone(), |metric| format!("{}, {metric}", table.name));
            (grid(&format!("rows-{}-{}", table.name, idx + 1), &name, one))
        }
        p.note { (table.footnote().replace("`-`", "“-”")) (csv(&table.name)) }
    }
}

/// The link to a table as CSV.
fn csv(name: &str) -> Markup {
    let file = format!("tables/{name}.csv");
    html! { " " a href=(file) data-file=(file) download=(format!("{name}.csv")) { "CSV of " (name) } }
}
