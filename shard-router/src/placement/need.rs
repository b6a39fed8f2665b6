//! What a group needs, whatever the loads of nodes are.

use super::facts::{Condition, GroupFacts, Replica};
use super::seats::{ONE, Open, Seats};
use logboat::{MemberRole, NodeId};

/// What a group needs first. The order is the one in which groups are helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// A learner has caught up, and voters are missing.
    Promotion,
    /// A voter that is dead, damaged or more than wanted has to learn.
    Demotion,
    /// The leader has to be elsewhere.
    Transfer,
    /// A learner has to go.
    Removal,
    /// There are as many voters as wanted, and a learner.
    Settlement,
    /// With one more loss the group has no majority, and a replica is missing.
    CriticalCopy,
    /// A voter is lost or missing.
    Copy,
    /// All voters live, and one of them has to be elsewhere.
    Move,
    /// Voters share a zone, and another zone has none.
    Spread,
    /// Replicas are being copied.
    Copying,
    /// A replica is missing, and no node can take it.
    NoRoom,
    /// A change is under way.
    Changing,
    /// Nobody leads the group, so nothing can be changed.
    Leaderless,
    /// Nothing.
    Nothing,
}

impl Need {
    /// The needs that a step can help with, in their order.
    pub(super) const ACTIONABLE: [Self; 9] = [
        Self::Promotion,
        Self::Demotion,
        Self::Transfer,
        Self::Removal,
        Self::Settlement,
        Self::CriticalCopy,
        Self::Copy,
        Self::Move,
        Self::Spread,
    ];

    /// Whether it takes a copy of the group to help.
    pub(super) const fn is_copy(self) -> bool {
        matches!(self, Self::CriticalCopy | Self::Copy | Self::Move | Self::Spread)
    }
}

/// The replicas of a group, judged by the nodes that they are on.
pub(super) struct Judged<'a> {
    pub(super) seats: &'a Seats,
    pub(super) facts: &'a GroupFacts,
}

impl<'a> Judged<'a> {
    pub(super) const fn new(seats: &'a Seats, facts: &'a GroupFacts) -> Self {
        Self { seats, facts }
    }

    /// How many voters the group should have.
    pub(super) fn wanted(&self) -> usize {
        self.facts.wanted.map_or(self.seats.wanted, |wanted| self.seats.at_most(wanted))
    }

    fn of_role(&self, role: MemberRole) -> impl Iterator<Item = &'a Replica> + Clone {
        self.facts.replicas.iter().filter(move |replica| replica.role == role)
    }

    pub(super) fn voters(&self) -> impl Iterator<Item = &'a Replica> + Clone {
        self.of_role(MemberRole::Voter)
    }

    pub(super) fn learners(&self) -> impl Iterator<Item = &'a Replica> + Clone {
        self.of_role(MemberRole::Learner)
    }

    /// Whether the replica answers.
    pub(super) fn is_live(&self, replica: &Replica) -> bool {
        replica.condition != Condition::Damaged && self.seats.is_alive(replica.node)
    }

    /// Whether the replica never comes back.
    pub(super) fn is_dead(&self, replica: &Replica) -> bool {
        replica.condition == Condition::Damaged || self.seats.standing(replica.node).is_dead()
    }

    /// Whether the replica may stay where it is.
    pub(super) fn stays(&self, replica: &Replica) -> bool {
        replica.condition != Condition::Damaged && self.seats.standing(replica.node).keeps()
    }

    /// Whether the replica is a learner that could be promoted at once.
    pub(super) fn is_ready(&self, replica: &Replica) -> bool {
        replica.condition == Condition::CaughtUp && self.stays(replica) && self.is_live(replica)
    }

    pub(super) fn staying_voters(&self) -> usize {
        self.voters().filter(|replica| self.stays(replica)).count()
    }

    pub(super) fn staying_learners(&self) -> usize {
        self.learners().filter(|replica| self.stays(replica)).count()
    }

    /// Whether the replica is a learner that was added after all voters. Any other learner was a
    /// voter before, and was demoted to be removed.
    pub(super) fn is_new(&self, replica: &Replica) -> bool {
        replica.role == MemberRole::Learner && self.voters().all(|voter| voter.id < replica.id)
    }

    /// How many voters will go, if every new learner comes to vote.
    pub(super) fn surplus(&self) -> usize {
        let new = self.learners().filter(|it| self.stays(it) && self.is_new(it)).count();
        (self.staying_voters() + new).saturating_sub(self.wanted())
    }

    /// What a replica counts on its node, in thousandths.
    pub(super) fn load(&self, replica: &Replica) -> i64 {
        match replica.role {
            MemberRole::Voter => ONE - self.discount(),
            MemberRole::Incoming => ONE,
            MemberRole::Learner if self.is_new(replica) => ONE,
            MemberRole::Learner | MemberRole::Outgoing => 0,
        }
    }

    /// How much less or more it may count once the group has as many voters as it should.
    pub(super) fn open(&self, replica: &Replica) -> Open {
        let load = self.load(replica);
        match replica.role {
            _ if self.surplus() == 0 => Open::default(),
            MemberRole::Voter => Open { goes: load, comes: ONE - load },
            MemberRole::Learner => Open { goes: load, comes: 0 },
            MemberRole::Incoming | MemberRole::Outgoing => Open::default(),
        }
    }

    /// What each voter counts less on its node, in thousandths: it is open which of them goes.
    pub(super) fn discount(&self) -> i64 {
        let voters = i64::try_from(self.voters().count()).unwrap_or(i64::MAX).max(1);
        i64::try_from(self.surplus()).unwrap_or(0) * ONE / voters
    }

    /// Whether the replica should be a voter no more although none takes its place: it is damaged,
    /// or it is dead and nothing can replace it. To wait would gain nothing: without a dead voter a
    /// group bears as many further losses as with it, or more.
    pub(super) fn goes_first(&self, replica: &Replica) -> bool {
        replica.condition == Condition::Damaged
            || self.is_dead(replica)
                && (self.staying_voters() >= self.wanted()
                    || self.staying_learners() == 0 && !self.seats.has_room_for(self.facts))
    }

    /// Whether the replica is a voter that can take over the leadership, and keep it.
    pub(super) fn may_lead(&self, replica: &Replica) -> bool {
        replica.role == MemberRole::Voter
            && self.is_ready(replica)
            && !self.facts.declined.contains(&replica.node)
    }

    /// The node that leads, or should, and from which the leadership has to go.
    pub(super) fn leads_amiss(&self) -> Option<NodeId> {
        let leaves = |node: &NodeId| {
            let standing = self.seats.standing(*node);
            !standing.keeps() && standing.is_alive()
        };
        let [leader, preferred] = [self.facts.leader, self.facts.preferred];
        leader.filter(leaves).or(preferred.filter(leaves))
    }

    /// What the group needs first.
    pub(super) fn need(&self) -> Need {
        let is_joint =
            |replica: &Replica| matches!(replica.role, MemberRole::Incoming | MemberRole::Outgoing);
        if self.facts.is_changing || self.facts.replicas.iter().any(is_joint) {
            return Need::Changing;
        }
        if !self.facts.leader.is_some_and(|leader| self.seats.is_alive(leader)) {
            return Need::Leaderless;
        }
        let wanted = self.wanted();
        let (voters, learners) = (self.staying_voters(), self.staying_learners());
        let has_leaving = self.voters().any(|replica| !self.stays(replica));
        if voters < wanted && self.learners().any(|replica| self.is_ready(replica)) {
            Need::Promotion
        } else if self.voters().any(|replica| self.goes_first(replica))
            || voters > wanted
            || voters == wanted && has_leaving
        {
            Need::Demotion
        } else if self.leads_amiss().is_some() && self.voters().any(|it| self.may_lead(it)) {
            Need::Transfer
        } else if self.learners().any(|replica| !self.stays(replica)) {
            Need::Removal
        } else if voters + learners < wanted {
            self.copy()
        } else if voters < wanted {
            Need::Copying
        } else if learners > 0 {
            Need::Settlement
        } else if self.voters().all(|replica| self.is_live(replica))
            && self.seats.is_crowded(self.voters().map(|replica| replica.node), self.wanted())
        {
            Need::Spread
        } else {
            Need::Nothing
        }
    }

    /// How urgent the copy is that the group needs.
    fn copy(&self) -> Need {
        let voters = self.voters().count();
        let live = self.voters().filter(|replica| self.is_live(replica)).count();
        if !self.seats.has_room_for(self.facts) {
            Need::NoRoom
        } else if live == voters && voters >= self.wanted() {
            Need::Move
        } else if live <= voters / 2 + 1 {
            Need::CriticalCopy
        } else {
            Need::Copy
        }
    }
}
