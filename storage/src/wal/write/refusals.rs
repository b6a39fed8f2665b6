//! The groups whose writes the log refuses, since they can't be: mistakes of who submits, and
//! groups whose replicas were given up. Such a group has written nothing from its first refused
//! write on. The log goes on for all others.

use crate::wal::error::Refusal;
use logboat_raft::GroupId;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Which groups' writes are refused, and why. The thread that writes fills it in before the batch
/// of a refused write is durable. So a completion finds there whatever was refused up to its batch.
///
/// Nothing that rests on a write of such a group is durable, not even an empty one: no promise of
/// the group may be made any more.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Whether there are any: this is asked for every batch, and nearly always there are none.
    any: AtomicBool,
    groups: Mutex<FxHashMap<GroupId, Arc<Refusal>>>,
}

impl Refusals {
    /// Whether no group is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Why the writes of a group are refused, if they are.
    #[must_use]
    pub fn of(&self, group: GroupId) -> Option<Arc<Refusal>> {
        if self.is_empty() { None } else { self.groups.lock().get(&group).cloned() }
    }

    /// Refuses the writes of a group from now on. The first reason stays, but that its tombstone
    /// could not be written is said in any case.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        tracing::error!("the log refuses the writes of a group: {refusal}");
        let (group, mut groups) = (refusal.group(), self.groups.lock());
        if refusal.is_of_tombstone() || !groups.contains_key(&group) {
            groups.insert(group, Arc::new(refusal));
        }
        self.any.store(true, Ordering::Release);
    }

    /// Takes writes of the group again.
    pub(crate) fn readmit(&self, group: GroupId) {
        if !self.is_empty() {
            let mut groups = self.groups.lock();
            groups.remove(&group);
            self.any.store(!groups.is_empty(), Ordering::Release);
        }
    }
}
