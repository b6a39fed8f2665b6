//! What placement knows: settings, nodes, and groups with their replicas.

use crate::table::NodeState;
use logboat::{LogId, MemberRole, Membership, NodeId, ReplicaId};
use smallvec::SmallVec;
use std::time::Duration;

/// What a person wants of placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many voters each group has. With fewer nodes, as many as there are.
    pub replicas: usize,
    /// How long a node is silent before its replicas are replaced.
    pub lost_after: Duration,
    /// The most copies of groups that a node receives at a time.
    pub copies_in: usize,
    /// The most copies of groups that a node sends at a time.
    pub copies_out: usize,
    /// Beyond these numbers a node receives and sends further copies, of small groups, as long as
    /// all that are under way are no more than this.
    pub copy_bytes: u64,
    /// The most bytes of copies that a node begins to receive in a second, and that it begins to
    /// send. Zero for any number.
    pub copy_bytes_per_s: u64,
    /// The most transfers of leadership that a round begins at a node, and that it begins toward
    /// one.
    pub transfers: usize,
    /// The most steps of a round.
    pub steps: usize,
}

impl Default for Settings {
    /// Three replicas, five minutes of patience, two copies into and out of a node or 64 MiB of
    /// them, four transfers, 500 steps.
    fn default() -> Self {
        Self {
            replicas: 3,
            lost_after: Duration::from_mins(5),
            copies_in: 2,
            copies_out: 2,
            copy_bytes: 64 << 20,
            copy_bytes_per_s: 0,
            transfers: 4,
            steps: 500,
        }
    }
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The part of the world that fails at once: a rack, a building. Nodes that name none are in
    /// the same.
    pub zone: String,
    /// What the cluster wants of it.
    pub state: NodeState,
    /// Whether it was heard lately.
    pub heard: Heard,
    /// How many bytes its disk holds and may hold, if known.
    pub space: Option<Space>,
    /// Copies that it receives for other reasons than to become a learner.
    pub copies_in: usize,
    /// Copies that it sends for such reasons.
    pub copies_out: usize,
}

impl NodeFacts {
    /// A node that is up, was heard, and copies nothing.
    #[must_use]
    pub fn up(zone: &str) -> Self {
        Self {
            zone: zone.to_owned(),
            state: NodeState::Up,
            heard: Heard::Now,
            space: None,
            copies_in: 0,
            copies_out: 0,
        }
    }
}

/// Whether a node was heard lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is alive.
    Now,
    /// It has been silent since then, by the clock of
    /// [`Cluster::set_now`](super::Cluster::set_now).
    SilentSince(Duration),
}

/// The disk of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The bytes that are taken.
    pub used_bytes: u64,
    /// All bytes.
    pub capacity_bytes: u64,
}

impl Space {
    /// Whether the disk takes no further replicas: nine tenths of it are full.
    pub(super) const fn is_full(self) -> bool {
        self.used_bytes >= self.capacity_bytes / 10 * 9
    }
}

/// What is known of a group, from its leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// The entry that holds the configuration which the rest is about. Facts of an earlier one are
    /// stale.
    pub configuration: LogId,
    /// The members, by node.
    pub replicas: SmallVec<[Replica; 4]>,
    /// The node that leads.
    pub leader: Option<NodeId>,
    /// The voter that shall lead, and gets the leadership back after a failure.
    pub preferred: Option<NodeId>,
    /// How much a copy of the group is.
    pub bytes: u64,
    /// Whether a change is under way: nothing else is asked of the group then.
    pub is_changing: bool,
    /// How many voters it is to have, if not as many as [`Settings::replicas`]. With fewer nodes,
    /// as many as there are.
    pub wanted: Option<usize>,
    /// Nodes that lately did not take over the leadership or a copy when they were asked to.
    pub declined: SmallVec<[NodeId; 1]>,
}

/// A replica of a group, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its node.
    pub node: NodeId,
    /// Which replica on that node it is: later ones have later ids.
    pub id: ReplicaId,
    /// Where it counts.
    pub role: MemberRole,
    /// Whether it has what the leader has.
    pub condition: Condition,
}

/// Whether a replica has what its leader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It follows, and could be promoted.
    CaughtUp,
    /// It lacks much, or a copy is on its way to it.
    Behind,
    /// Its data are damaged or missing. It never votes again.
    Damaged,
}

impl GroupFacts {
    /// What the leader of a group knows. `condition` says it of the replica on a node.
    pub fn new(
        membership: &Membership,
        leader: Option<NodeId>,
        bytes: u64,
        condition: impl Fn(NodeId) -> Condition,
    ) -> Self {
        let replica = |member: &logboat::Member| Replica {
            node: member.node,
            id: member.replica,
            role: member.role,
            condition: condition(member.node),
        };
        Self {
            configuration: membership.entry(),
            replicas: membership.members().iter().map(replica).collect(),
            leader,
            preferred: membership.preferred(),
            bytes,
            is_changing: membership.is_joint(),
            wanted: None,
            declined: SmallVec::new(),
        }
    }

    /// The replica on a node.
    #[must_use]
    pub fn replica(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node == node)
    }

    /// The nodes that vote when no change is under way.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        let voters = self.replicas.iter().filter(|replica| replica.role == MemberRole::Voter);
        voters.map(|replica| replica.node)
    }

    /// The node where the group leads when nothing is wrong: what leaders are evened out by.
    pub(super) fn home(&self) -> Option<NodeId> {
        self.preferred.or(self.leader)
    }
}
