//! What a database is kept in: ordered keys with their entries. There is one in memory
//! ([`MemoryKeys`](super::memory_keys::MemoryKeys)) and one on disk
//! ([`DiskKeys`](super::disk::DiskKeys)). What commands and queries make of them is the same.

use super::clock::NEVER;
use super::key::Key;
use bytes::Bytes;
use std::ops::Bound;

/// The longest key that a leader lets in, in bytes, as it is stored: the tables on disk take no
/// longer ones. A log may hold longer ones, of before there was this limit. What they mean does not
/// depend on it: keys in memory take them, and a replica on disk can't go on.
pub(super) const MAX_KEY_BYTES: usize = 59_000;

/// What a sweep spends for a key that it removes. For one that it only looks at it spends 1, and
/// that takes about as much less time.
pub(super) const REMOVAL_COST: usize = 8;

/// A value and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// In milliseconds since 1970, by the clock of the group; [`NEVER`] for none.
    pub(crate) deadline_ms: u64,
}

impl Entry {
    /// Whether the key expires, some day.
    pub(crate) const fn expires(&self) -> bool {
        self.deadline_ms != NEVER
    }

    /// Whether the key is there by a clock that shows this time.
    pub(crate) const fn is_there_at(&self, clock_ms: u64) -> bool {
        self.deadline_ms == NEVER || self.deadline_ms > clock_ms
    }
}

/// A stretch of keys.
pub(super) type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Keys that can be read, those that have expired and were not removed among them.
pub(super) trait ReadKeys {
    /// Why keys can't be read or written.
    type Error;

    /// Keys with their entries, in the order of the keys.
    type Walk<'a>: Iterator<Item = Result<(Key, Entry), Self::Error>>
    where
        Self: 'a;

    /// The entry of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, Self::Error>;

    /// The entries of a stretch, which does not end before it begins.
    fn walk(&self, range: KeyRange<'_>) -> Result<Self::Walk<'_>, Self::Error>;

    /// How many keys there are.
    fn count(&self) -> u64;

    /// How many of them expire.
    fn expiring(&self) -> u64;
}

/// Keys that can be written.
pub(super) trait WriteKeys: ReadKeys {
    /// A value as it is to be kept. That of a command is a part of what came with many others, none
    /// of which would be freed before it.
    fn kept(value: Bytes) -> Bytes;

    /// Sets a key's entry.
    fn put(&mut self, key: Bytes, entry: Entry) -> Result<(), Self::Error>;

    /// Removes a key, and returns its entry if there was one.
    fn remove(&mut self, key: &[u8]) -> Result<Option<Entry>, Self::Error>;

    /// Removes all keys.
    fn clear(&mut self);

    /// Removes keys whose deadlines have passed by a clock that shows `clock_ms`, if it is worth
    /// it. Takes what it spends from `budget`: 1 for a key, and [`REMOVAL_COST`] for one that it
    /// removes. Ends when nothing is left of it.
    fn sweep(&mut self, clock_ms: u64, budget: &mut usize) -> Result<(), Self::Error>;

    /// No deadline is before this time.
    fn earliest_ms(&self) -> Option<u64>;

    /// At this time there will be something to sweep.
    fn next_sweep_ms(&self) -> Option<u64>;
}
