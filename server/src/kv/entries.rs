//! The map of a database, which keeps account of what it takes and of what expires.

use super::clock::NEVER;
use super::deadlines::Deadlines;
use super::disposal::dispose;
use super::footprint::entry_bytes;
use super::key::Key;
use super::memory::DataMemory;
use bytes::Bytes;
use std::collections::{BTreeMap, btree_map};
use std::mem;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// A database of which a share of so many keys has expired is swept.
const SWEPT_SHARE: u64 = 16;

/// A database of no more keys than this is swept as soon as one has expired.
const SMALL: usize = 4_096;

/// Expired keys are swept after this time, however few they are.
const LONGEST_DELAY_MS: u64 = 30_000;

/// A value and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    /// In milliseconds since 1970, by the clock of the group; [`NEVER`] for none.
    pub(super) deadline_ms: u64,
}

impl Entry {
    /// Whether the key is there by a clock that shows this time.
    const fn is_there_at(&self, clock_ms: u64) -> bool {
        self.deadline_ms == NEVER || self.deadline_ms > clock_ms
    }
}

/// The entries of a database as they are stored.
pub(super) type Map = BTreeMap<Key, Entry>;

/// Keys and values. What they take is counted in the memory of the node. A key whose deadline has
/// passed by the clock of the group is not there any more, but takes memory until it is swept.
#[derive(Debug, Default)]
pub(super) struct Entries {
    map: Map,
    bytes: u64,
    memory: Arc<DataMemory>,
    clock_ms: u64,
    deadlines: Deadlines,
    /// The last key that the sweep under way has looked at.
    swept_to: Option<Key>,
}

impl Entries {
    /// No entries, which will be counted in `memory`.
    pub(super) fn new(memory: Arc<DataMemory>) -> Self {
        Self {
            map: Map::new(),
            bytes: 0,
            memory,
            clock_ms: 0,
            deadlines: Deadlines::default(),
            swept_to: None,
        }
    }

    pub(super) fn memory(&self) -> Arc<DataMemory> {
        Arc::clone(&self.memory)
    }

    /// All entries, with those that have expired and were not swept.
    pub(super) const fn map(&self) -> &Map {
        &self.map
    }

    pub(super) const fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The clock of the group.
    pub(super) const fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// Moves the clock of the group.
    pub(super) const fn set_clock(&mut self, clock_ms: u64) {
        self.clock_ms = clock_ms;
    }

    /// The entry of a key that is there.
    pub(super) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.map.get(key).filter(|entry| entry.is_there_at(self.clock_ms))
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn contains_key(&self, key: &[u8]) -> bool {
        self.entry(key).is_some()
    }

    /// Sets a key that does not expire.
    pub(super) fn insert(&mut self, key: Bytes, value: Bytes) {
        self.put(key, Entry { value, deadline_ms: NEVER });
    }

    /// Sets a key, which expires when it would have without that.
    pub(super) fn update(&mut self, key: Bytes, value: Bytes) {
        let deadline_ms = self.entry(&key).map_or(NEVER, |entry| entry.deadline_ms);
        self.put(key, Entry { value, deadline_ms });
    }

    /// Sets a key. One whose deadline has passed is gone at once.
    pub(super) fn put(&mut self, key: Bytes, entry: Entry) {
        if !entry.is_there_at(self.clock_ms) {
            self.remove(&key);
            return;
        }
        let (key_bytes, value_bytes) = (key.len(), entry.value.len());
        if entry.deadline_ms != NEVER {
            self.deadlines.add(entry.deadline_ms);
        }
        let old = self.map.insert(Key::from(&key[..]), entry);
        self.count(entry_bytes(key_bytes, value_bytes));
        if let Some(old) = old {
            self.forget(key_bytes, &old);
        }
    }

    /// Removes a key, and returns its entry if the key was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let old = self.map.remove(key)?;
        self.forget(key.len(), &old);
        Some(old).filter(|old| old.is_there_at(self.clock_ms))
    }

    /// Takes these entries in place of all others, which are dropped elsewhere if they are many.
    pub(super) fn replace(&mut self, map: Map) {
        self.discount(self.bytes);
        let old = mem::replace(&mut self.map, map);
        if old.len() > SMALL {
            dispose(old);
        }
        self.swept_to = None;
        self.deadlines = Deadlines::default();
        let expiring = self.map.values().filter(|entry| entry.deadline_ms != NEVER);
        expiring.for_each(|entry| self.deadlines.add(entry.deadline_ms));
        let bytes = self.map.iter().map(|(key, entry)| entry_bytes(key.len(), entry.value.len()));
        self.count(bytes.sum());
    }

    /// Whether a sweep is under way.
    pub(super) const fn is_sweeping(&self) -> bool {
        self.swept_to.is_some()
    }

    /// Removes keys that have expired, from where the last step ended, and looks at no more than
    /// `budget` keys, which is reduced by those.
    ///
    /// Without an index, a sweep costs as much as there are keys. So one begins when the expired
    /// ones are a fair share of them, or have waited for long.
    pub(super) fn sweep(&mut self, budget: &mut usize) {
        if *budget == 0 || !(self.is_sweeping() || self.is_worth_a_sweep()) {
            return;
        }
        let swept_to = self.swept_to.take();
        let start = swept_to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut walked = self.map.range::<[u8], _>((start, Bound::Unbounded));
        let (mut expired, mut last) = (Vec::new(), None);
        for (key, entry) in walked.by_ref().take(*budget) {
            *budget -= 1;
            if !entry.is_there_at(self.clock_ms) {
                expired.push(key.clone());
            }
            last = Some(key);
        }
        let rest = if walked.next().is_some() { last.cloned() } else { None };
        self.memory.note_expired(expired.len() as u64);
        for key in expired {
            self.remove(&key);
        }
        self.swept_to = rest;
    }

    fn is_worth_a_sweep(&self) -> bool {
        let Some(end_ms) = self.deadlines.first_end_ms().filter(|end| *end <= self.clock_ms) else {
            return false;
        };
        self.map.len() <= SMALL
            || end_ms.saturating_add(LONGEST_DELAY_MS) <= self.clock_ms
            || self.deadlines.passed(self.clock_ms) * SWEPT_SHARE >= self.map.len() as u64
    }

    fn forget(&mut self, key_bytes: usize, old: &Entry) {
        self.discount(entry_bytes(key_bytes, old.value.len()));
        if old.deadline_ms != NEVER {
            self.deadlines.remove(old.deadline_ms);
        }
    }

    fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.memory.add(bytes);
    }

    fn discount(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.memory.subtract(bytes);
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.memory.subtract(self.bytes);
    }
}

/// A database as a query sees it: without the keys that have expired.
///
/// By the clock of its node, a query may come after the deadline of a key that the clock of the
/// group has not reached. What it answers then does not count ([`is_late`](Self::is_late)): the
/// clock of the group has to be moved first, so that all see the key expire at one index.
#[derive(Debug)]
pub(super) struct View<'a> {
    entries: &'a Entries,
    /// The clock of the node.
    now_ms: u64,
    is_late: std::cell::Cell<bool>,
}

impl<'a> View<'a> {
    /// The view at `now_ms`, by the clock of the node.
    pub(super) const fn at(entries: &'a Entries, now_ms: u64) -> Self {
        Self { entries, now_ms, is_late: std::cell::Cell::new(false) }
    }

    /// The view by the clock of the group. It is never late.
    pub(super) const fn settled(entries: &'a Entries) -> Self {
        Self::at(entries, entries.clock_ms())
    }

    /// Whether a key was looked at whose deadline is behind the clock of the node alone.
    pub(super) const fn is_late(&self) -> bool {
        self.is_late.get()
    }

    pub(super) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(super) const fn entries(&self) -> &'a Entries {
        self.entries
    }

    pub(super) fn entry(&self, key: &[u8]) -> Option<&'a Entry> {
        self.entries.entry(key).inspect(|entry| self.note(entry))
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&'a Bytes> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The keys of a stretch with their values, and those that have expired and were not swept. A
    /// walk goes over as many of these as of others, so they count in what bounds it.
    pub(super) fn range(&self, within: impl RangeBounds<Bytes>) -> Run<'a, '_> {
        let start = within.start_bound().map(|key| &key[..]);
        let end = within.end_bound().map(|key| &key[..]);
        Run { view: self, entries: self.entries.map.range::<[u8], _>((start, end)) }
    }

    fn note(&self, entry: &Entry) {
        if !entry.is_there_at(self.now_ms) {
            self.is_late.set(true);
        }
    }
}

/// The keys of a stretch, in their order. Those that have expired come without a value.
#[derive(Debug)]
pub(super) struct Run<'a, 'v> {
    view: &'v View<'a>,
    entries: btree_map::Range<'a, Key, Entry>,
}

impl<'a> Iterator for Run<'a, '_> {
    type Item = (&'a Key, Option<&'a Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, entry) = self.entries.next()?;
        if !entry.is_there_at(self.view.entries.clock_ms) {
            return Some((key, None));
        }
        self.view.note(entry);
        Some((key, Some(&entry.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::sync::mpsc::{Sender, channel};
    use std::thread::{self, ThreadId};

    fn entry(size: usize, deadline_ms: u64) -> Entry {
        Entry { value: Bytes::from(vec![0; size]), deadline_ms }
    }

    proptest! {
        #[test]
        fn the_accounts_are_what_the_entries_take(
            changes in vec((0..5usize, 0..9usize, 1..5000u64), 0..50),
        ) {
            let memory = Arc::new(DataMemory::default());
            let mut entries = Entries::new(Arc::clone(&memory));
            for (key, size, time) in changes {
                let key = Bytes::from(vec![b'k'; key]);
                match size {
                    0 => drop(entries.remove(&key)),
                    1 => {
                        let alone = (Key::from(&key[..]), entry(0, time + 5000));
                        entries.replace(BTreeMap::from([alone]));
                    }
                    2 => entries.insert(key, Bytes::new()),
                    3 => entries.update(key, Bytes::new()),
                    4 => {
                        entries.set_clock(entries.clock_ms().max(time));
                        entries.sweep(&mut 100);
                    }
                    _ => entries.put(key, entry(size, time)),
                }
                let taken = entries.map().iter();
                let taken = taken.map(|(key, it)| entry_bytes(key.len(), it.value.len()));
                prop_assert_eq!(memory.held_bytes(), taken.sum::<u64>());
                let mut deadlines = Deadlines::default();
                let expiring = entries.map().values().filter(|entry| entry.deadline_ms != NEVER);
                expiring.for_each(|entry| deadlines.add(entry.deadline_ms));
                prop_assert_eq!(entries.deadlines(), &deadlines);
            }
            drop(entries);
            prop_assert_eq!(memory.held_bytes(), 0);
        }
    }

    /// A value that tells which thread drops it.
    struct Telling(Sender<ThreadId>);

    impl AsRef<[u8]> for Telling {
        fn as_ref(&self) -> &[u8] {
            b"value"
        }
    }

    impl Drop for Telling {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn many_entries_that_are_replaced_are_dropped_on_another_thread() {
        for (count, is_here) in [(SMALL, true), (SMALL + 1, false)] {
            let (sender, dropped) = channel();
            let mut entries = Entries::default();
            for number in 0..count {
                let value = Bytes::from_owner(Telling(sender.clone()));
                entries.insert(Bytes::from(number.to_be_bytes().to_vec()), value);
            }
            entries.replace(Map::new());
            drop(sender);
            let threads: Vec<_> = dropped.into_iter().collect();
            assert_eq!(threads.len(), count);
            assert!(threads.iter().all(|id| (*id == thread::current().id()) == is_here));
        }
    }

    /// How many steps of a sweep it takes until nothing is left that has expired.
    fn steps_to_the_end(entries: &mut Entries, budget: usize) -> usize {
        let mut steps = 0;
        loop {
            entries.sweep(&mut budget.clone());
            steps += 1;
            if !entries.is_sweeping() {
                return steps;
            }
        }
    }

    #[test]
    fn what_has_expired_is_swept_in_batches_and_nothing_else_is() {
        let mut entries = Entries::default();
        for number in 0..10_000_u32 {
            let deadline_ms = if number % 2 == 0 { 1_000 } else { 1_000_000 };
            entries.put(Bytes::from(number.to_be_bytes().to_vec()), entry(1, deadline_ms));
        }
        entries.set_clock(999);
        assert_eq!(steps_to_the_end(&mut entries, 1_000), 1);
        assert_eq!(entries.map().len(), 10_000);
        entries.set_clock(2_048);
        assert_eq!(steps_to_the_end(&mut entries, 1_000), 10);
        assert_eq!(entries.map().len(), 5_000);
        assert_eq!(entries.deadlines().count(), 5_000);
        assert_eq!(steps_to_the_end(&mut entries, 1_000), 1);
    }

    #[test]
    fn a_few_expired_among_many_wait_for_a_while() {
        let mut entries = Entries::default();
        for number in 0..10_000_u32 {
            entries.insert(Bytes::from(number.to_be_bytes().to_vec()), Bytes::new());
        }
        entries.put(Bytes::from("k"), entry(1, 1_000));
        entries.set_clock(10_000);
        entries.sweep(&mut 100_000);
        assert_eq!(entries.map().len(), 10_001);
        entries.set_clock(1_024 + LONGEST_DELAY_MS);
        entries.sweep(&mut 100_000);
        assert_eq!(entries.map().len(), 10_000);
    }
}
