//! The errors of the engine.

use logboat_raft::{ChangeRefusal, GroupId, LogId, NodeId, Refusal};
use logboat_storage::{DirectoryError, SnapshotError, WalError};
use logboat_transport::StartError as TransportError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a proposal or a read has no answer. All but [`RequestError::TimedOut`],
/// [`RequestError::AnswerTooLarge`] and [`RequestError::NoRoomForAnswer`] say that the request
/// certainly had no effect, so that it may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// This replica does not lead its group.
    #[error("not the leader of the group{}", hint(*.leader))]
    NotLeader {
        /// The leader, if this replica knows one.
        leader: Option<NodeId>,
    },
    /// The node has as much work as it may hold.
    #[error("busy: too much work is pending")]
    Busy,
    /// The log of the leader's node has no room to go on: its disk is full, or descriptors are
    /// short. What frees space is taken all the same, see
    /// [`CommandAdmission::frees`](crate::CommandAdmission::frees).
    #[error("the log has no room")]
    LogFull,
    /// No answer in time, or the node stopped, lost its connection, or the replica failed first
    /// ([`GroupView::failure`](crate::GroupView::failure) says why). A proposal's outcome is
    /// unknown: it may have been applied, may be applied later, or never.
    #[error("timed out, the outcome is unknown")]
    TimedOut,
    /// The command is larger than [`NodeConfig::max_command_bytes`](crate::NodeConfig).
    #[error("{bytes} bytes are more than the limit of {limit} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The answer does not fit a frame between nodes. A command was applied all the same.
    #[error("an answer of {bytes} bytes is more than nodes exchange, {limit} bytes")]
    AnswerTooLarge {
        /// Its size.
        bytes: usize,
        /// The largest that is possible.
        limit: usize,
    },
    /// The connection on which the answer would have to travel has as much to carry as it may. A
    /// command was applied all the same.
    #[error("an answer of {bytes} bytes finds no room on its way")]
    NoRoomForAnswer {
        /// Its size.
        bytes: usize,
    },
    /// The node hosts no replica of that group.
    #[error("no replica of group {0} on this node")]
    NoSuchGroup(GroupId),
    /// There is no connection to the node that was asked.
    #[error("no connection to node {0}")]
    Unreachable(NodeId),
    /// The node, or this replica of the group, has stopped.
    #[error("stopped")]
    Stopped,
}

pub(crate) fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

fn hint(leader: Option<NodeId>) -> String {
    leader.map_or_else(String::new, |node| format!(" (node {node} is)"))
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader { leader } => Self::NotLeader { leader },
            Refusal::Busy => Self::Busy,
        }
    }
}

/// Why a change of a group's members did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The leader refused it. The change has no effect, nor has any part of it.
    #[error(transparent)]
    Refused(#[from] ChangeRefusal),
    /// The leader's node does not know the node that is to get a replica. The change has no effect.
    /// [`Node::add_peer`](crate::Node::add_peer) makes nodes known.
    #[error("node {node} is no peer of the leader's node")]
    NotAPeer {
        /// That node.
        node: NodeId,
    },
    /// The group has other members than those that the change is based on: those of this entry. The
    /// change has no effect.
    #[error("the group has had the members of entry {id} since")]
    OtherMembers {
        /// The entry that holds its configuration.
        id: LogId,
    },
    /// The leader had taken the change, and lost its role before it was committed. The members that
    /// were committed since are without it: its successor does not have it, or has made another
    /// change since, which undid it.
    #[error("the change was lost with its leader")]
    Lost,
    /// It did not get to the leader, or nothing was heard of it. The change has no effect, but for
    /// [`RequestError::TimedOut`]: then it may come about yet, as a whole.
    /// [`GroupHandle::membership`](crate::GroupHandle::membership) tells in time. Such is also
    /// [`RequestError::NotLeader`], which names the leader to turn to.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl ChangeError {
    /// Whether the same change may be taken a little later, by this leader or the next one, without
    /// anything else that has to be done.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_transient(),
            Self::NotAPeer { .. } | Self::OtherMembers { .. } => false,
            Self::Lost => true,
            Self::Request(error) => matches!(
                error,
                RequestError::NotLeader { .. } | RequestError::Busy | RequestError::Unreachable(_)
            ),
        }
    }
}

/// Why a transfer of leadership did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only a voter can lead.
    #[error("node {node} is no voter")]
    NotVoter {
        /// That node.
        node: NodeId,
    },
    /// The successor did not take over within an election timeout: it may be behind, or be cut off.
    #[error("node {node} did not take over, and node {leader} leads")]
    NotTaken {
        /// The successor.
        node: NodeId,
        /// Who leads by now, as far as the former leader knows.
        leader: NodeId,
    },
    /// This replica does not lead, or nothing was heard of the transfer.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Why a [`NodeConfig`](crate::NodeConfig) makes no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The node is not one of the cluster's members.
    #[error("node {0} is not among the members")]
    NotAMember(NodeId),
    /// The node's own address is not one to listen on.
    #[error("node {node}: {address:?} is not ip:port")]
    Address {
        /// The node.
        node: NodeId,
        /// The address that the members give for it.
        address: String,
    },
    /// The cluster's name has a line break.
    #[error("a cluster's name is one line")]
    ClusterName,
    /// What TLS shows is not this node's.
    #[error("TLS between nodes was opened for another node, or for a cluster of another name")]
    Tls,
    /// A member has the id 0, which stands for no node.
    #[error("0 is the id of no node")]
    NodeZero,
    /// The cluster was made with no nodes at all.
    #[error("a cluster is made with at least one node")]
    NoFounders,
    /// There is no thread to run groups.
    #[error("a node must have a worker")]
    NoWorkers,
    /// Heartbeats are too frequent for the node's clocks, or so rare that one lost message ends
    /// leaderships.
    #[error(
        "the heartbeat interval must be 1 ms at least, and a third of the election timeout at \
         most, not {0:?}"
    )]
    HeartbeatInterval(Duration),
    /// State machines get too little time.
    #[error("a state machine must have at least 10 ms for a call, not {0:?}")]
    StateMachineTimeout(Duration),
    /// Snapshots would not get on.
    #[error("snapshots must be copied at 1 MiB a second at least, not at {0} bytes")]
    SnapshotRate(u64),
    /// A command of the largest size does not fit a frame between nodes.
    #[error("commands of {command_bytes} bytes are too large: nodes exchange up to {limit} bytes")]
    CommandTooLarge {
        /// The largest command.
        command_bytes: usize,
        /// The largest that is possible.
        limit: usize,
    },
    /// The shares of the memory budget are smaller than the largest command.
    #[error(
        "a memory budget of {budget_bytes} bytes is too small for commands of {command_bytes} bytes"
    )]
    MemoryBudget {
        /// The budget.
        budget_bytes: usize,
        /// The largest command.
        command_bytes: usize,
    },
    /// The node is among those that it is to be founded without.
    #[error("node {0} can't be founded without itself")]
    FoundedWithoutItself(NodeId),
    /// A node that the node is to be founded without is not one of the cluster's members.
    #[error("node {0}, to be founded without, is not among the members")]
    FoundedWithoutStranger(NodeId),
    /// The nodes that the node is to be founded without are no minority.
    #[error(
        "a cluster of {members} nodes can't be founded without {left_out} of them: only without a \
         minority"
    )]
    FoundedWithoutMajority {
        /// How many nodes are left out.
        left_out: usize,
        /// How many nodes the cluster has.
        members: usize,
    },
}

/// Why a node does not add a peer, or remove one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// 0 is the id of no node.
    #[error("0 is the id of no node")]
    NodeZero,
    /// A node is no peer of its own.
    #[error("node {0} is this node")]
    Itself(NodeId),
    /// The node is no peer.
    #[error("node {0} is not a peer")]
    Unknown(NodeId),
    /// The peer is known by another data directory.
    #[error("node {0} is known by another data directory")]
    OtherIncarnation(NodeId),
    /// The peer's data directory can't be recorded.
    #[error("node {node} can't be recorded: {reason}")]
    Unrecorded {
        /// The peer.
        node: NodeId,
        /// Why not.
        reason: String,
    },
    /// A group that has a replica on this node has one on that node, too: it has to be removed
    /// first.
    #[error("node {node} holds a replica of group {group}")]
    HoldsReplica {
        /// That node.
        node: NodeId,
        /// One of those groups.
        group: GroupId,
    },
}

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The data directory is in use, damaged or another's.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The data directory is not the one that the cluster has recorded under this id
    /// ([`Founding::Joined`](crate::Founding::Joined)).
    #[error(
        "the data directory {} is not the one that the cluster knows under this id", .path.display()
    )]
    OtherIncarnation {
        /// The directory.
        path: PathBuf,
    },
    /// The log can't be read.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The snapshots can't be listed.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// The peers' port can't be opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The system refused something else, such as a thread.
    #[error("starting node: {0}")]
    Io(#[from] io::Error),
}

impl StartError {
    /// Whether what the node has promised is damaged, and nobody can tell which groups that
    /// concerns. Then it can never start again on this directory, nor under its id: it may only
    /// come back as another node, once the cluster has given it up.
    ///
    /// That can't be taken back, so it is said only where something is there which is not what was
    /// written. What is missing as a whole, or can't be read, may be there at the next start: a
    /// disk that was not mounted, or does not answer. And what another build has written is not
    /// damaged.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Directory(error) => matches!(error, DirectoryError::Damaged { .. }),
            Self::Wal(WalError::Corrupt(_) | WalError::Missing(_)) => true,
            // A log of which nothing is there ends before any segment.
            Self::Wal(WalError::Short { end, .. }) => end.segment > 0,
            // A start reads no contents of snapshots: their damage costs replicas.
            Self::Wal(_) | Self::Snapshots(_) => false,
            Self::Config(_) | Self::OtherIncarnation { .. } => false,
            Self::Transport(_) | Self::Io(_) => false,
        }
    }
}

/// Why a replica can't start.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The group has a replica on this node already.
    #[error("group {0} runs on this node already")]
    Exists(GroupId),
    /// The replica that this node had is gone, since its group is without it. What is left of it is
    /// being deleted, or was: then another one may join, but not found the group.
    #[error("the replica of group {0} on this node is gone; another one may join")]
    Removed(GroupId),
    /// Another call is starting the group's replica.
    #[error("group {0} is being started by another call")]
    Starting(GroupId),
    /// The group's replica on this node does not run.
    #[error("group {0} does not run on this node")]
    NotStarted(GroupId),
    /// This node has nothing of the group.
    #[error("nothing of group {0} is on this node")]
    NotStored(GroupId),
    /// Its replicas don't include this node.
    #[error("group {0} has no replica on this node")]
    NotAReplica(GroupId),
    /// Its replicas are no set that a group can have.
    #[error("group {group}: {reason}")]
    Replicas {
        /// The group.
        group: GroupId,
        /// What is wrong with them.
        reason: String,
    },
    /// The group was founded with other replicas before.
    #[error(
        "group {group} was founded with other replicas before: it has {}, not {}",
        list(.before),
        list(.given)
    )]
    OtherReplicas {
        /// The group.
        group: GroupId,
        /// The nodes that hold its replicas, as the log has them.
        before: Vec<NodeId>,
        /// The nodes that were given now.
        given: Vec<NodeId>,
    },
    /// Its snapshot can't be read, is missing, or contradicts the log.
    #[error("group {group}: {reason}")]
    Snapshot {
        /// The group.
        group: GroupId,
        /// What is wrong.
        reason: String,
    },
    /// What a replica left in the log can't be read.
    #[error("group {group}: {reason}")]
    Log {
        /// The group.
        group: GroupId,
        /// What is wrong.
        reason: String,
    },
    /// The node has stopped, or can't go on.
    #[error("the node has stopped")]
    Stopped,
}
