use std::cell::RefCell;
use std::collections::HashSet;

use petgraph::algo::is_cyclic_directed;

use super::*;
use crate::run::{
    DataSource, EvalConfig, EvalSet, EvalSource, EvalTask, Framing, JobKind, Keep, Milestone, QualityBy, QualityConfig, RunConfig,
    ScoreFile, SeedPart, TokenizerConfig,
};

fn base() -> RunConfig {
    serde_json::from_str(include_str!("../../tests/fixtures/run.json")).expect("the fixture is a run")
}

fn run(id: &str, change: impl FnOnce(&mut RunConfig)) -> PlannedRun {
    let mut config = base();
    change(&mut config);
    PlannedRun { run_id: id.into(), config }
}

fn plan(runs: Vec<PlannedRun>) -> Plan {
    build(runs, None, |_| Ok("digest".into())).expect("it can be planned")
}

fn shards(names: &[&str]) -> DataSource {
    DataSource::Webdataset { shards: names.iter().map(|&name| name.to_owned()).collect() }
}

fn similarity(scorer: RunConfig) -> Option<QualityConfig> {
    let mut scorer = scorer;
    scorer.evaluate.clear();
    Some(QualityConfig::single(Keep::Share(0.4), QualityBy::Similarity { scorer: Box::new(scorer) }))
}

#[test]
fn what_runs_share_is_one_job() {
    let plan = plan(vec![run("a", |_| {}), run("b", |c| c.seed = 1), run("c", |c| c.seed = 2)]);
    let kinds: Vec<usize> = plan.kinds().into_values().collect();
    assert_eq!(kinds, [2, 1, 3, 3], "pool and evaluation set, tokenizer, three trained, three evaluated");
    assert_eq!(plan.shared(), 3);
    assert!(plan.runs().iter().all(|run| run.evaluates.len() == 1));
}

#[test]
fn parents_come_first_and_there_is_no_cycle() {
    let filtered = run("c", |c| c.data.quality = similarity(base()));
    let plan = plan(vec![run("a", |_| {}), run("b", |c| c.model.image_size = 64), filtered]);
    for job in 0..plan.len() {
        let keys: HashSet<Key> = plan.parents(job).map(|parent| plan.job(parent).key).collect();
        assert!(plan.parents(job).all(|parent| parent < job));
        assert_eq!(keys, plan.job(job).spec.parents().into_iter().collect(), "edges are the keys in the spec");
        assert_eq!(plan.index_of(&plan.job(job).key), Some(job));
        assert_eq!(plan.job(job).spec.key(), plan.job(job).key);
    }
    assert!(!is_cyclic_directed(&plan.graph));
}

#[test]
fn a_scorer_that_is_also_a_run_is_trained_once() {
    let plan = plan(vec![run("filtered", |c| c.data.quality = similarity(base())), run("scorer", |_| {})]);
    assert_eq!(plan.kinds()[&JobKind::Train], 2);
    let scorer = plan.runs()[1].train;
    assert!(scorer < plan.runs()[0].train);
    assert_eq!(plan.label(scorer), "scorer", "it carries the id of its run");
    assert_eq!(plan.job(scorer).num_runs, 2);
}

#[test]
fn a_seed_draws_the_parts_that_are_named_and_the_rest_is_that_of_seed_0() {
    use SeedPart::{Init, Order, Pool, Scorer};
    let with = |parts: &[SeedPart]| {
        let of_seed = |seed: u64| {
            run(&seed.to_string(), |c| {
                c.data.quality = similarity(base());
                c.data.size = Some(400);
                (c.seed, c.seeds_draw) = (seed, parts.iter().copied().collect());
            })
        };
        plan((0..3).map(of_seed).collect())
    };
    let counts = |parts: &[SeedPart]| {
        let kinds = with(parts).kinds();
        [JobKind::Dataset, JobKind::Scores, JobKind::Subset, JobKind::Train].map(|kind| kinds[&kind])
    };
    // Data sets: the pool, the scorer's pool, the evaluation set. Trained: three runs and a scorer.
    assert_eq!(counts(&[Init, Order]), [3, 1, 1, 4]);
    assert_eq!(counts(&[Init]), [3, 1, 1, 4]);
    // The scorer learns from the pool of its run's seed.
    assert_eq!(counts(&[Order, Pool]), [3 + 4, 3, 3, 6]);
    assert_eq!(counts(&[Order, Scorer]), [3, 3, 3, 6]);
    assert_eq!(counts(&[Init, Order, Pool, Scorer]), [3 + 4, 3, 3, 6]);
    assert_eq!(counts(&[Pool]), [3 + 4, 3, 3, 6]);
    let trained = |plan: &Plan, run: usize| match &plan.job(plan.runs()[run].train).spec {
        JobSpec::Train(spec) => (spec.seed, spec.init),
        other => panic!("{other:?}"),
    };
    assert_eq!([0, 1, 2].map(|run| trained(&with(&[Init, Order]), run)), [(0, None), (1, None), (2, None)]);
    assert_eq!([0, 1, 2].map(|run| trained(&with(&[Init, Pool]), run)), [(0, None), (0, Some(1)), (0, Some(2))]);
    assert_eq!([0, 1, 2].map(|run| trained(&with(&[Order]), run)), [(0, None), (1, Some(0)), (2, Some(0))]);
    // Seed 0 is one run whatever else seeds draw, and a scorer that is drawn is the run of that seed.
    let key = |plan: &Plan, run: usize| plan.job(plan.runs()[run].train).key;
    assert_eq!(key(&with(&[Init, Order, Pool, Scorer]), 0), key(&with(&[Init, Order]), 0));
    let drawn = |c: &mut RunConfig| {
        (c.seed, c.seeds_draw) = (2, [Init, Order, Pool, Scorer].into_iter().collect());
    };
    let alone = plan(vec![run("scorer", drawn)]);
    let all = with(&[Init, Order, Pool, Scorer]);
    assert!(all.index_of(&key(&alone, 0)).is_some());
    // A pool that is all of a source is the same whatever is drawn; what is kept of it at random is not.
    let whole = |id: &str, seed, quality: Option<QualityConfig>| {
        run(id, |c| {
            (c.data.source, c.data.size, c.data.quality) = (shards(&["0.tar"]), None, quality);
            (c.seed, c.seeds_draw) = (seed, [Pool].into_iter().collect());
        })
    };
    let random = || Some(QualityConfig::single(Keep::Share(0.4), QualityBy::Random));
    let plan = plan(vec![whole("a", 0, None), whole("b", 1, None), whole("c", 0, random()), whole("d", 1, random())]);
    assert_eq!(key(&plan, 0), key(&plan, 1));
    assert_ne!(key(&plan, 2), key(&plan, 3));
    assert_eq!([JobKind::Dataset, JobKind::Subset].map(|kind| plan.kinds()[&kind]), [2, 2]);
}

#[test]
fn a_scorer_sees_the_pool_in_its_own_image_size() {
    let scorer = {
        let mut scorer = base();
        scorer.model.image_size = 64;
        scorer
    };
    let plan = plan(vec![run("a", |c| c.data.quality = similarity(scorer))]);
    let sizes: Vec<usize> = plan
        .jobs()
        .filter_map(|job| match &job.spec {
            JobSpec::Dataset(spec) => Some(spec.image_size),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [32, 64]);
    let scores = plan.jobs().find(|job| job.spec.kind() == JobKind::Scores).expect("there is one");
    let JobSpec::Scores(ScoresSpec { pool, .. }) = &scores.spec else { panic!("scores are scores") };
    let seen = plan.index_of(pool).expect("its pool is planned");
    assert!(matches!(&plan.job(seen).spec, JobSpec::Dataset(spec) if spec.image_size == 64));
}

#[test]
fn what_reads_no_pixel_is_shared_by_packs_of_one_source() {
    let quality = || Some(QualityConfig::single(Keep::Share(0.4), QualityBy::Field("clip".into())));
    let filtered = |id: &str, pack_side| {
        run(id, |c| {
            c.data.quality = quality();
            c.data.pack_side = pack_side;
        })
    };
    let counts = |runs: Vec<PlannedRun>| plan(runs).kinds();
    let kinds = counts(vec![filtered("plain", None), filtered("cropped", Some(53))]);
    let count = |kind| kinds[&kind];
    assert_eq!(count(JobKind::Dataset), 3, "two packs of the pool and an evaluation set");
    assert_eq!([JobKind::Tokenizer, JobKind::Scores, JobKind::Subset].map(count), [1, 1, 1]);
    assert_eq!(count(JobKind::Train), 2);
    // Alone, a run that crops needs no other pack than its own, and has the same keys.
    let (alone, both) =
        (plan(vec![filtered("cropped", Some(53))]), plan(vec![filtered("plain", None), filtered("cropped", Some(53))]));
    assert_eq!(alone.kinds()[&JobKind::Dataset], 2);
    assert_eq!(alone.job(alone.runs()[0].train).key, both.job(both.runs()[1].train).key);
    let JobSpec::Train(spec) = &alone.job(alone.runs()[0].train).spec else { panic!("a run is trained") };
    let pool = &alone.job(alone.index_of(&spec.pool).expect("it is planned")).spec;
    assert!(matches!(pool, JobSpec::Dataset(pool) if pool.framing == Framing::Whole && pool.image_size == 53));
    // Another source, another list of samples.
    let other = plan(vec![
        filtered("plain", None),
        run("other", |c| {
            c.data.quality = quality();
            c.data.size = Some(1000);
        }),
    ]);
    assert_eq!(other.kinds()[&JobKind::Tokenizer], 2);
}

#[test]
fn a_scorer_sees_central_squares_also_where_the_run_crops() {
    let plan = plan(vec![run("a", |c| {
        c.data.quality = similarity(base());
        c.data.pack_side = Some(53);
    })]);
    let scores = plan.jobs().find(|job| job.spec.kind() == JobKind::Scores).expect("there is one");
    let JobSpec::Scores(ScoresSpec { pool, samples: None, .. }) = &scores.spec else { panic!("pixels are read") };
    let seen = &plan.job(plan.index_of(pool).expect("its pool is planned")).spec;
    assert!(matches!(seen, JobSpec::Dataset(pool) if pool.framing == Framing::Centre && pool.image_size == 32));
}

#[test]
fn evaluations_are_in_no_train_key() {
    let with = plan(vec![run("a", |_| {})]);
    let without = plan(vec![run("a", |c| c.evaluate.clear())]);
    let train = |plan: &Plan| plan.job(plan.runs()[0].train).key;
    assert_eq!(train(&with), train(&without));
}

#[test]
fn milestones_are_measured_each_and_in_no_key_where_there_are_none() {
    let at = |list: &[(&str, u64)]| -> Vec<Milestone> {
        list.iter().map(|(label, step)| Milestone { label: (*label).to_owned(), step: *step }).collect()
    };
    let steps = base().train.steps;
    let whole = plan(vec![run("a", |_| {})]);
    let kept = plan(vec![run("a", |c| c.train.milestones = at(&[("10%", 1), ("step 2", 2), ("all", steps)]))]);
    let evaluated = |plan: &Plan| -> Vec<Option<u64>> {
        let of = |job: &usize| match &plan.job(*job).spec {
            JobSpec::Evaluate(spec) => spec.at,
            other => panic!("{other:?}"),
        };
        plan.runs()[0].evaluates.iter().map(of).collect()
    };
    assert_eq!((evaluated(&whole), evaluated(&kept)), (vec![None], vec![None, Some(1), Some(2)]));
    assert_ne!(whole.job(whole.runs()[0].train).key, kept.job(kept.runs()[0].train).key, "weights are kept of it");
    let text = serde_json::to_string(&whole.job(whole.runs()[0].train).spec).expect("it serialises");
    assert!(!text.contains("milestones"), "{text}");
    let labels: Vec<String> = kept.runs()[0].evaluates.iter().map(|job| kept.label(*job)).collect();
    assert!(labels[1].contains(" at step 1 of a") && !labels[0].contains("at step"), "{labels:?}");
}

#[test]
fn a_data_set_that_moves_keeps_its_key_and_one_that_changes_does_not() {
    let key = |names: &[&str], digest: &str| {
        let runs = vec![run("a", |c| c.data.source = shards(names))];
        let plan = build(runs, None, |_| Ok(digest.into())).expect("it can be planned");
        plan.job(plan.runs()[0].train).key
    };
    assert_eq!(key(&["/a/0.tar", "/a/1.tar"], "one"), key(&["/b/0.tar", "/b/1.tar"], "one"));
    assert_ne!(key(&["/a/0.tar"], "one"), key(&["/a/0.tar"], "two"));
    assert_ne!(key(&["/a/0.tar"], ""), key(&["/b/0.tar"], ""), "without a digest the path is all there is");
}

#[test]
fn each_source_with_files_is_digested_once() {
    let asked = RefCell::new(Vec::new());
    let with_files = |seed| {
        run(&format!("seed {seed}"), |c: &mut RunConfig| {
            c.seed = seed;
            c.data.source = shards(&["0.tar"]);
            c.data.tokenizer = TokenizerConfig::ClipBpe { file: "bpe.txt.gz".into() };
            let source = EvalSource::Folder { path: "cifar10".into(), split: "test".into() };
            let sets = vec![EvalSet { name: "cifar10".into(), source }];
            c.evaluate.push(EvalConfig { task: EvalTask::Zeroshot, name: "cifar10".into(), sets, train: None, shots: Vec::new() });
        })
    };
    build([with_files(0), with_files(1), run("scenes", |_| {})], None, |source| {
        asked.borrow_mut().push(format!("{source:?}"));
        Ok("digest".into())
    })
    .expect("it can be planned");
    assert_eq!(asked.borrow().len(), 3, "{asked:?}");
}

#[test]
fn what_a_classifier_is_fitted_on_is_packed_first_and_is_in_no_key_of_a_training() {
    let source = |variant: &str| EvalSource::scenes(variant, 80);
    let set = |variant: &str| EvalSet { name: variant.into(), source: source(variant) };
    let fitted = |task, shots: &[u64]| {
        let (sets, train, shots) = (vec![set("iid")], Some(set("train")), shots.to_vec());
        EvalConfig { task, name: "s".into(), sets, train, shots }
    };
    let plan = plan(vec![
        run("a", |_| {}),
        run("b", |c| c.evaluate.extend([fitted(EvalTask::LinearProbe, &[]), fitted(EvalTask::Fewshot, &[5])])),
        run("c", |c| c.evaluate.push(fitted(EvalTask::Fewshot, &[5, 10]))),
    ]);
    let [a, b, c] = [0, 1, 2].map(|run| &plan.runs()[run]);
    assert!(a.train == b.train && b.train == c.train, "one training");
    let of = |job: usize| match &plan.job(job).spec {
        JobSpec::Evaluate(spec) => spec.clone(),
        other => panic!("{other:?}"),
    };
    let first = b.evaluates.len() - 2;
    let [probe, few, more] = [b.evaluates[first], b.evaluates[first + 1], c.evaluates[c.evaluates.len() - 1]];
    let train_set = of(probe).fitted_on.and_then(|key| plan.index_of(&key)).expect("it is a job");
    assert!(matches!(&plan.job(train_set).spec, JobSpec::EvalSet(set) if set.source == source("train")));
    for job in [probe, few, more] {
        assert!(plan.parents(job).any(|parent| parent == train_set), "job {job}");
        assert_eq!(of(job).fitted_on, of(probe).fitted_on, "one set");
    }
    assert_ne!(plan.job(few).key, plan.job(more).key, "another number of shots is another measurement");
    assert_eq!(b.evaluates[..first], a.evaluates[..], "what was measured before keeps its jobs");
}

#[test]
fn a_source_that_cannot_be_read_names_the_run() {
    let error = build([run("a1b2", |c| c.data.source = shards(&["0.tar", "1.tar"]))], None, |_| Err("no such file".into()))
        .expect_err("it cannot be planned");
    assert_eq!(error.to_string(), "run a1b2: cannot digest 2 shards from 0.tar: no such file");
}

#[test]
fn one_id_on_two_different_runs_is_refused_and_on_equal_ones_is_not() {
    assert!(build([run("a", |_| {}), run("a", |_| {})], None, |_| Ok(String::new())).is_ok());
    let error = build([run("a", |_| {}), run("a", |c| c.seed = 1)], None, |_| Ok(String::new())).expect_err("they differ");
    assert_eq!(error.to_string(), "two different runs are both called a");
}

#[test]
fn only_what_unfinished_runs_need_is_to_do() {
    let plan = plan(vec![run("a", |_| {}), run("b", |c| c.data.size = Some(100))]);
    let of_run = |run: usize| {
        let run = &plan.runs()[run];
        [run.train, run.evaluates[0]].map(|job| plan.job(job).key)
    };
    let finished: HashSet<Key> = of_run(0).into();
    let todo = plan.todo(|key| finished.contains(key));
    assert_eq!(todo.len(), 5, "the second run's pool, tokenizer, train, evaluation set and evaluate jobs");
    let all: HashSet<Key> = of_run(0).into_iter().chain(of_run(1)).collect();
    assert!(plan.todo(|key| all.contains(key)).is_empty(), "pools that are gone are not packed for nothing");
}

#[test]
fn the_report_stands_on_all_runs_and_changes_with_them() {
    let report = ReportInput { experiment: "x".into(), statements: "s".into() };
    let key = |runs: Vec<PlannedRun>| {
        let plan = build(runs, Some(&report), |_| Ok(String::new())).expect("it can be planned");
        let job = plan.report().expect("a report was asked for");
        assert_eq!(plan.parents(job).count(), 2 * plan.runs().len());
        plan.job(job).key
    };
    let two = key(vec![run("a", |_| {}), run("b", |c| c.seed = 1)]);
    assert_eq!(two, key(vec![run("a", |_| {}), run("b", |c| c.seed = 1)]));
    assert_ne!(two, key(vec![run("a", |_| {}), run("b", |c| c.seed = 2)]));
    assert_ne!(two, key(vec![run("b", |c| c.seed = 1), run("a", |_| {})]), "rows stand in plan order");
}

#[test]
fn the_same_runs_give_the_same_plan_byte_for_byte() {
    let text = || {
        let mut scorer = base();
        scorer.seed = 7;
        let plan = plan(vec![run("a", |_| {}), run("b", |c| c.data.quality = similarity(scorer))]);
        (dot(&plan, &|_| false, &|_| String::new()), json(&plan, &|_| true).to_string())
    };
    assert_eq!(text(), text());
    assert!(text().0.contains("label=\"train\\nscorer "), "{}", text().0);
}

#[test]
fn nodes_tell_runs_by_their_setting_and_no_two_of_a_kind_have_one_label() {
    let set = |samples| crate::run::EvalSet { name: "iid".into(), source: crate::run::EvalSource::scenes("iid", samples) };
    let plan = plan(vec![
        run("a", |c| c.evaluate[0].sets = vec![set(100), set(200)]),
        run("b", |c| {
            c.data.size = Some(1000);
            c.evaluate[0].sets = vec![set(100)];
        }),
    ]);
    let text = dot(&plan, &|_| false, &|run| format!("lr={run}"));
    assert!(text.contains("train\\na\\nlr=0\"") && text.contains("train\\nb\\nlr=1\""), "{text}");
    let json = json(&plan, &|_| false);
    let names: Vec<String> =
        json["jobs"].as_array().into_iter().flatten().map(|job| format!("{} {}", job["kind"], job["label"])).collect();
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:#?}");
}

#[test]
fn explain_names_the_fields_that_differ_within_parents_too() {
    let plan = plan(vec![
        run("a", |_| {}),
        run("b", |c| {
            c.data.size = Some(1000);
            c.train.lr = 0.01;
        }),
    ]);
    let spec = |run: usize| &plan.job(plan.runs()[run].train).spec;
    let shallow: Vec<String> = explain(spec(0), spec(1)).into_iter().map(|diff| diff.path).collect();
    assert_eq!(shallow, ["spec.train.lr", "spec.pool", "spec.tokenizer"]);
    let spec_of = |key: &Key| plan.index_of(key).map(|job| plan.job(job).spec.clone());
    let (a, b) = (expanded(spec(0), &spec_of), expanded(spec(1), &spec_of));
    let deep: Vec<String> = difference(&a, &b).into_iter().map(|diff| format!("{} {:?}", diff.path, diff.new)).collect();
    assert_eq!(deep[..2], ["spec.train.lr Some(Number(0.01))", "spec.pool.spec.size Some(Number(1000))"]);
    assert!(explain(spec(0), spec(0)).is_empty());
}

#[test]
fn the_nearest_job_is_the_one_with_the_fewest_differences() {
    let plan = plan(vec![
        run("far", |c| {
            c.seed = 9;
            c.train.lr = 1.0;
        }),
        run("near", |c| c.seed = 3),
        run("new", |_| {}),
    ]);
    let specs: Vec<_> = plan.runs().iter().map(|run| expanded(&plan.job(run.train).spec, &|_| None)).collect();
    let (name, diff) = nearest(&specs[2], [("far", &specs[0]), ("near", &specs[1])]).expect("there are two");
    assert_eq!(name, "near");
    assert_eq!(diff, [FieldDiff { path: "spec.seed".into(), old: Some(3.into()), new: Some(0.into()) }]);
}

#[test]
fn ten_thousand_runs_are_two_jobs_each_and_what_they_share() {
    let runs = (0..10_000_u64).map(|number| run(&number.to_string(), |c| c.seed = number));
    let plan = build(runs, None, |_| Ok(String::new())).expect("it can be planned");
    assert_eq!(plan.len(), 20_003);
    assert_eq!(plan.num_edges(), 50_001);
    assert_eq!(plan.todo(|_| false).len(), 20_003);
}

#[test]
fn scores_and_lists_are_what_they_hold_wherever_they_lie() {
    let key = |by: QualityBy, digest: &str| {
        let runs = vec![run("a", |c| c.data.quality = Some(QualityConfig::single(Keep::Count(10), by)))];
        let plan = build(runs, None, |_| Ok(digest.to_owned())).expect("it can be planned");
        plan.jobs().find(|job| job.spec.kind() == JobKind::Scores).expect("there is one").key
    };
    let list = |file: &str| QualityBy::Uids { file: file.into() };
    let table = |file: &str| QualityBy::File(ScoreFile { file: file.into(), id_column: "uid".into(), score_column: "s".into() });
    assert_eq!(key(list("a.npy"), "one"), key(list("b.npy"), "one"));
    assert_ne!(key(list("a.npy"), "one"), key(list("a.npy"), "two"));
    assert_ne!(key(list("a.npy"), ""), key(list("b.npy"), ""), "without a digest the path is all there is");
    assert_eq!(key(table("a.parquet"), "one"), key(table("parts"), "one"));
    assert_ne!(key(table("a.parquet"), "one"), key(list("a.parquet"), "one"));
}

/// One job a kind, with every branch of a spec that has bytes of its own.
fn pinned() -> Vec<(&'static str, JobSpec)> {
    let quality = |by| Some(QualityConfig::single(Keep::Count(10), by));
    let folder = EvalSource::Folder { path: "cifar10".into(), split: "test".into() };
    let held_out = EvalSource::Shards {
        shards: vec!["1.tar".into()],
        class_field: "class".into(),
        classnames: "classes.txt".into(),
        templates: "templates.txt".into(),
    };
    let table = DataSource::Table { file: "t.csv".into(), image_column: "path".into(), caption_column: "text".into() };
    let set = |name: &str, source| EvalSet { name: name.into(), source };
    let runs = vec![
        run("scenes", |c| {
            c.data.quality = quality(QualityBy::Field("clip".into()));
            c.evaluate[0].sets.extend([set("folder", folder), set("held out", held_out)]);
        }),
        run("table", |c| {
            c.data.source = table;
            c.data.quality = quality(QualityBy::Random);
            c.data.tokenizer = TokenizerConfig::ClipBpe { file: "bpe.txt.gz".into() };
        }),
        run("cropped", |c| c.data.pack_side = Some(53)),
        run("scored", |c| {
            c.data.source = DataSource::Declared { samples: 5000 };
            c.data.quality = similarity(base());
        }),
    ];
    let report = ReportInput { experiment: "pins".into(), statements: "none".into() };
    let plan = build(runs, Some(&report), |_| Ok("digest".into())).expect("it can be planned");
    // In a plan of its own: a report's key is made of the runs that it is of.
    let listed = vec![run("listed", |c| c.data.quality = quality(QualityBy::Uids { file: "subset.npy".into() }))];
    let listed = build(listed, None, |_| Ok("digest".into())).expect("it can be planned");
    let listed = listed.jobs().filter(|job| job.spec.kind() == JobKind::Scores);
    plan.jobs().chain(listed).map(|job| (job.spec.tag(), job.spec.clone())).collect()
}

/// Keys decide what is done again, so their bytes change only together with a version. To change them on purpose: raise the
/// `VERSION` of each kind that moved, run with `UPDATE_GOLDEN=1`, and review the difference.
#[test]
fn keys_are_pinned() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/keys.txt");
    let mut found = String::new();
    for (tag, spec) in pinned() {
        found.push_str(&format!("{tag} v{} {}\n", spec.version(), spec.key()));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).expect("it can be made");
        std::fs::write(path, &found).expect("it can be written");
    }
    let pinned = std::fs::read_to_string(path).expect("the golden file is in the repository");
    assert_eq!(found, pinned, "canonical forms changed: raise the VERSION of those kinds, then update tests/golden/keys.txt");
}

#[test]
fn a_spec_reads_back_from_its_record_form() {
    for (_, spec) in pinned() {
        let text = serde_json::to_string(&spec).expect("specs serialise");
        let read: JobSpec = serde_json::from_str(&text).expect("and read back");
        assert_eq!(read.key(), spec.key());
    }
}
