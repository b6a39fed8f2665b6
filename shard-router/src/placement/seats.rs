//! What the rules look up of each node, and the zones.

use super::facts::{GroupFacts, Heard, NodeFacts, NodeState, Settings};
use super::standing::Standing;
use logboat::NodeId;
use std::collections::BTreeMap;

/// A whole replica, as loads count it. A group that is about to give up a voter counts for a part
/// of a replica less on each of them, since it is open which one goes.
pub(super) const ONE: i64 = 1_000;

/// What the rules look up of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// What its replicas are worth.
    pub(super) standing: Standing,
    /// The number of its zone.
    pub(super) zone: u32,
    /// Its replicas, in thousandths.
    pub(super) load: i64,
    /// What may yet go of that and come to it, while it is open which voters groups give up.
    pub(super) open: Open,
    /// How many groups lead here when nothing is wrong.
    pub(super) leads: usize,
    /// Copies that it receives.
    pub(super) arriving: Traffic,
    /// Copies that it sends.
    pub(super) sending: Traffic,
    /// Transfers away from it that the round has begun.
    pub(super) handing_over: usize,
    /// Transfers to it that the round has begun.
    pub(super) taking_over: usize,
}

impl Seat {
    /// Of a node of which nothing is known but that a group names it.
    pub(super) const UNKNOWN: Self = Self {
        standing: Standing::Silent,
        zone: 0,
        load: 0,
        open: Open { goes: 0, comes: 0 },
        leads: 0,
        arriving: Traffic::NONE,
        sending: Traffic::NONE,
        handing_over: 0,
        taking_over: 0,
    };
}

/// How much less, and how much more, than its load a replica or a node may come to count, in
/// thousandths of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) goes: i64,
    pub(super) comes: i64,
}

impl Seat {
    /// Adds what a replica counts, or takes it away (`sign` is -1).
    pub(super) const fn count(&mut self, (load, open): (i64, Open), sign: i64) {
        self.load += sign * load;
        self.open.goes += sign * open.goes;
        self.open.comes += sign * open.comes;
    }
}

/// Copies that a node receives, or that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    copies: usize,
    bytes: u64,
    /// Copies of which only their number is known.
    pub(super) others: usize,
}

impl Traffic {
    const NONE: Self = Self { copies: 0, bytes: 0, others: 0 };

    /// Adds copies of as many bytes each.
    pub(super) const fn add(&mut self, copies: usize, bytes: u64) {
        self.copies += copies;
        self.bytes += copies as u64 * bytes;
    }

    /// Takes back what was added.
    pub(super) const fn subtract(&mut self, copies: usize, bytes: u64) {
        self.copies -= copies;
        self.bytes -= copies as u64 * bytes;
    }

    /// Whether another copy of this size may begin, where so many may be under way, or so many
    /// bytes of smaller ones.
    pub(super) const fn has_room(&self, bytes: u64, most_copies: usize, most_bytes: u64) -> bool {
        self.copies + self.others < most_copies
            || self.bytes.saturating_add(bytes) <= most_bytes && self.others < most_copies
    }
}

/// How many replicas a load is, for people.
pub(super) fn whole(load: i64) -> usize {
    usize::try_from((load + ONE / 2) / ONE).unwrap_or(0)
}

/// All nodes, and what follows from them for every group.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats {
    seats: BTreeMap<NodeId, Seat>,
    /// How many voters each group should have.
    pub(super) wanted: usize,
    /// The fewest pairs of voters in one zone that a group can have.
    least_pairs: usize,
    /// How many nodes take new replicas.
    takers: usize,
}

impl Seats {
    pub(super) fn seat(&self, node: NodeId) -> &Seat {
        self.seats.get(&node).unwrap_or(&Seat::UNKNOWN)
    }

    pub(super) fn seat_mut(&mut self, node: NodeId) -> &mut Seat {
        self.seats.entry(node).or_insert(Seat::UNKNOWN)
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.seats.remove(&node);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Seat)> + Clone {
        self.seats.iter().map(|(node, seat)| (*node, seat))
    }

    /// The nodes that take new replicas.
    pub(super) fn takers(&self) -> impl Iterator<Item = (NodeId, &Seat)> + Clone {
        self.iter().filter(|(_, seat)| seat.standing == Standing::Takes)
    }

    pub(super) fn standing(&self, node: NodeId) -> Standing {
        self.seat(node).standing
    }

    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        self.standing(node).is_alive()
    }

    /// Whether there is a node that could take another replica of the group.
    pub(super) fn has_room_for(&self, facts: &GroupFacts) -> bool {
        let takes = |node| self.standing(node) == Standing::Takes;
        self.takers > facts.replicas.iter().filter(|replica| takes(replica.node)).count()
    }

    /// How many pairs of these nodes are in one zone.
    pub(super) fn pairs(&self, nodes: impl Iterator<Item = NodeId> + Clone) -> usize {
        let mut later = nodes.clone();
        let pairs = nodes.map(|node| {
            later.next();
            let zone = self.seat(node).zone;
            later.clone().filter(|other| self.seat(*other).zone == zone).count()
        });
        pairs.sum()
    }

    /// Whether these voters share zones more than they have to.
    pub(super) fn is_crowded(&self, voters: impl Iterator<Item = NodeId> + Clone) -> bool {
        self.pairs(voters) > self.least_pairs
    }

    /// Sees the nodes again. Returns those whose standing is another, and whether something is that
    /// counts for all groups.
    pub(super) fn refresh(
        &mut self,
        nodes: &BTreeMap<NodeId, NodeFacts>,
        settings: &Settings,
        now: std::time::Duration,
    ) -> (Vec<NodeId>, bool) {
        let is_late = |facts: &NodeFacts| match facts.heard {
            Heard::Now => false,
            Heard::SilentSince(since) => now.saturating_sub(since) >= settings.lost_after,
        };
        let known = nodes.values().filter(|facts| facts.state != NodeState::Lost);
        let alive = known.clone().filter(|facts| facts.heard == Heard::Now).count();
        // Where most are silent, the fault is more likely here than there.
        let may_be_lost = alive * 2 > known.count();
        let mut changed = Vec::new();
        for (&node, seat) in &mut self.seats {
            let standing = nodes.get(&node).map_or(Standing::Silent, |facts| {
                Standing::of(facts, may_be_lost && is_late(facts))
            });
            if seat.standing != standing {
                seat.standing = standing;
                changed.push(node);
            }
        }
        let counted = nodes.keys().filter(|node| self.standing(**node).counts()).count();
        let (before, takers) = ((self.wanted, self.least_pairs), self.takers);
        self.wanted = settings.replicas.min(counted).max(1);
        self.least_pairs = self.fewest_pairs();
        self.takers = self.takers().count();
        // With so few of them, a group may have members on all.
        let room_may_differ =
            takers != self.takers && takers.min(self.takers) <= settings.replicas + 2;
        (changed, room_may_differ || before != (self.wanted, self.least_pairs))
    }

    /// The fewest pairs in one zone that as many voters as wanted can make on the nodes that take
    /// replicas.
    fn fewest_pairs(&self) -> usize {
        let mut zones: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        for (_, seat) in self.takers() {
            zones.entry(seat.zone).or_default().1 += 1;
        }
        let mut pairs = 0;
        for _ in 0..self.wanted {
            let open = zones.values_mut().filter(|(voters, nodes)| voters < nodes);
            if let Some((voters, _)) = open.min_by_key(|(voters, _)| *voters) {
                pairs += *voters;
                *voters += 1;
            }
        }
        pairs
    }
}
