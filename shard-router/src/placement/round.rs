//! A round of placement: from what is known to a few steps.

use super::cluster::Cluster;
use super::facts::{GroupFacts, Settings};
use super::mend::{self, Outcome};
use super::need::{Judged, Need};
use super::safety;
use super::seats::{Seat, Seats};
use super::step::{Act, Step, Why};
use logboat::GroupId;
use rustc_hash::FxHashSet;
use std::collections::BTreeSet;

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The steps, the most urgent ones first.
    pub steps: Vec<Step>,
    /// How many groups of those that were looked at wait until their leader or another node may
    /// send or receive a copy.
    pub paced: usize,
}

/// How many groups of each need a round looks at, for each step that it may have.
const LOOKS_A_STEP: usize = 4;

/// A round while it is being made.
pub(super) struct Planner<'a> {
    pub(super) cluster: &'a Cluster,
    /// The nodes as they will be when the steps so far have begun.
    pub(super) seats: Seats,
    pub(super) round: Round,
    /// The groups that have a step.
    pub(super) touched: FxHashSet<GroupId>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            seats: cluster.seats.clone(),
            round: Round::default(),
            touched: FxHashSet::default(),
        }
    }

    pub(super) fn run(mut self) -> Round {
        for need in Need::ACTIONABLE {
            self.help(need);
        }
        let copies = Need::ACTIONABLE.iter().filter(|need| need.is_copy());
        if copies.clone().all(|need| self.cluster.needing(*need).is_none()) {
            self.even_replicas();
        }
        self.even_leaders();
        self.round
    }

    /// Whether the round has as many steps as it may.
    pub(super) fn is_full(&self) -> bool {
        self.round.steps.len() >= self.cluster.settings.steps
    }

    /// Looks for steps for the groups of a need.
    fn help(&mut self, need: Need) {
        let Some(groups) = self.cluster.needing(need) else { return };
        let looks = self.cluster.settings.steps.saturating_mul(LOOKS_A_STEP);
        for group in self.rotated(groups).take(looks) {
            if self.is_full() || need.is_copy() && !self.has_free_receiver() {
                return;
            }
            let facts = self.cluster.group(group).expect("the index names known groups");
            match mend::plan(self, need, facts) {
                Outcome::Step(act, why) => self.take(group, facts, act, why),
                Outcome::Paced => self.round.paced += 1,
                Outcome::Waits => {}
            }
        }
    }

    /// Adds a step, unless it could do harm.
    pub(super) fn take(&mut self, group: GroupId, facts: &GroupFacts, act: Act, why: Why) {
        if safety::check(&self.seats, facts, &act).is_err() {
            return;
        }
        let mut foreseen = facts.clone();
        foreseen.foresee(&act);
        for (facts, sign) in [(facts, -1), (&foreseen, 1)] {
            for replica in &facts.replicas {
                let judged = Judged::new(&self.seats, facts);
                let counts = (judged.load(replica), judged.open(replica));
                self.seats.seat_mut(replica.node).count(counts, sign);
            }
        }
        match act {
            Act::Voters { .. } | Act::Remove(_) => {}
            Act::AddLearner(node) => {
                self.seats.seat_mut(node).arriving.add(1, facts.bytes);
                if let Some(leader) = facts.leader {
                    self.seats.seat_mut(leader).sending.add(1, facts.bytes);
                }
                self.seats.spend(facts.leader, node, facts.bytes);
            }
            Act::Transfer { from, to } => {
                let seat = self.seats.seat_mut(from);
                seat.handing_over += 1;
                seat.leads = seat.leads.saturating_sub(usize::from(facts.home() == Some(from)));
                let seat = self.seats.seat_mut(to);
                seat.taking_over += 1;
                seat.leads += usize::from(facts.home() != Some(to));
            }
        }
        self.touched.insert(group);
        let configuration = facts.configuration;
        self.round.steps.push(Step { group, configuration, act, why });
    }

    /// The groups in their order, from a place on that differs from one moment to the next.
    pub(super) fn rotated<'g>(
        &self,
        groups: &'g BTreeSet<GroupId>,
    ) -> impl Iterator<Item = GroupId> + use<'g> {
        let nanos = u64::try_from(self.cluster.now.as_nanos()).unwrap_or(u64::MAX);
        let last = groups.last().map_or(0, |group| group.0);
        let start = GroupId(scatter(nanos) % last.saturating_add(1).max(1));
        groups.range(start..).chain(groups.range(..start)).copied()
    }

    /// Whether the group's leader may send a copy of it now.
    pub(super) fn may_send(&self, facts: &GroupFacts) -> bool {
        let Settings { copies_out, copy_bytes, .. } = self.cluster.settings;
        facts.leader.is_some_and(|leader| {
            self.seats.seat(leader).sending.has_room(facts.bytes, copies_out, copy_bytes)
        })
    }

    /// Whether a node may receive a copy of as many bytes now.
    pub(super) fn may_receive(&self, seat: &Seat, bytes: u64) -> bool {
        let Settings { copies_in, copy_bytes, .. } = self.cluster.settings;
        seat.arriving.has_room(bytes, copies_in, copy_bytes)
    }

    fn has_free_receiver(&self) -> bool {
        self.seats.takers().any(|(_, seat)| self.may_receive(seat, 1))
    }
}

/// A number that looks random, and is the same for the same `seed` (splitmix64).
const fn scatter(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}
