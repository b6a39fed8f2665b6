//! Changes of a configuration: from one to the next, or the reason why not.

use super::{Configuration, MAX_MEMBERS, Member, MemberRole};
use crate::{Index, LogId, NodeId, ReplicaId};
use alloc::vec::Vec;

/// A change of a group's members. A list of them takes effect together, in one joint step.
///
/// The way in is from nothing to learner to voter, the way out from voter to learner to nothing. A
/// voter that would go at once deletes its data as soon as it learns of it, while the change may
/// still be undone; with one more loss there is no majority left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A new replica on a node that has none of the group: it gets the log, and counts nowhere.
    AddLearner(NodeId),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A learner leaves the group, and its data are deleted.
    Remove(NodeId),
    /// A voter shall lead.
    Prefer(NodeId),
}

/// Why changes were not taken. They certainly have no effect, nor has any one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another replica leads, or is about to: also when the change is about the leader itself,
    /// which hands over first.
    #[error("not the leader")]
    NotLeader {
        /// That replica's node, if known.
        leader: Option<NodeId>,
    },
    /// The leader refuses them.
    #[error(transparent)]
    Refused(#[from] ChangeRefusal),
}

/// Why a leader refuses changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    /// The leader has just been elected and has committed nothing yet.
    #[error("the leader has not committed an entry of its term yet")]
    TermNotCommitted,
    /// The change before is not over.
    #[error("the change of entry {id} is under way")]
    InProgress {
        /// The configuration that is not committed yet, or joint.
        id: LogId,
    },
    /// The list has no changes.
    #[error("there is nothing to change")]
    Nothing,
    /// Two changes of the list are about the same node. To remove a replica and to add another one
    /// on its node takes two lists.
    #[error("node {node} is named twice")]
    NamedTwice {
        /// That node.
        node: NodeId,
    },
    /// The node holds a replica of the group already.
    #[error("node {node} is a member already")]
    AlreadyMember {
        /// That node.
        node: NodeId,
    },
    /// The node holds no replica of the group.
    #[error("node {node} is no member")]
    NotMember {
        /// That node.
        node: NodeId,
    },
    /// Only a learner can be promoted.
    #[error("node {node} is no learner")]
    NotLearner {
        /// That node.
        node: NodeId,
    },
    /// Only a voter can be demoted, or be preferred after the change.
    #[error("node {node} is no voter")]
    NotVoter {
        /// That node.
        node: NodeId,
    },
    /// A voter has to be demoted, and that has to be committed, before it can be removed.
    #[error("node {node} is a voter: demote it first")]
    VoterNotDemoted {
        /// That node.
        node: NodeId,
    },
    /// Nobody would be left to vote.
    #[error("no voter would be left")]
    NoVoterLeft,
    /// The group would have more than [`MAX_MEMBERS`] members.
    #[error("a group has {MAX_MEMBERS} members at the most")]
    TooManyMembers,
    /// The learner is too far behind to be a voter: it would hold up what is committed. It may be
    /// promoted when it holds what the leader's log held an election timeout ago.
    #[error("the learner on node {node} holds the log up to {matched} of {last}")]
    NotCaughtUp {
        /// Its node.
        node: NodeId,
        /// The last entry that it is known to hold.
        matched: Index,
        /// The last entry of the leader's log.
        last: Index,
    },
    /// The learner has not fortified the leader: its vote would not be bound, and it could confirm
    /// no reads.
    #[error("the learner on node {node} has not fortified the leader")]
    NotFortified {
        /// Its node.
        node: NodeId,
    },
    /// After the change, no majority would be reachable from the leader.
    #[error("no majority of the voters would be alive")]
    NoQuorum,
}

impl ChangeRefusal {
    /// Whether the same changes may be taken a little later, without anything else that has to be
    /// done.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::TermNotCommitted
                | Self::InProgress { .. }
                | Self::NotCaughtUp { .. }
                | Self::NotFortified { .. }
                | Self::NoQuorum
        )
    }
}

impl Change {
    /// The node that the change is about.
    #[must_use]
    pub const fn node(self) -> NodeId {
        match self {
            Self::AddLearner(node)
            | Self::Promote(node)
            | Self::Demote(node)
            | Self::Remove(node)
            | Self::Prefer(node) => node,
        }
    }
}

impl Configuration {
    /// The configuration that these changes make of this one, to be held by entry `id`. It is joint
    /// if they change who votes, however few they are: one way for all is easier to trust. The
    /// preferred voter that is demoted is preferred no more.
    ///
    /// # Errors
    /// [`ChangeRefusal`] when they contradict each other or this configuration, which stays in
    /// force.
    pub fn change(&self, id: LogId, changes: &[Change]) -> Result<Self, ChangeRefusal> {
        if self.is_joint() {
            return Err(ChangeRefusal::InProgress { id: self.id });
        }
        if changes.is_empty() {
            return Err(ChangeRefusal::Nothing);
        }
        if let Some(node) = named_twice(changes) {
            return Err(ChangeRefusal::NamedTwice { node });
        }
        let mut members = self.members.to_vec();
        for &change in changes {
            apply(&mut members, id, change)?;
        }
        if members.len() > MAX_MEMBERS {
            return Err(ChangeRefusal::TooManyMembers);
        }
        if !members.iter().any(|member| member.role.is_incoming()) {
            return Err(ChangeRefusal::NoVoterLeft);
        }
        let preferred = preferred(&members, self.preferred, changes)?;
        Ok(Self::assemble(id, self.founders, preferred, members))
    }

    /// The configuration that follows a joint one, to be held by entry `id`: the incoming half
    /// votes, and whoever voted in the outgoing half alone learns.
    #[must_use]
    pub fn leave(&self, id: LogId) -> Self {
        let mut members = self.members.to_vec();
        for member in &mut members {
            member.role = match member.role {
                MemberRole::Voter | MemberRole::Incoming => MemberRole::Voter,
                MemberRole::Learner | MemberRole::Outgoing => MemberRole::Learner,
            };
        }
        Self::assemble(id, self.founders, self.preferred, members)
    }

    /// The configuration by which a group goes on whose majority is lost for good, to be held by
    /// entry `id`: the member on `voter` votes alone, those on `learners` learn, and all others are
    /// members no more. No majority has agreed to it. So it is for a person's decision alone, and
    /// only where those that are left out can never speak to the group again.
    ///
    /// None if there is no member on `voter`.
    #[must_use]
    pub fn start_over(&self, id: LogId, voter: NodeId, learners: &[NodeId]) -> Option<Self> {
        self.member(voter)?;
        let role = |node| match node == voter {
            true => Some(MemberRole::Voter),
            false => learners.contains(&node).then_some(MemberRole::Learner),
        };
        let stays = |member: &Member| role(member.node).map(|role| Member { role, ..*member });
        let members = self.members.iter().filter_map(stays).collect();
        Some(Self::assemble(id, self.founders, Some(voter), members))
    }
}

/// A node that two changes are about. Who shall lead is asked apart from the members: a learner
/// may be promoted and preferred at once.
fn named_twice(changes: &[Change]) -> Option<NodeId> {
    let prefers = |change: &Change| matches!(change, Change::Prefer(_));
    changes.iter().enumerate().find_map(|(at, change)| {
        let clashes = |earlier: &Change| match (prefers(earlier), prefers(change)) {
            (true, true) => true,
            (false, false) => earlier.node() == change.node(),
            (true, false) | (false, true) => false,
        };
        changes[..at].iter().any(clashes).then_some(change.node())
    })
}

/// Carries out one change on the members, which stay sorted by node.
fn apply(members: &mut Vec<Member>, id: LogId, change: Change) -> Result<(), ChangeRefusal> {
    let node = change.node();
    let place = members.binary_search_by_key(&node, |member| member.node);
    match (change, place) {
        (Change::Prefer(_), _) => {}
        (Change::AddLearner(_), Ok(_)) => return Err(ChangeRefusal::AlreadyMember { node }),
        (Change::AddLearner(_), Err(at)) => {
            members.insert(at, Member { node, replica: ReplicaId(id), role: MemberRole::Learner });
        }
        (_, Err(_)) => return Err(ChangeRefusal::NotMember { node }),
        (Change::Promote(_), Ok(at)) => match members[at].role {
            MemberRole::Learner => members[at].role = MemberRole::Incoming,
            _ => return Err(ChangeRefusal::NotLearner { node }),
        },
        (Change::Demote(_), Ok(at)) => match members[at].role {
            MemberRole::Voter => members[at].role = MemberRole::Outgoing,
            _ => return Err(ChangeRefusal::NotVoter { node }),
        },
        (Change::Remove(_), Ok(at)) => match members[at].role {
            MemberRole::Learner => {
                members.remove(at);
            }
            _ => return Err(ChangeRefusal::VoterNotDemoted { node }),
        },
    }
    Ok(())
}

/// The preferred voter after the changes.
fn preferred(
    members: &[Member],
    before: Option<NodeId>,
    changes: &[Change],
) -> Result<Option<NodeId>, ChangeRefusal> {
    let votes = |node: NodeId| members.iter().any(|it| it.node == node && it.role.is_incoming());
    let asked = changes.iter().find_map(|change| match *change {
        Change::Prefer(node) => Some(node),
        _ => None,
    });
    match asked {
        Some(node) if !votes(node) => Err(ChangeRefusal::NotVoter { node }),
        Some(node) => Ok(Some(node)),
        None => Ok(before.filter(|&node| votes(node))),
    }
}
