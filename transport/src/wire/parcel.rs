//! Parcels, of which a frame is made: each is for one group, or about liveness.

use crate::wire::frame::{ChunkPlace, Frame};
use bytes::Bytes;
use logboat_raft::{Entry, GroupId, LogId, Message, NodeId, Payload, SupportMessage, VotersDigest};
use std::convert::Infallible;

/// Pairs a reply with its request. The engine chooses it; the transport only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One item that a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A message from a replica on the peer to the replica here.
    Message {
        /// The group of both.
        group: GroupId,
        /// The message itself.
        message: Message,
    },
    /// A request of the peer's engine, for instance a forwarded proposal.
    Request {
        /// What the reply must carry.
        id: RequestId,
        /// The group that it concerns.
        group: GroupId,
        /// Opaque to the transport.
        body: Bytes,
    },
    /// A request of the peer's engine that this node is to forward, because the peer does not reach
    /// its destination.
    Forward {
        /// What the reply must carry.
        id: RequestId,
        /// The node that the request is for.
        to: NodeId,
        /// The group that it concerns.
        group: GroupId,
        /// Opaque to the transport.
        body: Bytes,
    },
    /// The answer to a request of this node.
    Reply {
        /// The id of the request.
        id: RequestId,
        /// Opaque to the transport.
        body: Bytes,
    },
    /// A chunk of a snapshot. The chunks of a snapshot arrive in order while the connection lasts.
    /// After a lost connection the stream begins again at offset zero.
    Snapshot(SnapshotChunk),
    /// The peer has taken a chunk of a snapshot that this node streams to it.
    SnapshotTaken(SnapshotTaken),
    /// The peer refuses a snapshot that this node streams to it.
    SnapshotRefused {
        /// The snapshot's group.
        group: GroupId,
        /// The last entry that the snapshot covers.
        last: LogId,
    },
    /// A message about the liveness of the peer, or of this node.
    Support(SupportMessage),
    /// By whom a group was founded, for all that the peer knows.
    Founders {
        /// The group.
        group: GroupId,
        /// Nothing if the peer holds no replica of the group, or one that was just added to it.
        founders: Option<Founders>,
        /// Whether the peer asks what this node knows.
        asks: bool,
    },
}

impl Parcel {
    /// The memory that the parcel takes while it waits, roughly. Bodies and entry data count with
    /// their own length, though they may be slices of a larger frame.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let bytes = match self {
            Self::Message { message, .. } => return message_bytes(message),
            Self::Request { body, .. } | Self::Forward { body, .. } | Self::Reply { body, .. } => {
                body.len()
            }
            Self::Snapshot(chunk) => chunk.data.len(),
            Self::Founders { founders, .. } => {
                founders.as_ref().map_or(0, |founders| size_of_val(&founders.members[..]))
            }
            Self::SnapshotTaken(_) | Self::SnapshotRefused { .. } | Self::Support(_) => 0,
        };
        size_of::<Self>() + bytes
    }
}

fn message_bytes(message: &Message) -> usize {
    let entry_bytes = |entry: &Entry| size_of::<Entry>() + entry.data.len();
    let entries = match &message.payload {
        Payload::AppendEntries { entries, .. } => entries.iter().map(entry_bytes).sum(),
        _ => 0,
    };
    size_of::<Parcel>() + entries
}

/// The nodes with whose replicas a group was founded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founders {
    /// Their digest, which tells one founding from another.
    pub digest: VotersDigest,
    /// The nodes, or those that the group has now, to be named.
    pub members: Vec<NodeId>,
}

/// A chunk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// The group whose state it is.
    pub group: GroupId,
    /// The last entry that the snapshot covers.
    pub last: LogId,
    /// Where the chunk lies in the snapshot.
    pub offset: u64,
    /// The length of the whole snapshot. The chunk that ends here is the last one.
    pub total_bytes: u64,
    /// The chunk's bytes.
    pub data: Bytes,
}

/// Word of a receiver that a chunk of a snapshot, and each one before it on the connection, takes
/// no memory of it any more: it is written, or was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTaken {
    /// The group of the chunk.
    pub group: GroupId,
    /// The last entry that the snapshot covers.
    pub last: LogId,
    /// Where the chunk ends in the snapshot.
    pub end: u64,
    /// How many bytes of snapshots the receiver has memory for, of all that this sender has on its
    /// way: see [`snapshot_window_bytes`](crate::snapshot_window_bytes).
    pub window_bytes: u64,
}

impl SnapshotChunk {
    /// Where the chunk ends in the snapshot.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }

    /// Encodes the chunk as a frame, for callers that carry it without a transport.
    ///
    /// # Panics
    /// When the chunk is larger than 4 GiB.
    #[must_use]
    pub fn to_frame(&self) -> Bytes {
        let place = ChunkPlace {
            group: self.group,
            last: self.last,
            offset: self.offset,
            total_bytes: self.total_bytes,
            chunk_bytes: self.data.len(),
        };
        let copied = Frame::of_snapshot(&place, |buffer| {
            buffer.copy_from_slice(&self.data);
            Ok::<_, Infallible>(())
        });
        match copied {
            Ok(frame) => frame.to_bytes(),
            Err(never) => match never {},
        }
    }
}
