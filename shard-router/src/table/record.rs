//! What the table says of nodes and of groups.

use crate::map::Range;
use crate::wire;
use bytes::Bytes;
use logboat::{GroupId, Index, LogId, Membership, NodeId, ReplicaId, Term};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where a node is reached, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCard {
    /// Where its peers reach it (`host:port`).
    pub peers: String,
    /// Where clients reach it. Empty if nobody said so.
    #[serde(default)]
    pub clients: String,
    /// Where its admin pages are. Empty if it has none.
    #[serde(default)]
    pub admin: String,
    /// The part of the world that fails at once, such as a rack. Nodes that name none are in one.
    #[serde(default)]
    pub zone: String,
    /// The version of its binary.
    #[serde(default)]
    pub version: String,
}

/// What the cluster wants of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It has its id and has not started yet.
    Joining,
    /// It holds replicas.
    Up,
    /// Its leaders go, then its replicas. It stays part of the cluster.
    Draining,
    /// Like draining. When it holds nothing any more, it leaves the cluster.
    Leaving,
    /// It is gone for good.
    Lost,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Lost => "lost",
        })
    }
}

/// A node in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What tells its directory from all others: see `docs/founding.md`. Unknown of a founder that
    /// has not started yet.
    pub incarnation: Option<u64>,
    /// Where it is.
    pub card: NodeCard,
    /// What the cluster wants of it.
    pub state: NodeState,
    /// The version of the table that changed this record last.
    pub changed: u64,
}

/// The members of a group, as of one of its configurations. The group's own log is what counts:
/// this is an index of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The entry of that configuration; zero for the one that the group was founded with.
    #[serde(with = "wire::entry")]
    pub entry: LogId,
    /// The nodes that vote, the preferred leader first if there is one.
    #[serde(with = "wire::nodes")]
    pub voters: Vec<NodeId>,
    /// Whether the first of them is preferred. Nobody is otherwise: a preferred leader that was
    /// lost has no successor by itself.
    pub prefers_first: bool,
    /// The nodes that learn, and those that voted before a change which is under way.
    #[serde(with = "wire::nodes")]
    pub learners: Vec<NodeId>,
    /// Those among them whose replicas are there since the founding.
    #[serde(with = "wire::nodes")]
    pub founding: Vec<NodeId>,
    /// The entries that added the others, by node: term and index.
    #[serde(default)]
    pub added: BTreeMap<u64, (u64, u64)>,
}

impl Members {
    /// Those that a group is founded with. The first one leads to begin with.
    #[must_use]
    pub fn founders(nodes: Vec<NodeId>) -> Self {
        let founding = nodes.clone();
        Self {
            entry: LogId::default(),
            prefers_first: !nodes.is_empty(),
            voters: nodes,
            learners: Vec::new(),
            founding,
            added: BTreeMap::new(),
        }
    }

    /// Those that a replica knows of.
    #[must_use]
    pub fn of(membership: &Membership) -> Self {
        let mut voters = membership.voters();
        let preferred = membership.preferred();
        voters.sort_by_key(|node| Some(*node) != preferred);
        let mut learners = membership.learners();
        learners.extend(membership.outgoing().into_iter().filter(|node| !voters.contains(node)));
        let (mut founding, mut added) = (Vec::new(), BTreeMap::new());
        for node in voters.iter().chain(&learners).copied() {
            match membership.replica(node) {
                Some(ReplicaId::FOUNDER) => founding.push(node),
                Some(ReplicaId(entry)) => {
                    added.insert(node.0, (entry.term.0, entry.index.0));
                }
                None => {}
            }
        }
        let (entry, prefers_first) = (membership.entry(), preferred.is_some());
        Self { entry, voters, prefers_first, learners, founding, added }
    }

    /// The node that shall lead the group, if any is preferred.
    #[must_use]
    pub fn preferred(&self) -> Option<NodeId> {
        self.voters.first().copied().filter(|_| self.prefers_first)
    }

    /// All nodes with a replica.
    pub fn all(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Which replica a member on this node is.
    #[must_use]
    pub fn replica(&self, node: NodeId) -> ReplicaId {
        self.added.get(&node.0).map_or(ReplicaId::FOUNDER, |(term, index)| {
            ReplicaId(LogId::new(Term(*term), Index(*index)))
        })
    }

    /// Whether the member on this node is gone by the node's tombstone.
    #[must_use]
    pub fn is_gone(&self, node: NodeId, tombstone: Option<ReplicaId>) -> bool {
        self.contains(node) && tombstone.is_some_and(|floor| self.replica(node) < floor)
    }

    /// Whether a replica is on this node.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }
}

/// A range and its group in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeRecord {
    /// The first key.
    #[serde(with = "wire::key")]
    pub start: Bytes,
    /// The group that holds the range.
    #[serde(with = "wire::group")]
    pub group: GroupId,
    /// The nodes that the group was founded with, the first leader first.
    #[serde(with = "wire::nodes")]
    pub founders: Vec<NodeId>,
    /// The nodes that have replicas.
    pub members: Members,
}

impl RangeRecord {
    /// The range, for those who make requests to it.
    #[must_use]
    pub fn range(&self) -> Range {
        let Self { start, group, members, .. } = self;
        Range { start: start.clone(), group: *group, replicas: members.voters.clone() }
    }
}

/// A replica that somebody wants to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedMove {
    /// From this node.
    #[serde(with = "wire::node")]
    pub from: NodeId,
    /// To that one.
    #[serde(with = "wire::node")]
    pub to: NodeId,
}

/// Something that was done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The version of the table by it.
    pub version: u64,
    /// When, in milliseconds since 1970, by the clock of whoever did it.
    pub at_ms: u64,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}
