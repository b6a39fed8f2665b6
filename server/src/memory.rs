//! A [`Backend`] in memory: the ranges of one process, without replication. It lets the whole
//! Redis front be tested, and shows what a backend must do.

use crate::backend::{
    Access, Backend, BackendError, RangeId, StoreAnswer, StoreAnswers, StoreRequest,
};
use crate::kv::{GroupTime, NodeClock, Store};
use crate::layout::Partition;
use crate::limits::Limits;
use bytes::Bytes;
use logboat::CommandAdmission;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stores in memory, one a range.
#[derive(Clone, Debug)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    partition: Partition,
    limits: Limits,
    /// The first stored key of each range; the first one is empty.
    starts: Vec<Bytes>,
    stores: Vec<RwLock<Store>>,
    faults: Mutex<BTreeMap<RangeId, BackendError>>,
}

impl MemoryBackend {
    /// A backend whose ranges are cut at `splits`, which are sorted by the call.
    #[must_use]
    pub fn new(partition: Partition, mut splits: Vec<Bytes>, limits: Limits) -> Self {
        splits.push(Bytes::new());
        splits.sort();
        splits.dedup();
        let stores = splits.iter().map(|_| RwLock::default()).collect();
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
            *store.write() = Store::timed(Arc::default(), time);
        }
        backend
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
                Access::Read | Access::ReadHere => store.read().query(&body),
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
        Ok(self.shared.stores[range.0].read().query(&query))
    }
}

/// Has a store carry out a command, as the leader of a group proposes it.
fn write(store: &RwLock<Store>, command: Bytes) -> Bytes {
    let mut store = store.write();
    let command = store.admission().stamp(command);
    store.apply(&command)
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
