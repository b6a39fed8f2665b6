//! Balance: replicas and leaders are evened out over the nodes.
//!
//! Every move makes two nodes more alike that differ by two at the least. So the sum of the squares
//! of what nodes have falls with each, and moves come to an end.

use super::facts::GroupFacts;
use super::mend::keeps_zones;
use super::need::{Judged, Need};
use super::round::Planner;
use super::seats::{ONE, whole};
use super::step::{Act, Why};
use logboat::{GroupId, NodeId};
use std::cmp::Reverse;

/// How many groups are looked at for one move from a node to another.
const LOOKS: usize = 256;

/// How many groups a round looks at for moves, for each step that it may have.
const LOOKS_A_STEP: usize = 64;

/// How far from the mean a node may be before anything moves: a share of it, and at least one.
const TOLERATED_SHARE: i64 = 100;

/// What nodes have on average, and between what they may stay.
struct Band {
    mean: i64,
    low: i64,
    high: i64,
}

impl Band {
    /// Of what these nodes have, where `one` is the smallest amount that can move.
    fn of(amounts: impl Iterator<Item = i64> + Clone, one: i64) -> Option<Self> {
        let nodes = i64::try_from(amounts.clone().count()).ok().filter(|nodes| *nodes > 1)?;
        let mean = amounts.sum::<i64>() / nodes;
        let margin = (mean / TOLERATED_SHARE).max(one);
        Some(Self { mean, low: mean - margin, high: mean + margin })
    }

    /// Whether something should move from one to the other.
    fn asks(&self, from: i64, to: i64, one: i64) -> bool {
        let is_toward_mean = from >= self.mean && to <= self.mean && from - to >= 2 * one;
        is_toward_mean && (from > self.high || to < self.low || self.is_small(one))
    }

    /// Whether the margin is the smallest amount: then nodes differ by less than two in the end.
    fn is_small(&self, one: i64) -> bool {
        self.high - self.low <= 2 * one
    }
}

/// A group that was found for a move.
type Found<'a> = Option<(GroupId, &'a GroupFacts)>;

impl<'a> Planner<'a> {
    /// Moves replicas from nodes with many to nodes with few.
    pub(super) fn even_replicas(&mut self) {
        let loads = self.seats.takers().map(|(_, seat)| seat.load);
        let Some(band) = Band::of(loads, ONE) else { return };
        let mut looks = self.cluster.settings.steps.saturating_mul(LOOKS_A_STEP);
        let mut receivers: Vec<_> =
            self.seats.takers().map(|(node, seat)| (seat.load, node)).collect();
        receivers.sort_unstable();
        for (_, to) in receivers {
            while looks > 0 && !self.is_full() && self.move_to(&band, to, &mut looks) {}
        }
    }

    /// Begins to move a replica to a node. `looks` is how many groups may still be looked at.
    ///
    /// Moves under way may end either way, so a node is taken to give away all that it may, and
    /// another to keep all that it may get. A move that is begun is then wanted however those end:
    /// otherwise two moves could each be taken back because of the other, for ever.
    fn move_to(&mut self, band: &Band, to: NodeId, looks: &mut usize) -> bool {
        let receiver = *self.seats.seat(to);
        if !self.may_receive(&receiver, 1) {
            return false;
        }
        let mut senders: Vec<_> = self
            .seats
            .takers()
            .map(|(node, seat)| (Reverse(seat.load - seat.open.goes), node))
            .collect();
        senders.sort_unstable();
        for (Reverse(load), from) in senders {
            if !band.asks(load, receiver.load + receiver.open.comes, ONE) {
                return false;
            }
            let Some((group, facts)) = self.movable(from, to, looks) else { continue };
            let (has, other) = (whole(load), whole(receiver.load));
            self.take(group, facts, Act::AddLearner(to), Why::Replicas { node: from, has, other });
            return true;
        }
        false
    }

    /// A group that may move from one node to another. One that leads elsewhere is preferred: it
    /// has nothing to hand over.
    fn movable(&self, from: NodeId, to: NodeId, looks: &mut usize) -> Found<'a> {
        let groups = self.cluster.on_node(from)?;
        let mut led = None;
        for group in self.rotated(&groups.holds).take(LOOKS.min(*looks)) {
            *looks -= 1;
            let Some(facts) = self.resting(group) else { continue };
            let may_move = facts.replica(to).is_none()
                && self.may_send(facts)
                && self.may_receive(self.seats.seat(to), facts.bytes)
                && keeps_zones(&self.seats, facts, from, to);
            if may_move && facts.leader != Some(from) {
                return Some((group, facts));
            }
            led = led.or(may_move.then_some((group, facts)));
        }
        led
    }

    /// The facts of a group that needs nothing, has no step yet, and whose voters all live.
    fn resting(&self, group: GroupId) -> Option<&'a GroupFacts> {
        let rests = self.cluster.need(group) == Some(Need::Nothing);
        let facts =
            self.cluster.group(group).filter(|_| rests && !self.touched.contains(&group))?;
        facts.voters().all(|node| self.seats.is_alive(node)).then_some(facts)
    }

    /// Moves leaders from nodes with many to nodes with few.
    pub(super) fn even_leaders(&mut self) {
        let leads = self.seats.takers().map(|(_, seat)| amount(seat.leads));
        let Some(band) = Band::of(leads, 1) else { return };
        let mut looks = self.cluster.settings.steps.saturating_mul(LOOKS_A_STEP);
        let mut nodes: Vec<_> =
            self.seats.takers().map(|(node, seat)| (seat.leads, node)).collect();
        nodes.sort_unstable();
        for &(_, from) in nodes.iter().rev() {
            while looks > 0 && !self.is_full() && self.lead_less(&band, from, &mut looks) {}
        }
        for &(_, to) in &nodes {
            while looks > 0 && !self.is_full() && self.lead_more(&band, to, &mut looks) {}
        }
    }

    /// Begins to transfer a group away from a node that leads many.
    fn lead_less(&mut self, band: &Band, from: NodeId, looks: &mut usize) -> bool {
        let giver = self.seats.seat(from);
        let has_few = amount(giver.leads) <= band.high && !band.is_small(1);
        if has_few || giver.handing_over >= self.cluster.settings.transfers {
            return false;
        }
        let Some(groups) = self.cluster.on_node(from) else { return false };
        for group in self.rotated(&groups.leads).take(LOOKS.min(*looks)) {
            *looks -= 1;
            let Some(facts) = self.resting(group) else { continue };
            let leads = |node: &NodeId| (self.seats.seat(*node).leads, *node);
            let successors = facts.voters().filter(|node| *node != from);
            let Some(to) = successors.min_by_key(leads) else { continue };
            if self.transfer(band, group, facts, from, to) {
                return true;
            }
        }
        false
    }

    /// Begins to transfer a group to a node that leads few.
    fn lead_more(&mut self, band: &Band, to: NodeId, looks: &mut usize) -> bool {
        let taker = self.seats.seat(to);
        let has_many = amount(taker.leads) >= band.low;
        if has_many || taker.taking_over >= self.cluster.settings.transfers {
            return false;
        }
        let Some(groups) = self.cluster.on_node(to) else { return false };
        for group in self.rotated(&groups.holds).take(LOOKS.min(*looks)) {
            *looks -= 1;
            let Some(facts) = self.resting(group) else { continue };
            let Some(from) = facts.home().filter(|home| *home != to) else { continue };
            if self.transfer(band, group, facts, from, to) {
                return true;
            }
        }
        false
    }

    /// Begins a transfer, if that makes the two nodes more alike and they may take part in one.
    fn transfer(
        &mut self,
        band: &Band,
        group: GroupId,
        facts: &GroupFacts,
        from: NodeId,
        to: NodeId,
    ) -> bool {
        let most = self.cluster.settings.transfers;
        let (giver, taker) = (self.seats.seat(from), self.seats.seat(to));
        let is_paced = giver.handing_over >= most || taker.taking_over >= most;
        let may_lead =
            facts.replica(to).is_some_and(|it| Judged::new(&self.seats, facts).may_lead(it));
        if is_paced || !may_lead || !band.asks(amount(giver.leads), amount(taker.leads), 1) {
            return false;
        }
        let why = Why::Leaders { node: from, has: giver.leads, other: taker.leads };
        self.take(group, facts, Act::Transfer { from, to }, why);
        true
    }
}

fn amount(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
