//! The state machine: an ordered map from stored keys to values.

mod listing;

use self::listing::KeySpan;
use super::entries::Entries;
use super::extended::{self, SumError};
use super::memory::DataMemory;
use super::message::{Answer, Command, Condition, Failure, Query};
use super::number::parse_integer;
use super::snapshot::{self, SnapshotWriter};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// The keys and values of one group. Everything that depends on what is stored is decided here, by
/// [`apply`](Self::apply), in the order of the log.
#[derive(Debug, Default)]
pub struct Store {
    pub(super) entries: Entries,
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
        Self { entries: Entries::new(memory) }
    }

    /// Where what it holds is counted.
    #[must_use]
    pub fn memory(&self) -> Arc<DataMemory> {
        self.entries.memory()
    }

    /// Carries out an encoded [`Command`] and returns the encoded [`Answer`]. Deterministic and
    /// total: bytes that are no command change nothing and answer [`Failure::Malformed`].
    pub fn apply(&mut self, command: &[u8]) -> Bytes {
        let answer = match Command::decode(command) {
            Ok(command) => self.execute(command),
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        answer.encode()
    }

    /// Answers an encoded [`Query`] with an encoded [`Answer`].
    #[must_use]
    pub fn query(&self, query: &[u8]) -> Bytes {
        let answer = match Query::decode(query) {
            Ok(query) => self.answer(&query),
            Err(_) => Answer::Failed(Failure::Malformed),
        };
        answer.encode()
    }

    /// Captures the state as it is now; the returned function writes it, later and on any thread.
    /// The capture copies the map but neither keys nor values.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotWriter {
        let entries = self.entries.clone();
        Box::new(move |writer| snapshot::write(&entries, writer))
    }

    /// Replaces the state by one that a [`snapshot`](Self::snapshot) wrote.
    ///
    /// # Errors
    /// Fails if reading fails or the bytes are no snapshot of this version; the state is then what
    /// it was before.
    pub fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        self.entries.replace(snapshot::read(reader)?);
        Ok(())
    }

    fn execute(&mut self, command: Command) -> Answer {
        match command {
            Command::Set { key, value, condition, want_old } => {
                self.set(key, value, &condition, want_old)
            }
            Command::Delete { keys } => {
                let removed = keys.iter().filter(|key| self.entries.remove(key).is_some());
                Answer::Integer(removed.count() as i64)
            }
            Command::Take { key } => Answer::Value(self.entries.remove(&key)),
            Command::Append { key, value, limit_bytes } => self.append(key, &value, limit_bytes),
            Command::SetRange { key, offset, value, limit_bytes } => {
                self.set_range(key, offset, &value, limit_bytes)
            }
            Command::Increment { key, by } => self.increment(key, by),
            Command::IncrementFloat { key, by } => self.increment_float(key, &by),
            Command::SetMany { pairs, only_if_missing } => self.set_many(pairs, only_if_missing),
            Command::Clear => {
                self.entries.replace(BTreeMap::new());
                Answer::Done
            }
        }
    }

    fn answer(&self, query: &Query) -> Answer {
        match query {
            Query::Get { key, limit_bytes } => up_to(self.entries.get(key).cloned(), *limit_bytes),
            Query::GetMany { keys, limit_bytes } => self.values(keys, *limit_bytes),
            Query::Exists { keys } => {
                let there = keys.iter().filter(|key| self.entries.contains_key(*key));
                Answer::Integer(there.count() as i64)
            }
            Query::Length { key } => {
                Answer::Integer(self.entries.get(key).map_or(0, |value| value.len() as i64))
            }
            Query::Slice { key, start, end, limit_bytes } => {
                let value = self.entries.get(key).map(|value| slice(value, *start, *end));
                up_to(Some(value.unwrap_or_default()), *limit_bytes)
            }
            Query::Count => Answer::Integer(self.entries.len() as i64),
            Query::Scan { partition, from, until, count, pattern } => {
                let places = *from..until.unwrap_or(u64::MAX);
                self.scan(*partition, &places, *count, pattern.as_deref())
            }
            Query::Keys { partition, after, pattern, limit_keys } => {
                self.keys(*partition, after.as_ref(), pattern, *limit_keys)
            }
            Query::Ordered { partition, start, after_start, end, limit_pairs, limit_bytes } => {
                let span = KeySpan { start, after_start: *after_start, end: end.as_deref() };
                self.ordered(*partition, span, *limit_pairs, *limit_bytes)
            }
        }
    }

    fn set(&mut self, key: Bytes, value: Bytes, condition: &Condition, want_old: bool) -> Answer {
        // Most of a SET is the way to its key.
        let depends = want_old || *condition != Condition::Always;
        let current = if depends { self.entries.get(&key) } else { None };
        let done = match condition {
            Condition::Always => true,
            Condition::Missing => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Equals(expected) => current == Some(expected),
        };
        let old = if want_old { current.cloned() } else { None };
        if done {
            self.entries.insert(key, value);
        }
        Answer::Stored { done, old }
    }

    fn set_many(&mut self, pairs: Vec<(Bytes, Bytes)>, only_if_missing: bool) -> Answer {
        let done = !only_if_missing || pairs.iter().all(|(key, _)| !self.entries.contains_key(key));
        if done {
            pairs.into_iter().for_each(|(key, value)| self.entries.insert(key, value));
        }
        Answer::Stored { done, old: None }
    }

    fn append(&mut self, key: Bytes, value: &[u8], limit_bytes: u64) -> Answer {
        let current = self.entries.get(&key).map_or(&[][..], |value| &value[..]);
        let length = current.len() + value.len();
        if length as u64 > limit_bytes {
            return Answer::Failed(Failure::TooLong);
        }
        let mut joined = BytesMut::with_capacity(length);
        joined.extend_from_slice(current);
        joined.extend_from_slice(value);
        self.entries.insert(key, joined.freeze());
        Answer::Integer(length as i64)
    }

    fn set_range(&mut self, key: Bytes, offset: u64, value: &[u8], limit_bytes: u64) -> Answer {
        let current = self.entries.get(&key).map_or(&[][..], |value| &value[..]);
        if value.is_empty() {
            return Answer::Integer(current.len() as i64);
        }
        let end = offset.saturating_add(value.len() as u64);
        if end > limit_bytes {
            return Answer::Failed(Failure::TooLong);
        }
        let (offset, end) = (offset as usize, end as usize);
        let mut patched = BytesMut::with_capacity(end.max(current.len()));
        patched.extend_from_slice(current);
        patched.resize(end.max(current.len()), 0);
        patched[offset..end].copy_from_slice(value);
        let length = patched.len() as i64;
        self.entries.insert(key, patched.freeze());
        Answer::Integer(length)
    }

    fn increment(&mut self, key: Bytes, by: i64) -> Answer {
        let current = match self.entries.get(&key) {
            None => 0,
            Some(value) => match parse_integer(value) {
                Some(number) => number,
                None => return Answer::Failed(Failure::NotAnInteger),
            },
        };
        let Some(sum) = current.checked_add(by) else {
            return Answer::Failed(Failure::Overflow);
        };
        self.entries.insert(key, Bytes::from(sum.to_string()));
        Answer::Integer(sum)
    }

    fn increment_float(&mut self, key: Bytes, by: &[u8]) -> Answer {
        let current = self.entries.get(&key).map_or(&b"0"[..], |value| &value[..]);
        match extended::sum(current, by) {
            Ok(sum) => {
                let sum = Bytes::from(sum);
                self.entries.insert(key, sum.clone());
                Answer::Value(Some(sum))
            }
            Err(SumError::NotAFloat) => Answer::Failed(Failure::NotAFloat),
            Err(SumError::Infinite) => Answer::Failed(Failure::Infinite),
        }
    }

    fn values(&self, keys: &[Bytes], limit_bytes: u64) -> Answer {
        let mut left = limit_bytes;
        let values = keys.iter().map_while(|key| {
            let value = self.entries.get(key);
            left = left.checked_sub(value.map_or(0, |value| value.len() as u64))?;
            Some(value.cloned())
        });
        Answer::Values(values.collect())
    }
}

/// A value, unless it is longer than is wanted.
fn up_to(value: Option<Bytes>, limit_bytes: u64) -> Answer {
    match value.as_ref().map(|value| value.len() as u64) {
        Some(bytes) if bytes > limit_bytes => Answer::Withheld { bytes },
        _ => Answer::Value(value),
    }
}

/// The bytes from `start` to `end`, both inclusive; negative offsets count from the end. As in
/// Redis's GETRANGE, an offset before the first byte means the first byte.
fn slice(value: &Bytes, start: i64, end: i64) -> Bytes {
    let length = value.len() as i64;
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let from_start = |offset: i64| {
        if offset < 0 { (length + offset).max(0) } else { offset }
    };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    if start > end { Bytes::new() } else { value.slice(start as usize..=end as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn slices_follow_getrange() {
        let value = b("Hello World");
        for (start, end, expected) in [
            (0, 3, "Hell"),
            (0, -1, "Hello World"),
            (-4, -1, "orld"),
            (5, 3, ""),
            (5, 5000, " World"),
            (-5000, 10000, "Hello World"),
            (0, -100, "H"),
            (1, -100, ""),
            (-1, -100, ""),
            (-100, -99, "H"),
            (-100, -100, "H"),
            (-100, -101, ""),
            (i64::MIN, i64::MAX, "Hello World"),
        ] {
            assert_eq!(slice(&value, start, end), expected, "{start} {end}");
        }
        assert_eq!(slice(&Bytes::new(), 0, -1), "");
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

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64), tag in 0..10u8) {
            let mut store = Store::new();
            let keys = [&b""[..], b"\0", b"\0\0", b"\0\x01k", b"\xff\xff", b"\xff\xffk"];
            let pairs = keys.map(|key| (Bytes::from_static(key), b("1"))).into();
            apply(&mut store, Command::SetMany { pairs, only_if_missing: false });
            let tagged: Vec<u8> = [1, tag].into_iter().chain(bytes.iter().copied()).collect();
            for input in [&bytes, &tagged] {
                Answer::decode(&store.apply(input)).unwrap();
                Answer::decode(&store.query(input)).unwrap();
            }
        }
    }
}
