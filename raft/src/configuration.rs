//! The configuration of a group: who belongs to it, and who counts.
//!
//! It is a value, and nothing here depends on a log or on a role. `change` has the steps from one
//! configuration to the next, `codec` the encoding. `in_force` has which one counts at a replica.
//!
//! Voters change by *joint consensus* (Raft thesis, section 4.3). A *joint* configuration has two
//! halves, those who vote after the change and those who voted before it. Whatever needs a majority
//! needs one of each half while it is in force. So no two majorities that act on neighbouring
//! configurations can miss each other.

mod change;
mod codec;
mod in_force;

use crate::quorum::{self, Outcome};
use crate::{LogId, NodeId, ReplicaAddress, ReplicaId, VotersDigest};
use alloc::boxed::Box;
use alloc::vec::Vec;
pub use change::{Change, ChangeError, ChangeRefusal};
pub use codec::InvalidConfiguration;
use core::fmt;
pub(crate) use in_force::InForce;

/// The most members that a group has. What is counted over members is counted for each pair of
/// them, and a configuration that a peer sends is bounded by it.
pub const MAX_MEMBERS: usize = 64;

/// The members of a group, from one entry of its log on to the next that changes them.
///
/// A role says in which halves of a joint configuration a member votes. So a configuration can't
/// contradict itself: nobody is voter and learner at once, and whoever leaves the voters becomes a
/// learner.
///
/// # Examples
/// ```
/// use logboat_raft::{Change, Configuration, Index, LogId, NodeId, Term};
///
/// let [one, two, three, four] = [1, 2, 3, 4].map(NodeId);
/// let at = |index| LogId::new(Term(1), Index(index));
/// let founding = Configuration::founding(&[one, two, three], Some(one));
/// let joined = founding.change(at(5), &[Change::AddLearner(four)])?;
/// let joint = joined.change(at(9), &[Change::Promote(four), Change::Demote(two)])?;
/// assert!(joint.is_joint());
/// // A majority of 1, 3, 4 is none, as long as one of 1, 2, 3 is missing.
/// assert!(!joint.is_quorum(|node| [three, four].contains(&node)));
/// assert!(joint.is_quorum(|node| [one, three].contains(&node)));
/// let left = joint.leave(at(10));
/// assert_eq!(left.to_string(), "voters 1 3 4, learners 2");
/// # Ok::<(), logboat_raft::ChangeRefusal>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Configuration {
    /// The entry that holds it; zero for the configuration that a group is founded with.
    id: LogId,
    /// The voters that the group was founded with. Replicas of other foundings are strangers, even
    /// if their group has the same id.
    founders: VotersDigest,
    /// The voter that campaigns first. It votes in the incoming half.
    preferred: Option<NodeId>,
    /// Whether somebody votes in one half alone.
    is_joint: bool,
    /// By node, each once, at most [`MAX_MEMBERS`]. Each half has a voter, unless there are no
    /// members at all.
    members: Box<[Member]>,
}

/// A replica that belongs to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The node that hosts it.
    pub node: NodeId,
    /// Which replica on that node it is.
    pub replica: ReplicaId,
    /// Where it counts.
    pub role: MemberRole,
}

/// Where a member counts. The discriminant is what stands in the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemberRole {
    /// It votes, in both halves if the configuration is joint.
    Voter = 0,
    /// It gets the log and counts nowhere.
    Learner = 1,
    /// It votes in the incoming half of a joint configuration: it was a learner, and becomes a
    /// voter.
    Incoming = 2,
    /// It votes in the outgoing half of a joint configuration: it was a voter, and becomes a
    /// learner (etcd's `LearnersNext`).
    Outgoing = 3,
}

/// A half of a joint configuration. In one that is not joint both halves are all voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// Those who vote after the change.
    Incoming,
    /// Those who voted before it.
    Outgoing,
}

impl Member {
    /// The replica that it is.
    #[must_use]
    pub const fn address(&self) -> ReplicaAddress {
        ReplicaAddress::new(self.node, self.replica)
    }
}

impl MemberRole {
    /// Whether the member counts in this half.
    pub(crate) const fn votes_in(self, half: Half) -> bool {
        match self {
            Self::Voter => true,
            Self::Learner => false,
            Self::Incoming => matches!(half, Half::Incoming),
            Self::Outgoing => matches!(half, Half::Outgoing),
        }
    }

    /// Whether the member votes when the change under way is over.
    #[must_use]
    pub const fn is_incoming(self) -> bool {
        self.votes_in(Half::Incoming)
    }

    /// Whether the member votes in either half.
    #[must_use]
    pub const fn is_voter(self) -> bool {
        !matches!(self, Self::Learner)
    }
}

impl Configuration {
    /// What a replica knows that was just added to a group and has not heard of its leader yet: no
    /// member at all. Nothing is ever elected or committed by it.
    #[must_use]
    pub fn unknown() -> Self {
        Self::assemble(LogId::default(), VotersDigest::default(), None, Vec::new())
    }

    /// The configuration that a group is founded with: these voters, and the one of them that is
    /// preferred as the leader.
    ///
    /// # Panics
    /// When there are no voters, more than [`MAX_MEMBERS`], one of them twice, or when the
    /// preferred one is none of them.
    #[must_use]
    pub fn founding(voters: &[NodeId], preferred: Option<NodeId>) -> Self {
        let (replica, role) = (ReplicaId::FOUNDER, MemberRole::Voter);
        let member = |&node: &NodeId| Member { node, replica, role };
        let mut members: Vec<_> = voters.iter().map(member).collect();
        members.sort_unstable();
        let nodes: Vec<_> = members.iter().map(|member| member.node).collect();
        let founders = VotersDigest::of(&nodes);
        let founding = Self::assemble(LogId::default(), founders, preferred, members);
        if let Err(error) = founding.validate() {
            panic!("no group can be founded with these voters: {error}");
        }
        founding
    }

    /// The entry that holds the configuration; zero for the founding one.
    #[must_use]
    pub const fn id(&self) -> LogId {
        self.id
    }

    /// The voters that the group was founded with.
    #[must_use]
    pub const fn founders(&self) -> VotersDigest {
        self.founders
    }

    /// The voter that shall lead, and campaigns first while nobody does.
    #[must_use]
    pub const fn preferred(&self) -> Option<NodeId> {
        self.preferred
    }

    /// Whether the voters are being changed: then both halves count.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        self.is_joint
    }

    /// All members, by node.
    #[must_use]
    pub const fn members(&self) -> &[Member] {
        &self.members
    }

    /// The nodes of those who vote in either half.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|member| member.role.is_voter()).map(|member| member.node)
    }

    /// The member on a node.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// The member that is this very replica, not another one on its node.
    #[must_use]
    pub fn member_at(&self, address: ReplicaAddress) -> Option<&Member> {
        self.member(address.node).filter(|member| member.replica == address.replica)
    }

    /// The smallest id that a replica on `node` may still have, if this configuration, once it is
    /// committed, says that the replica `replica` on that node is gone: it is not older than that
    /// one, and is without it.
    ///
    /// What is added after this configuration has a later id than it. What was added before it is
    /// in its log, and then it was removed, or is in no log that goes on from it.
    #[must_use]
    pub fn floor_without(&self, address: ReplicaAddress) -> Option<ReplicaId> {
        let is_gone = self.id >= address.replica.0 && self.member_at(address).is_none();
        let later = self.member(address.node).map_or(ReplicaId(self.id).next(), |it| it.replica);
        is_gone.then(|| later.max(address.replica.next()))
    }

    /// The role of the member on a node.
    #[must_use]
    pub fn role(&self, node: NodeId) -> Option<MemberRole> {
        self.member(node).map(|member| member.role)
    }

    /// Whether the member on a node votes in either half.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.role(node).is_some_and(MemberRole::is_voter)
    }

    /// Whether the member on a node votes when the change under way is over.
    #[must_use]
    pub fn is_incoming(&self, node: NodeId) -> bool {
        self.role(node).is_some_and(MemberRole::is_incoming)
    }

    /// Whether those for which `holds` is true are a majority of each half.
    #[must_use]
    pub fn is_quorum(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.outcome(|node| Some(holds(node))) == Outcome::Won
    }

    /// The largest value that a majority of each half has reached.
    ///
    /// # Panics
    /// When there are no members.
    pub fn reached<T: Ord + Copy>(&self, value: impl Fn(NodeId) -> T) -> T {
        let values = self.members.iter().map(|member| (member.role, value(member.node)));
        quorum::jointly_reached(values, self.is_joint)
    }

    /// The state of an election, given what each voter answered so far.
    pub(crate) fn outcome(&self, answer: impl Fn(NodeId) -> Option<bool>) -> Outcome {
        let answers = self.members.iter().map(|member| (member.role, answer(member.node)));
        quorum::jointly_tallied(answers, self.is_joint)
    }

    /// A configuration whose members are sorted by node.
    fn assemble(
        id: LogId,
        founders: VotersDigest,
        preferred: Option<NodeId>,
        members: Vec<Member>,
    ) -> Self {
        let is_half =
            |member: &Member| matches!(member.role, MemberRole::Incoming | MemberRole::Outgoing);
        let is_joint = members.iter().any(is_half);
        Self { id, founders, preferred, is_joint, members: members.into_boxed_slice() }
    }
}

impl fmt::Display for Configuration {
    /// `voters 1 2 4, outgoing 1 2 3, learners 5 6`, with the outgoing half in a joint one alone. A
    /// voter that becomes a learner is not among the learners yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = |name: &str, is_in: &dyn Fn(MemberRole) -> bool| {
            let mut members = self.members.iter().filter(|member| is_in(member.role)).peekable();
            if members.peek().is_some() {
                f.write_str(name)?;
            }
            members.try_for_each(|member| write!(f, " {}", member.node))
        };
        list("voters", &|role| role.votes_in(Half::Incoming))?;
        list(", outgoing", &|role| self.is_joint && role.votes_in(Half::Outgoing))?;
        list(", learners", &|role| role == MemberRole::Learner)
    }
}

#[cfg(test)]
mod tests;
