//! The keys of a database in the tables.

use super::layout::{
    Listed, data_key, deadline_key, deadline_of, deadlines_from, decode_entry, encode_entry,
    foreign,
};
use super::walk::{Change, DiskWalk, as_slice, scan};
use crate::kv::clock::NEVER;
use crate::kv::key::Key;
use crate::kv::keys::{Entry, KeyRange, MAX_KEY_BYTES, REMOVAL_COST, ReadKeys, WriteKeys};
use crate::kv::memory::DataMemory;
use bytes::Bytes;
use logboat::LogId;
use logboat::state::{Namespace, StateBatch, StateEngine, StateError};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Deadlines are due in spans of 2 to the power of this, in milliseconds: about a second.
const SPAN_BITS: u32 = 10;

/// The keys of a database: those in the tables, with the changes that are not there yet.
pub(in crate::kv) struct DiskKeys {
    engine: Arc<dyn StateEngine>,
    memory: Arc<DataMemory>,
    /// Where the keys are; nowhere, as long as there are none.
    namespace: Option<Namespace>,
    /// Where they were before they were all removed.
    left: Option<Namespace>,
    count: u64,
    expiring: u64,
    /// No deadline is before this time.
    earliest_ms: u64,
    /// Whether a sweep has left something that has expired.
    is_behind: bool,
    changes: BTreeMap<Key, Change>,
    /// About what the changes take, in bytes.
    changed_bytes: usize,
}

impl DiskKeys {
    /// No keys.
    pub(super) fn new(engine: Arc<dyn StateEngine>, memory: Arc<DataMemory>) -> Self {
        Self {
            engine,
            memory,
            namespace: None,
            left: None,
            count: 0,
            expiring: 0,
            earliest_ms: NEVER,
            is_behind: false,
            changes: BTreeMap::new(),
            changed_bytes: 0,
        }
    }

    /// The keys are those that were noted.
    pub(super) fn open(&mut self, listed: Option<Listed>) -> Result<(), StateError> {
        (self.namespace, self.left) = (listed.map(|listed| listed.namespace), None);
        let expiring = listed.map_or(0, |listed| listed.expiring);
        (self.count, self.expiring) = (listed.map_or(0, |listed| listed.count), expiring);
        self.changes.clear();
        (self.changed_bytes, self.is_behind) = (0, false);
        self.earliest_ms = NEVER;
        if expiring > 0 {
            self.earliest_ms = self.deadlines(0)?.next().transpose()?.map_or(NEVER, |it| it.0);
        }
        Ok(())
    }

    /// What is to be noted of the keys.
    pub(super) fn listed(&self) -> Option<Listed> {
        let (count, expiring) = (self.count, self.expiring);
        self.namespace.map(|namespace| Listed { namespace, count, expiring })
    }

    /// About what the changes take that are not in the tables, in bytes.
    pub(super) const fn changed_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Moves all changes into a batch, after which the state stands at `last`.
    pub(super) fn write_changes(
        &mut self,
        batch: &mut StateBatch,
        last: LogId,
    ) -> Result<(), StateError> {
        if let Some(left) = self.left.take() {
            batch.delete_namespace(left);
        }
        if self.changes.is_empty() {
            return Ok(());
        }
        let namespace = match self.namespace {
            Some(namespace) => namespace,
            None => {
                let namespace = self.engine.create()?;
                // The engine tells of namespaces with an applied entry.
                batch.applied(namespace, last);
                *self.namespace.insert(namespace)
            }
        };
        self.changed_bytes = 0;
        for (key, Change { stored_deadline_ms, entry }) in std::mem::take(&mut self.changes) {
            let new_ms = entry.as_ref().map_or(NEVER, |entry| entry.deadline_ms);
            let old_ms = stored_deadline_ms.unwrap_or(NEVER);
            if old_ms != NEVER && old_ms != new_ms {
                batch.delete(namespace, deadline_key(old_ms, &key));
            }
            if new_ms != NEVER && old_ms != new_ms {
                batch.put(namespace, deadline_key(new_ms, &key), Bytes::new());
            }
            match entry {
                Some(entry) => batch.put(namespace, data_key(&key), encode_entry(&entry)),
                None if stored_deadline_ms.is_some() => batch.delete(namespace, data_key(&key)),
                None => {}
            }
        }
        Ok(())
    }

    /// The entry of a key in the tables.
    fn stored(&self, key: &[u8]) -> Result<Option<Entry>, StateError> {
        let Some(namespace) = self.namespace else { return Ok(None) };
        let found = self.engine.get(namespace, &data_key(key))?;
        found.map(decode_entry).transpose()
    }

    /// Has a key changed, and returns what it was before.
    fn change(&mut self, key: &[u8], entry: Option<Entry>) -> Result<Option<Entry>, StateError> {
        if key.len() > MAX_KEY_BYTES {
            // None of that length is here.
            return if entry.is_some() { Err(StateError::KeyTooLong(key.len())) } else { Ok(None) };
        }
        let new_bytes = key.len() + entry.as_ref().map_or(0, |entry| entry.value.len());
        let new_ms = entry.as_ref().map(|entry| entry.deadline_ms);
        let old = match self.changes.get_mut(key) {
            Some(change) => std::mem::replace(&mut change.entry, entry),
            None => {
                let old = self.stored(key)?;
                if old.is_none() && entry.is_none() {
                    return Ok(None);
                }
                let stored_deadline_ms = old.as_ref().map(|old| old.deadline_ms);
                self.changes.insert(Key::from(key), Change { stored_deadline_ms, entry });
                old
            }
        };
        self.changed_bytes += new_bytes;
        let old_ms = old.as_ref().map(|old| old.deadline_ms);
        self.count = self.count + u64::from(new_ms.is_some()) - u64::from(old_ms.is_some());
        let expires =
            |deadline_ms: Option<u64>| u64::from(deadline_ms.is_some_and(|it| it != NEVER));
        self.expiring = self.expiring + expires(new_ms) - expires(old_ms);
        self.earliest_ms = match self.expiring {
            0 => NEVER,
            _ => self.earliest_ms.min(new_ms.unwrap_or(NEVER)),
        };
        Ok(old)
    }

    /// The deadlines in the tables from a time on, in their order.
    fn deadlines(
        &self,
        start_ms: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, Key), StateError>> + use<>, StateError> {
        let scan = match self.namespace {
            Some(namespace) => {
                let (start, end) = deadlines_from(start_ms);
                Some(self.engine.view()?.scan(namespace, (as_slice(&start), as_slice(&end)))?)
            }
            None => None,
        };
        let found = scan.into_iter().flatten();
        Ok(found.map(|pair| deadline_of(&pair?.0).ok_or_else(|| foreign("a deadline"))))
    }

    /// The earliest deadline among the changes.
    fn earliest_change_ms(&self) -> u64 {
        let entries = self.changes.values().filter_map(|change| change.entry.as_ref());
        entries.map(|entry| entry.deadline_ms).min().unwrap_or(NEVER)
    }
}

impl ReadKeys for DiskKeys {
    type Error = StateError;
    type Walk<'a> = DiskWalk<'a>;

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, StateError> {
        if key.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        match self.changes.get(key) {
            Some(change) => Ok(change.entry.clone()),
            None => self.stored(key),
        }
    }

    fn walk(&self, range: KeyRange<'_>) -> Result<DiskWalk<'_>, StateError> {
        let stored = scan(&*self.engine.view()?, self.namespace, range)?;
        Ok(DiskWalk::changed(stored, &self.changes, range))
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn expiring(&self) -> u64 {
        self.expiring
    }
}

impl WriteKeys for DiskKeys {
    /// Soon it is written.
    fn kept(value: Bytes) -> Bytes {
        value
    }

    fn put(&mut self, key: Bytes, entry: Entry) -> Result<(), StateError> {
        self.change(&key, Some(entry)).map(drop)
    }

    fn remove(&mut self, key: &[u8]) -> Result<Option<Entry>, StateError> {
        self.change(key, None)
    }

    fn clear(&mut self) {
        self.left = self.left.or(self.namespace.take());
        self.namespace = None;
        (self.count, self.expiring) = (0, 0);
        (self.earliest_ms, self.is_behind) = (NEVER, false);
        self.changes.clear();
        self.changed_bytes = 0;
    }

    /// The deadlines stand in their order, so this looks at no key that has not expired.
    fn sweep(&mut self, clock_ms: u64, budget: &mut usize) -> Result<(), StateError> {
        if self.earliest_ms > clock_ms {
            return Ok(());
        }
        let most = budget.div_ceil(REMOVAL_COST);
        let mut due = Vec::new();
        let mut next_ms = NEVER;
        for deadline in self.deadlines(self.earliest_ms)? {
            let (deadline_ms, key) = deadline?;
            if deadline_ms > clock_ms || due.len() == most {
                next_ms = deadline_ms;
                break;
            }
            due.push((deadline_ms, key));
        }
        *budget = budget.saturating_sub(due.len() * REMOVAL_COST);
        let mut expired = 0;
        for (deadline_ms, key) in due {
            // It may have been changed in the same batch.
            let is_same = |entry: Entry| entry.deadline_ms == deadline_ms;
            if self.get(&key)?.is_some_and(is_same) {
                self.remove(&key)?;
                expired += 1;
            }
        }
        self.memory.note_expired(expired);
        self.earliest_ms =
            if self.expiring == 0 { NEVER } else { next_ms.min(self.earliest_change_ms()) };
        self.is_behind = self.earliest_ms <= clock_ms;
        Ok(())
    }

    fn earliest_ms(&self) -> Option<u64> {
        (self.earliest_ms != NEVER).then_some(self.earliest_ms)
    }

    fn next_sweep_ms(&self) -> Option<u64> {
        let earliest_ms = self.earliest_ms()?;
        Some(if self.is_behind { 0 } else { ((earliest_ms >> SPAN_BITS) + 1) << SPAN_BITS })
    }
}

impl fmt::Debug for DiskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskKeys")
            .field("namespace", &self.namespace)
            .field("count", &self.count)
            .field("expiring", &self.expiring)
            .finish_non_exhaustive()
    }
}
