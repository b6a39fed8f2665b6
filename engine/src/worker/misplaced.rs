//! Misplaced leaders: replicas that lead here though another node is preferred. Leadership goes
//! back there (leader rebalancing) when that node has been up for a while.

use crate::turn::slot::Slot;
use logboat_raft::NodeId;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// The replicas that led here when they ran last, by preferred node.
#[derive(Default)]
pub(super) struct MisplacedLeaders(FxHashMap<NodeId, VecDeque<Slot>>);

impl MisplacedLeaders {
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(VecDeque::is_empty)
    }

    /// Notes that a replica leads here although `preferred` should.
    pub(super) fn add(&mut self, preferred: NodeId, slot: Slot) {
        self.0.entry(preferred).or_default().push_back(slot);
    }

    /// Takes out at `most` so many of the replicas that `preferred` should lead, oldest first.
    pub(super) fn take(&mut self, preferred: NodeId, most: usize) -> Vec<Slot> {
        let Some(slots) = self.0.get_mut(&preferred) else {
            return Vec::new();
        };
        slots.drain(..most.min(slots.len())).collect()
    }
}
