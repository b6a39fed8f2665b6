//! A database as commands and queries see it: without the keys that have expired.

use super::clock::NEVER;
use super::key::Key;
use super::keys::{Entry, KeyRange, ReadKeys, WriteKeys};
use bytes::Bytes;
use std::cell::Cell;

/// Keys and values. A key whose deadline has passed by the clock of the group is not there any
/// more, but takes space until it is swept.
#[derive(Debug)]
pub(super) struct Database<K> {
    keys: K,
    clock_ms: u64,
}

impl<K: ReadKeys> Database<K> {
    pub(super) const fn new(keys: K, clock_ms: u64) -> Self {
        Self { keys, clock_ms }
    }

    /// All keys, with those that have expired and were not swept.
    pub(super) const fn keys(&self) -> &K {
        &self.keys
    }

    pub(super) const fn keys_mut(&mut self) -> &mut K {
        &mut self.keys
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
    pub(super) fn entry(&self, key: &[u8]) -> Result<Option<Entry>, K::Error> {
        Ok(self.keys.get(key)?.filter(|entry| entry.is_there_at(self.clock_ms)))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, K::Error> {
        Ok(self.entry(key)?.map(|entry| entry.value))
    }

    pub(super) fn contains_key(&self, key: &[u8]) -> Result<bool, K::Error> {
        Ok(self.entry(key)?.is_some())
    }
}

impl<K: WriteKeys> Database<K> {
    /// Sets a key that does not expire.
    pub(super) fn insert(&mut self, key: Bytes, value: Bytes) -> Result<(), K::Error> {
        self.put(key, Entry { value, deadline_ms: NEVER })
    }

    /// Sets a key, which expires when it would have without that.
    pub(super) fn update(&mut self, key: Bytes, value: Bytes) -> Result<(), K::Error> {
        let deadline_ms = self.entry(&key)?.map_or(NEVER, |entry| entry.deadline_ms);
        self.put(key, Entry { value, deadline_ms })
    }

    /// Sets a key. One whose deadline has passed is gone at once.
    pub(super) fn put(&mut self, key: Bytes, entry: Entry) -> Result<(), K::Error> {
        if entry.is_there_at(self.clock_ms) {
            self.keys.put(key, entry)
        } else {
            self.keys.remove(&key).map(drop)
        }
    }

    /// Removes a key, and returns its entry if the key was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<Option<Entry>, K::Error> {
        Ok(self.keys.remove(key)?.filter(|old| old.is_there_at(self.clock_ms)))
    }

    /// Removes all keys.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    /// Removes some of the keys that have expired.
    pub(super) fn sweep(&mut self, budget: &mut usize) -> Result<(), K::Error> {
        if *budget == 0 {
            return Ok(());
        }
        self.keys.sweep(self.clock_ms, budget)
    }
}

/// A database as a query sees it.
///
/// By the clock of its node, a query may come after the deadline of a key that the clock of the
/// group has not reached. What it answers then does not count ([`is_late`](Self::is_late)): the
/// clock of the group has to be moved first, so that all see the key expire at one index.
#[derive(Debug)]
pub(super) struct View<'a, K> {
    database: &'a Database<K>,
    /// The clock of the node.
    now_ms: u64,
    is_late: Cell<bool>,
}

impl<'a, K: ReadKeys> View<'a, K> {
    /// The view at `now_ms`, by the clock of the node.
    pub(super) const fn at(database: &'a Database<K>, now_ms: u64) -> Self {
        Self { database, now_ms, is_late: Cell::new(false) }
    }

    /// The view by the clock of the group. It is never late.
    pub(super) const fn settled(database: &'a Database<K>) -> Self {
        Self::at(database, database.clock_ms())
    }

    /// Whether a key was looked at whose deadline is behind the clock of the node alone.
    pub(super) const fn is_late(&self) -> bool {
        self.is_late.get()
    }

    pub(super) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// How many keys there are, with those that have expired and were not swept.
    pub(super) fn count(&self) -> u64 {
        self.database.keys.count()
    }

    pub(super) fn entry(&self, key: &[u8]) -> Result<Option<Entry>, K::Error> {
        Ok(self.database.entry(key)?.inspect(|entry| self.note(entry)))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, K::Error> {
        Ok(self.entry(key)?.map(|entry| entry.value))
    }

    /// The keys of a stretch with their values, and those that have expired and were not swept. A
    /// walk goes over as many of these as of others, so they count in what bounds it.
    pub(super) fn range(&self, range: KeyRange<'_>) -> Result<Run<'a, '_, K>, K::Error> {
        Ok(Run { view: self, walk: self.database.keys.walk(range)? })
    }

    fn note(&self, entry: &Entry) {
        if !entry.is_there_at(self.now_ms) {
            self.is_late.set(true);
        }
    }
}

/// A key, and its value if it has not expired.
pub(super) type Found = (Key, Option<Bytes>);

/// The keys of a stretch, in their order. Those that have expired come without a value.
pub(super) struct Run<'a, 'v, K: ReadKeys + 'a> {
    view: &'v View<'a, K>,
    walk: K::Walk<'a>,
}

impl<K: ReadKeys> Iterator for Run<'_, '_, K> {
    type Item = Result<Found, K::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, entry) = match self.walk.next()? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        if !entry.is_there_at(self.view.database.clock_ms) {
            return Some(Ok((key, None)));
        }
        self.view.note(&entry);
        Some(Ok((key, Some(entry.value))))
    }
}
