//! The events of a replica: what can happen to it.

use crate::error::RequestError;
use crate::replica::call::EndedCall;
use crate::replica::request::Request;
use crate::request::kind::RequestKind;
use crate::turn::Turn;
use crate::turn::gone::Buried;
use crate::turn::jobs::LogReadJob;
use bytes::Bytes;
use logboat_raft::{
    Entry, GroupId, Index, LogId, LogReadTarget, Message, NodeId, Payload, ReadMode, ReplicaId,
    SnapshotMeta, Term,
};
use logboat_storage::ReadError;
use logboat_transport::Founders;

/// What can happen to a replica.
pub enum GroupEvent {
    /// A deadline of the replica has come.
    Tick,
    /// The node may promise from now on.
    Founded,
    /// What the node knows of a peer's liveness has changed, and that concerns the replica.
    SupportChanged,
    /// Peers have answered a round that reads here wait for.
    Confirmed,
    /// A peer's message.
    Message {
        /// The sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// What another node knows of the founding of the group.
    Founders {
        /// The node.
        from: NodeId,
        /// Nothing if it knows of none.
        founders: Option<Founders>,
    },
    /// A command to replicate.
    Propose(Request),
    /// A list of commands to replicate, in this order and with nothing between them.
    ProposeAll(Request),
    /// A query to answer linearizably.
    Read(Request, ReadMode),
    /// The answer to a [`LogReadJob`].
    LogRead {
        /// What they are for.
        target: LogReadTarget,
        /// The first index that was wanted.
        first: Index,
        /// Entries from there on; none when the log does not have it.
        entries: Result<Vec<Entry>, ReadError>,
    },
    /// The connection to a node broke.
    Disconnected(NodeId),
    /// The snapshot of a [`SnapshotJob::Write`](crate::turn::jobs::SnapshotJob::Write) is durable,
    /// or could not be written.
    SnapshotWritten(Option<SnapshotMeta>),
    /// The snapshot of a [`SnapshotJob::Send`](crate::turn::jobs::SnapshotJob::Send) has left this
    /// node, or could not be sent.
    SnapshotSent {
        /// The receiver.
        to: NodeId,
        /// What it is of; nothing when it failed.
        meta: Option<SnapshotMeta>,
    },
    /// What a leader has offered is being checked and made durable, or was found to be of no use.
    /// If it is of use, the offer itself comes.
    SnapshotChecked {
        /// The offer.
        offer: SnapshotOffer,
        /// Whether it was found to be of no use.
        is_over: bool,
    },
    /// The entries to apply next can't be read for long. Descriptors or memory are short.
    LogReadLate,
    /// The log wants room: make a snapshot.
    Compact,
    /// A call of the state machine, which went on while the replica ran, has ended.
    Called(Box<EndedCall>),
    /// A call of the state machine takes too long.
    Stuck,
    /// The query of a [`QueryJob`](crate::turn::jobs::QueryJob) has an answer, or the reason why it
    /// has none.
    Queried {
        /// Which of the replica's queries it is.
        number: u64,
        /// The answer.
        answer: Result<Bytes, String>,
    },
    /// The query with this number takes too long.
    QueryStuck(u64),
    /// Campaign without waiting for a timeout.
    #[cfg(feature = "internals")]
    Campaign,
    /// A change of the group's members.
    Change(Request),
    /// A transfer of leadership whose end somebody waits for.
    AskedTransfer(Request),
    /// A query to answer from the state that is here.
    ReadLocal(Request),
    /// Hand over leadership.
    Transfer(NodeId),
    /// Hand over leadership, if that can be done without a pause.
    TransferIfCaughtUp(NodeId),
    /// Stop for good, since a caller says so, and tell when that is done.
    Stop(Box<dyn FnOnce() + Send>),
    /// Something that was done for the replica failed in this way, and the replica can't go on.
    Fail(String),
    /// The replica of this group is not wanted here any more, whatever the group says. Told when
    /// nothing is left of it.
    Remove(GroupId, Buried),
    /// The node can't go on; nothing more becomes durable.
    Halt,
}

/// A leader's offer of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// The leader's node.
    pub from: NodeId,
    /// Which replica on that node leads.
    pub replica: ReplicaId,
    /// The term in which it leads.
    pub term: Term,
    /// The last entry that the snapshot covers.
    pub last: LogId,
}

impl SnapshotOffer {
    /// What a message offers, if that is a snapshot.
    pub(crate) fn of(from: NodeId, message: &Message) -> Option<Self> {
        let last = offered_snapshot(message)?;
        Some(Self { from, replica: message.from, term: message.term, last })
    }

    /// Whether a message to a node says to that leader that the replica lacks what it sent.
    pub(crate) fn is_denied_by(&self, to: NodeId, message: &Message) -> bool {
        let is_denial = matches!(message.payload, Payload::Rejected { .. });
        is_denial && (self.from, self.replica, self.term) == (to, message.to, message.term)
    }
}

/// The last entry of the snapshot that a message offers, whose bytes are here.
pub(crate) fn offered_snapshot(message: &Message) -> Option<LogId> {
    match &message.payload {
        Payload::Snapshot { meta } => Some(meta.last),
        _ => None,
    }
}

impl GroupEvent {
    /// The same of an event.
    pub(crate) fn offered_snapshot(&self) -> Option<LogId> {
        match self {
            Self::Message { message, .. } => offered_snapshot(message),
            _ => None,
        }
    }

    /// Takes in what comes for a replica that is there no more: whoever waits for an answer gets
    /// the one that a replica gives which has stopped. Nothing else is of use.
    pub(crate) fn come_too_late(self, turn: &mut Turn) {
        match self {
            Self::Propose(request)
            | Self::ProposeAll(request)
            | Self::Read(request, _)
            | Self::Change(request)
            | Self::AskedTransfer(request)
            | Self::ReadLocal(request) => {
                request.responder.answer(turn, Err(RequestError::Stopped));
            }
            Self::Stop(stopped) => stopped(),
            Self::Remove(group, buried) => turn.awaited_burials.push((group, buried)),
            Self::Tick
            | Self::Founded
            | Self::SupportChanged
            | Self::Confirmed
            | Self::Message { .. }
            | Self::Founders { .. }
            | Self::LogRead { .. }
            | Self::LogReadLate
            | Self::Disconnected(_)
            | Self::SnapshotWritten(_)
            | Self::SnapshotSent { .. }
            | Self::SnapshotChecked { .. }
            | Self::Compact
            | Self::Stuck
            | Self::Queried { .. }
            | Self::QueryStuck(_)
            | Self::Transfer(_)
            | Self::TransferIfCaughtUp(_)
            | Self::Fail(_)
            | Self::Halt => {}
            #[cfg(feature = "internals")]
            Self::Campaign => {}
            Self::Called(_) => unreachable!("a replica stays until its calls have ended"),
        }
    }

    /// That what `job` asked for was read, or could not be.
    #[must_use]
    pub fn log_read(job: LogReadJob, entries: Result<Vec<Entry>, ReadError>) -> Self {
        Self::LogRead { target: job.target, first: job.first, entries }
    }

    /// That a request has come.
    #[must_use]
    pub fn request(kind: RequestKind, request: Request) -> Self {
        match kind {
            RequestKind::Propose => Self::Propose(request),
            RequestKind::ProposeAll => Self::ProposeAll(request),
            RequestKind::Read(mode) => Self::Read(request, mode),
            RequestKind::Change => Self::Change(request),
            RequestKind::Transfer => Self::AskedTransfer(request),
            RequestKind::ReadLocal => Self::ReadLocal(request),
        }
    }
}
