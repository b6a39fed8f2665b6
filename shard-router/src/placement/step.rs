//! The steps that placement asks for, and why.

use super::facts::GroupFacts;
use logboat::{Change, GroupId, LogId, NodeId};
use smallvec::SmallVec;
use std::fmt;

/// One thing to do with a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The group.
    pub group: GroupId,
    /// The configuration that the step was thought for. If the group has another one by now, the
    /// step is stale.
    pub configuration: LogId,
    /// What to do.
    pub act: Act,
    /// What it is good for.
    pub why: Why,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Starts a replica on a node, which waits for its leader, and makes it a learner.
    AddLearner(NodeId),
    /// Changes who votes, in one joint change.
    Voters {
        /// Learners that become voters.
        promote: SmallVec<[NodeId; 2]>,
        /// Voters that become learners.
        demote: SmallVec<[NodeId; 2]>,
    },
    /// Removes a learner and its data.
    Remove(NodeId),
    /// Makes another voter the preferred leader, and hands over to it.
    Transfer {
        /// The node that led or was preferred.
        from: NodeId,
        /// The node that shall lead from now on.
        to: NodeId,
    },
}

/// What a step is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The group has fewer voters than wanted.
    Missing {
        /// The sound voters and learners that stay.
        has: usize,
        /// The voters that it should have.
        wanted: usize,
    },
    /// A new replica has caught up.
    Ready,
    /// The node is lost.
    Lost(NodeId),
    /// The replica on the node is damaged.
    Damaged(NodeId),
    /// The node is drained or decommissioned.
    Emptied(NodeId),
    /// The group has more voters than wanted.
    Surplus {
        /// The voters that it has.
        has: usize,
        /// The voters that it should have.
        wanted: usize,
    },
    /// The replica is no voter, and nobody needs it to become one.
    NotNeeded(NodeId),
    /// Several replicas of the group are in one zone, while another zone has none.
    SharedZone(NodeId),
    /// The node has more replicas than others.
    Replicas {
        /// That node.
        node: NodeId,
        /// How many it has.
        has: usize,
        /// How many the other one has.
        other: usize,
    },
    /// The node leads more groups than others.
    Leaders {
        /// That node.
        node: NodeId,
        /// How many it leads.
        has: usize,
        /// How many the other one leads.
        other: usize,
    },
}

impl Act {
    /// The changes that it is made of. Where the preferred leader goes, the one that leads takes
    /// its place: a group that prefers nobody waits for an election when it starts.
    pub(super) fn changes(&self, facts: &GroupFacts) -> Vec<Change> {
        match self {
            Self::AddLearner(node) => vec![Change::AddLearner(*node)],
            Self::Voters { promote, demote } => {
                let promoted = promote.iter().copied().map(Change::Promote);
                let demoted = demote.iter().copied().map(Change::Demote);
                let prefers_other = facts.preferred.is_some_and(|node| !demote.contains(&node));
                let successor = facts.leader.filter(|_| !prefers_other).map(Change::Prefer);
                promoted.chain(demoted).chain(successor).collect()
            }
            Self::Remove(node) => vec![Change::Remove(*node)],
            Self::Transfer { to, .. } => vec![Change::Prefer(*to)],
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddLearner(node) => write!(f, "add a learner on node {node}"),
            Self::Voters { promote, demote } => {
                let mut and = "";
                for (verb, nodes) in [("promote", promote), ("demote", demote)] {
                    if !nodes.is_empty() {
                        write!(f, "{and}{verb}")?;
                        nodes.iter().try_for_each(|node| write!(f, " {node}"))?;
                        and = " and ";
                    }
                }
                Ok(())
            }
            Self::Remove(node) => write!(f, "remove the learner on node {node}"),
            Self::Transfer { from, to } => write!(f, "transfer from node {from} to node {to}"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { has, wanted } => {
                write!(f, "the group has {has} sound replicas that stay, of {wanted}")
            }
            Self::Ready => f.write_str("the new replica has caught up"),
            Self::Lost(node) => write!(f, "node {node} is lost"),
            Self::Damaged(node) => write!(f, "the replica on node {node} is damaged"),
            Self::Emptied(node) => write!(f, "node {node} is being emptied"),
            Self::Surplus { has, wanted } => {
                write!(f, "the group has {has} voters and needs {wanted}")
            }
            Self::NotNeeded(node) => write!(f, "the learner on node {node} is not needed"),
            Self::SharedZone(node) => {
                write!(f, "the replica on node {node} shares its zone with another one")
            }
            Self::Replicas { node, has, other } => {
                write!(f, "node {node} has {has} replicas, and the other node {other}")
            }
            Self::Leaders { node, has, other } => {
                write!(f, "node {node} leads {has} groups, and the other node {other}")
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}: {}: {}", self.group, self.act, self.why)
    }
}
