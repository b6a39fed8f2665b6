//! The three voters of a group, by their places in it.

use crate::random::SplitMix64;
use logboat_raft::NodeId;

/// A voter's place in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Second,
    Third,
}

impl Place {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];
    /// The voter that should lead.
    pub(super) const PREFERRED: Self = Self::First;

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Some of the places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places(u8);

impl Places {
    pub(super) const fn all() -> Self {
        Self(0b111)
    }

    pub(super) const fn with(self, place: Place) -> Self {
        Self(self.0 | 1 << place.index())
    }

    pub(super) const fn without(self, place: Place) -> Self {
        Self(self.0 & !(1 << place.index()))
    }

    pub(super) const fn contains(self, place: Place) -> bool {
        self.0 & 1 << place.index() != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn is_majority(self) -> bool {
        self.0.count_ones() as usize > Place::ALL.len() / 2
    }
}

/// The nodes of a group's voters; the first is preferred.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voters([u16; 3]);

impl Voters {
    /// Three different ones of so many nodes, of which there are three or more.
    pub(super) fn draw(random: &mut SplitMix64, nodes: u16) -> Self {
        let mut drawn = [0; 3];
        let mut count = 0;
        while count < drawn.len() {
            let node = u16::try_from(random.draw() % u64::from(nodes)).expect("below a u16") + 1;
            if !drawn[..count].contains(&node) {
                drawn[count] = node;
                count += 1;
            }
        }
        Self(drawn)
    }

    pub(super) fn node(self, place: Place) -> NodeId {
        NodeId(u64::from(self.0[place.index()]))
    }

    pub(super) fn nodes(self) -> impl Iterator<Item = NodeId> {
        self.0.into_iter().map(|node| NodeId(u64::from(node)))
    }

    /// Whether `a` succeeds a lost leader before `b` does: `Replica::succession_deadline` in
    /// `raft/src/replica.rs` has this order.
    pub(super) fn precedes(self, group: usize, a: Place, b: Place) -> bool {
        let order = |place: Place| {
            let node = self.node(place);
            let hash = (group as u64).wrapping_mul(0x2545_f491_4f6c_dd1d) ^ node.0;
            (place != Place::PREFERRED, SplitMix64::new(hash).draw(), node)
        };
        order(a) < order(b)
    }
}
