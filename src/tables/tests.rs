//! Tables of hand-made records.

use super::*;
use crate::record::PointView;
use crate::record::tests::{point, run};
use crate::run::{RunRecord, RunStatus};

fn spec(text: &str) -> TableSpec {
    serde_yaml::from_str(text).unwrap()
}

const ACC1: &str = "zeroshot/scenes.acc1";

/// Two sizes by two models, two seeds; one run failed, one is not there.
fn study() -> (Vec<PointView>, Vec<RunRecord>) {
    let labels = |size, model| [("data.size", size), ("model", model)];
    let points = vec![
        point(&labels("64k", "small"), &["a0", "a1"]),
        point(&labels("64k", "large"), &["b0", "b1"]),
        point(&labels("1k", "small"), &["c0", "c1"]),
        point(&labels("1k", "large"), &["d0", "d1"]),
    ];
    let mut records = vec![
        run("a0", 64, 0, 20.0),
        run("a1", 64, 1, 22.0),
        run("b0", 64, 0, 31.5),
        run("b1", 64, 1, 99.0),
        run("c0", 1, 0, 5.0),
        run("c1", 1, 1, 5.5),
    ];
    records[3].status = RunStatus::Diverged;
    (points, records)
}

fn built(text: &str) -> Table {
    let (points, records) = study();
    build(&spec(text), &TableInput::new(&points, &records)).unwrap()
}

#[test]
fn a_table_holds_mean_deviation_seeds_and_missing_runs_in_plan_order() {
    let table = built(&format!("{{name: t, rows: data.size, columns: model, values: {ACC1}}}"));
    assert_eq!(
        String::from_utf8(table.to_csv()).unwrap(),
        format!(
            "data.size,model,metric,mean,stddev,n,missing\n64k,small,{ACC1},21,1.4142135623730951,2,0\n64k,large,{ACC1},31.5,,1,1\n\
             1k,small,{ACC1},5.25,0.3535533905932738,2,0\n1k,large,{ACC1},,,0,2\n"
        )
    );
    assert_eq!(
        table.to_markdown(),
        format!(
            "# t\n\n{ACC1} by `model`:\n\n| data.size | small | large |\n| --- | ---: | ---: |\n| 64k | 21.0 ± 1.4 (2) | 31.5 (1 of 2) |\n\
             | 1k | 5.2 ± 0.4 (2) | - (0 of 2) |\n\nMean ± standard deviation (seeds); `-` where there is no run. Seeds draw initial parameters and order of samples.\n"
        )
    );
}

#[test]
fn metrics_stand_side_by_side_where_no_axis_runs_across() {
    let table = built(&format!("{{name: t, caption: c, rows: [data.size], where: {{model: small}}, values: [{ACC1}, gmacs]}}"));
    assert_eq!(
        table.to_markdown(),
        format!(
            "# t\n\nc\n\nWhere `model` = small.\n\n| data.size | {ACC1} | gmacs |\n| --- | ---: | ---: |\n\
             | 64k | 21.0 ± 1.4 (2) | 12.3 ± 0.0 (2) |\n| 1k | 5.2 ± 0.4 (2) | 12.3 ± 0.0 (2) |\n\n\
             Mean ± standard deviation (seeds); `-` where there is no run. Seeds draw initial parameters and order of samples.\n"
        )
    );
    assert_eq!(table.fixed["model"], "small");
}

#[test]
fn labels_in_where_may_be_written_as_other_amounts() {
    let table = built(&format!("{{name: t, rows: model, where: {{data.size: 64000}}, values: {ACC1}}}"));
    assert_eq!(table.cells.iter().map(|cell| cell.row[0].as_str()).collect::<Vec<_>>(), ["small", "large"]);
}

#[test]
fn different_runs_never_share_a_cell_but_shared_runs_may() {
    let (points, records) = study();
    let error =
        build(&spec(&format!("{{name: t, rows: data.size, values: {ACC1}}}")), &TableInput::new(&points, &records)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "table `t`: different runs fall into the cell (64k); the table does not say which `model` it shows"
    );
    assert_eq!(error.hint().as_deref(), Some("name `model` in `rows` or `columns`, or fix it in `where`"));
    let shared =
        vec![point(&[("size", "1"), ("budget", "epochs=1")], &["a0"]), point(&[("size", "1"), ("budget", "steps=9")], &["a0"])];
    let table = build(&spec(&format!("{{name: t, rows: size, values: {ACC1}}}")), &TableInput::new(&shared, &records)).unwrap();
    assert_eq!(table.cells.len(), 1);
}

#[test]
fn statements_are_checked_before_anything_runs() {
    let (points, _) = study();
    let metrics = [ACC1.to_owned()];
    let problems = |text: &str| {
        validate(&spec(text), &points, &metrics).iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>()
    };
    assert_eq!(problems(&format!("{{name: t, rows: data.size, columns: model, values: [{ACC1}, steps]}}")), Vec::<String>::new());
    assert_eq!(
        problems("{name: a/b, rows: [data.sise, model], where: {model: huge}, values: acc1}"),
        [
            "name: `a/b` is not a file name of letters, digits, `-`, `_` and `.`",
            "rows.0: unknown axis `data.sise`, expected one of `data.size`, `model`",
            "where.model: unknown label of `model` `huge`, expected one of `small`, `large`",
            "values: unknown metric `acc1`, expected one of `zeroshot/scenes.acc1`, `gmacs`, `gmacs_as_stated`, `samples_seen`, `steps`, `subset_samples`",
        ]
    );
    let collapsed = problems(&format!("{{name: t, rows: model, values: {ACC1}}}"));
    assert_eq!(collapsed.len(), 1, "{collapsed:?}");
    let hint = validate(&spec("{name: t, rows: data.sise, values: steps}"), &points, &metrics)[0].hint();
    assert_eq!(hint.as_deref(), Some("did you mean `data.size`?"));
}

/// A point without `masked`, two with it.
fn absent() -> (Vec<PointView>, Vec<RunRecord>) {
    let points = vec![
        point(&[("strategy", "clip")], &["a"]),
        point(&[("strategy", "flip"), ("masked", "25%")], &["b"]),
        point(&[("strategy", "flip"), ("masked", "50%")], &["c"]),
    ];
    (points, vec![run("a", 64, 0, 1.0), run("b", 64, 0, 2.0), run("c", 64, 0, 3.0)])
}

#[test]
fn a_point_without_an_axis_has_an_empty_cell_and_is_selected_by_none() {
    let (points, records) = absent();
    let csv = |text: &str| {
        let table = build(&spec(text), &TableInput::new(&points, &records)).unwrap();
        String::from_utf8(table.to_csv()).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        csv(&format!("{{name: t, rows: [strategy, masked], values: {ACC1}}}")),
        [format!("clip,,{ACC1},1,,1,0"), format!("flip,25%,{ACC1},2,,1,0"), format!("flip,50%,{ACC1},3,,1,0")]
    );
    let columns = format!("{{name: t, rows: strategy, columns: masked, values: {ACC1}}}");
    assert_eq!(csv(&columns)[0], format!("clip,,{ACC1},1,,1,0"));
    let markdown = build(&spec(&columns), &TableInput::new(&points, &records)).unwrap().to_markdown();
    assert!(markdown.contains("| strategy | (none) | 25% | 50% |\n"), "{markdown}");
    for (label, rows) in [("none", 1), ("[none, 25%]", 2), ("25%", 1), ("\"\"", 1)] {
        let table = format!("{{name: t, rows: [strategy, masked], where: {{masked: {label}}}, values: {ACC1}}}");
        assert_eq!(csv(&table).len(), rows, "{label}");
        assert_eq!(validate(&spec(&table), &points, &[ACC1.to_owned()]), [], "{label}");
    }
    let shape = shape(&spec(&format!("{{name: t, rows: [strategy, masked], values: {ACC1}}}")), &points);
    assert_eq!(shape.columns["masked"], ["none", "25%", "50%"]);
}

#[test]
fn a_value_called_none_is_not_taken_for_an_axis_that_is_not_there() {
    let (mut points, records) = absent();
    points[1].labels.insert("masked".to_owned(), "none".to_owned());
    let rows = |label: &str| {
        let table = format!("{{name: t, rows: [strategy, masked], where: {{masked: {label}}}, values: {ACC1}}}");
        let table = build(&spec(&table), &TableInput::new(&points, &records)).unwrap();
        table.cells.iter().map(|cell| cell.row.join("/")).collect::<Vec<_>>()
    };
    assert_eq!((rows("none"), rows("\"\"")), (vec!["flip/none".to_owned()], vec!["clip/".to_owned()]));
}

#[test]
fn other_texts_of_a_point_select_it_too() {
    let (mut points, records) = absent();
    points[0].also.insert("lr".to_owned(), vec!["1e-3".to_owned()]);
    let table = format!("{{name: t, rows: strategy, where: {{lr: 1e-3}}, values: {ACC1}}}");
    assert_eq!(validate(&spec(&table), &points, &[ACC1.to_owned()]), []);
    assert_eq!(build(&spec(&table), &TableInput::new(&points, &records)).unwrap().cells.len(), 1);
}

#[test]
fn the_shape_names_every_column_and_label_that_claims_may_use() {
    let (points, _) = study();
    let found = shape(&spec(&format!("{{name: t, rows: data.size, where: {{model: small}}, values: {ACC1}}}")), &points);
    let columns: Vec<(&str, String)> = found.columns.iter().map(|(column, labels)| (column.as_str(), labels.join(" "))).collect();
    assert_eq!(columns, [("data.size", "64k 1k".to_owned()), ("metric", ACC1.to_owned()), ("model", "small".to_owned())]);
}

#[test]
fn a_table_read_from_its_csv_has_not_drifted() {
    let table = built(&format!("{{name: t, rows: data.size, columns: model, values: [{ACC1}, gmacs]}}"));
    let ours = TableData::from(&table);
    let committed = TableData::parse("t", &table.to_csv()).unwrap();
    assert_eq!(ours, committed);
    let exact = Tolerance::parse(["0"]).unwrap();
    assert_eq!(drift(&[ours], &[committed], &exact), Drifts { compared: 8, found: Vec::new() });
}

#[test]
fn every_kind_of_drift_is_listed() {
    let text = "size,metric,mean,stddev,n,missing\n1k,acc1,10,1,3,0\n2k,acc1,20,1,3,0\n4k,acc1,,,0,3\n8k,acc1,40,1,3,0\n";
    let committed = TableData::parse("t", text.as_bytes()).unwrap();
    let moved =
        text.replace("1k,acc1,10", "1k,acc1,11").replace("2k,acc1,20", "2k,acc1,21.5").replace("8k,acc1,40,1,3", "16k,acc1,40,1,3");
    let mut ours = TableData::parse("t", moved.as_bytes()).unwrap();
    ours.cells[2].mean = Some(30.0);
    let list = |ours: &[TableData], tolerance: &str| {
        let drifts = drift(ours, std::slice::from_ref(&committed), &Tolerance::parse(tolerance.split(' ')).unwrap());
        drifts.found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        list(std::slice::from_ref(&ours), "1"),
        [
            "t (size=2k, metric=acc1): 21.50, committed 20.00 (+1.50, tolerance 1)",
            "t (size=4k, metric=acc1): 30.00, committed no value",
            "t (size=8k, metric=acc1): committed, but not there now",
            "t (size=16k, metric=acc1): there now, but not committed",
        ]
    );
    assert_eq!(
        list(std::slice::from_ref(&ours), "0.5")[0],
        "t (size=1k, metric=acc1): 11.00, committed 10.00 (+1.00, tolerance 0.5)"
    );
    let mut fewer = committed.clone();
    fewer.cells[0].n = 2;
    assert_eq!(list(&[fewer.clone()], "1"), ["t (size=1k, metric=acc1): 2 seeds, committed 3"]);
    fewer.cells[0].missing = 1;
    assert_eq!(list(&[fewer], "1"), ["t (size=1k, metric=acc1): 2 of 3 seeds, committed 3"]);
    assert_eq!(list(std::slice::from_ref(&ours), "0 acc1=8%").len(), 4, "of 1k 1 is 10 %, of 2k 1.5 is 7.5 %");
    let other = TableData { name: "u".to_owned(), ..committed.clone() };
    assert_eq!(list(&[other], "1"), ["t: committed, but not there now", "u: there now, but not committed"]);
    let columns = TableData { labels: vec!["model".to_owned(), "metric".to_owned()], ..committed.clone() };
    assert_eq!(list(&[columns], "1"), ["t: columns [\"model\", \"metric\"], committed [\"size\", \"metric\"]"]);
}

#[test]
fn files_that_are_no_tables_are_refused() {
    for (text, expected) in [
        (
            "a,b\n1,2\n",
            "table `t`: line 1: its columns are [\"a\", \"b\"], expected labels, `metric`, then [\"mean\", \"stddev\", \"n\", \"missing\"]",
        ),
        ("metric,mean,stddev,n,missing\nacc1,x,,1,0\n", "table `t`: line 2: `mean` is `x`, expected a number"),
        ("metric,mean,stddev,n,missing\nacc1,nan,,1,0\n", "table `t`: line 2: `mean` is `nan`, expected a number"),
        ("metric,mean,stddev,n,missing\nacc1,1,,1,-1\n", "table `t`: line 2: `missing` is `-1`, expected a count"),
        ("metric,mean,stddev,n,missing\nacc1,1,,1,0\nacc1,2,,1,0\n", "table `t`: line 3: the cell (acc1) is there twice"),
        ("", "table `t`: line 1: its columns are [], expected labels, `metric`, then [\"mean\", \"stddev\", \"n\", \"missing\"]"),
    ] {
        assert_eq!(TableData::parse("t", text.as_bytes()).unwrap_err().to_string(), expected);
    }
}
