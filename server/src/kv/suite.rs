//! What commands and queries do, on a store of each kind.

use super::admission::StoreAdmission;
use super::clock::{GroupTime, LATEST_MS, NodeClock};
use super::disk::{DiskStore, SharedTables};
use super::keys::MAX_KEY_BYTES;
use super::message::{
    Answer, Command, Condition, DatabaseSize, Deadline, ExpireIf, Expiry, Failure, Lifetime,
    Proposal, Query, VERSION,
};
use super::state::LONGEST_VALUE_BYTES;
use super::store::Store;
use bytes::Bytes;
use logboat::state::{StateEngine, StateOptions};
use logboat::{CommandAdmission, DiskStateMachine, GroupId, Index, LogId, Term};
use logboat_storage::state::{ModelDisk, ModelState};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io;
use std::sync::Arc;

/// A store of either kind.
pub(super) trait AnyStore {
    fn apply(&mut self, command: &[u8]) -> Bytes;
    fn query(&self, query: &[u8]) -> Bytes;
    fn admission(&self) -> StoreAdmission;
    fn snapshot(&self) -> Vec<u8>;
    fn restore(&mut self, snapshot: &[u8]) -> io::Result<()>;
}

impl AnyStore for Store {
    fn apply(&mut self, command: &[u8]) -> Bytes {
        Self::apply(self, &Bytes::copy_from_slice(command))
    }

    fn query(&self, query: &[u8]) -> Bytes {
        Self::query(self, &Bytes::copy_from_slice(query))
    }

    fn admission(&self) -> StoreAdmission {
        Self::admission(self)
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Self::snapshot(self)(&mut bytes).unwrap();
        bytes
    }

    fn restore(&mut self, mut snapshot: &[u8]) -> io::Result<()> {
        Self::restore(self, &mut snapshot)
    }
}

/// A store on disk.
pub(super) struct OnDisk {
    store: DiskStore,
    last: LogId,
}

impl OnDisk {
    /// The store of a group in these tables, which has applied so many entries.
    pub(super) fn open(engine: Arc<dyn StateEngine>, time: Arc<GroupTime>) -> (Self, u64) {
        let tables = SharedTables::new(engine);
        let mut store = DiskStore::new(tables, GroupId(7), Arc::default(), time);
        let last = store.open().unwrap().unwrap_or_default();
        (Self { store, last }, last.index.0)
    }

    /// Carries out commands that come together.
    pub(super) fn apply_all(&mut self, commands: &[Bytes]) -> Vec<Bytes> {
        let answers = commands.iter().map(|command| self.store.execute(command).unwrap());
        let answers = answers.collect();
        self.last = LogId::new(Term(1), Index(self.last.index.0 + commands.len() as u64));
        self.store.commit(self.last).unwrap();
        answers
    }

    pub(super) fn store(&mut self) -> &mut DiskStore {
        &mut self.store
    }
}

impl AnyStore for OnDisk {
    fn apply(&mut self, command: &[u8]) -> Bytes {
        self.apply_all(&[Bytes::copy_from_slice(command)]).remove(0)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let reader = self.store.reader().unwrap();
        reader.query(Bytes::copy_from_slice(query)).unwrap()
    }

    fn admission(&self) -> StoreAdmission {
        self.store.admission()
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.store.snapshot().unwrap()(&mut bytes).unwrap();
        bytes
    }

    fn restore(&mut self, mut snapshot: &[u8]) -> io::Result<()> {
        let last = LogId::new(Term(1), self.last.index.next());
        self.store.restore(&mut snapshot, last)?;
        self.last = last;
        Ok(())
    }
}

/// The kinds of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    Disk,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    /// An empty store that goes by this time.
    pub(super) fn store(self, time: Arc<GroupTime>) -> Box<dyn AnyStore> {
        match self {
            Self::Memory => Box::new(Store::timed(Arc::default(), time)),
            Self::Disk => {
                let tables = ModelState::open(&ModelDisk::default(), StateOptions::default());
                Box::new(OnDisk::open(Arc::new(tables), time).0)
            }
        }
    }
}

/// An empty store of each kind.
fn each_kind() -> impl Iterator<Item = Box<dyn AnyStore>> {
    let time = || Arc::new(GroupTime::new(Arc::new(NodeClock::manual(0))));
    Kind::ALL.into_iter().map(move |kind| kind.store(time()))
}

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn apply(store: &mut dyn AnyStore, command: Command) -> Answer {
    Answer::decode(&store.apply(&command.encode())).unwrap()
}

fn ask(store: &dyn AnyStore, query: Query) -> Answer {
    Answer::decode(&store.query(&query.encode())).unwrap()
}

fn set(store: &mut dyn AnyStore, key: &'static str, value: &'static str) {
    let command = Command::Set {
        key: b(key),
        value: b(value),
        condition: Condition::Always,
        want_old: None,
        lifetime: Lifetime::Endless,
    };
    assert_eq!(apply(store, command), Answer::Stored { done: true, old: None });
}

fn get(store: &dyn AnyStore, key: &'static str) -> Option<Bytes> {
    match ask(store, Query::Get { key: b(key), limit_bytes: u64::MAX }) {
        Answer::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions_decide_a_set() {
    let set_if = |store: &mut dyn AnyStore, condition| {
        let command = Command::Set {
            key: b("k"),
            value: b("new"),
            condition,
            want_old: Some(u64::MAX),
            lifetime: Lifetime::Endless,
        };
        apply(store, command)
    };
    for mut store in each_kind() {
        let store = &mut *store;
        for condition in [Condition::Present, Condition::Equals(b(""))] {
            let missed = Answer::Stored { done: false, old: None };
            assert_eq!(set_if(store, condition), missed);
        }
        let stored = Answer::Stored { done: true, old: None };
        assert_eq!(set_if(store, Condition::Missing), stored);
        set(store, "k", "old");
        for condition in [Condition::Missing, Condition::Equals(b("other"))] {
            let kept = Answer::Stored { done: false, old: Some(b("old")) };
            assert_eq!(set_if(store, condition), kept);
        }
        let replaced = Answer::Stored { done: true, old: Some(b("old")) };
        assert_eq!(set_if(store, Condition::Equals(b("old"))), replaced);
        assert_eq!(get(store, "k"), Some(b("new")));
    }
}

#[test]
fn delete_counts_each_key_once() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "a", "1");
        let keys = vec![b("a"), b("a"), b("b")];
        assert_eq!(apply(store, Command::Delete { keys }), Answer::Integer(1));
        assert_eq!(ask(store, Query::Count), Answer::Integer(0));
    }
}

#[test]
fn growth_stops_at_the_limit_of_the_command() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "k", "12345");
        let append = |limit_bytes| Command::Append { key: b("k"), value: b("67"), limit_bytes };
        assert_eq!(apply(store, append(6)), Answer::Failed(Failure::TooLong));
        assert_eq!(get(store, "k"), Some(b("12345")));
        assert_eq!(apply(store, append(7)), Answer::Integer(7));
        let patch =
            |offset| Command::SetRange { key: b("k"), offset, value: b("xy"), limit_bytes: 10 };
        assert_eq!(apply(store, patch(u64::MAX)), Answer::Failed(Failure::TooLong));
        assert_eq!(apply(store, patch(8)), Answer::Integer(10));
        assert_eq!(get(store, "k"), Some(b("1234567\0xy")));
        assert_eq!(apply(store, patch(0)), Answer::Integer(10));
        assert_eq!(get(store, "k"), Some(b("xy34567\0xy")));
    }
}

#[test]
fn no_command_makes_a_value_that_nobody_can_hold() {
    for mut store in each_kind() {
        let store = &mut *store;
        for offset in [LONGEST_VALUE_BYTES, 1 << 40, i64::MAX as u64, u64::MAX] {
            let limit_bytes = u64::MAX;
            let patch = Command::SetRange { key: b("k"), offset, value: b("x"), limit_bytes };
            assert_eq!(apply(store, patch), Answer::Failed(Failure::TooLong));
        }
        assert_eq!(get(store, "k"), None);
    }
}

#[test]
fn keys_that_are_too_long_are_let_in_no_more_and_can_be_removed() {
    for mut store in each_kind() {
        let store = &mut *store;
        let key = |bytes| Bytes::from(vec![b'k'; bytes]);
        let append = |key| Command::Append { key, value: b("v"), limit_bytes: 9 };
        for bytes in [MAX_KEY_BYTES + 1, 2 * MAX_KEY_BYTES] {
            let refused = Err(Answer::Failed(Failure::TooLong).encode());
            assert_eq!(store.admission().admit(&append(key(bytes)).encode()), refused);
            let get = Query::Get { key: key(bytes), limit_bytes: 9 };
            assert_eq!(ask(store, get), Answer::Value(None));
            let delete = Command::Delete { keys: vec![key(bytes)] };
            assert_eq!(store.admission().admit(&delete.encode()), Ok(0));
            assert_eq!(apply(store, delete), Answer::Integer(0));
        }
        let longest = append(key(MAX_KEY_BYTES));
        assert_eq!(store.admission().admit(&longest.encode()), Ok(0));
        assert_eq!(apply(store, longest), Answer::Integer(1));
        assert_eq!(ask(store, Query::Count), Answer::Integer(1));
    }
}

#[test]
fn a_key_of_before_the_limit_means_what_it_meant_or_stops_the_replica() {
    let key = Bytes::from(vec![b'k'; 2 + (64 << 10)]);
    let set = Command::SetMany { pairs: vec![(key.clone(), b("v"))], only_if_missing: false };
    let mut memory = Store::new();
    assert_eq!(apply(&mut memory, set.clone()), Answer::Stored { done: true, old: None });
    let get = Query::Get { key: key.clone(), limit_bytes: 9 };
    assert_eq!(ask(&memory, get), Answer::Value(Some(b("v"))));
    let snapshot = AnyStore::snapshot(&memory);
    assert_eq!(apply(&mut memory, Command::Delete { keys: vec![key] }), Answer::Integer(1));
    let tables = ModelState::open(&ModelDisk::default(), StateOptions::default());
    let time = Arc::new(GroupTime::new(Arc::new(NodeClock::manual(0))));
    let (mut disk, _) = OnDisk::open(Arc::new(tables), time);
    let stopped = disk.store().execute(&set.encode()).unwrap_err();
    assert_eq!(stopped.to_string(), "a key of 65538 bytes; at most 60000 are allowed");
    AnyStore::restore(&mut disk, &snapshot).unwrap_err();
}

#[test]
fn writing_nothing_makes_no_key() {
    for mut store in each_kind() {
        let store = &mut *store;
        let nothing = Command::SetRange { key: b("k"), offset: 5, value: b(""), limit_bytes: 10 };
        assert_eq!(apply(store, nothing), Answer::Integer(0));
        assert_eq!(get(store, "k"), None);
    }
}

#[test]
fn increments_refuse_what_they_cannot_add() {
    for mut store in each_kind() {
        let store = &mut *store;
        let by = |by| Command::Increment { key: b("n"), by };
        assert_eq!(apply(store, by(i64::MAX)), Answer::Integer(i64::MAX));
        assert_eq!(apply(store, by(1)), Answer::Failed(Failure::Overflow));
        assert_eq!(get(store, "n"), Some(b("9223372036854775807")));
        set(store, "n", "    11");
        assert_eq!(apply(store, by(1)), Answer::Failed(Failure::NotAnInteger));
        let float = |text| Command::IncrementFloat { key: b("f"), by: b(text) };
        assert_eq!(apply(store, float("10.5")), Answer::Value(Some(b("10.5"))));
        assert_eq!(apply(store, float("0.1")), Answer::Value(Some(b("10.6"))));
        assert_eq!(apply(store, float("x")), Answer::Failed(Failure::NotAFloat));
        assert_eq!(apply(store, float("inf")), Answer::Failed(Failure::Infinite));
        assert_eq!(get(store, "f"), Some(b("10.6")));
    }
}

#[test]
fn a_time_that_no_clock_shows_ends_no_key() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "endless", "1");
        for stamp_ms in [1_000, LATEST_MS + 1, 1 << 62, u64::MAX] {
            let key = b("expiring");
            let lifetime = Lifetime::Until(Deadline::In(500));
            let (value, condition, want_old) = (b("2"), Condition::Always, None);
            let command = Command::Set { key, value, condition, want_old, lifetime };
            let proposal = Proposal { stamp_ms: Some(stamp_ms), database: 0, command };
            store.apply(&proposal.encode());
            let expiry = Expiry::At { deadline_ms: 1_500, left_ms: 500 };
            let key = b("expiring");
            assert_eq!(ask(store, Query::Expiry { key }), Answer::Expiry(expiry));
            assert_eq!(get(store, "endless"), Some(b("1")));
            assert_eq!(get(store, "expiring"), Some(b("2")));
        }
        let proposal = Proposal { stamp_ms: Some(LATEST_MS), database: 0, command: Command::Tick };
        store.apply(&proposal.encode());
        assert_eq!(get(store, "endless"), Some(b("1")));
        assert_eq!(get(store, "expiring"), None);
    }
}

#[test]
fn what_goes_by_the_time_and_has_none_is_refused() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "k", "1");
        let untimed = [
            Command::Set {
                key: b("k"),
                value: b("2"),
                condition: Condition::Always,
                want_old: None,
                lifetime: Lifetime::Until(Deadline::In(30_000)),
            },
            Command::Expire {
                key: b("k"),
                deadline: Deadline::In(30_000),
                condition: ExpireIf::default(),
            },
            Command::GetExpire { key: b("k"), lifetime: Lifetime::Endless, limit_bytes: 9 },
            Command::Ask { query: Query::Count.encode() },
            Command::Tick,
        ];
        for command in untimed {
            for database in [0, 3] {
                let answer = Answer::decode(&store.apply(&command.encode_in(database))).unwrap();
                assert_eq!(answer, Answer::Failed(Failure::Malformed));
            }
        }
        assert_eq!(get(store, "k"), Some(b("1")));
        let size = DatabaseSize { database: 0, keys: 1, expiring: 0 };
        assert_eq!(ask(store, Query::Keyspace), Answer::Keyspace(vec![size]));
    }
}

#[test]
fn many_are_set_together_or_not_at_all() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "b", "old");
        let pairs = vec![(b("a"), b("1")), (b("b"), b("2"))];
        let only_if_missing = Command::SetMany { pairs: pairs.clone(), only_if_missing: true };
        let refused = Answer::Stored { done: false, old: None };
        assert_eq!(apply(store, only_if_missing), refused);
        assert_eq!(get(store, "a"), None);
        apply(store, Command::SetMany { pairs, only_if_missing: false });
        assert_eq!((get(store, "a"), get(store, "b")), (Some(b("1")), Some(b("2"))));
    }
}

#[test]
fn values_beyond_the_limit_are_withheld() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "a", "12345");
        let many = |limit_bytes| Query::GetMany {
            keys: vec![b("a"), b("missing"), b("a"), b("missing")],
            limit_bytes,
        };
        let there = || Some(b("12345"));
        let all = [there(), None, there(), None];
        for (limit, found) in [(10, 4), (9, 2), (5, 2), (4, 0)] {
            assert_eq!(ask(store, many(limit)), Answer::Values(all[..found].to_vec()), "{limit}");
        }
        let get = |limit_bytes| Query::Get { key: b("a"), limit_bytes };
        assert_eq!(ask(store, get(5)), Answer::Value(there()));
        assert_eq!(ask(store, get(4)), Answer::Withheld { bytes: 5 });
        let slice = |limit_bytes| Query::Slice { key: b("a"), start: 1, end: 3, limit_bytes };
        assert_eq!(ask(store, slice(3)), Answer::Value(Some(b("234"))));
        assert_eq!(ask(store, slice(2)), Answer::Withheld { bytes: 3 });
    }
}

fn apply_in(store: &mut dyn AnyStore, database: u8, command: Command) -> Answer {
    Answer::decode(&store.apply(&command.encode_in(database))).unwrap()
}

#[test]
fn databases_know_nothing_of_each_other() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "k", "zero");
        let count = |store: &dyn AnyStore, database| {
            Answer::decode(&store.query(&Query::Count.encode_in(database))).unwrap()
        };
        let append = Command::Append { key: b("k"), value: b("one"), limit_bytes: 10 };
        assert_eq!(apply_in(store, 1, append), Answer::Integer(3));
        assert_eq!(get(store, "k"), Some(b("zero")));
        assert_eq!(apply_in(store, 2, Command::Clear), Answer::Done);
        assert_eq!([0, 1, 2].map(|number| count(store, number)), [1, 1, 0].map(Answer::Integer));
        apply_in(store, 0, Command::Clear);
        assert_eq!([0, 1].map(|number| count(store, number)), [0, 1].map(Answer::Integer));
        apply_in(store, 0, Command::ClearAll);
        assert_eq!(count(store, 1), Answer::Integer(0));
    }
}

#[test]
fn a_value_moves_to_another_key() {
    for mut store in each_kind() {
        let store = &mut *store;
        let rename =
            |only_if_missing| Command::Rename { from: b("a"), to: b("b"), only_if_missing };
        assert_eq!(apply(store, rename(false)), Answer::Failed(Failure::NoSuchKey));
        set(store, "a", "1");
        set(store, "b", "2");
        assert_eq!(apply(store, rename(true)), Answer::Integer(0));
        assert_eq!(apply(store, rename(false)), Answer::Integer(1));
        assert_eq!((get(store, "a"), get(store, "b")), (None, Some(b("1"))));
        let onto_itself = Command::Rename { from: b("b"), to: b("b"), only_if_missing: false };
        assert_eq!(apply(store, onto_itself), Answer::Integer(1));
        assert_eq!(get(store, "b"), Some(b("1")));
    }
}

#[test]
fn a_value_is_copied_within_a_database_and_to_another() {
    for mut store in each_kind() {
        let store = &mut *store;
        set(store, "a", "1");
        set(store, "b", "2");
        let copy = |to: &'static str, to_database, replace| Command::Copy {
            from: b("a"),
            to: b(to),
            to_database,
            replace,
            limit_bytes: 1,
        };
        assert_eq!(apply(store, copy("b", 0, false)), Answer::Integer(0));
        assert_eq!(apply(store, copy("b", 0, true)), Answer::Integer(1));
        assert_eq!(get(store, "b"), Some(b("1")));
        assert_eq!(apply(store, copy("a", 15, false)), Answer::Integer(1));
        assert_eq!(
            apply_in(store, 15, Command::Take { key: b("a"), limit_bytes: 9 }),
            Answer::Value(Some(b("1")))
        );
        assert_eq!(get(store, "a"), Some(b("1")));
        assert_eq!(apply_in(store, 3, copy("x", 0, true)), Answer::Integer(0));
        set(store, "a", "longer");
        assert_eq!(apply(store, copy("b", 0, false)), Answer::Integer(0));
        assert_eq!(apply(store, copy("b", 0, true)), Answer::Withheld { bytes: 6 });
        assert_eq!(get(store, "b"), Some(b("1")));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64), tag in 0..20u8) {
        let keys = [&b""[..], b"\0", b"\0\0", b"\0\x01k", b"\xff\xff", b"\xff\xffk"];
        let pairs = keys.map(|key| (Bytes::from_static(key), b("1"))).to_vec();
        let tagged: Vec<u8> = [VERSION, tag].into_iter().chain(bytes.iter().copied()).collect();
        for mut store in each_kind() {
            let store = &mut *store;
            apply(store, Command::SetMany { pairs: pairs.clone(), only_if_missing: false });
            for input in [&bytes, &tagged] {
                Answer::decode(&store.apply(input)).unwrap();
                Answer::decode(&store.query(input)).unwrap();
            }
        }
    }
}
