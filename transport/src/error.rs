//! What can go wrong: at start, at send, and with what a peer sends.

use logboat_raft::{ChecksumMismatch, InvalidConfiguration, NodeId};
use logboat_varint::VarintError;
use std::io;
use std::net::SocketAddr;

/// Why the transport did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address for peers is taken, or is not one of this machine.
    #[error("cannot listen for peers on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The limit of a frame is too small to carry batches.
    #[error("max_frame_bytes is {bytes}, it must be at least {least_bytes}")]
    FrameLimit {
        /// What was configured.
        bytes: u32,
        /// The least that works.
        least_bytes: usize,
    },
    /// The system gave no thread or no event queue.
    #[error("cannot start the network thread: {0}")]
    Thread(#[source] io::Error),
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer's queue holds as many bytes as it may. The frames before the first one that did not
    /// fit are queued; that one and all behind it were dropped.
    #[error("the queue of the peer is full")]
    Full,
    /// There is no connection to the peer now, or it was lost on the way.
    #[error("not connected to the peer")]
    Unreachable,
    /// No peer of this name is configured.
    #[error("node {0} is not a peer")]
    UnknownPeer(NodeId),
    /// The transport was shut down.
    #[error("the transport is closed")]
    Closed,
    /// A parcel exceeds the largest frame. It alone was left out; the rest of the batch is queued.
    #[error("a parcel takes a frame of {bytes} bytes, more than a frame may have")]
    TooLarge {
        /// What the frame would have taken.
        bytes: usize,
    },
    /// The peer took nothing more of a snapshot for too long.
    #[error("the peer does not take the snapshot")]
    NotTaken,
    /// The reader of a snapshot failed, or ended before the announced number of bytes.
    #[error("cannot read the snapshot: {0}")]
    Read(#[source] io::Error),
}

/// Why a frame was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame is not as long as its header says.
    #[error("a frame of {found} bytes, announced as {announced}")]
    Length {
        /// The length by the header, the header included.
        announced: u64,
        /// The length that was found.
        found: usize,
    },
    /// The frame is longer than this node accepts.
    #[error("a frame of {bytes} bytes, more than the {max_bytes} allowed")]
    TooLarge {
        /// The length by the header, the header included.
        bytes: u64,
        /// The limit.
        max_bytes: u32,
    },
    /// The frame's bytes are not what the peer wrote.
    #[error("checksum {found:#010x} of the frame, expected {expected:#010x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// The checksum of what was found.
        found: u32,
    },
    /// An entry in the frame is not what its leader made.
    #[error(transparent)]
    Entry(#[from] ChecksumMismatch),
    /// A snapshot's configuration breaks the rules.
    #[error(transparent)]
    Configuration(#[from] InvalidConfiguration),
    /// The frame ends within a field.
    #[error("the frame ends within a field")]
    Truncated,
    /// A number that does not fit 64 bits.
    #[error("a number that does not fit 64 bits")]
    Overlong,
    /// A field has a value that it cannot have.
    #[error("{value} is no valid {field}")]
    Value {
        /// The field.
        field: &'static str,
        /// What was found.
        value: u64,
    },
    /// A number is larger than any peer can have counted.
    #[error("{field} {value} is not plausible")]
    Implausible {
        /// What it counts.
        field: &'static str,
        /// What was found.
        value: u64,
    },
    /// Bytes are left that belong to no parcel.
    #[error("{0} bytes of the frame belong to no parcel")]
    Trailing(usize),
}

impl From<VarintError> for DecodeError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::Overflow => Self::Overlong,
        }
    }
}
