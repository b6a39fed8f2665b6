//! The state machine: ordered maps from stored keys to values, one a database.

mod changes;
mod listing;
#[cfg(test)]
mod model;
mod questions;

pub(crate) use self::listing::PAGE_BYTES;
use super::admission::StoreAdmission;
use super::clock::{GroupTime, LATEST_MS, NEVER, NodeClock};
use super::deadlines::Deadlines;
use super::entries::{Entries, Map, View};
use super::memory::DataMemory;
use super::message::{
    ALL_DATABASES, Answer, Command, DATABASES, DatabaseSize, Failure, Proposal, Query, Question,
    needs_stamp,
};
use super::snapshot::{self, SnapshotWriter};
use bytes::Bytes;
use std::array;
use std::io;
use std::sync::Arc;

/// The keys and values of one group. Everything that depends on what is stored is decided here, by
/// [`apply`](Self::apply), in the order of the log.
#[derive(Debug)]
pub struct Store {
    pub(super) databases: [Entries; ALL_DATABASES as usize],
    /// The time: the store moves the group's clock, and reads that of the node.
    time: Arc<GroupTime>,
    /// No sweep for memory begins before this time of the group.
    rest_until_ms: u64,
}

/// How many keys a sweep looks at for each tick, and for each other command that has a time.
const SWEPT_BY_TICK: usize = 4_096;
const SWEPT_BY_COMMAND: usize = 16;

/// After a tick that has found too few expired keys for a sweep, the next comes after this time.
const REST_MS: u64 = 1_000;

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that counts what it holds in `memory`.
    #[must_use]
    pub fn counted(memory: Arc<DataMemory>) -> Self {
        Self::timed(memory, Arc::new(GroupTime::new(Arc::new(NodeClock::start()))))
    }

    /// An empty store that counts what it holds in `memory`, and goes by `time`.
    #[must_use]
    pub fn timed(memory: Arc<DataMemory>, time: Arc<GroupTime>) -> Self {
        let databases = array::from_fn(|_| Entries::new(Arc::clone(&memory)));
        Self { databases, time, rest_until_ms: 0 }
    }

    /// What decides about commands on the node that leads the group.
    #[must_use]
    pub fn admission(&self) -> StoreAdmission {
        StoreAdmission::new(self.memory(), Arc::clone(&self.time))
    }

    /// Where what it holds is counted.
    #[must_use]
    pub fn memory(&self) -> Arc<DataMemory> {
        self.databases[0].memory()
    }

    /// Carries out an encoded [`Command`] and returns the encoded [`Answer`]. Deterministic and
    /// total: bytes that are no command change nothing and answer [`Failure::Malformed`]. So does a
    /// command that goes by the time and has none: it would be carried out at the time of the
    /// last one that had, and a key expire before its deadline.
    pub fn apply(&mut self, command: &[u8]) -> Bytes {
        let answer = match Proposal::decode(command) {
            Ok(_) if needs_stamp(command) => Answer::Failed(Failure::Malformed),
            Ok(Proposal { stamp_ms, database, command }) => {
                let is_tick = matches!(command, Command::Tick);
                stamp_ms.into_iter().for_each(|stamp_ms| self.move_clock(stamp_ms));
                let answer = self.execute(database, command);
                if stamp_ms.is_some() {
                    self.sweep(is_tick);
                }
                // Only commands with a time bring a first deadline.
                if stamp_ms.is_some() || self.time.has_deadlines() {
                    self.tell_next();
                }
                answer
            }
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        answer.encode()
    }

    /// Moves the clock of the group, never back, and never to where no leader's clock is.
    fn move_clock(&mut self, stamp_ms: u64) {
        if stamp_ms > self.clock_ms() && stamp_ms <= LATEST_MS {
            self.databases.iter_mut().for_each(|entries| entries.set_clock(stamp_ms));
            self.time.set_group(stamp_ms);
        }
    }

    fn clock_ms(&self) -> u64 {
        self.databases[0].clock_ms()
    }

    fn sweep(&mut self, is_tick: bool) {
        let before = if is_tick { SWEPT_BY_TICK } else { SWEPT_BY_COMMAND };
        let mut budget = before;
        self.databases.iter_mut().for_each(|entries| entries.sweep(&mut budget));
        if is_tick && budget == before {
            self.rest_until_ms = self.clock_ms().saturating_add(REST_MS);
        }
    }

    /// Tells those who write the time into the log when they have to.
    fn tell_next(&self) {
        let deadlines = || self.databases.iter().map(Entries::deadlines);
        let earliest = deadlines().filter_map(Deadlines::earliest_ms).min();
        let first_end = deadlines().filter_map(Deadlines::first_end_ms).min();
        let is_sweeping = || self.databases.iter().any(Entries::is_sweeping);
        let next_tick = match first_end {
            None => NEVER,
            Some(_) if is_sweeping() => 0,
            Some(end_ms) => end_ms.max(self.rest_until_ms),
        };
        self.time.set_next(earliest.unwrap_or(NEVER), next_tick);
    }

    /// Answers an encoded [`Query`](super::Query) with an encoded [`Answer`].
    #[must_use]
    pub fn query(&self, query: &[u8]) -> Bytes {
        let answer = match Question::decode(query) {
            Ok(question) => self.ask(&question, |entries| View::at(entries, self.time.now_ms())),
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        answer.encode()
    }

    fn ask<'a>(
        &'a self,
        Question { database, query }: &Question,
        view: impl Fn(&'a Entries) -> View<'a>,
    ) -> Answer {
        if *query == Query::Keyspace {
            return self.keyspace();
        }
        let entries = self.database(*database);
        // Most databases have no deadlines, and need no clock.
        let view = match entries.deadlines().count() {
            0 => View::settled(entries),
            _ => view(entries),
        };
        let answer = view.answer(query);
        if view.is_late() { Answer::Late } else { answer }
    }

    fn keyspace(&self) -> Answer {
        let sizes = (0..DATABASES).zip(&self.databases).map(|(database, entries)| DatabaseSize {
            database,
            keys: entries.map().len() as u64,
            expiring: entries.deadlines().count() as u64,
        });
        Answer::Keyspace(sizes.filter(|size| size.keys > 0).collect())
    }

    /// Captures the state as it is now; the returned function writes it, later and on any thread.
    /// The capture copies the maps but neither keys nor values.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotWriter {
        let databases = self.databases.iter().map(|entries| entries.map().clone());
        let databases = databases.enumerate().collect();
        let state = snapshot::State { clock_ms: self.clock_ms(), databases };
        Box::new(move |writer| snapshot::write(&state, writer))
    }

    /// Replaces the state by one that a [`snapshot`](Self::snapshot) wrote.
    ///
    /// # Errors
    /// Fails if reading fails or the bytes are no snapshot of this version; the state is then what
    /// it was before.
    pub fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let snapshot::State { clock_ms, mut databases } = snapshot::read(reader)?;
        for (database, entries) in self.databases.iter_mut().enumerate() {
            entries.set_clock(clock_ms);
            entries.replace(databases.remove(&database).unwrap_or_default());
        }
        self.rest_until_ms = 0;
        self.time.set_group(clock_ms);
        self.tell_next();
        Ok(())
    }

    fn database(&self, number: u8) -> &Entries {
        &self.databases[usize::from(number)]
    }

    fn database_mut(&mut self, number: u8) -> &mut Entries {
        &mut self.databases[usize::from(number)]
    }

    fn execute(&mut self, database: u8, command: Command) -> Answer {
        match command {
            Command::Copy { from, to, to_database, replace, limit_bytes } => {
                let entry = self.database(database).entry(&from).cloned();
                let target = self.database_mut(to_database);
                let Some(entry) = entry.filter(|_| replace || !target.contains_key(&to)) else {
                    return Answer::Integer(0);
                };
                let bytes = entry.value.len() as u64;
                if bytes > limit_bytes {
                    return Answer::Withheld { bytes };
                }
                target.put(to, entry);
                Answer::Integer(1)
            }
            Command::ClearAll => {
                let chosen = self.databases.iter_mut().take(usize::from(DATABASES));
                chosen.for_each(|entries| entries.replace(Map::new()));
                Answer::Done
            }
            Command::Ask { query } => match Question::decode(&query) {
                Ok(question) => self.ask(&question, View::settled),
                Err(_) => Answer::Failed(Failure::Malformed),
            },
            Command::Tick => Answer::Done,
            command => self.database_mut(database).execute(command),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::counted(Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::message::{Condition, Deadline, ExpireIf, Lifetime, VERSION};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn b(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn apply(store: &mut Store, command: Command) -> Answer {
        Answer::decode(&store.apply(&command.encode())).unwrap()
    }

    fn ask(store: &Store, query: Query) -> Answer {
        Answer::decode(&store.query(&query.encode())).unwrap()
    }

    fn set(store: &mut Store, key: &'static str, value: &'static str) {
        let command = Command::Set {
            key: b(key),
            value: b(value),
            condition: Condition::Always,
            want_old: None,
            lifetime: Lifetime::Endless,
        };
        assert_eq!(apply(store, command), Answer::Stored { done: true, old: None });
    }

    fn get(store: &Store, key: &'static str) -> Option<Bytes> {
        match ask(store, Query::Get { key: b(key), limit_bytes: u64::MAX }) {
            Answer::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn conditions_decide_a_set() {
        let set_if = |store: &mut Store, condition| {
            let command = Command::Set {
                key: b("k"),
                value: b("new"),
                condition,
                want_old: Some(u64::MAX),
                lifetime: Lifetime::Endless,
            };
            apply(store, command)
        };
        let mut store = Store::new();
        for condition in [Condition::Present, Condition::Equals(b(""))] {
            let missed = Answer::Stored { done: false, old: None };
            assert_eq!(set_if(&mut store, condition), missed);
        }
        let stored = Answer::Stored { done: true, old: None };
        assert_eq!(set_if(&mut store, Condition::Missing), stored);
        set(&mut store, "k", "old");
        for condition in [Condition::Missing, Condition::Equals(b("other"))] {
            let kept = Answer::Stored { done: false, old: Some(b("old")) };
            assert_eq!(set_if(&mut store, condition), kept);
        }
        let replaced = Answer::Stored { done: true, old: Some(b("old")) };
        assert_eq!(set_if(&mut store, Condition::Equals(b("old"))), replaced);
        assert_eq!(get(&store, "k"), Some(b("new")));
    }

    #[test]
    fn delete_counts_each_key_once() {
        let mut store = Store::new();
        set(&mut store, "a", "1");
        let keys = vec![b("a"), b("a"), b("b")];
        assert_eq!(apply(&mut store, Command::Delete { keys }), Answer::Integer(1));
        assert_eq!(ask(&store, Query::Count), Answer::Integer(0));
    }

    #[test]
    fn growth_stops_at_the_limit_of_the_command() {
        let mut store = Store::new();
        set(&mut store, "k", "12345");
        let append = |limit_bytes| Command::Append { key: b("k"), value: b("67"), limit_bytes };
        assert_eq!(apply(&mut store, append(6)), Answer::Failed(Failure::TooLong));
        assert_eq!(get(&store, "k"), Some(b("12345")));
        assert_eq!(apply(&mut store, append(7)), Answer::Integer(7));
        let patch =
            |offset| Command::SetRange { key: b("k"), offset, value: b("xy"), limit_bytes: 10 };
        assert_eq!(apply(&mut store, patch(u64::MAX)), Answer::Failed(Failure::TooLong));
        assert_eq!(apply(&mut store, patch(8)), Answer::Integer(10));
        assert_eq!(get(&store, "k"), Some(b("1234567\0xy")));
        assert_eq!(apply(&mut store, patch(0)), Answer::Integer(10));
        assert_eq!(get(&store, "k"), Some(b("xy34567\0xy")));
    }

    #[test]
    fn no_command_makes_a_value_that_nobody_can_hold() {
        let mut store = Store::new();
        for offset in [changes::LONGEST_VALUE_BYTES, 1 << 40, i64::MAX as u64, u64::MAX] {
            let limit_bytes = u64::MAX;
            let patch = Command::SetRange { key: b("k"), offset, value: b("x"), limit_bytes };
            assert_eq!(apply(&mut store, patch), Answer::Failed(Failure::TooLong));
        }
        assert_eq!(get(&store, "k"), None);
    }

    #[test]
    fn writing_nothing_makes_no_key() {
        let mut store = Store::new();
        let nothing = Command::SetRange { key: b("k"), offset: 5, value: b(""), limit_bytes: 10 };
        assert_eq!(apply(&mut store, nothing), Answer::Integer(0));
        assert_eq!(get(&store, "k"), None);
    }

    #[test]
    fn increments_refuse_what_they_cannot_add() {
        let mut store = Store::new();
        let by = |by| Command::Increment { key: b("n"), by };
        assert_eq!(apply(&mut store, by(i64::MAX)), Answer::Integer(i64::MAX));
        assert_eq!(apply(&mut store, by(1)), Answer::Failed(Failure::Overflow));
        assert_eq!(get(&store, "n"), Some(b("9223372036854775807")));
        set(&mut store, "n", "    11");
        assert_eq!(apply(&mut store, by(1)), Answer::Failed(Failure::NotAnInteger));
        let float = |text| Command::IncrementFloat { key: b("f"), by: b(text) };
        assert_eq!(apply(&mut store, float("10.5")), Answer::Value(Some(b("10.5"))));
        assert_eq!(apply(&mut store, float("0.1")), Answer::Value(Some(b("10.6"))));
        assert_eq!(apply(&mut store, float("x")), Answer::Failed(Failure::NotAFloat));
        assert_eq!(apply(&mut store, float("inf")), Answer::Failed(Failure::Infinite));
        assert_eq!(get(&store, "f"), Some(b("10.6")));
    }

    #[test]
    fn a_time_that_no_clock_shows_ends_no_key() {
        let mut store = Store::new();
        set(&mut store, "endless", "1");
        for stamp_ms in [1_000, LATEST_MS + 1, 1 << 62, u64::MAX] {
            let key = b("expiring");
            let lifetime = Lifetime::Until(Deadline::In(500));
            let (value, condition, want_old) = (b("2"), Condition::Always, None);
            let command = Command::Set { key, value, condition, want_old, lifetime };
            let proposal = Proposal { stamp_ms: Some(stamp_ms), database: 0, command };
            store.apply(&proposal.encode());
            assert_eq!(store.clock_ms(), 1_000);
            assert_eq!(store.databases[0].get(&b("endless")), Some(&b("1")));
            assert_eq!(store.databases[0].get(&b("expiring")), Some(&b("2")));
        }
        let proposal = Proposal { stamp_ms: Some(LATEST_MS), database: 0, command: Command::Tick };
        store.apply(&proposal.encode());
        assert_eq!(store.databases[0].get(&b("endless")), Some(&b("1")));
        assert_eq!(store.databases[0].get(&b("expiring")), None);
    }

    #[test]
    fn what_goes_by_the_time_and_has_none_is_refused() {
        let mut store = Store::new();
        set(&mut store, "k", "1");
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
        assert_eq!(get(&store, "k"), Some(b("1")));
        assert_eq!(store.databases[0].deadlines().count(), 0);
    }

    #[test]
    fn many_are_set_together_or_not_at_all() {
        let mut store = Store::new();
        set(&mut store, "b", "old");
        let pairs = vec![(b("a"), b("1")), (b("b"), b("2"))];
        let only_if_missing = Command::SetMany { pairs: pairs.clone(), only_if_missing: true };
        let refused = Answer::Stored { done: false, old: None };
        assert_eq!(apply(&mut store, only_if_missing), refused);
        assert_eq!(get(&store, "a"), None);
        apply(&mut store, Command::SetMany { pairs, only_if_missing: false });
        assert_eq!((get(&store, "a"), get(&store, "b")), (Some(b("1")), Some(b("2"))));
    }

    #[test]
    fn values_beyond_the_limit_are_withheld() {
        let mut store = Store::new();
        set(&mut store, "a", "12345");
        let many = |limit_bytes| Query::GetMany {
            keys: vec![b("a"), b("missing"), b("a"), b("missing")],
            limit_bytes,
        };
        let there = || Some(b("12345"));
        let all = [there(), None, there(), None];
        for (limit, found) in [(10, 4), (9, 2), (5, 2), (4, 0)] {
            assert_eq!(ask(&store, many(limit)), Answer::Values(all[..found].to_vec()), "{limit}");
        }
        let get = |limit_bytes| Query::Get { key: b("a"), limit_bytes };
        assert_eq!(ask(&store, get(5)), Answer::Value(there()));
        assert_eq!(ask(&store, get(4)), Answer::Withheld { bytes: 5 });
        let slice = |limit_bytes| Query::Slice { key: b("a"), start: 1, end: 3, limit_bytes };
        assert_eq!(ask(&store, slice(3)), Answer::Value(Some(b("234"))));
        assert_eq!(ask(&store, slice(2)), Answer::Withheld { bytes: 3 });
    }

    fn apply_in(store: &mut Store, database: u8, command: Command) -> Answer {
        Answer::decode(&store.apply(&command.encode_in(database))).unwrap()
    }

    #[test]
    fn databases_know_nothing_of_each_other() {
        let mut store = Store::new();
        set(&mut store, "k", "zero");
        let count = |store: &Store, database| {
            Answer::decode(&store.query(&Query::Count.encode_in(database))).unwrap()
        };
        let append = Command::Append { key: b("k"), value: b("one"), limit_bytes: 10 };
        assert_eq!(apply_in(&mut store, 1, append), Answer::Integer(3));
        assert_eq!(get(&store, "k"), Some(b("zero")));
        assert_eq!(apply_in(&mut store, 2, Command::Clear), Answer::Done);
        assert_eq!([0, 1, 2].map(|number| count(&store, number)), [1, 1, 0].map(Answer::Integer));
        apply_in(&mut store, 0, Command::Clear);
        assert_eq!([0, 1].map(|number| count(&store, number)), [0, 1].map(Answer::Integer));
        apply_in(&mut store, 0, Command::ClearAll);
        assert_eq!(count(&store, 1), Answer::Integer(0));
        assert_eq!(store.memory().held_bytes(), 0);
    }

    #[test]
    fn a_value_moves_to_another_key() {
        let mut store = Store::new();
        let rename =
            |only_if_missing| Command::Rename { from: b("a"), to: b("b"), only_if_missing };
        assert_eq!(apply(&mut store, rename(false)), Answer::Failed(Failure::NoSuchKey));
        set(&mut store, "a", "1");
        set(&mut store, "b", "2");
        assert_eq!(apply(&mut store, rename(true)), Answer::Integer(0));
        assert_eq!(apply(&mut store, rename(false)), Answer::Integer(1));
        assert_eq!((get(&store, "a"), get(&store, "b")), (None, Some(b("1"))));
        let onto_itself = Command::Rename { from: b("b"), to: b("b"), only_if_missing: false };
        assert_eq!(apply(&mut store, onto_itself), Answer::Integer(1));
        assert_eq!(get(&store, "b"), Some(b("1")));
    }

    #[test]
    fn a_value_is_copied_within_a_database_and_to_another() {
        let mut store = Store::new();
        set(&mut store, "a", "1");
        set(&mut store, "b", "2");
        let copy = |to: &'static str, to_database, replace| Command::Copy {
            from: b("a"),
            to: b(to),
            to_database,
            replace,
            limit_bytes: 1,
        };
        assert_eq!(apply(&mut store, copy("b", 0, false)), Answer::Integer(0));
        assert_eq!(apply(&mut store, copy("b", 0, true)), Answer::Integer(1));
        assert_eq!(get(&store, "b"), Some(b("1")));
        assert_eq!(apply(&mut store, copy("a", 15, false)), Answer::Integer(1));
        assert_eq!(
            apply_in(&mut store, 15, Command::Take { key: b("a"), limit_bytes: 9 }),
            Answer::Value(Some(b("1")))
        );
        assert_eq!(get(&store, "a"), Some(b("1")));
        assert_eq!(apply_in(&mut store, 3, copy("x", 0, true)), Answer::Integer(0));
        set(&mut store, "a", "longer");
        assert_eq!(apply(&mut store, copy("b", 0, false)), Answer::Integer(0));
        assert_eq!(apply(&mut store, copy("b", 0, true)), Answer::Withheld { bytes: 6 });
        assert_eq!(get(&store, "b"), Some(b("1")));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64), tag in 0..20u8) {
            let mut store = Store::new();
            let keys = [&b""[..], b"\0", b"\0\0", b"\0\x01k", b"\xff\xff", b"\xff\xffk"];
            let pairs = keys.map(|key| (Bytes::from_static(key), b("1"))).into();
            apply(&mut store, Command::SetMany { pairs, only_if_missing: false });
            let tagged: Vec<u8> = [VERSION, tag].into_iter().chain(bytes.iter().copied()).collect();
            for input in [&bytes, &tagged] {
                Answer::decode(&store.apply(input)).unwrap();
                Answer::decode(&store.query(input)).unwrap();
            }
        }
    }
}
