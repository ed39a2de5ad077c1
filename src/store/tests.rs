#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::*;
use crate::plan::{DatasetSpec, JobSpec};
use crate::run::{DataSource, Framing, ScenesConfig};

fn job(number: u64) -> (Key, JobSpec) {
    let source = DataSource::Scenes(ScenesConfig::of_seed(number));
    let spec = JobSpec::Dataset(DatasetSpec {
        draw: 0,
        source,
        size: Some(1),
        image_size: 8,
        framing: Framing::Centre,
        fingerprint: String::new(),
    });
    (spec.key(), spec)
}

fn completion() -> Completion {
    let timings = Timings { wall_s: 1.5, cpu_s: 1.0, threads: 2, samples: None };
    Completion { status: JobStatus::Finished, reason: None, summary: json!({ "samples": 3 }), timings }
}

fn work<'a>(store: &'a Store, key: &Key, spec: &JobSpec) -> JobDir<'a> {
    match store.begin(key, spec).unwrap() {
        Begin::Work(dir) => dir,
        other => panic!("expected work, found {other:?}"),
    }
}

fn finish(store: &Store, number: u64) -> Key {
    let (key, spec) = job(number);
    let dir = work(store, &key, &spec);
    fs::write(dir.out().join("out.bin"), [7; 10]).unwrap();
    dir.commit(completion()).unwrap();
    key
}

/// A lease as some other holder would have left it.
fn plant(store: &Store, key: &Key, holder: &Holder) -> PathBuf {
    fs::create_dir_all(store.running_dir()).unwrap();
    let path = store.running_dir().join(format!("{key}~{}", holder.to_name()));
    File::create(&path).unwrap();
    path
}

/// Names in a folder, but for the files of holders.
fn names(path: &Path) -> Vec<String> {
    let names = list(path).unwrap().into_iter().map(|name| name.into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('@')).collect();
    names.sort();
    names
}

#[test]
fn a_committed_job_is_finished_and_its_record_names_its_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let (key, spec) = job(1);
    let dir = work(&store, &key, &spec);
    assert!(!store.is_finished(&key));
    fs::create_dir(dir.out().join("shards")).unwrap();
    fs::write(dir.out().join("shards/0.bin"), b"abc").unwrap();
    fs::write(dir.out().join("index.json"), b"{}").unwrap();
    fs::write(dir.keep().unwrap().join("checkpoint"), b"half").unwrap();
    dir.commit(completion()).unwrap();
    let record = store.record(&key).unwrap().unwrap();
    assert_eq!((record.job, record.status, record.version), (spec, JobStatus::Finished, DatasetSpec::VERSION));
    let digest = |bytes: &[u8]| FileDigest { blake3: blake3::hash(bytes).to_hex().to_string(), bytes: bytes.len() as u64 };
    let expected = [("index.json", digest(b"{}")), ("shards/0.bin", digest(b"abc"))];
    assert_eq!(record.outputs, BTreeMap::from(expected.map(|(name, digest)| (name.to_owned(), digest))));
    assert_eq!(store.timings(&key).unwrap().wall_s, 1.5);
    assert_eq!(store.finished().unwrap(), HashSet::from([key]));
    assert!(names(&store.running_dir()).is_empty(), "no lease, nothing half written");
    assert!(names(&folder.path().join("store/work")).is_empty(), "no checkpoint of a finished job");
}

#[test]
fn equal_jobs_leave_equal_bytes_but_for_their_timings() {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<Vec<u8>> = ["a", "b"]
        .iter()
        .map(|name| {
            let store = Store::open(folder.path().join(name)).unwrap();
            let key = finish(&store, 1);
            fs::read(store.output_dir(&key).join("record.json")).unwrap()
        })
        .collect();
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn an_abandoned_job_leaves_its_checkpoints_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (key, spec) = job(1);
    let dir = work(&store, &key, &spec);
    fs::write(dir.out().join("half"), b"x").unwrap();
    fs::write(dir.keep().unwrap().join("step"), b"12").unwrap();
    dir.abandon();
    assert!(names(&store.running_dir()).is_empty());
    let dir = work(&store, &key, &spec);
    assert!(names(dir.out()).is_empty());
    assert_eq!(fs::read(dir.keep().unwrap().join("step")).unwrap(), b"12");
}

#[test]
fn a_reserved_name_among_the_outputs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (key, spec) = job(1);
    let dir = work(&store, &key, &spec);
    fs::write(dir.out().join("record.json"), b"mine").unwrap();
    assert!(matches!(dir.commit(completion()), Err(StoreError::Reserved { .. })));
    assert!(!store.is_finished(&key));
}

#[test]
fn a_living_holder_keeps_its_lease_within_and_across_handles() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
    let (key, spec) = job(1);
    let dir = work(&one, &key, &spec);
    for store in [&one, &two] {
        let Begin::HeldBy(info) = store.begin(&key, &spec).unwrap() else { panic!("it is held") };
        assert_eq!((info.holder.pid, info.is_alive), (std::process::id(), true));
    }
    assert!(dir.out().is_dir(), "asking took nothing away");
    drop(dir);
    drop(work(&two, &key, &spec));
    assert!(names(&one.running_dir()).is_empty());
}

#[test]
fn leases_of_the_dead_are_broken_and_their_half_written_outputs_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (key, spec) = job(1);
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let gone = Holder { pid: child.id(), start: 1, ..Holder::this_process() };
    child.wait().unwrap();
    let reused = Holder { start: Holder::this_process().start + 1, ..Holder::this_process() };
    let mut rebooted = Holder::this_process();
    rebooted.boot.replace_range(..1, if rebooted.boot.starts_with('0') { "1" } else { "0" });
    for (holder, why) in [(gone, "gone"), (reused, "its pid was used again"), (rebooted, "of an earlier boot")] {
        let lease = plant(&store, &key, &holder);
        let half = store.out_dir(lease.file_name().unwrap().to_str().unwrap());
        fs::create_dir(&half).unwrap();
        let dir = work(&store, &key, &spec);
        assert!(!lease.exists() && !half.exists(), "{why}");
        dir.abandon();
    }
}

#[test]
fn a_holder_elsewhere_lives_as_long_as_its_heart_beats() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap().with_stale_after(Duration::from_secs(60));
    let (key, spec) = job(1);
    let holder = Holder { host: "another-machine".into(), ..Holder::this_process() };
    let lease = plant(&store, &key, &holder);
    let beat = |seconds| {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        File::open(&lease).unwrap().set_modified(time).unwrap();
    };
    beat(30);
    assert!(matches!(store.begin(&key, &spec).unwrap(), Begin::HeldBy(_)));
    beat(90);
    drop(work(&store, &key, &spec));
    assert!(!lease.exists());
}

#[test]
fn a_handle_that_is_dropped_leaves_no_trace_of_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    finish(&store, 1);
    drop(store);
    assert!(list(&folder.path().join("running")).unwrap().is_empty());
}

#[test]
fn where_there_are_no_hard_links_leases_are_files_that_beat_each() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.has_no_links.store(true, Ordering::Relaxed);
    let (key, spec) = job(1);
    let dir = work(&store, &key, &spec);
    let lease = store.running_dir().join(&names(&store.running_dir())[0]);
    File::open(&lease).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    store.heartbeat();
    assert!(store.leases().unwrap()[0].silent_s < 60.0);
    dir.commit(completion()).unwrap();
    assert!(names(&store.running_dir()).is_empty());
}

#[test]
fn a_heartbeat_renews_the_leases_of_this_handle() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (key, spec) = job(1);
    let _dir = work(&store, &key, &spec);
    let lease = store.running_dir().join(names(&store.running_dir()).swap_remove(0));
    File::open(&lease).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    store.heartbeat();
    assert!(store.leases().unwrap()[0].silent_s < 60.0);
}

#[test]
fn of_many_handles_that_want_one_job_at_once_exactly_one_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let stores: Vec<Store> = (0..8).map(|_| Store::open(folder.path()).unwrap()).collect();
    for number in 0..50 {
        let (key, spec) = job(number);
        let barrier = std::sync::Barrier::new(stores.len());
        let worked = AtomicU64::new(0);
        let inside = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for store in &stores {
                scope.spawn(|| {
                    barrier.wait();
                    loop {
                        match store.begin(&key, &spec).unwrap() {
                            Begin::Finished => break,
                            Begin::HeldBy(_) => std::thread::sleep(Duration::from_millis(1)),
                            Begin::Work(dir) => {
                                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are at it");
                                worked.fetch_add(1, Ordering::SeqCst);
                                std::thread::sleep(Duration::from_micros(300));
                                inside.fetch_sub(1, Ordering::SeqCst);
                                dir.commit(completion()).unwrap();
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(worked.into_inner(), 1);
    }
    assert_eq!(stores[0].finished().unwrap().len(), 50);
}

#[test]
fn a_sweep_takes_what_the_dead_left_and_what_is_not_to_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (kept, dropped) = (finish(&store, 1), finish(&store, 2));
    let (running, spec) = job(3);
    let dir = work(&store, &running, &spec);
    let dead = Holder { start: Holder::this_process().start + 1, ..Holder::this_process() };
    plant(&store, &job(4).0, &dead);
    fs::create_dir(store.running_dir().join(format!("{}~nobody~out", job(5).0))).unwrap();
    fs::create_dir_all(store.work_dir(&kept)).unwrap();
    let unfinished = store.work_dir(&job(6).0);
    fs::create_dir_all(&unfinished).unwrap();
    let swept = store.gc(Some(&HashSet::from([kept]))).unwrap();
    assert_eq!((swept.leases, swept.leftovers, swept.jobs), (1, 2, 1));
    assert!(swept.bytes > 10);
    assert!(store.is_finished(&kept) && !store.is_finished(&dropped));
    assert!(dir.out().is_dir() && unfinished.is_dir(), "what runs and what can be resumed stays");
    assert_eq!(names(&store.running_dir()).len(), 2);
}

#[test]
fn a_failure_is_noted_and_forgotten_when_the_job_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (key, _) = job(1);
    let failure = FailureRecord { key, kind: "dataset".into(), label: "scenes".into(), reason: "no such file".into(), attempts: 2 };
    store.record_failure(&failure).unwrap();
    assert_eq!(store.overview().unwrap().failures, [failure]);
    assert!(!store.is_finished(&key));
    finish(&store, 1);
    assert_eq!(store.failure(&key), None);
    assert_eq!(store.overview().unwrap(), Overview { finished: 1, ..Overview::default() });
}

#[test]
fn reading_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    assert!(store.finished().unwrap().is_empty());
    assert!(store.record(&job(1).0).unwrap().is_none());
    assert_eq!(store.overview().unwrap(), Overview::default());
    assert_eq!(store.gc(None).unwrap(), Swept::default());
    assert!(!path.exists());
}

#[test]
fn what_is_no_store_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(
        Store::open(&file).is_err_and(|error| error.to_string().contains("cannot read") || error.to_string().contains("is a file"))
    );
    fs::write(folder.path().join("format"), b"99\n").unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("has layout 99, expected 1"), "{error}");
}

#[test]
fn a_folder_without_a_record_is_debris_and_gives_way_to_the_finished_job() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (key, _) = job(1);
    fs::create_dir_all(store.output_dir(&key).join("shards")).unwrap();
    assert!(!store.is_finished(&key));
    finish(&store, 1);
    assert!(store.is_finished(&key));
    assert!(!store.output_dir(&key).join("shards").exists());
    assert_eq!(store.gc(None).unwrap().leftovers, 1);
}

#[test]
fn a_broken_record_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let key = finish(&store, 1);
    fs::write(store.output_dir(&key).join("record.json"), b"{").unwrap();
    let error = store.record(&key).unwrap_err();
    assert!(error.to_string().contains("record.json") && error.hint().is_some(), "{error}");
}

#[test]
fn a_job_whose_files_are_not_those_of_its_record_is_set_aside_and_done_again() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("its digest is", |path| fs::write(path, [7, 7, 7, 7, 7, 7, 7, 7, 7, 8]).unwrap()),
        ("it has 9 bytes, the record says 10", |path| fs::write(path, [7; 9]).unwrap()),
        ("it is missing", |path| fs::remove_file(path).unwrap()),
    ];
    for (reason, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let key = finish(&store, 1);
        store.check_outputs(&key).unwrap();
        for number in 0..2 {
            damage(&store.output_dir(&key).join("out.bin"));
            let error = store.check_outputs(&key).unwrap_err();
            let (message, hint) = (error.to_string(), error.hint().unwrap());
            assert!(message.contains("out.bin") && message.contains(reason), "{message}");
            assert!(hint.contains("run the same command again") && !error.is_environment(), "{hint}");
            assert!(!store.is_finished(&key), "it is to be done again");
            assert!(folder.path().join(format!("store/damaged/{key}-{number}/record.json")).exists(), "what was there is kept");
            assert_eq!(finish(&store, 1), key);
            store.check_outputs(&key).unwrap();
        }
        assert_eq!(store.finished().unwrap().len(), 1);
    }
}
