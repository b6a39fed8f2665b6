//! The status of a replica, for operators and tests.

use crate::progress::{Mode, Progress};
use crate::{
    Configuration, Epoch, Fortification, Index, LogId, MemberRole, NodeId, ReplicaId, RoleKind,
    Term,
};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A replica as [`Raft::status`](crate::Raft::status) shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which replica of the group on its node it is.
    pub replica: ReplicaId,
    /// Its role.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// The leader of the term, if known.
    pub leader: Option<NodeId>,
    /// The leader's node that the replica fortified last, and the epoch.
    pub fortified: Option<Fortification>,
    /// The last entry that the newest snapshot covers.
    pub snapshot: LogId,
    /// The last entry of the log.
    pub last: LogId,
    /// Up to here the log is durable.
    pub durable: Index,
    /// The last entry known to be committed.
    pub commit: Index,
    /// The last entry handed out to the state machine.
    pub applied: Index,
    /// The configuration in force.
    pub configuration: Arc<Configuration>,
    /// The other members as a leader sees them, by node; empty unless the replica leads.
    pub peers: Vec<PeerStatus>,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower's node.
    pub node: NodeId,
    /// Which replica there it is.
    pub replica: ReplicaId,
    /// Where it counts.
    pub role: MemberRole,
    /// Up to here its log is durable and equal to the leader's.
    pub matched: Index,
    /// The last entry that its state machine applied, as far as it said.
    pub applied: Option<Index>,
    /// The epoch at which it fortifies the leader, as far as it said in this term.
    pub fortified: Option<Epoch>,
    /// The next entry to send.
    pub next: Index,
    /// How entries go to it.
    pub flow: Flow,
    /// Appends that it did not acknowledge yet.
    pub inflight_messages: usize,
    /// Their payload bytes.
    pub inflight_bytes: usize,
}

/// How a leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// One append at a time, to find where the logs meet.
    Probe,
    /// Pipelined.
    Replicate,
    /// A snapshot is under way.
    Snapshot,
}

impl PeerStatus {
    pub(crate) fn of(peer: &Progress) -> Self {
        Self {
            node: peer.node,
            replica: peer.replica,
            role: peer.role,
            matched: peer.matched,
            applied: peer.applied,
            fortified: peer.fortified,
            next: peer.next,
            flow: match peer.mode {
                Mode::Probe { .. } => Flow::Probe,
                Mode::Replicate => Flow::Replicate,
                Mode::Snapshot { .. } => Flow::Snapshot,
            },
            inflight_messages: peer.inflight_messages(),
            inflight_bytes: peer.inflight_bytes(),
        }
    }
}
