//! Jobs for the background threads, which work with files for the replicas.

use crate::admission::Permit;
use crate::background::guard::contain;
use crate::replica::event::GroupEvent;
use crate::state_machine::{SnapshotWriter, StateReader};
use crate::turn::gone::Buried;
use crate::turn::slot::Slot;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use logboat_raft::{GroupId, Index, LogId, LogReadTarget, Message, NodeId, SnapshotMeta};
use logboat_transport::SnapshotChunk;
use std::fmt;
use std::sync::Arc;

/// A job of the log reader: entries that a replica needs. At most one job is open for each of its
/// targets.
#[derive(Clone, Copy, Debug)]
pub struct LogReadJob {
    /// The group.
    pub group: GroupId,
    /// The slot of its replica, for the answer.
    pub slot: Slot,
    /// The target of the entries.
    pub target: LogReadTarget,
    /// The first index wanted.
    pub first: Index,
    /// The last index wanted.
    pub last: Index,
    /// About how many payload bytes at the most.
    pub max_bytes: usize,
}

/// A query for the reader of a replica's state.
pub struct QueryJob {
    /// The group.
    pub group: GroupId,
    /// The slot of its replica, for the answer.
    pub slot: Slot,
    /// Which of the replica's queries it is.
    pub number: u64,
    /// The query.
    pub query: Bytes,
    pub(crate) reader: Arc<dyn StateReader>,
}

impl fmt::Debug for QueryJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, slot, number, .. } = self;
        write!(f, "query {number} of group {group} in {slot:?}")
    }
}

impl QueryJob {
    /// Answers the query. The event is for the replica.
    #[must_use]
    pub fn run(self) -> GroupEvent {
        let Self { number, query, reader, .. } = self;
        let answer = contain(move || reader.query(query));
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("reading its state: {error}")),
            Err(panic) => Err(format!("its reader panicked at a query: {panic}")),
        };
        GroupEvent::Queried { number, answer }
    }
}

/// A job of the snapshot thread.
pub enum SnapshotJob {
    /// Write the captured state of a replica here.
    Write {
        /// The group.
        group: GroupId,
        /// The slot of its replica, for the answer.
        slot: Slot,
        /// What the snapshot is of.
        meta: SnapshotMeta,
        /// Writes the state.
        writer: SnapshotWriter,
    },
    /// Stream the newest snapshot of a replica here to a peer, in its turn.
    Send {
        /// The group.
        group: GroupId,
        /// The slot of its replica, for the answer.
        slot: Slot,
        /// The receiver.
        to: NodeId,
    },
    /// A part of a peer's snapshot arrived.
    Chunk {
        /// The sender.
        from: NodeId,
        /// The part.
        chunk: SnapshotChunk,
        /// Its share of the memory for such parts, until it is written.
        permit: Permit,
    },
    /// A part of a peer's snapshot arrived and was dropped.
    Dropped {
        /// The sender.
        from: NodeId,
        /// Which part it was.
        part: PartPlace,
        /// Whether its snapshot begins with it.
        is_first: bool,
        /// Whether there was no memory for it. Otherwise no replica here has any use for it.
        is_missed: bool,
        /// What the job takes of the memory for parts.
        permit: Permit,
    },
    /// The peer has sent all parts; the replica learns of it once they are durable.
    Offer {
        /// The sender.
        from: NodeId,
        /// The group.
        group: GroupId,
        /// The offer, for the replica.
        message: Message,
        /// Its share of the memory for parts.
        permit: Permit,
    },
    /// A peer has refused the snapshot that it was sent.
    Refused {
        /// The peer.
        from: NodeId,
        /// The group.
        group: GroupId,
        /// The last entry that the snapshot covers.
        last: LogId,
        /// What the job takes of the memory for parts.
        permit: Permit,
    },
    /// Remove all that there is of a replica that is gone.
    Remove {
        /// The group.
        group: GroupId,
        /// Told when that is done.
        buried: Buried,
    },
    /// A removal that was asked for before is awaited.
    AwaitRemoval {
        /// The group.
        group: GroupId,
        /// Told when it is done.
        buried: Buried,
    },
    /// A connection to a peer is up.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// A peer's connection to this node has ended.
    Closed {
        /// The peer.
        peer: NodeId,
    },
    /// The node stops.
    Stop,
}

impl SnapshotJob {
    /// Whether the job concerns snapshots that are arriving, or comes after one that does. Such
    /// jobs keep their order.
    pub(crate) const fn follows_arrivals(&self) -> bool {
        match self {
            Self::Chunk { .. }
            | Self::Dropped { .. }
            | Self::Offer { .. }
            | Self::Remove { .. }
            | Self::AwaitRemoval { .. }
            | Self::Closed { .. } => true,
            Self::Write { .. }
            | Self::Send { .. }
            | Self::Refused { .. }
            | Self::Connected { .. }
            | Self::Stop => false,
        }
    }
}

/// Which part of a snapshot it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPlace {
    /// The group.
    pub group: GroupId,
    /// The last entry that the snapshot covers.
    pub last: LogId,
    /// Where the part ends in the snapshot.
    pub end: u64,
}

impl PartPlace {
    /// That of a chunk.
    pub(crate) fn of(chunk: &SnapshotChunk) -> Self {
        Self { group: chunk.group, last: chunk.last, end: chunk.end() }
    }
}

/// Queues of jobs for the background threads.
pub(crate) struct JobQueue<J>(Sender<J>);

/// Where replicas ask for entries of the log.
pub(crate) type LogReadQueue = JobQueue<LogReadJob>;

/// Where replicas and peers ask for work on snapshots.
pub(crate) type SnapshotQueue = JobQueue<SnapshotJob>;

impl<J> JobQueue<J> {
    /// The two ends of a queue. The receiving one ends when all clones of the other are gone.
    pub(crate) fn new() -> (Self, Receiver<J>) {
        let (sender, receiver) = unbounded();
        (Self(sender), receiver)
    }

    pub(crate) fn submit(&self, job: J) {
        // The thread is gone only when the node has stopped or it panicked, which has been printed.
        // Nobody waits for the job then.
        let _ = self.0.send(job);
    }
}

impl<J> Clone for JobQueue<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
