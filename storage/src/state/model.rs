//! A state engine in memory, with a disk that survives crashes and fails on demand.

use crate::state::batch::{MAX_KEY_BYTES, Namespace, StateBatch, Write};
use crate::state::engine::{Pair, Pressure, StateEngine, StateScan, StateStatistics, StateView};
use crate::state::error::StateError;
use crate::state::options::StateOptions;
use bytes::Bytes;
use logboat_raft::LogId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

/// How a step of the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It has no effect.
    Refused,
    /// It has its effect, though an error is reported: a sync failed after the rename.
    Unconfirmed,
}

/// A state engine in memory: the model of what an engine does. Dropping it is a crash. What was
/// durable is there when it is [opened](Self::open) again.
///
/// It has crash points instead of threads: nothing becomes durable but in the calls that say so.
pub struct ModelState {
    disk: ModelDisk,
    options: StateOptions,
    memory: Mutex<Memory>,
}

/// What survives. Clones are the same disk.
#[derive(Clone, Default)]
pub struct ModelDisk(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    durable: Arc<Contents>,
    /// After so many steps of the disk, the next one fails in this way.
    failure: Option<(u64, Failure)>,
}

#[derive(Clone)]
struct Contents {
    pairs: BTreeMap<(Namespace, Bytes), Bytes>,
    applied: BTreeMap<Namespace, LogId>,
    deleted: BTreeSet<Namespace>,
    next_namespace: u64,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            pairs: BTreeMap::new(),
            applied: BTreeMap::new(),
            deleted: BTreeSet::new(),
            next_namespace: Namespace::NOTES.0 + 1,
        }
    }
}

struct Memory {
    contents: Arc<Contents>,
    unflushed_bytes: u64,
    since: Option<Instant>,
    poisoned: Option<Arc<str>>,
    statistics: StateStatistics,
}

impl ModelDisk {
    /// Another disk, with what is durable on this one.
    #[must_use]
    pub fn copy(&self) -> Self {
        let durable = Arc::clone(&self.0.lock().durable);
        Self(Arc::new(Mutex::new(Disk { durable, failure: None })))
    }

    /// After `steps` more steps, the next one fails.
    pub fn fail_after(&self, steps: u64, failure: Failure) {
        self.0.lock().failure = Some((steps, failure));
    }

    /// Makes the contents durable.
    fn write(&self, contents: &Arc<Contents>) -> Result<(), StateError> {
        let mut disk = self.0.lock();
        let failure = match &mut disk.failure {
            Some((0, failure)) => Some(*failure),
            Some((steps, _)) => {
                *steps -= 1;
                None
            }
            None => None,
        };
        if failure.is_some() {
            disk.failure = None;
        }
        if failure != Some(Failure::Refused) {
            disk.durable = Arc::clone(contents);
        }
        match failure {
            Some(failure) => {
                let error = io::Error::other(format!("the disk was to fail: {failure:?}"));
                Err(StateError::io("model", error))
            }
            None => Ok(()),
        }
    }
}

impl ModelState {
    /// The engine on this disk. No other engine may use it.
    #[must_use]
    pub fn open(disk: &ModelDisk, options: StateOptions) -> Self {
        let contents = Arc::clone(&disk.0.lock().durable);
        let memory = Memory {
            contents,
            unflushed_bytes: 0,
            since: None,
            poisoned: None,
            statistics: StateStatistics::default(),
        };
        Self { disk: disk.clone(), options, memory: Mutex::new(memory) }
    }

    fn present(&self) -> Arc<Contents> {
        Arc::clone(&self.memory.lock().contents)
    }

    fn flush_locked(&self, memory: &mut Memory) -> Result<(), StateError> {
        memory.healthy()?;
        if let Err(error) = self.disk.write(&memory.contents) {
            memory.poisoned = Some(error.to_string().into());
            return Err(error);
        }
        memory.unflushed_bytes = 0;
        memory.since = None;
        memory.statistics.flushes += 1;
        Ok(())
    }
}

impl Memory {
    fn healthy(&self) -> Result<(), StateError> {
        match &self.poisoned {
            Some(reason) => Err(StateError::Poisoned(Arc::clone(reason))),
            None => Ok(()),
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.unflushed_bytes += bytes as u64;
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }
}

impl Contents {
    fn has(&self, namespace: Namespace) -> bool {
        let is_known = (1..self.next_namespace).contains(&namespace.0);
        is_known && !self.deleted.contains(&namespace)
    }

    fn pairs(
        &self,
        namespace: Namespace,
        (start, end): (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Vec<Result<Pair, StateError>> {
        let whole = |key: &[u8]| (namespace, Bytes::copy_from_slice(key));
        let start = match start {
            Bound::Unbounded => Bound::Included(whole(&[])),
            start => start.map(whole),
        };
        let end = match end {
            Bound::Unbounded => Bound::Excluded((Namespace(namespace.0 + 1), Bytes::new())),
            end => end.map(whole),
        };
        let is_empty = match (&start, &end) {
            (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end))
            | (Bound::Included(start), Bound::Excluded(end)) => start > end,
            _ => false,
        };
        if is_empty {
            return Vec::new();
        }
        let pairs = self.pairs.range((start, end));
        pairs.map(|((_, key), value)| Ok((key.clone(), value.clone()))).collect()
    }

    fn write(&mut self, batch: &StateBatch) {
        for write in batch.writes.iter().cloned() {
            match write {
                Write::Put { namespace, key, value } => {
                    self.pairs.insert((namespace, key), value);
                }
                Write::Delete { namespace, key } => {
                    self.pairs.remove(&(namespace, key));
                }
            }
        }
        self.applied.extend(batch.applied.iter().copied());
        for namespace in &batch.deleted {
            self.pairs.retain(|(of, _), _| of != namespace);
            self.applied.remove(namespace);
            self.deleted.insert(*namespace);
        }
    }
}

impl StateEngine for ModelState {
    fn create(&self) -> Result<Namespace, StateError> {
        let mut memory = self.memory.lock();
        memory.healthy()?;
        memory.wrote(size_of::<u64>());
        let contents = Arc::make_mut(&mut memory.contents);
        contents.next_namespace += 1;
        Ok(Namespace(contents.next_namespace - 1))
    }

    fn namespaces(&self) -> Vec<Namespace> {
        self.present().applied.keys().copied().collect()
    }

    fn write(&self, batch: &StateBatch) -> Result<(), StateError> {
        let mut memory = self.memory.lock();
        memory.healthy()?;
        let bytes = batch.max_key_bytes();
        if bytes > MAX_KEY_BYTES {
            return Err(StateError::KeyTooLong(bytes));
        }
        let mut named = batch.namespaces().chain(batch.deleted.iter().copied());
        if let Some(missing) = named.find(|namespace| !memory.contents.has(*namespace)) {
            return Err(StateError::NoNamespace(missing));
        }
        let bytes = batch.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key, .. } => key.len(),
        });
        memory.wrote(bytes.sum());
        Arc::make_mut(&mut memory.contents).write(batch);
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn StateView>, StateError> {
        Ok(Box::new(ModelView(self.present())))
    }

    fn applied(&self, namespace: Namespace) -> Option<LogId> {
        self.present().applied.get(&namespace).copied()
    }

    fn durable(&self, namespace: Namespace) -> Option<LogId> {
        // What an error has left in doubt was not reported, so it is not told either.
        let memory = self.memory.lock();
        let is_told = memory.poisoned.is_none();
        drop(memory);
        let durable = Arc::clone(&self.disk.0.lock().durable);
        durable.applied.get(&namespace).copied().filter(|_| is_told)
    }

    fn flush(&self) -> Result<(), StateError> {
        self.flush_locked(&mut self.memory.lock())
    }

    fn flush_if_due(&self, now: Instant) -> Result<bool, StateError> {
        let mut memory = self.memory.lock();
        let age = memory.since.map(|since| now.saturating_duration_since(since));
        let is_due = memory.unflushed_bytes >= self.options.memtable_bytes
            || age.is_some_and(|age| age >= self.options.max_age);
        if is_due {
            self.flush_locked(&mut memory)?;
        }
        Ok(is_due)
    }

    fn compact(&self) -> Result<bool, StateError> {
        self.memory.lock().healthy().map(|()| false)
    }

    fn ingest(
        &self,
        namespace: Namespace,
        applied: LogId,
        pairs: &mut dyn Iterator<Item = io::Result<Pair>>,
    ) -> Result<(), StateError> {
        let mut taken: Vec<Pair> = Vec::new();
        for pair in pairs {
            let (key, value) = pair.map_err(|error| StateError::Source(Arc::new(error)))?;
            if key.len() > MAX_KEY_BYTES {
                return Err(StateError::KeyTooLong(key.len()));
            }
            if taken.last().is_some_and(|(last, _)| *last >= key) {
                return Err(StateError::Unordered);
            }
            taken.push((key, value));
        }
        let mut memory = self.memory.lock();
        memory.healthy()?;
        let present = &memory.contents;
        if !present.has(namespace) {
            return Err(StateError::NoNamespace(namespace));
        }
        let is_empty = present.pairs(namespace, (Bound::Unbounded, Bound::Unbounded)).is_empty();
        if !is_empty || present.applied.contains_key(&namespace) {
            return Err(StateError::NotFresh(namespace));
        }
        let contents = Arc::make_mut(&mut memory.contents);
        contents.applied.insert(namespace, applied);
        let taken = taken.into_iter().map(|(key, value)| ((namespace, key), value));
        contents.pairs.extend(taken);
        self.flush_locked(&mut memory)
    }

    fn pressure(&self) -> Pressure {
        Pressure::None
    }

    fn statistics(&self) -> StateStatistics {
        let memory = self.memory.lock();
        StateStatistics { memtable_bytes: memory.unflushed_bytes, ..memory.statistics }
    }
}

struct ModelView(Arc<Contents>);

impl StateView for ModelView {
    fn get(&self, namespace: Namespace, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.0.pairs.get(&(namespace, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        namespace: Namespace,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<StateScan, StateError> {
        Ok(Box::new(self.0.pairs(namespace, range).into_iter()))
    }

    fn applied(&self, namespace: Namespace) -> Result<Option<LogId>, StateError> {
        Ok(self.0.applied.get(&namespace).copied())
    }
}
