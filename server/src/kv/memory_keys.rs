//! Keys in memory: an ordered map, which keeps account of what it takes and of what expires.

use super::deadlines::Deadlines;
use super::disposal::dispose;
use super::footprint::entry_bytes;
use super::key::Key;
use super::keys::{Entry, KeyRange, REMOVAL_COST, ReadKeys, WriteKeys};
use super::memory::DataMemory;
use bytes::Bytes;
use std::collections::{BTreeMap, btree_map};
use std::convert::Infallible;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

/// A database of which a share of so many keys has expired is swept.
const SWEPT_SHARE: u64 = 16;

/// A database of no more keys than this is swept as soon as one has expired.
const SMALL: usize = 4_096;

/// Expired keys are swept after this time, however few they are.
const LONGEST_DELAY_MS: u64 = 30_000;

/// Keys and their entries.
pub(super) type Map = BTreeMap<Key, Entry>;

/// Keys and values. What they take is counted in the memory of the node.
#[derive(Debug, Default)]
pub(super) struct MemoryKeys {
    map: Map,
    bytes: u64,
    memory: Arc<DataMemory>,
    deadlines: Deadlines,
    /// The last key that the sweep under way has looked at.
    swept_to: Option<Key>,
}

impl MemoryKeys {
    /// No keys, which will be counted in `memory`.
    pub(super) fn new(memory: Arc<DataMemory>) -> Self {
        let (map, deadlines) = (Map::new(), Deadlines::default());
        Self { map, bytes: 0, memory, deadlines, swept_to: None }
    }

    pub(super) const fn map(&self) -> &Map {
        &self.map
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
        let expiring = self.map.values().filter(|entry| entry.expires());
        expiring.for_each(|entry| self.deadlines.add(entry.deadline_ms));
        let bytes = self.map.iter().map(|(key, entry)| entry_bytes(key.len(), entry.value.len()));
        self.count_bytes(bytes.sum());
    }

    /// Whether a sweep is under way.
    const fn is_sweeping(&self) -> bool {
        self.swept_to.is_some()
    }

    fn is_worth_a_sweep(&self, clock_ms: u64) -> bool {
        let Some(end_ms) = self.deadlines.first_end_ms().filter(|end| *end <= clock_ms) else {
            return false;
        };
        self.map.len() <= SMALL
            || end_ms.saturating_add(LONGEST_DELAY_MS) <= clock_ms
            || self.deadlines.passed(clock_ms) * SWEPT_SHARE >= self.map.len() as u64
    }

    /// The key up to which a step of a sweep goes that begins at `start`. None for one that goes to
    /// the end.
    fn last_of_step(&self, start: &Bound<Key>, clock_ms: u64, budget: &mut usize) -> Option<Key> {
        let start = start.as_ref().map(|key| &key[..]);
        let mut walked = self.map.range::<[u8], _>((start, Bound::Unbounded));
        let last = walked.by_ref().find(|(_, entry)| {
            let cost = if entry.is_there_at(clock_ms) { 1 } else { REMOVAL_COST };
            *budget = budget.saturating_sub(cost);
            *budget == 0
        });
        last.filter(|_| walked.next().is_some()).map(|(key, _)| key.clone())
    }

    fn forget(&mut self, key_bytes: usize, old: &Entry) {
        self.discount(entry_bytes(key_bytes, old.value.len()));
        if old.expires() {
            self.deadlines.remove(old.deadline_ms);
        }
    }

    fn count_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.memory.add(bytes);
    }

    fn discount(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.memory.subtract(bytes);
    }
}

impl ReadKeys for MemoryKeys {
    type Error = Infallible;
    type Walk<'a> = Walk<'a>;

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, Infallible> {
        Ok(self.map.get(key).cloned())
    }

    fn walk(&self, range: KeyRange<'_>) -> Result<Walk<'_>, Infallible> {
        Ok(Walk(self.map.range::<[u8], _>(range)))
    }

    fn count(&self) -> u64 {
        self.map.len() as u64
    }

    fn expiring(&self) -> u64 {
        self.deadlines.count() as u64
    }
}

/// Entries of the map.
#[derive(Debug)]
pub(super) struct Walk<'a>(btree_map::Range<'a, Key, Entry>);

impl Iterator for Walk<'_> {
    type Item = Result<(Key, Entry), Infallible>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, entry)| Ok((key.clone(), entry.clone())))
    }
}

impl WriteKeys for MemoryKeys {
    fn kept(value: Bytes) -> Bytes {
        Bytes::copy_from_slice(&value)
    }

    fn put(&mut self, key: Bytes, entry: Entry) -> Result<(), Infallible> {
        let (key_bytes, value_bytes) = (key.len(), entry.value.len());
        if entry.expires() {
            self.deadlines.add(entry.deadline_ms);
        }
        let old = self.map.insert(Key::from(&key[..]), entry);
        self.count_bytes(entry_bytes(key_bytes, value_bytes));
        if let Some(old) = old {
            self.forget(key_bytes, &old);
        }
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<Option<Entry>, Infallible> {
        let old = self.map.remove(key);
        if let Some(old) = &old {
            self.forget(key.len(), old);
        }
        Ok(old)
    }

    fn clear(&mut self) {
        self.replace(Map::new());
    }

    /// Goes on from where the last step ended. Without an index, a sweep costs as much as there are
    /// keys. So one begins when the expired ones are a fair share of them, or have waited for long.
    fn sweep(&mut self, clock_ms: u64, budget: &mut usize) -> Result<(), Infallible> {
        if !(self.is_sweeping() || self.is_worth_a_sweep(clock_ms)) {
            return Ok(());
        }
        let start = self.swept_to.take().map_or(Bound::Unbounded, Bound::Excluded);
        let last = self.last_of_step(&start, clock_ms, budget);
        let end = last.clone().map_or(Bound::Unbounded, Bound::Included);
        let (mut expired, mut freed_bytes) = (0, 0);
        let is_due = |_: &Key, entry: &mut Entry| !entry.is_there_at(clock_ms);
        for (key, entry) in self.map.extract_if((start, end), is_due) {
            expired += 1;
            freed_bytes += entry_bytes(key.len(), entry.value.len());
            self.deadlines.remove(entry.deadline_ms);
        }
        self.memory.note_expired(expired);
        self.discount(freed_bytes);
        // Nothing is left to find behind the step that has removed the last one.
        let is_over = self.deadlines.earliest_ms().is_none_or(|earliest| earliest > clock_ms);
        self.swept_to = last.filter(|_| !is_over);
        Ok(())
    }

    fn earliest_ms(&self) -> Option<u64> {
        self.deadlines.earliest_ms()
    }

    fn next_sweep_ms(&self) -> Option<u64> {
        match self.is_sweeping() {
            true => self.deadlines.first_end_ms().map(|_| 0),
            false => self.deadlines.first_end_ms(),
        }
    }
}

impl Drop for MemoryKeys {
    fn drop(&mut self) {
        self.memory.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::clock::NEVER;
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
            let mut entries = MemoryKeys::new(Arc::clone(&memory));
            let mut clock_ms = 0;
            for (key, size, time) in changes {
                let key = Bytes::from(vec![b'k'; key]);
                match size {
                    0 => drop(entries.remove(&key).unwrap()),
                    1 => {
                        let alone = (Key::from(&key[..]), entry(0, time + 5000));
                        entries.replace(BTreeMap::from([alone]));
                    }
                    2 => entries.put(key, entry(0, NEVER)).unwrap(),
                    3 => {
                        clock_ms = clock_ms.max(time);
                        entries.sweep(clock_ms, &mut 100).unwrap();
                    }
                    _ => entries.put(key, entry(size, time)).unwrap(),
                }
                let taken = entries.map().iter();
                let taken = taken.map(|(key, it)| entry_bytes(key.len(), it.value.len()));
                prop_assert_eq!(memory.held_bytes(), taken.sum::<u64>());
                let mut deadlines = Deadlines::default();
                let expiring = entries.map().values().filter(|entry| entry.expires());
                expiring.for_each(|entry| deadlines.add(entry.deadline_ms));
                prop_assert_eq!(&entries.deadlines, &deadlines);
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
            let mut entries = MemoryKeys::default();
            for number in 0..count {
                let value = Bytes::from_owner(Telling(sender.clone()));
                let key = Bytes::from(number.to_be_bytes().to_vec());
                entries.put(key, Entry { value, deadline_ms: NEVER }).unwrap();
            }
            entries.replace(Map::new());
            drop(sender);
            let threads: Vec<_> = dropped.into_iter().collect();
            assert_eq!(threads.len(), count);
            assert!(threads.iter().all(|id| (*id == thread::current().id()) == is_here));
        }
    }

    /// How many steps of a sweep it takes until nothing is left that has expired.
    fn steps_to_the_end(entries: &mut MemoryKeys, clock_ms: u64, budget: usize) -> usize {
        let mut steps = 0;
        loop {
            entries.sweep(clock_ms, &mut budget.clone()).unwrap();
            steps += 1;
            if !entries.is_sweeping() {
                return steps;
            }
        }
    }

    #[test]
    fn what_has_expired_is_swept_in_batches_and_nothing_else_is() {
        let mut entries = MemoryKeys::default();
        for number in 0..10_000_u32 {
            let deadline_ms = if number % 2 == 0 { 1_000 } else { 1_000_000 };
            let key = Bytes::from(number.to_be_bytes().to_vec());
            entries.put(key, entry(1, deadline_ms)).unwrap();
        }
        assert_eq!(steps_to_the_end(&mut entries, 999, 1_000), 1);
        assert_eq!(entries.map().len(), 10_000);
        // Of two keys, one is removed, and the other one is looked at.
        assert_eq!(steps_to_the_end(&mut entries, 2_048, 1_000), 45);
        assert_eq!(entries.map().len(), 5_000);
        assert_eq!(entries.expiring(), 5_000);
        assert_eq!(steps_to_the_end(&mut entries, 2_048, 1_000), 1);
    }

    #[test]
    fn writes_that_sweep_keep_those_that_have_expired_few() {
        let mut entries = MemoryKeys::default();
        // Each lives for 10 s, and one comes every millisecond.
        for clock_ms in 0..60_000_u32 {
            let key = clock_ms.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec();
            let deadline_ms = u64::from(clock_ms) + 10_000;
            entries.put(Bytes::from(key), entry(1, deadline_ms)).unwrap();
            entries.sweep(clock_ms.into(), &mut 16).unwrap();
            assert!(entries.map().len() <= 13_000, "{} at {clock_ms} ms", entries.map().len());
        }
    }

    #[test]
    fn a_few_expired_among_many_wait_for_a_while() {
        let mut entries = MemoryKeys::default();
        for number in 0..10_000_u32 {
            let key = Bytes::from(number.to_be_bytes().to_vec());
            entries.put(key, entry(0, NEVER)).unwrap();
        }
        entries.put(Bytes::from("k"), entry(1, 1_000)).unwrap();
        entries.sweep(10_000, &mut 100_000).unwrap();
        assert_eq!(entries.map().len(), 10_001);
        entries.sweep(1_024 + LONGEST_DELAY_MS, &mut 100_000).unwrap();
        assert_eq!(entries.map().len(), 10_000);
    }
}
