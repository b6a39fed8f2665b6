//! The two boundary enums of the core: what goes in, what comes out.

use crate::{
    Change, ChangeError, Commands, Configuration, Entries, Index, LogId, Message, NodeId, Persist,
    ReplicaId, SnapshotMeta, Term, Violation, WriteSeq,
};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The caller's name for a batch of reads. A leader elsewhere is asked by it and may answer late,
/// so no other batch has it: none of other replicas of the node, and none of earlier runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// Who may serve a linearizable read, and on what grounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadMode {
    /// Which replica may serve it.
    pub from: ReadFrom,
    /// Whether the leader may rely on clocks rather than ask its peers. Such a read is linearizable
    /// only if the clocks of two nodes, over a support timeout, differ in rate by no more than the
    /// drift that the node allows for. Where too few peers promise leases, the leader asks as for
    /// any other read.
    pub lease: bool,
}

/// Which replica may serve a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// The leader alone.
    #[default]
    Leader,
    /// Also a follower, which asks the leader how far it must have applied the log.
    Any,
}

/// What happens to a replica.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed: a deadline may have.
    Tick,
    /// The node may promise from now on ([`Support::founded`](crate::Support::founded)). The
    /// replica begins as after a start.
    Founded,
    /// The liveness of a peer has changed in a way that concerns the replica. This node withdrew
    /// its support from the node of the replica's leader; or, if the replica leads or has
    /// [something to say][`Raft::has_unanswered_words`], a peer's node supports this one at another
    /// epoch, or no longer.
    ///
    /// [`Raft::has_unanswered_words`]: crate::Raft::has_unanswered_words
    SupportChanged,
    /// More peers have answered rounds of confirmations, see [`Raft::awaited_round`].
    ///
    /// [`Raft::awaited_round`]: crate::Raft::awaited_round
    Confirmed,
    /// A message arrived. It may be late, doubled, out of order or never sent to this replica.
    Receive {
        /// The node that the connection belongs to.
        from: NodeId,
        /// The message. The entries' checksums have been verified.
        message: Message,
    },
    /// Commands to replicate, in order. Answered within the same step by one [`Output::Proposed`]
    /// or one [`Output::Refused`].
    Propose {
        /// The commands, one entry each.
        commands: Commands,
    },
    /// Changes of the group's members, which take effect together. Answered within the same step by
    /// one [`Output::ChangeProposed`] or one [`Output::ChangeRefused`].
    ///
    /// If they change who votes, the leader takes the group through a joint configuration. The
    /// change is over when a configuration that is not joint is committed
    /// ([`Output::Configured`]).
    Change {
        /// The changes.
        changes: Vec<Change>,
    },
    /// A request for a linearizable read. Answered by one [`Output::ReadReady`] or
    /// [`Output::ReadRefused`], perhaps in a later step.
    Read {
        /// Comes back in the answer.
        token: ReadToken,
        /// Who may serve it, and on what grounds.
        mode: ReadMode,
    },
    /// All writes up to `seq` are durable.
    Persisted {
        /// The mark of the newest durable [`Persist`].
        seq: WriteSeq,
    },
    /// The answer to [`Output::ReadLog`].
    LogRead {
        /// Whom they are for.
        target: LogReadTarget,
        /// Consecutive entries from the index asked for on; empty when the log no longer has them.
        /// It always has those for [`LogReadTarget::Apply`], unless a snapshot replaced it
        /// meanwhile.
        entries: Entries,
    },
    /// The state machine's own snapshot is durable. The log up to its last entry goes. A replica
    /// that has not applied any configuration yet, since it was added later than what it has
    /// applied, makes no snapshots.
    Compact {
        /// What the snapshot is of.
        meta: SnapshotMeta,
    },
    /// The bytes of the snapshot asked for by [`Output::SendSnapshot`] have left. The offer of it
    /// ([`Payload::Snapshot`](crate::Payload::Snapshot)) is sent by this step, and has to follow
    /// them on the same connection. Whether they arrived is not known.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// What the snapshot is of.
        meta: SnapshotMeta,
    },
    /// The snapshot asked for by [`Output::SendSnapshot`] can't be delivered now.
    SnapshotFailed {
        /// The follower that did not get it.
        to: NodeId,
    },
    /// The connection to a node broke: what was in flight to it may be lost.
    Unreachable {
        /// That node.
        node: NodeId,
    },
    /// Hand leadership to another voter (Raft thesis, section 3.10). Gives up after an election
    /// timeout; proposals are refused meanwhile, with the successor as the leader to turn to. Does
    /// nothing on a follower.
    Transfer {
        /// The voter that shall lead.
        to: NodeId,
    },
    /// Campaign now, with a pre-vote, without waiting for the timeout. Does nothing on a leader.
    Campaign,
    /// Whether the replica may lead from now on. At first it may. One that may not steps down at
    /// once, tells the others, and does not campaign; it votes and follows as before.
    MayLead(bool),
}

/// Whom entries that are read back are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogReadTarget {
    /// A follower that is behind.
    Peer(NodeId),
    /// This replica's own state machine, after a restart.
    Apply,
}

/// What the caller has to do, in the order of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write to the log. When the write is durable, report it by [`Input::Persisted`].
    Persist(Persist),
    /// Send at once. The message promises nothing that is not durable already, or it is a leader's
    /// append, which may leave before the leader's own write (Raft thesis, section 10.2.1).
    Send {
        /// The receiver.
        to: NodeId,
        /// What to send.
        message: Message,
    },
    /// Send only when everything up to the write `after` is durable.
    SendAfter {
        /// What must be durable first.
        after: WriteSeq,
        /// The receiver.
        to: NodeId,
        /// What to send.
        message: Message,
    },
    /// These entries are committed and durable here: apply them, in order, each once.
    Apply {
        /// Consecutive entries, beginning after the last one handed out.
        entries: Entries,
    },
    /// The proposed commands got the indexes from `first` on, all in the same term. That is no
    /// promise yet: when another term's entry is applied at such an index, the command is lost.
    Proposed {
        /// The first command's entry.
        first: LogId,
    },
    /// None of the proposed commands was taken; they certainly have no effect.
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// The changes were appended to the leader's log, and are in force there. They may be lost with
    /// the leader.
    ChangeProposed {
        /// The entry that holds the next configuration.
        id: LogId,
    },
    /// The changes were not taken.
    ChangeRefused {
        /// Why.
        error: ChangeError,
    },
    /// Another configuration is in force here, or the one in force is known to be committed. Comes
    /// once in a step at the most, however often it changed.
    Configured {
        /// The configuration in force.
        configuration: Arc<Configuration>,
        /// Whether it is known to be committed. Otherwise it may be lost with the leader.
        is_committed: bool,
    },
    /// The state machine may serve the reads of `token` now: everything up to the read's index has
    /// been handed out by [`Output::Apply`].
    ReadReady {
        /// The token of the request.
        token: ReadToken,
    },
    /// The reads of `token` can't be served here.
    ReadRefused {
        /// The token of the request.
        token: ReadToken,
        /// Why.
        reason: Refusal,
    },
    /// Read entries back from the log. Answer by [`Input::LogRead`]; at most one request for each
    /// target is open.
    ReadLog {
        /// Whom they are for.
        target: LogReadTarget,
        /// The first index wanted.
        first: Index,
        /// The last index wanted.
        last: Index,
        /// About how many payload bytes at the most; at least one entry all the same.
        max_bytes: usize,
    },
    /// Stream the newest snapshot to a follower whose next entry this log no longer has. Answer by
    /// [`Input::SnapshotSent`] when its bytes have left, or by [`Input::SnapshotFailed`].
    ///
    /// The follower's [`Payload::Appended`](crate::Payload::Appended) ends it; if the follower
    /// refuses an append instead, another snapshot is asked for. After [`Input::Unreachable`] that
    /// may happen while the stream is still under way: it then goes on.
    SendSnapshot {
        /// The receiver.
        to: NodeId,
    },
    /// A leader's snapshot replaces the state machine's state. The bytes are those that arrived for
    /// its last entry. The [`Persist`] that cuts the log accordingly follows.
    RestoreSnapshot {
        /// What the snapshot is of.
        meta: SnapshotMeta,
    },
    /// This replica is gone: a committed configuration, not older than the replica, is without it.
    /// It takes no further step. The caller writes the tombstone ([`LogWrite::Tombstone`]), and
    /// then deletes all that is left of the replica. Comes at most once.
    ///
    /// [`LogWrite::Tombstone`]: crate::LogWrite::Tombstone
    Gone {
        /// The smallest id that a replica on this node may still have.
        floor: ReplicaId,
    },
    /// A peer's message broke the protocol, or is not believed, and was dropped. If it is certainly
    /// wrong ([`Violation::is_certain`]), its connection is to be closed. A person is to be told.
    Violated {
        /// The peer.
        from: NodeId,
        /// What it did.
        violation: Violation,
    },
    /// A peer's replica belongs to a group of the same id that was founded with other voters. Its
    /// message was dropped: neither replica votes for the other or follows it.
    OtherVoters {
        /// The peer.
        from: NodeId,
        /// Whether it leads: a majority of the replicas of that founding follows it.
        leads: bool,
    },
    /// The role, the term or the known leader changed.
    RoleChanged {
        /// The role now.
        role: RoleKind,
        /// The term now.
        term: Term,
        /// The leader of that term, if known.
        leader: Option<NodeId>,
    },
}

/// The role of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether a campaign would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Why a proposal or a read was not taken. It certainly has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another replica leads, or is about to.
    #[error("not the leader")]
    NotLeader {
        /// That replica's node, if known.
        leader: Option<NodeId>,
    },
    /// Too much is uncommitted.
    #[error("busy")]
    Busy,
}
