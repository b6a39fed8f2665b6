//! Misplaced leaders: replicas that lead here though another node is preferred. Leadership goes
//! back there (leader rebalancing) when that node has been up for a while.

use crate::turn::slot::SlotIndex;
use logboat_raft::NodeId;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// The replicas that led here when they ran last, by preferred node.
#[derive(Default)]
pub(super) struct MisplacedLeaders(FxHashMap<NodeId, Leaders>);

#[derive(Default)]
struct Leaders {
    slots: BTreeSet<SlotIndex>,
    /// The first one whose turn it is.
    next: SlotIndex,
}

impl MisplacedLeaders {
    pub(super) fn is_empty(&self) -> bool {
        self.0.values().all(|leaders| leaders.slots.is_empty())
    }

    /// Notes that a replica leads here although `preferred` should.
    pub(super) fn add(&mut self, preferred: NodeId, slot: SlotIndex) {
        self.0.entry(preferred).or_default().slots.insert(slot);
    }

    /// Notes that this is so no more.
    pub(super) fn remove(&mut self, preferred: NodeId, slot: SlotIndex) {
        if let Some(leaders) = self.0.get_mut(&preferred) {
            leaders.slots.remove(&slot);
        }
    }

    /// At `most` so many of the replicas that `preferred` should lead, in turn.
    pub(super) fn next(&mut self, preferred: NodeId, most: usize) -> Vec<SlotIndex> {
        let Some(Leaders { slots, next }) = self.0.get_mut(&preferred) else {
            return Vec::new();
        };
        let in_turn = slots.range(*next..).chain(slots.range(..*next));
        let taken: Vec<_> = in_turn.take(most).copied().collect();
        if let Some(last) = taken.last() {
            *next = SlotIndex(last.0 + 1);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_have_their_turn_and_are_listed_once() {
        let (mut misplaced, node) = (MisplacedLeaders::default(), NodeId(2));
        assert!(misplaced.next(node, 2).is_empty());
        for _ in 0..100 {
            (0..5).map(SlotIndex).for_each(|slot| misplaced.add(node, slot));
        }
        let mut next =
            || misplaced.next(node, 2).into_iter().map(|slot| slot.0).collect::<Vec<_>>();
        assert_eq!([next(), next(), next()], [[0, 1], [2, 3], [4, 0]]);
        misplaced.remove(node, SlotIndex(1));
        assert_eq!(misplaced.next(node, 9).len(), 4);
        (0..5).map(SlotIndex).for_each(|slot| misplaced.remove(node, slot));
        assert!(misplaced.is_empty());
    }
}
