//! The interface between the engine and a transport, whichever it is.

use crate::error::SendError;
use crate::wire::{Outgoing, Parcel, SnapshotTaken};
use bytes::Bytes;
use logboat_raft::{ClusterId, GroupId, Introduction, LogId, NodeId, Remembered};
use std::io::{self, Read};

/// Where a transport delivers. All methods are called on the transport's own thread, which serves
/// every peer: they must neither block nor panic.
pub trait Inbox: Send + Sync + 'static {
    /// Takes what arrived from a peer, in the order in which the peer sent it.
    fn receive(&self, from: NodeId, parcels: Vec<Parcel>);

    /// How this node introduces itself to the peer.
    fn introduction(&self, peer: NodeId) -> Introduction;

    /// What this node has recorded of the peer, and heard of it since. Nothing before the first
    /// [`remember`](Self::remember), and always something after it, over restarts too.
    fn remembered(&self, peer: NodeId) -> Option<Remembered>;

    /// Records durably what is known of the peer from now on. It is called a few times a connection
    /// at most and may touch the disk. The incarnation that was recorded first stays: no other one
    /// follows.
    ///
    /// # Errors
    /// When it can't be recorded. The peer is not connected then.
    fn remember(&self, peer: NodeId, remembered: Remembered) -> io::Result<()>;

    /// The peer, dialled at its listed address, has recorded this node durably and lets this start
    /// of it in. Notes that durably, so that the next introduction to the peer says so.
    ///
    /// # Errors
    /// When it can't be noted. Nothing is sent to the peer then.
    fn let_in_by(&self, peer: NodeId) -> io::Result<()>;

    /// A peer of this node, dialled at its listed address, says that this id was drawn for the
    /// cluster. Notes that durably if this node does not know of one yet, so that each introduction
    /// says so from then on.
    ///
    /// # Errors
    /// When this node belongs to another cluster, or it can't be noted. The peer is not recorded
    /// then, and not connected.
    fn belongs_to(&self, cluster: ClusterId) -> io::Result<()> {
        let _ = cluster;
        Ok(())
    }

    /// The connection on which this node sends to the peer is up: [`Transport::send`] works.
    fn connected(&self, peer: NodeId);

    /// The connection on which this node sends to the peer is lost. What was queued or in flight
    /// may be lost with it. Follows each [`connected`](Self::connected), except at shutdown.
    fn disconnected(&self, peer: NodeId);

    /// The peer's process has ended, or so it seems: the address at which this node was last
    /// connected to the peer refuses connections now. Something else in the network may refuse them
    /// in the name of a peer that lives.
    fn peer_ended(&self, peer: NodeId) {
        let _ = peer;
    }

    /// The connection on which the peer sends to this node has ended. Answers of the peer may be
    /// lost, and it will not go on with a snapshot that it had begun to stream. May be called more
    /// than once a connection.
    fn incoming_closed(&self, peer: NodeId) {
        let _ = peer;
    }

    /// Somebody who is no node of this cluster asks something, behind whatever guards the port.
    /// Without an answer the connection is closed.
    fn visited(&self, question: Bytes, answer: VisitAnswer) {
        let _ = (question, answer);
    }

    /// The transport can't go on: from now on nothing is sent or received.
    fn failed(&self, reason: &str) {
        tracing::error!("the transport has failed: {reason}");
    }
}

/// A way to reach the peers of a node.
pub trait Transport: Send + Sync + 'static {
    /// Queues a batch for a peer. Never blocks; the batches of one thread keep their order.
    ///
    /// # Errors
    /// Nothing is queued without a connection ([`SendError::Unreachable`]), for an [unknown
    /// peer](SendError::UnknownPeer), or after shutdown ([`SendError::Closed`]). When the peer's
    /// queue is [full](SendError::Full), the frames from the first one on that does not fit are
    /// dropped. After [`SendError::TooLarge`] only the parcels above the limit are missing.
    fn send(&self, to: NodeId, outgoing: Outgoing) -> Result<(), SendError>;

    /// Streams a snapshot to a peer as [`Parcel::Snapshot`]s, beside the batches and never before
    /// one that waits. One snapshot travels at a time to each peer; others wait in line. The source
    /// hears of the outcome by its [`done`](SnapshotSource::done).
    ///
    /// No more of them is on its way at a time than the peer takes: whoever receives a chunk says
    /// so when it takes no memory there any more ([`Outgoing::push_snapshot_taken`]).
    fn send_snapshot(&self, to: NodeId, snapshot: SnapshotSource);

    /// The peer says that it took a chunk of a snapshot, so that more may follow. Without such word
    /// a stream comes to a halt, and ends after a minute.
    fn snapshot_taken(&self, peer: NodeId, taken: &SnapshotTaken);

    /// Closes the connection on which `peer` sends to this node, because the peer broke the
    /// protocol in the way that `reason` names. What has arrived from it is still delivered; the
    /// peer may dial again.
    fn disconnect(&self, peer: NodeId, reason: &str);

    /// Knows `node` as a peer from now on, which is reached at this address (`host:port`), or knows
    /// another address of a peer: where the peer is dialled next. A connection that stands goes on.
    fn add_peer(&self, node: NodeId, address: &str) {
        let _ = (node, address);
    }

    /// Knows `node` as a peer no longer: its connections end, and it is turned away.
    fn remove_peer(&self, node: NodeId) {
        let _ = node;
    }

    /// The state of the connection to every peer, sorted by node.
    fn peers(&self) -> Vec<PeerStatus>;
}

/// A snapshot on its way to a peer.
pub struct SnapshotSource {
    /// The group whose state it is.
    pub group: GroupId,
    /// The last entry that it covers.
    pub last: LogId,
    /// How many bytes `reader` yields. Fewer are an error; more are not read.
    pub total_bytes: u64,
    /// The snapshot's bytes, read a chunk ahead on a thread that may block. An error from it ends
    /// the stream, which is also how a stream is cancelled.
    pub reader: Box<dyn Read + Send>,
    /// Called once: with `Ok` when the last byte was handed to the network, or with what went
    /// wrong. `Ok` does not mean that the bytes arrived. It must not block.
    pub done: SnapshotDone,
}

/// Takes the answer to a visitor, on whatever thread.
pub type VisitAnswer = Box<dyn FnOnce(Bytes) + Send>;

/// Hears how a snapshot's stream ended.
pub type SnapshotDone = Box<dyn FnOnce(Result<(), SendError>) + Send>;

/// The state of the connection to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// Its address as configured.
    pub address: String,
    /// Whether the connection to it is up.
    pub connected: bool,
    /// Bytes accepted for it and not yet handed to the network.
    pub queued_bytes: usize,
    /// Why the last attempt to connect, from either side, failed; `None` once connected.
    pub last_error: Option<String>,
}
