//! A [`Backend`] without replication: the ranges of one process, in memory or in tables. It lets
//! the whole Redis front be tested, and shows what a backend must do.

use crate::backend::{
    Access, Backend, BackendError, RangeId, StoreAnswer, StoreAnswers, StoreRequest,
};
use crate::kv::{DiskStore, GroupTime, NodeClock, SharedTables, Store, StoreAdmission};
use crate::layout::Partition;
use crate::limits::Limits;
use bytes::Bytes;
use logboat::{CommandAdmission, DiskStateMachine, GroupId, LogId};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stores in this process, one a range. They are in memory, unless they are [moved](Self::on_disk).
#[derive(Clone)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

struct Shared {
    partition: Partition,
    limits: Limits,
    /// The first stored key of each range; the first one is empty.
    starts: Vec<Bytes>,
    stores: Vec<RwLock<RangeStore>>,
    faults: Mutex<BTreeMap<RangeId, BackendError>>,
}

impl MemoryBackend {
    /// A backend whose ranges are cut at `splits`, which are sorted by the call.
    #[must_use]
    pub fn new(partition: Partition, mut splits: Vec<Bytes>, limits: Limits) -> Self {
        splits.push(Bytes::new());
        splits.sort();
        splits.dedup();
        let stores = splits.iter().map(|_| RwLock::new(RangeStore::Memory(Store::new()))).collect();
        let shared = Shared { partition, limits, starts: splits, stores, faults: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Like [`even`](Self::even), with stores that go by `clock`.
    #[must_use]
    pub fn timed(
        partition: Partition,
        ranges: u16,
        limits: Limits,
        clock: &Arc<NodeClock>,
    ) -> Self {
        let backend = Self::even(partition, ranges, limits);
        for store in &backend.shared.stores {
            let time = Arc::new(GroupTime::new(Arc::clone(clock)));
            *store.write() = RangeStore::Memory(Store::timed(Arc::default(), time));
        }
        backend
    }

    /// Has an empty backend keep its keys and values in these tables, which hold nothing.
    #[must_use]
    pub fn on_disk(self, tables: &SharedTables) -> Self {
        for (number, store) in (1..).zip(&self.shared.stores) {
            let mut store = store.write();
            let (data, time) = (Arc::default(), store.time());
            *store = RangeStore::Disk {
                store: DiskStore::new(tables.clone(), GroupId(number), data, time),
                last: LogId::default(),
            };
        }
        self
    }

    /// A backend of `ranges` ranges that divide the first two bytes of the stored keys evenly.
    #[must_use]
    pub fn even(partition: Partition, ranges: u16, limits: Limits) -> Self {
        let width = 0x1_0000 / u32::from(ranges.max(1));
        let splits = (1..u32::from(ranges)).map(|i| (i * width) as u16);
        let splits = splits.map(|split| Bytes::copy_from_slice(&split.to_be_bytes()));
        Self::new(partition, splits.collect(), limits)
    }

    /// From now on, `range` answers everything with `fault`. `None` ends that.
    pub fn set_fault(&self, range: RangeId, fault: Option<BackendError>) {
        let mut faults = self.shared.faults.lock();
        match fault {
            Some(fault) => faults.insert(range, fault),
            None => faults.remove(&range),
        };
    }

    /// Carries out requests, one after the other.
    pub(crate) fn answers_to(&self, requests: Vec<StoreRequest>) -> Vec<StoreAnswer> {
        let carry_out = |StoreRequest { range, access, body }| {
            self.check(range)?;
            let store = &self.shared.stores[range.0];
            Ok(match access {
                Access::Write => write(store, body),
                Access::Read | Access::ReadHere => store.read().query(body),
            })
        };
        requests.into_iter().map(carry_out).enumerate().collect()
    }

    fn check(&self, range: RangeId) -> Result<(), BackendError> {
        self.shared.faults.lock().get(&range).map_or(Ok(()), |fault| Err(*fault))
    }
}

impl Backend for MemoryBackend {
    fn partition(&self) -> Partition {
        self.shared.partition
    }

    fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn sure_copies(&self) -> usize {
        0
    }

    fn ranges(&self) -> usize {
        self.shared.starts.len()
    }

    fn range_of(&self, stored_key: &[u8]) -> RangeId {
        RangeId(self.shared.starts.partition_point(|start| &start[..] <= stored_key) - 1)
    }

    fn bounds(&self, range: RangeId) -> (Bytes, Option<Bytes>) {
        let starts = &self.shared.starts;
        (starts[range.0].clone(), starts.get(range.0 + 1).cloned())
    }

    type Answers = Immediate;

    fn request_all(&self, requests: Vec<StoreRequest>) -> Immediate {
        Immediate(self.answers_to(requests))
    }

    async fn propose(&self, range: RangeId, command: Bytes) -> Result<Bytes, BackendError> {
        self.check(range)?;
        Ok(write(&self.shared.stores[range.0], command))
    }

    async fn read(&self, range: RangeId, query: Bytes) -> Result<Bytes, BackendError> {
        self.check(range)?;
        Ok(self.shared.stores[range.0].read().query(query))
    }
}

/// Has a store carry out a command, as the leader of a group proposes it.
fn write(store: &RwLock<RangeStore>, command: Bytes) -> Bytes {
    let mut store = store.write();
    let command = store.admission().stamp(command);
    store.apply(&command)
}

/// The store of a range.
enum RangeStore {
    Memory(Store),
    Disk { store: DiskStore, last: LogId },
}

impl RangeStore {
    fn time(&self) -> Arc<GroupTime> {
        match self {
            Self::Memory(store) => store.time(),
            Self::Disk { store, .. } => store.time(),
        }
    }

    fn admission(&self) -> StoreAdmission {
        match self {
            Self::Memory(store) => store.admission(),
            Self::Disk { store, .. } => store.admission(),
        }
    }

    fn apply(&mut self, command: &Bytes) -> Bytes {
        match self {
            Self::Memory(store) => store.apply(command),
            Self::Disk { store, last } => {
                last.index = last.index.next();
                store.apply_alone(command, *last).expect("the tables take what is written")
            }
        }
    }

    fn query(&self, query: Bytes) -> Bytes {
        match self {
            Self::Memory(store) => store.query(&query),
            Self::Disk { store, .. } => {
                let reader = store.reader().expect("a store on disk has one");
                reader.query(query).expect("the tables can be read")
            }
        }
    }
}

/// Answers that were there at once.
#[derive(Debug)]
pub struct Immediate(Vec<StoreAnswer>);

impl StoreAnswers for Immediate {
    async fn next(&mut self) -> Option<Vec<StoreAnswer>> {
        let answers = std::mem::take(&mut self.0);
        (!answers.is_empty()).then_some(answers)
    }

    fn hurry(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_lies_within_the_bounds_of_its_range() {
        let backend = MemoryBackend::even(Partition::Hash, 7, Limits::default());
        assert_eq!(backend.ranges(), 7);
        for slot in 0..=u16::MAX {
            let key = slot.to_be_bytes();
            let (start, end) = backend.bounds(backend.range_of(&key));
            assert!(start <= key[..] && end.is_none_or(|end| key[..] < end));
        }
        assert_eq!(backend.range_of(b""), RangeId(0));
    }
}
