//! What every engine does.

use crate::support::{
    ALL, Home, LsmHome, ModelHome, at, bytes, pairs, put, settle, show, small, value, write,
};
use logboat_storage::state::{Failure, Namespace, StateBatch, StateEngine, StateError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

macro_rules! suite {
    ($($test:ident,)*) => {
        mod lsm {
            $(#[test] fn $test() { super::$test::<super::LsmHome>() })*
        }
        mod model {
            $(#[test] fn $test() { super::$test::<super::ModelHome>() })*
        }
    };
}

suite! {
    the_last_write_to_a_key_counts,
    ranges_are_read_both_ways,
    a_crash_leaves_a_prefix_of_whole_batches,
    views_stay_as_they_were,
    readers_see_whole_batches_beside_flushes_and_compactions,
    new_writes_win_over_old_ones_after_a_restart,
    a_deleted_namespace_never_comes_back,
    a_deletion_that_a_crash_undoes_leaves_all_of_the_namespace,
    what_is_taken_in_is_there_whole_or_not_at_all,
    a_state_is_replaced_in_one_step,
    flushes_are_due_by_size_and_by_age,
    what_cannot_be_written_has_no_effect,
    notes_survive_without_an_applied_entry,
}

fn the_last_write_to_a_key_counts<H: Home>() {
    let home = H::new();
    let engine = home.open();
    let (one, two) = (engine.create().unwrap(), engine.create().unwrap());
    let mut batch = StateBatch::default();
    batch.put(one, bytes("a"), bytes("1"));
    batch.put(one, bytes("a"), bytes("2"));
    batch.put(one, bytes("b"), bytes("1"));
    batch.delete(one, bytes("b"));
    batch.delete(one, bytes("c"));
    batch.put(one, bytes("c"), bytes(""));
    batch.put(two, bytes("a"), bytes("other"));
    engine.write(&batch).unwrap();
    let check = |engine: &H::Engine| {
        assert_eq!(pairs(engine, one), ["a=2", "c="]);
        assert_eq!(pairs(engine, two), ["a=other"]);
        assert_eq!(value(engine, one, "b"), None);
        assert_eq!(value(engine, one, "c").as_deref(), Some(""));
    };
    check(&engine);
    settle(&engine);
    check(&engine);
    drop(engine);
    check(&home.open());
}

fn ranges_are_read_both_ways<H: Home>() {
    let home = H::new();
    let engine = home.open();
    let spaces = [(); 3].map(|()| engine.create().unwrap());
    for (index, key) in ["", "a", "b", "ba", "c", "\u{7f}"].into_iter().enumerate() {
        for namespace in spaces {
            put(&engine, namespace, key, "v", index as u64 + 1);
        }
        if index == 2 {
            engine.flush().unwrap();
        }
    }
    let view = engine.view().unwrap();
    let keys = |from, to| -> Vec<String> {
        let scan = view.scan(spaces[1], (from, to)).unwrap();
        scan.map(|pair| String::from_utf8(pair.unwrap().0.to_vec()).unwrap()).collect()
    };
    assert_eq!(keys(Bound::Unbounded, Bound::Unbounded), ["", "a", "b", "ba", "c", "\u{7f}"]);
    assert_eq!(keys(Bound::Included(b"a"), Bound::Excluded(b"ba")), ["a", "b"]);
    assert_eq!(keys(Bound::Excluded(b"a"), Bound::Included(b"ba")), ["b", "ba"]);
    assert_eq!(keys(Bound::Excluded(b"c"), Bound::Unbounded), ["\u{7f}"]);
    assert_eq!(keys(Bound::Unbounded, Bound::Included(b"")), [""]);
    assert!(keys(Bound::Included(b"c"), Bound::Excluded(b"b")).is_empty());
    let backwards = view.scan(spaces[1], ALL).unwrap().rev();
    let backwards: Vec<_> = backwards.map(|pair| show(&pair.unwrap())).collect();
    assert_eq!(backwards, ["\u{7f}=v", "c=v", "ba=v", "b=v", "a=v", "=v"]);
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch that writes to two namespaces, with values of this size.
    Write(usize),
    FlushIfDue,
    Flush,
    Compact,
    Ingest,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3000).prop_map(Step::Write),
        1 => Just(Step::FlushIfDue),
        1 => Just(Step::Flush),
        2 => Just(Step::Compact),
        1 => Just(Step::Ingest),
        1 => Just(Step::Crash),
    ]
}

/// Each batch writes its number under ten keys of both namespaces, at different places.
fn a_crash_leaves_a_prefix_of_whole_batches<H: Home>() {
    let config = Config { cases: 10, failure_persistence: None, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..60);
    let mut runner = TestRunner::new(config);
    runner.run(&steps, |steps| run_and_crash::<H>(&steps)).unwrap();
}

fn run_and_crash<H: Home>(steps: &[Step]) -> Result<(), TestCaseError> {
    let home = H::new();
    let mut engine = home.open();
    let spaces = [engine.create().unwrap(), engine.create().unwrap()];
    let mut last = 0;
    for step in steps {
        match step {
            Step::Write(size) => {
                last += 1;
                let mut batch = StateBatch::default();
                for namespace in spaces {
                    let filler = "x".repeat(*size / 20);
                    for key in 0..10 {
                        let value = format!("{last} {filler}");
                        batch.put(namespace, bytes(format!("{key}")), bytes(value));
                    }
                    batch.applied(namespace, at(last));
                }
                write(&engine, &batch);
            }
            Step::FlushIfDue => {
                engine.flush_if_due(Instant::now()).unwrap();
            }
            Step::Flush => {
                engine.flush().unwrap();
                let durable = engine.durable(spaces[0]);
                prop_assert_eq!(durable, (last > 0).then(|| at(last)));
            }
            Step::Compact => {
                engine.compact().unwrap();
            }
            Step::Ingest => {
                let fresh = engine.create().unwrap();
                let source = (0..20).map(|key| Ok((bytes(format!("{key:02}")), bytes("v"))));
                engine.ingest(fresh, at(1), &mut source.into_iter()).unwrap();
                // All that was written before is durable with it.
                prop_assert_eq!(engine.durable(spaces[1]), (last > 0).then(|| at(last)));
            }
            Step::Crash => {
                let reported = spaces.map(|namespace| engine.durable(namespace));
                drop(engine);
                engine = home.open();
                let applied = spaces.map(|namespace| engine.applied(namespace));
                prop_assert_eq!(applied[0], applied[1], "a batch was split");
                prop_assert!(applied[0] >= reported[0], "{:?} was reported", reported[0]);
                prop_assert!(applied[0] <= (last > 0).then(|| at(last)));
                prop_assert_eq!(applied, spaces.map(|namespace| engine.durable(namespace)));
                last = applied[0].map_or(0, |id| id.index.0);
                if last == 0 {
                    // The namespaces themselves may be lost, and are made again.
                    return Ok(());
                }
            }
        }
        for namespace in spaces {
            prop_assert_eq!(engine.applied(namespace), (last > 0).then(|| at(last)));
            let found = pairs(&engine, namespace);
            let expected = if last > 0 { 10 } else { 0 };
            prop_assert_eq!(found.len(), expected);
            let is_last = |pair: &String| pair[2..].starts_with(&format!("{last} "));
            prop_assert!(found.iter().all(is_last), "{:?} after batch {}", found, last);
        }
    }
    Ok(())
}

fn views_stay_as_they_were<H: Home>() {
    let home = H::new();
    let engine = home.open();
    let namespace = engine.create().unwrap();
    for index in 1..=50 {
        put(&engine, namespace, &format!("{index:03}"), "old", index);
    }
    let view = engine.view().unwrap();
    let scan = engine.view().unwrap().scan(namespace, ALL).unwrap();
    let before = pairs(&engine, namespace);
    for round in 0..20 {
        for index in 1..=50 {
            let key = format!("{index:03}");
            put(&engine, namespace, &key, &"new".repeat(20), 100 + round * 50 + index);
        }
        let mut batch = StateBatch::default();
        batch.delete(namespace, bytes("007"));
        write(&engine, &batch);
        settle(&engine);
        assert_eq!(view.get(namespace, b"007").unwrap().as_deref(), Some(&b"old"[..]));
        assert_eq!(view.applied(namespace).unwrap(), Some(at(50)));
    }
    let seen = view.scan(namespace, ALL).unwrap().map(|pair| show(&pair.unwrap()));
    assert_eq!(seen.collect::<Vec<_>>(), before);
    drop(view);
    settle(&engine);
    let mut batch = StateBatch::default();
    batch.delete_namespace(namespace);
    write(&engine, &batch);
    settle(&engine);
    let seen = scan.map(|pair| show(&pair.unwrap()));
    assert_eq!(seen.collect::<Vec<_>>(), before, "a scan outlives its view and its namespace");
}

/// A writer gives two keys the same value. Readers go at the newest state and at views, while the
/// watermark moves past them.
fn readers_see_whole_batches_beside_flushes_and_compactions<H: Home>() {
    let home = H::new();
    let engine = home.open();
    let spaces = [engine.create().unwrap(), engine.create().unwrap()];
    put(&engine, spaces[0], "a", "0", 1);
    put(&engine, spaces[1], "z", "0", 1);
    let is_over = AtomicBool::new(false);
    let read = || {
        let mut newest = 0;
        while !is_over.load(Ordering::Relaxed) {
            let view = engine.view().unwrap();
            let first = view.get(spaces[0], b"a").unwrap();
            assert_eq!(first, view.get(spaces[1], b"z").unwrap(), "half a batch");
            let mut scan = view.scan(spaces[0], ALL).unwrap();
            assert_eq!(scan.next().map(|pair| pair.unwrap().1), first);
            let number = String::from_utf8(first.unwrap().to_vec()).unwrap();
            let number = number.trim().parse::<u64>().unwrap();
            assert!(number >= newest, "{number} after {newest}");
            newest = number;
            assert!(engine.get(spaces[1], b"z").unwrap().is_some());
        }
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        for index in 1..=1500_u64 {
            let text = bytes(format!("{index:0100}"));
            let mut batch = StateBatch::default();
            batch.put(spaces[0], bytes("a"), text.clone());
            batch.put(spaces[1], bytes("z"), text);
            write(&engine, &batch);
            if index % 50 == 0 {
                engine.flush().unwrap();
                engine.compact().unwrap();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    settle(&engine);
    assert_eq!(engine.statistics().memtable_bytes, 0);
}

fn new_writes_win_over_old_ones_after_a_restart<H: Home>() {
    let home = H::new();
    let mut engine = home.open();
    let namespace = engine.create().unwrap();
    for round in 1..=12 {
        let filler = "x".repeat(200);
        for key in 0..40 {
            put(&engine, namespace, &format!("{key}"), &format!("{round} {filler}"), round);
        }
        if round % 3 == 0 {
            settle(&engine);
        } else {
            engine.flush().unwrap();
        }
        drop(engine);
        engine = home.open();
        assert_eq!(engine.applied(namespace), Some(at(round)));
        let found = pairs(&engine, namespace);
        assert!(found.iter().all(|pair| pair.contains(&format!("={round} "))), "{found:?}");
    }
    let other = engine.create().unwrap();
    assert!(other > namespace, "a number is given once");
}

fn a_deleted_namespace_never_comes_back<H: Home>() {
    let home = H::new();
    let mut engine = home.open();
    let (kept, gone) = (engine.create().unwrap(), engine.create().unwrap());
    let filler = "x".repeat(100);
    // Older values, newer ones over them, in tables of their own and beside the other namespace.
    for round in 0..4 {
        for key in 0..60 {
            put(
                &engine,
                gone,
                &format!("{key}"),
                &format!("{round}{filler}"),
                round * 60 + key + 1,
            );
            if key % 20 == 0 {
                put(&engine, kept, &format!("{key}"), "kept", round * 60 + key + 1);
            }
        }
        engine.flush().unwrap();
    }
    let mut batch = StateBatch::default();
    batch.delete_namespace(gone);
    write(&engine, &batch);
    for round in 0..4 {
        assert_eq!(value(&engine, gone, "0"), None);
        assert!(pairs(&engine, gone).is_empty());
        assert_eq!((engine.applied(gone), engine.durable(kept)), (None, Some(at(221))));
        assert_eq!(engine.namespaces(), [kept]);
        let mut late = StateBatch::default();
        late.put(gone, bytes("0"), bytes("late"));
        assert!(matches!(engine.write(&late), Err(StateError::NoNamespace(of)) if of == gone));
        let taken = engine.ingest(gone, at(1), &mut std::iter::empty());
        assert!(matches!(taken, Err(StateError::NoNamespace(_))));
        assert_eq!(pairs(&engine, kept).len(), 3);
        settle(&engine);
        if round % 2 == 0 {
            drop(engine);
            engine = home.open();
        }
    }
    assert!(engine.create().unwrap() > gone);
}

fn a_deletion_that_a_crash_undoes_leaves_all_of_the_namespace<H: Home>() {
    let home = H::new();
    let mut engine = home.open();
    let namespace = engine.create().unwrap();
    let filler = "x".repeat(100);
    for round in 0..6 {
        for key in 0..60 {
            put(&engine, namespace, &format!("{key}"), &format!("{round}{filler}"), 1 + round);
        }
        engine.flush().unwrap();
    }
    let before = pairs(&engine, namespace);
    let mut batch = StateBatch::default();
    batch.delete_namespace(namespace);
    engine.write(&batch).unwrap();
    // The mark is in memory alone, so the tables must keep what it hides.
    while engine.compact().unwrap() {}
    drop(engine);
    engine = home.open();
    assert_eq!((engine.applied(namespace), pairs(&engine, namespace)), (Some(at(6)), before));
}

fn what_is_taken_in_is_there_whole_or_not_at_all<H: Home>() {
    let home = H::new();
    let mut engine = home.open();
    let other = engine.create().unwrap();
    put(&engine, other, "a", "b", 3);
    let pair = |key: u64| Ok((bytes(format!("{key:05}")), bytes("x".repeat(50))));
    let fresh = engine.create().unwrap();
    let view = engine.view().unwrap();
    let mut broken = (0..500).map(pair).chain([Err(io::Error::other("the peer is gone"))]);
    let error = engine.ingest(fresh, at(9), &mut broken).unwrap_err();
    assert!(error.to_string().contains("the peer is gone"), "{error}");
    let mut unordered = [5, 4].into_iter().map(pair);
    let error = engine.ingest(fresh, at(9), &mut unordered).unwrap_err();
    assert!(matches!(error, StateError::Unordered), "{error}");
    assert_eq!((engine.applied(fresh), pairs(&engine, fresh).len()), (None, 0));
    engine.ingest(fresh, at(9), &mut (0..2000).map(pair)).unwrap();
    assert_eq!(view.scan(fresh, ALL).unwrap().count(), 0, "a view of before");
    assert_eq!(view.applied(fresh).unwrap(), None);
    drop(view);
    assert_eq!((engine.durable(fresh), engine.durable(other)), (Some(at(9)), Some(at(3))));
    let again = engine.ingest(fresh, at(9), &mut (0..2).map(pair)).unwrap_err();
    assert!(matches!(again, StateError::NotFresh(of) if of == fresh), "{again}");
    for _ in 0..2 {
        assert_eq!((engine.applied(fresh), pairs(&engine, fresh).len()), (Some(at(9)), 2000));
        assert_eq!(engine.namespaces(), [other, fresh]);
        drop(engine);
        engine = home.open();
    }
    put(&engine, fresh, "00000", "newer", 10);
    settle(&engine);
    assert_eq!(value(&engine, fresh, "00000").as_deref(), Some("newer"));
    let empty = engine.create().unwrap();
    engine.ingest(empty, at(1), &mut std::iter::empty()).unwrap();
    drop(engine);
    assert_eq!(home.open().applied(empty), Some(at(1)));
}

fn a_state_is_replaced_in_one_step<H: Home>() {
    let home = H::new();
    let mut engine = home.open();
    let mut old = engine.create().unwrap();
    put(&engine, old, "a", "0", 1);
    for round in 2..8 {
        let fresh = engine.create().unwrap();
        let pair = (bytes("a"), bytes(format!("{round}")));
        engine.ingest(fresh, at(round), &mut [Ok(pair)].into_iter()).unwrap();
        let mut switch = StateBatch::default();
        switch.delete_namespace(old);
        switch.put(Namespace::NOTES, bytes("group"), bytes(fresh.0.to_string()));
        write(&engine, &switch);
        if round % 2 == 0 {
            engine.flush().unwrap();
        }
        drop(engine);
        engine = home.open();
        let noted = value(&engine, Namespace::NOTES, "group");
        let noted = noted.map(|text| Namespace(text.parse().unwrap()));
        if round % 2 == 0 {
            assert_eq!(noted, Some(fresh));
            assert_eq!(engine.namespaces(), [fresh]);
            old = fresh;
        } else {
            // The crash came before the switch was durable: both are there, and the old one counts.
            assert_eq!(noted, Some(old));
            assert_eq!(engine.namespaces(), [old, fresh]);
            let mut batch = StateBatch::default();
            batch.delete_namespace(fresh);
            write(&engine, &batch);
        }
        assert!(value(&engine, old, "a").is_some());
        settle(&engine);
    }
}

fn flushes_are_due_by_size_and_by_age<H: Home>() {
    let home = H::new();
    let engine = home.open();
    let namespace = engine.create().unwrap();
    let now = Instant::now();
    put(&engine, namespace, "a", "b", 1);
    assert!(!engine.flush_if_due(now).unwrap());
    assert_eq!(engine.durable(namespace), None);
    let later = Instant::now() + small().max_age;
    assert!(engine.flush_if_due(later).unwrap());
    assert_eq!(engine.durable(namespace), Some(at(1)));
    assert!(!engine.flush_if_due(later + Duration::from_secs(9)).unwrap(), "nothing to flush");
    for index in 2..20 {
        put(&engine, namespace, &format!("{index}"), &"x".repeat(1000), index);
    }
    assert!(engine.flush_if_due(Instant::now()).unwrap());
    assert!(engine.durable(namespace) > Some(at(1)));
}

fn what_cannot_be_written_has_no_effect<H: Home>() {
    let home = H::new();
    let engine = home.open();
    let namespace = engine.create().unwrap();
    for (named, key_bytes) in
        [(Namespace(0), 1), (Namespace(namespace.0 + 1), 1), (namespace, 70_000)]
    {
        let mut batch = StateBatch::default();
        batch.put(namespace, bytes("a"), bytes("b"));
        batch.put(named, bytes("k".repeat(key_bytes)), bytes("b"));
        batch.applied(namespace, at(1));
        assert!(engine.write(&batch).is_err());
        assert_eq!((engine.applied(namespace), pairs(&engine, namespace).len()), (None, 0));
    }
    put(&engine, namespace, "a", "b", 1);
    assert_eq!(pairs(&engine, namespace), ["a=b"]);
}

fn notes_survive_without_an_applied_entry<H: Home>() {
    let home = H::new();
    let engine = home.open();
    let mut batch = StateBatch::default();
    batch.put(Namespace::NOTES, bytes("a"), bytes("b"));
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let engine = home.open();
    assert_eq!(pairs(&engine, Namespace::NOTES), ["a=b"]);
    assert!(engine.namespaces().is_empty());
}

#[test]
fn a_model_whose_disk_fails_takes_no_more_writes() {
    for failure in [Failure::Refused, Failure::Unconfirmed] {
        let home = ModelHome::new();
        let engine = home.open();
        let namespace = engine.create().unwrap();
        put(&engine, namespace, "a", "1", 1);
        engine.flush().unwrap();
        put(&engine, namespace, "a", "2", 2);
        home.0.fail_after(0, failure);
        engine.flush().unwrap_err();
        assert!(matches!(engine.flush(), Err(StateError::Poisoned(_))), "nothing is retried");
        assert_eq!(value(&engine, namespace, "a").as_deref(), Some("2"));
        drop(engine);
        let index = if failure == Failure::Refused { 1 } else { 2 };
        let engine = home.open();
        assert_eq!(engine.applied(namespace), Some(at(index)));
        assert_eq!(value(&engine, namespace, "a"), Some(index.to_string()));
    }
}

#[test]
fn tables_and_manifests_that_nobody_needs_go() {
    let home = LsmHome::new();
    let engine = home.open();
    let (live, gone) = (engine.create().unwrap(), engine.create().unwrap());
    for round in 0..30 {
        for key in 0..40 {
            put(&engine, live, &format!("{key}"), &"x".repeat(100), round * 40 + key + 1);
            put(&engine, gone, &format!("{key}-{round}"), &"x".repeat(400), round * 40 + key + 1);
        }
        engine.flush().unwrap();
    }
    settle(&engine);
    let full = engine.statistics().table_bytes;
    let mut batch = StateBatch::default();
    batch.delete_namespace(gone);
    write(&engine, &batch);
    settle(&engine);
    let statistics = engine.statistics();
    assert!(statistics.table_bytes * 5 < full, "{statistics:?}, {full} bytes before");
    let files = std::fs::read_dir(home.path().join("tree")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let manifests = names.filter(|name| name.starts_with('v')).count();
    assert!(manifests <= 2, "{manifests} manifests");
    let tables = std::fs::read_dir(home.path().join("tree/tables")).unwrap().count() as u64;
    assert_eq!(tables, statistics.tables);
}
