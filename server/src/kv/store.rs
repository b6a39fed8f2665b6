//! The state machine: ordered maps from stored keys to values, one a database.

mod changes;
mod listing;
mod questions;

use super::entries::Entries;
use super::memory::DataMemory;
use super::message::{Answer, Command, DATABASES, Failure, Proposal, Question};
use super::snapshot::{self, SnapshotWriter};
use bytes::Bytes;
use std::array;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The keys and values of one group. Everything that depends on what is stored is decided here, by
/// [`apply`](Self::apply), in the order of the log.
#[derive(Debug)]
pub struct Store {
    pub(super) databases: [Entries; DATABASES as usize],
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that counts what it holds in `memory`.
    #[must_use]
    pub fn counted(memory: Arc<DataMemory>) -> Self {
        Self { databases: array::from_fn(|_| Entries::new(Arc::clone(&memory))) }
    }

    /// Where what it holds is counted.
    #[must_use]
    pub fn memory(&self) -> Arc<DataMemory> {
        self.databases[0].memory()
    }

    /// Carries out an encoded [`Command`] and returns the encoded [`Answer`]. Deterministic and
    /// total: bytes that are no command change nothing and answer [`Failure::Malformed`].
    pub fn apply(&mut self, command: &[u8]) -> Bytes {
        let answer = match Proposal::decode(command) {
            Ok(Proposal { database, command }) => self.execute(database, command),
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        answer.encode()
    }

    /// Answers an encoded [`Query`](super::Query) with an encoded [`Answer`].
    #[must_use]
    pub fn query(&self, query: &[u8]) -> Bytes {
        let answer = match Question::decode(query) {
            Ok(Question { database, query }) => self.database(database).answer(&query),
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        answer.encode()
    }

    /// Captures the state as it is now; the returned function writes it, later and on any thread.
    /// The capture copies the maps but neither keys nor values.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotWriter {
        let databases: Vec<_> = self.databases.iter().map(|entries| (**entries).clone()).collect();
        Box::new(move |writer| snapshot::write(&databases, writer))
    }

    /// Replaces the state by one that a [`snapshot`](Self::snapshot) wrote.
    ///
    /// # Errors
    /// Fails if reading fails or the bytes are no snapshot of this version; the state is then what
    /// it was before.
    pub fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut restored = snapshot::read(reader)?;
        for (database, entries) in self.databases.iter_mut().enumerate() {
            entries.replace(restored.remove(&database).unwrap_or_default());
        }
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
            Command::Copy { from, to, to_database, replace } => {
                let value = self.database(database).get(&from).cloned();
                let target = self.database_mut(to_database);
                match value {
                    Some(value) if replace || !target.contains_key(&to) => {
                        target.insert(to, value);
                        Answer::Integer(1)
                    }
                    _ => Answer::Integer(0),
                }
            }
            Command::ClearAll => {
                self.databases.iter_mut().for_each(|entries| entries.replace(BTreeMap::new()));
                Answer::Done
            }
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
    use crate::kv::message::{Condition, Query, VERSION};
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
            want_old: false,
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
            let command = Command::Set { key: b("k"), value: b("new"), condition, want_old: true };
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
        };
        assert_eq!(apply(&mut store, copy("b", 0, false)), Answer::Integer(0));
        assert_eq!(apply(&mut store, copy("b", 0, true)), Answer::Integer(1));
        assert_eq!(get(&store, "b"), Some(b("1")));
        assert_eq!(apply(&mut store, copy("a", 15, false)), Answer::Integer(1));
        assert_eq!(
            apply_in(&mut store, 15, Command::Take { key: b("a") }),
            Answer::Value(Some(b("1")))
        );
        assert_eq!(get(&store, "a"), Some(b("1")));
        assert_eq!(apply_in(&mut store, 3, copy("x", 0, true)), Answer::Integer(0));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64), tag in 0..14u8) {
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
