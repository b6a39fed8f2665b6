//! What the rules look up of each node, and the zones.

use super::facts::{GroupFacts, Heard, NodeFacts, Settings};
use super::standing::Standing;
use crate::table::NodeState;
use logboat::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// A whole replica, as loads count it. A group that is about to give up a voter counts for a part
/// of a replica less on each of them, since it is open which one goes.
pub(super) const ONE: i64 = 1_000;

/// Copies may begin until those that have begun take so long: those of small groups begin together.
const BURST: Duration = Duration::from_millis(100);

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
    /// How long the copies that have begun take, by how many bytes may begin in a second.
    owed: Duration,
}

impl Traffic {
    const NONE: Self = Self { copies: 0, bytes: 0, others: 0, owed: Duration::ZERO };

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
    pub(super) fn has_room(&self, bytes: u64, most_copies: usize, most_bytes: u64) -> bool {
        self.owed <= BURST
            && (self.copies + self.others < most_copies
                || self.bytes.saturating_add(bytes) <= most_bytes && self.others < most_copies)
    }

    /// A copy of so many bytes begins, of which so many may in a second.
    fn begin(&mut self, bytes: u64, bytes_per_s: u64) {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(bytes_per_s);
        self.owed += Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
    }
}

/// How many replicas a load is, for people.
pub(super) fn whole(load: i64) -> usize {
    usize::try_from((load + ONE / 2) / ONE).unwrap_or(0)
}

/// The most voters that a group is to have which says itself how many, in all that refers to all
/// groups at once.
const MOST_WANTED: usize = 5;

/// All nodes, and what follows from them for every group.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats {
    seats: BTreeMap<NodeId, Seat>,
    /// How many voters each group should have.
    pub(super) wanted: usize,
    /// How many nodes count when the number of replicas is compared with that of the nodes.
    counted: usize,
    /// The fewest pairs of voters in one zone that a group can have, by the number of its voters.
    least_pairs: Vec<usize>,
    copy_bytes_per_s: u64,
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
    pub(super) fn is_crowded(
        &self,
        voters: impl Iterator<Item = NodeId> + Clone,
        wanted: usize,
    ) -> bool {
        self.least_pairs.get(wanted).is_some_and(|least| self.pairs(voters) > *least)
    }

    /// How many voters a group can have that is to have so many.
    pub(super) fn at_most(&self, wanted: usize) -> usize {
        wanted.min(self.counted).max(1)
    }

    /// Time has passed: more copies may begin.
    pub(super) fn gain(&mut self, elapsed: Duration) {
        for seat in self.seats.values_mut() {
            for traffic in [&mut seat.arriving, &mut seat.sending] {
                traffic.owed = traffic.owed.saturating_sub(elapsed);
            }
        }
    }

    /// A copy begins.
    pub(super) fn spend(&mut self, leader: Option<NodeId>, to: NodeId, bytes: u64) {
        let bytes_per_s = self.copy_bytes_per_s;
        if bytes_per_s > 0 {
            self.seat_mut(to).arriving.begin(bytes, bytes_per_s);
            if let Some(leader) = leader {
                self.seat_mut(leader).sending.begin(bytes, bytes_per_s);
            }
        }
    }

    /// Sees the nodes again. Returns those whose standing is another, and whether something is that
    /// counts for all groups.
    pub(super) fn refresh(
        &mut self,
        nodes: &BTreeMap<NodeId, NodeFacts>,
        settings: &Settings,
        now: Duration,
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
        self.copy_bytes_per_s = settings.copy_bytes_per_s;
        // Some groups have more than others.
        let most = settings.replicas.max(MOST_WANTED);
        let takers = std::mem::take(&mut self.takers);
        let pairs = std::mem::take(&mut self.least_pairs);
        let counts = (self.wanted, self.at_most(most));
        self.counted = counted;
        self.wanted = self.at_most(settings.replicas);
        self.least_pairs = self.fewest_pairs(most);
        self.takers = self.takers().count();
        // With so few of them, a group may have members on all.
        let room_may_differ = takers != self.takers && takers.min(self.takers) <= most + 2;
        let differs = counts != (self.wanted, self.at_most(most)) || pairs != self.least_pairs;
        (changed, room_may_differ || differs)
    }

    /// The fewest pairs in one zone that so many voters can make on the nodes that take replicas,
    /// for each number up to `most`.
    fn fewest_pairs(&self, most: usize) -> Vec<usize> {
        let mut zones: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
        for (_, seat) in self.takers() {
            zones.entry(seat.zone).or_default().1 += 1;
        }
        let mut pairs = 0;
        let mut by_count = vec![0];
        for _ in 0..most {
            let open = zones.values_mut().filter(|(voters, nodes)| voters < nodes);
            if let Some((voters, _)) = open.min_by_key(|(voters, _)| *voters) {
                pairs += *voters;
                *voters += 1;
            }
            by_count.push(pairs);
        }
        by_count
    }
}
