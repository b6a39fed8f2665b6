//! The two boundary enums of the core: what goes in, what comes out.

use crate::{BootCount, Commands, Entries, Epoch, Index, LogId, Message, NodeId, Term};
use alloc::vec::Vec;

/// The state that must be durable before a message that depends on it (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term that the replica has seen.
    pub term: Term,
    /// Whom it voted for in that term, or to whom it bound itself as the leader of that term before it
    /// had voted.
    pub vote: Option<NodeId>,
    /// An index known to be committed. Only a hint that saves time after a restart: it may be
    /// behind, and is written only along with something else.
    pub commit: Index,
    /// The leader that it last bound itself to. The bond outlives the term: it ends with the node's
    /// support for that epoch, with a vote, when another leader is heard, or when this one asks for votes.
    pub fortified: Option<Fortification>,
}

/// A follower's bond to the node of a leader: while the follower's own node supports that node at
/// this epoch, it neither campaigns nor votes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fortification {
    /// The leader's node.
    pub leader: NodeId,
    /// The epoch at which the follower's node supported it when the bond was made.
    pub epoch: Epoch,
}

/// What a node has promised to a peer, as it stands on the node's disk. The entry that a node keeps
/// of itself counts its starts, with epoch zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The epoch at which the peer is or was supported. Zero if it never was.
    pub epoch: Epoch,
    /// The boot of the peer that the support is for: after its next start it is supported at a later epoch.
    pub boot: BootCount,
    /// Whether the support stands. Withdrawn, it is given again only at a later epoch.
    pub live: bool,
}

/// A run of entries of one term: the term and the first index that has it. The run ends where the
/// next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// The term.
    pub term: Term,
    /// The first index of that term.
    pub first: Index,
}

/// What a replica finds on its disk when it starts; [`Default`] is a replica that never ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Term, vote and commit hint.
    pub hard_state: HardState,
    /// The last entry that the snapshot covers, where the log begins; zero without a snapshot. The
    /// state machine has been restored from that snapshot.
    pub snapshot: LogId,
    /// The last index of the log; equals `snapshot.index` when the log is empty.
    pub last: Index,
    /// The terms of the entries after `snapshot` up to `last`, ascending.
    pub runs: Vec<TermRun>,
}

/// Numbers the [`Persist`]s of a replica, from 1 on, without gaps. All up to a mark are durable
/// when the mark is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteSeq(pub u64);

impl WriteSeq {
    /// The mark after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The caller's name for a batch of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// Who may serve a linearizable read, and on what grounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadMode {
    /// Which replica may serve it.
    pub from: ReadFrom,
    /// Whether the leader may rely on clocks rather than ask its peers. Such a read is linearizable
    /// only if the clocks of two nodes, over a support timeout, differ in rate by no more than the
    /// drift that the node allows for.
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

/// What the core is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed. Whoever has a deadline that lies in the past acts on it.
    Tick,
    /// The node's view of a peer's liveness has changed: it withdrew its support from the node of this
    /// replica's leader, or a peer of this leader supports it at another epoch, or no longer.
    SupportChanged,
    /// More peers have answered rounds of confirmations.
    Confirmed,
    /// A message arrived. It may be late, doubled, out of order or never sent to this replica.
    Receive {
        /// The node that the connection belongs to.
        from: NodeId,
        /// What it says. The entries' checksums have been verified.
        message: Message,
    },
    /// Commands to replicate, in order. Answered within the same step by one [`Output::Proposed`]
    /// or one [`Output::Refused`].
    Propose {
        /// The commands, one entry each.
        commands: Commands,
    },
    /// A request for a linearizable read. Answered by one [`Output::ReadReady`] or
    /// [`Output::ReadRefused`], perhaps in a later step.
    Read {
        /// Comes back in the answer.
        token: ReadToken,
        /// Who may serve it, and on what grounds.
        mode: ReadMode,
    },
    /// Everything up to `seq` is durable.
    Persisted {
        /// The mark of the newest durable [`Persist`].
        seq: WriteSeq,
    },
    /// The answer to [`Output::Load`].
    Loaded {
        /// Whom they are for.
        target: LoadFor,
        /// Consecutive entries from the index asked for on; empty when the log no longer has them.
        /// It always has those for [`LoadFor::Apply`], unless a snapshot replaced it meanwhile.
        entries: Entries,
    },
    /// The state machine's own snapshot, covering everything up to `last`, is durable. The log up to
    /// there goes.
    Compact {
        /// The last entry covered.
        last: LogId,
    },
    /// The bytes of the snapshot asked for by [`Output::SendSnapshot`] have left. The offer of it
    /// ([`Payload::Snapshot`](crate::Payload::Snapshot)) is sent by this step, and has to follow
    /// them on the same connection. Whether they arrived is not known.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// The last entry that the snapshot covers.
        last: LogId,
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
}

/// Whom loaded entries are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadFor {
    /// A follower that is behind.
    Peer(NodeId),
    /// This replica's own state machine, after a restart.
    Apply,
}

/// What the core wants done, in the order of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write to the log. When it is durable, say so by [`Input::Persisted`].
    Persist(Persist),
    /// Send at once: the message promises nothing that is not durable already, or (a leader's
    /// append) is safe to send in parallel with the write.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to send.
        message: Message,
    },
    /// Send only when everything up to `after` is durable.
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
    /// Read entries back from the log. Answer by [`Input::Loaded`]; at most one request for each
    /// target is open.
    Load {
        /// Whom they are for.
        target: LoadFor,
        /// The first index wanted.
        first: Index,
        /// The last index wanted.
        last: Index,
        /// About how many payload bytes at the most; at least one entry all the same.
        max_bytes: usize,
    },
    /// Stream the newest snapshot to a follower whose next entry this log no longer has. Its
    /// [`Payload::Appended`](crate::Payload::Appended) ends it. [`Input::SnapshotSent`] must come, or
    /// [`Input::SnapshotFailed`]: then the follower's word that it lacks the snapshot starts another.
    /// After [`Input::Unreachable`] it may be asked for again while the stream is still under way,
    /// which then goes on.
    SendSnapshot {
        /// The receiver.
        to: NodeId,
    },
    /// A leader's snapshot replaces the state machine's state. The bytes are those that arrived for
    /// `last`. The [`Persist`] that cuts the log accordingly follows.
    RestoreSnapshot {
        /// The last entry that the snapshot covers.
        last: LogId,
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

/// One write to the log: all of it takes effect, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number.
    pub seq: WriteSeq,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// What changes in the log.
    pub log: LogWrite,
}

/// A change of the log on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogWrite {
    /// None.
    Keep,
    /// Append consecutive entries. What the log holds from the first one's index on is replaced.
    Append(Entries),
    /// Entries up to this one are covered by a durable snapshot and no longer needed.
    Compact(LogId),
    /// The whole log is replaced by a snapshot that covers everything up to this entry.
    Reset(LogId),
}

/// The role of a replica, for those who watch.
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
