//! Stores on disk beside stores in memory: replies, snapshots, crashes.

use super::layout::note_of;
use crate::kv::clock::{GroupTime, NodeClock};
use crate::kv::message::{Answer, Command, Condition, Deadline, Lifetime, Proposal, Query};
use crate::kv::store::Store;
use crate::kv::suite::{AnyStore, OnDisk};
use crate::layout::Partition;
use bytes::Bytes;
use logboat::state::{LsmState, Namespace, StateEngine, StateOptions};
use logboat::transport::Incarnation;
use logboat::{DiskStateMachine, GroupId, LogId};
use logboat_storage::state::{ModelDisk, ModelState};
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn time() -> Arc<GroupTime> {
    Arc::new(GroupTime::new(Arc::new(NodeClock::manual(0))))
}

fn key(number: u8) -> Bytes {
    Partition::Slots.stored(format!("key:{number}").as_bytes())
}

/// A command that goes by no time.
fn command() -> impl Strategy<Value = Bytes> {
    let key = || (0..12u8).prop_map(key);
    let value = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let limit_bytes = 1 << 20;
    let condition = prop_oneof![
        4 => Just(Condition::Always),
        1 => Just(Condition::Missing),
        1 => Just(Condition::Present)
    ];
    let command = prop_oneof![
        5 => (key(), value(), condition).prop_map(|(key, value, condition)| Command::Set {
            key,
            value,
            condition,
            want_old: Some(u64::MAX),
            lifetime: Lifetime::Endless,
        }),
        2 => vec(key(), 1..4).prop_map(|keys| Command::Delete { keys }),
        2 => (key(), value()).prop_map(move |(key, value)| {
            Command::Append { key, value, limit_bytes }
        }),
        1 => (key(), key(), any::<bool>()).prop_map(|(from, to, only_if_missing)| {
            Command::Rename { from, to, only_if_missing }
        }),
        1 => (key(), key(), 0..3u8).prop_map(move |(from, to, to_database)| {
            Command::Copy { from, to, to_database, replace: to_database > 0, limit_bytes }
        }),
        1 => vec((key(), value()), 1..4).prop_map(|pairs| {
            Command::SetMany { pairs, only_if_missing: false }
        }),
        1 => Just(Command::Clear),
        1 => Just(Command::ClearAll),
    ];
    (command, 0..3u8).prop_map(|(command, database)| command.encode_in(database))
}

/// All kinds of queries.
fn queries() -> Vec<Query> {
    let partition = Partition::Slots;
    let all = |limit_keys| Query::Keys {
        partition,
        after: Some(key(3)),
        pattern: Bytes::from_static(b"key:*"),
        limit_keys,
    };
    let ordered = |limit_pairs| Query::Ordered {
        partition,
        start: Bytes::from_static(b"key:1"),
        after_start: true,
        end: Some(Bytes::from_static(b"key:7")),
        limit_pairs,
        limit_bytes: 60,
    };
    let (start, end) = (key(2), Some(key(9)));
    let gets = (0..13).map(|number| Query::Get { key: key(number), limit_bytes: 30 });
    gets.chain([
        Query::Count,
        Query::Keyspace,
        Query::Random { partition, seed: 7 << 20 },
        Query::Scan { partition, from: 0, until: None, count: 3, pattern: None },
        Query::GetMany { keys: (0..12).map(key).collect(), limit_bytes: 200 },
        Query::Usage { key: key(1) },
        Query::Stretch {
            partition,
            start,
            after_start: true,
            end,
            limit_keys: 3,
            with_names: true,
        },
        all(2),
        all(100),
        ordered(2),
        ordered(100),
    ])
    .collect()
}

fn compare(memory: &Store, disk: &OnDisk) {
    for query in queries() {
        for database in 0..3 {
            let query = query.encode_in(database);
            let [expected, found] = [memory.query(&query), AnyStore::query(disk, &query)];
            assert_eq!(found, expected, "{query:?}");
        }
    }
    assert_eq!(AnyStore::snapshot(disk), AnyStore::snapshot(memory));
}

fn lsm(path: &Path) -> Arc<dyn StateEngine> {
    let options = StateOptions { memtable_bytes: 1 << 18, ..StateOptions::default() };
    Arc::new(LsmState::open(path, Incarnation(1), options).unwrap())
}

proptest! {
    #[test]
    fn both_kinds_answer_alike(batches in vec(vec(command(), 1..5), 1..20)) {
        let mut memory = Store::timed(Arc::default(), time());
        let tables = ModelState::open(&ModelDisk::default(), StateOptions::default());
        let (mut disk, _) = OnDisk::open(Arc::new(tables), time());
        for batch in batches {
            let expected: Vec<_> = batch.iter().map(|command| memory.apply(command)).collect();
            prop_assert_eq!(disk.apply_all(&batch), expected);
            compare(&memory, &disk);
        }
    }

    /// A crash leaves what was flushed. What the log has behind that brings all back.
    #[test]
    fn a_crash_and_a_replay_leave_what_was_there(
        batches in vec((vec(command(), 1..5), any::<bool>(), any::<bool>()), 1..20),
    ) {
        let model = ModelDisk::default();
        let open = || -> Arc<dyn StateEngine> {
            Arc::new(ModelState::open(&model, StateOptions::default()))
        };
        let mut memory = Store::timed(Arc::default(), time());
        let (mut disk, _) = OnDisk::open(open(), time());
        let mut log = Vec::new();
        for (batch, crashes, syncs) in batches {
            batch.iter().for_each(|command| drop(memory.apply(command)));
            disk.apply_all(&batch);
            log.extend(batch);
            if syncs {
                let synced = disk.store().sync().unwrap().map_or(0, |id| id.index.0);
                prop_assert!(synced <= log.len() as u64);
            }
            if crashes {
                let (reopened, held) = OnDisk::open(open(), time());
                disk = reopened;
                if syncs {
                    prop_assert!(held > 0);
                }
                disk.apply_all(&log[usize::try_from(held).unwrap()..]);
            }
            compare(&memory, &disk);
        }
    }
}

/// The same commands for all, of which some go by the time.
fn many_commands(count: u64) -> impl Iterator<Item = Bytes> {
    let mixed = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (0..count).map(move |number| {
        let random = mixed(number);
        let key = key((random % 200) as u8);
        let value = Bytes::from(vec![b'v'; (random % 60) as usize]);
        let command = match random % 5 {
            0 => Command::Delete { keys: vec![key] },
            1 => {
                let lifetime = Lifetime::Until(Deadline::At((number + random % 300) as i64));
                let (condition, want_old) = (Condition::Always, None);
                Command::Set { key, value, condition, want_old, lifetime }
            }
            2 => Command::Append { key, value, limit_bytes: 200 },
            _ => Command::SetMany { pairs: vec![(key, value)], only_if_missing: false },
        };
        Proposal { stamp_ms: Some(number), database: 0, command }.encode()
    })
}

/// What a client can see of a store, of which nothing that has expired is left.
fn seen(store: &mut dyn AnyStore, clock_ms: u64) -> Vec<Answer> {
    let tick = Proposal { stamp_ms: Some(clock_ms), database: 0, command: Command::Tick };
    store.apply(&tick.encode());
    let gets = (0..200).map(|number| Query::Get { key: key(number), limit_bytes: 1_000 });
    let expiries = (0..200).map(|number| Query::Expiry { key: key(number) });
    let queries = gets.chain(expiries).chain(queries());
    queries.map(|query| Answer::decode(&store.query(&query.encode())).unwrap()).collect()
}

#[test]
fn real_tables_answer_as_memory_does_over_flushes_restarts_and_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let mut memory = Store::timed(Arc::default(), time());
    let mut engine = lsm(directory.path());
    let (mut disk, _) = OnDisk::open(Arc::clone(&engine), time());
    let commands: Vec<Bytes> = many_commands(3_000).collect();
    for (number, batch) in commands.chunks(7).enumerate() {
        let expected: Vec<_> = batch.iter().map(|command| memory.apply(command)).collect();
        assert_eq!(disk.apply_all(batch), expected);
        if number % 60 == 0 {
            engine.flush().unwrap();
            while engine.compact().unwrap() {}
        }
        if number % 150 == 149 {
            drop(disk);
            engine.flush().unwrap();
            drop(engine);
            engine = lsm(directory.path());
            disk = OnDisk::open(Arc::clone(&engine), time()).0;
        }
    }
    // Later than the longest span in which memory counts deadlines.
    assert_eq!(seen(&mut disk, 10_000), seen(&mut memory, 10_000));
    // A node of either kind takes what one of the other has.
    let mut other = Store::timed(Arc::default(), time());
    AnyStore::restore(&mut other, &AnyStore::snapshot(&disk)).unwrap();
    assert_eq!(seen(&mut other, 10_000), seen(&mut memory, 10_000));
    AnyStore::restore(&mut disk, &AnyStore::snapshot(&memory)).unwrap();
    assert_eq!(seen(&mut disk, 10_000), seen(&mut memory, 10_000));
    drop(disk);
    drop(engine);
    let (mut disk, _) = OnDisk::open(lsm(directory.path()), time());
    assert_eq!(seen(&mut disk, 10_000), seen(&mut memory, 10_000));
}

fn expiring(number: u32, deadline_ms: i64) -> Bytes {
    let command = Command::Set {
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
        value: Bytes::new(),
        condition: Condition::Always,
        want_old: None,
        lifetime: Lifetime::Until(Deadline::At(deadline_ms)),
    };
    Proposal { stamp_ms: Some(1), database: 0, command }.encode()
}

fn tick(store: &mut OnDisk, clock_ms: u64) -> i64 {
    let tick = Proposal { stamp_ms: Some(clock_ms), database: 0, command: Command::Tick };
    store.apply(&tick.encode());
    match Answer::decode(&AnyStore::query(store, &Query::Count.encode())).unwrap() {
        Answer::Integer(count) => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_has_expired_goes_in_steps_and_a_restart_knows_what_comes_next() {
    let model = ModelDisk::default();
    let open =
        || -> Arc<dyn StateEngine> { Arc::new(ModelState::open(&model, StateOptions::default())) };
    let (mut store, _) = OnDisk::open(open(), time());
    let keys: Vec<_> =
        (0..10_000).map(|number| expiring(number, 1_000 + i64::from(number % 2))).collect();
    store.apply_all(&keys);
    store.apply_all(&[expiring(20_000, 90_000)]);
    assert_eq!(tick(&mut store, 999), 10_001);
    for ticks in 1..=9 {
        assert_eq!(tick(&mut store, 1_000), 10_001 - 512 * ticks);
    }
    assert_eq!(tick(&mut store, 1_000), 5_001);
    store.store().sync().unwrap();
    let time = time();
    let (mut store, _) = OnDisk::open(open(), Arc::clone(&time));
    assert!(time.has_deadlines());
    let ticks = (1..).find(|_| tick(&mut store, 1_001) == 1);
    assert_eq!(ticks, Some(10));
    assert_eq!(tick(&mut store, 90_000), 0);
    assert!(!time.has_deadlines());
}

#[test]
fn a_store_that_is_cleared_or_replaced_leaves_no_namespace() {
    let model = ModelDisk::default();
    let engine = Arc::new(ModelState::open(&model, StateOptions::default()));
    let (mut store, _) = OnDisk::open(Arc::<ModelState>::clone(&engine), time());
    let set = |database| {
        let pairs = vec![(key(1), Bytes::from("v"))];
        Command::SetMany { pairs, only_if_missing: false }.encode_in(database)
    };
    store.apply_all(&[set(0), set(1), set(5)]);
    assert_eq!(engine.namespaces().len(), 4);
    store.apply_all(&[Command::ClearAll.encode(), set(1), Command::Clear.encode_in(1), set(1)]);
    assert_eq!(engine.namespaces().len(), 2);
    let snapshot = AnyStore::snapshot(&store);
    AnyStore::restore(&mut store, &snapshot).unwrap();
    assert_eq!(engine.namespaces().len(), 2);
    AnyStore::restore(&mut store, &snapshot[..snapshot.len() - 1]).unwrap_err();
    assert_eq!(AnyStore::snapshot(&store), snapshot);
    store.store().clear().unwrap();
    assert_eq!(store.store().open().unwrap(), None);
    assert_eq!(engine.get(Namespace::NOTES, &note_of(GroupId(7))).unwrap(), None);
}

#[test]
fn a_log_may_be_cut_without_a_flush_when_others_had_one() {
    let model = ModelDisk::default();
    let engine = Arc::new(ModelState::open(&model, StateOptions::default()));
    let (mut store, _) = OnDisk::open(Arc::<ModelState>::clone(&engine), time());
    let command = || Command::Delete { keys: vec![key(1)] }.encode();
    store.apply_all(&[command()]);
    engine.flush().unwrap();
    store.apply_all(&[command()]);
    let index = |synced: Option<LogId>| synced.unwrap_or_default().index.0;
    assert_eq!(index(store.store().sync().unwrap()), 1);
    assert_eq!(engine.statistics().flushes, 1);
    assert_eq!(index(store.store().sync().unwrap()), 2);
    assert_eq!(engine.statistics().flushes, 2);
}
