//! The status of a node at one moment, for those who watch it.

use crate::membership::Membership;
use crate::mending::MendedReplica;
use logboat_raft::{Configuration, GroupId, Index, NodeId, SupportSettings};
use logboat_storage::Wal;
use logboat_transport::PeerStatus;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The node's id.
    pub node_id: u64,
    /// The cluster's id, in hexadecimal digits: the one that was drawn for it, or the one that
    /// follows from its name and its first nodes until the node knows that.
    pub cluster_id: String,
    /// The nodes that must record this one, which is new, before it promises anything. None once it
    /// is founded.
    pub waiting_for: Vec<NodeId>,
    /// Replicas on this node.
    pub groups: usize,
    /// Groups that this node leads.
    pub leaders: usize,
    /// Groups whose replica here knows no leader.
    pub groups_without_leader: usize,
    /// Those groups.
    pub leaderless: Vec<GroupId>,
    /// Whether a majority of the nodes, this one among them, have answered it lately.
    pub has_quorum: bool,
    /// How long ago the disk took a write. The node writes once a heartbeat interval.
    pub disk_silence: Duration,
    /// Bytes of requests that wait for an answer.
    pub pending_bytes: usize,
    /// Committed entries that are not yet applied, over all replicas here.
    pub apply_lag: u64,
    /// Replicas that have stopped, or did not start for what is stored of them, while the node goes
    /// on. They may be started again.
    pub failed: Vec<FailedReplica>,
    /// Replicas that have failed since the start of the node, or were found damaged by it, and
    /// whose places others have taken here, the newest last. Of very many, the newest.
    pub mended: Vec<MendedReplica>,
    /// Replicas here whose user code has not returned for long, while the node goes on. They don't
    /// lead until it returns.
    pub stuck: Vec<StuckReplica>,
    /// Replicas that heard of one elsewhere which was started with other voters.
    pub other_voters: Vec<OtherVoters>,
    /// Why nothing can be acknowledged any more, if so.
    pub failure: Option<String>,
    /// The log.
    pub wal: WalStatus,
    /// The connections to the peers.
    pub peers: Vec<PeerStatus>,
    /// The peers whose election timeout or leases are not set as on this node.
    pub differing_settings: Vec<(NodeId, SupportSettings)>,
}

/// What a node has stored of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    /// The group.
    pub group: GroupId,
    /// Its members by the newest entry that is stored, committed or not.
    pub members: Membership,
    /// The last entry that the replica's state machine has applied. Of a replica that does not run
    /// since the node has started, the last entry of its snapshot.
    pub applied: Index,
    /// Whether the replica runs.
    pub is_running: bool,
    /// Why the replica has stopped for good, or did not start when it was asked to.
    pub failure: Option<String>,
}

impl StoredGroup {
    /// A group of which nothing is known here.
    pub(crate) fn unknown(group: GroupId) -> Self {
        let members = Membership::new(Arc::new(Configuration::unknown()));
        Self { group, members, applied: Index::default(), is_running: false, failure: None }
    }
}

/// A replica that has stopped, or did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedReplica {
    /// The group.
    pub group: GroupId,
    /// Why it does not run.
    pub reason: String,
}

/// A replica whose user code has not returned for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckReplica {
    /// The group.
    pub group: GroupId,
    /// What has not returned.
    pub code: UserCode,
    /// For how long.
    pub elapsed: Duration,
    /// Whether other replicas wait for it: so many threads are left to such code that there are no
    /// more for them.
    pub blocks_others: bool,
}

/// Code of the library's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserCode {
    /// A call of a [`StateMachine`](crate::StateMachine).
    StateMachine,
    /// A [`SnapshotWriter`](crate::SnapshotWriter).
    SnapshotWriter,
    /// A query of a [`StateReader`](crate::StateReader).
    StateReader,
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StateMachine => "a call of the state machine",
            Self::SnapshotWriter => "the writer of its snapshot",
            Self::StateReader => "a query of its reader",
        })
    }
}

/// Two replicas of a group that were started with different sets of voters. Neither votes for the
/// other or follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherVoters {
    /// The group.
    pub group: GroupId,
    /// The node of the other one.
    pub node: NodeId,
}

/// The log at one moment.
#[derive(Clone, Debug)]
pub struct WalStatus {
    /// Bytes submitted and not yet durable.
    pub queued_bytes: usize,
    /// Whether writes wait for space on the disk, or for what else a segment takes.
    pub stalled: bool,
    /// Why they wait, if they do.
    pub stall_reason: Option<String>,
    /// Syncs since the start.
    pub syncs: u64,
    /// Entries written since the start.
    pub entries: u64,
    /// Bytes written since the start, framing included.
    pub written_bytes: u64,
    /// Payload bytes written since the start.
    pub payload_bytes: u64,
    /// Segment files.
    pub segments: i64,
}

impl WalStatus {
    pub(crate) fn of(wal: &Wal) -> Self {
        let metrics = wal.metrics();
        Self {
            queued_bytes: wal.queued_bytes(),
            stalled: wal.stalled(),
            stall_reason: wal.stall_reason(),
            syncs: metrics.syncs.get(),
            entries: metrics.entries.get(),
            written_bytes: metrics.written_bytes.get(),
            payload_bytes: metrics.payload_bytes.get(),
            segments: metrics.segments.get(),
        }
    }
}
