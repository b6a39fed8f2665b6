//! One batched connection a direction and peer, carrying the messages of all Raft groups.
//!
//! A turn of the engine gathers what all its groups have for one peer in an [`Outgoing`].
//! [`Transport::send`] appends it to the peer's bounded queue and never blocks. One thread a node
//! writes the queues, in as few and as large writes as the network takes. The same thread turns
//! what arrives into [`Parcel`]s for the engine's [`Inbox`].
//!
//! - [`Outgoing`] and [`decode`] are the format on the wire; see the module `wire` for the frame.
//! - [`TcpTransport`] is the real thing. Node A dials B to send to B, and B dials A to send to A.
//!   So a connection has one writer, one reader and no reply that could block it.
//! - [`MemoryNetwork`] joins nodes of one process, for tests, with the same queues and format.
//!
//! The transport promises that the frames of one connection arrive in order, whole and unchanged,
//! or not at all. It does not promise delivery. What was queued for a connection is lost with it,
//! and [`Inbox::disconnected`] says so. Raft repairs the rest.

mod api;
mod config;
mod error;
#[cfg(test)]
mod interleavings;
mod judge;
mod memory;
mod metrics;
mod net_thread;
mod outbox;
mod pump;
mod tcp;
mod transfer;
mod window;
mod wire;

pub mod introductions {
    //! How two nodes introduce themselves, for transports and simulations of one's own: the steps
    //! around [`judge`](crate::judge), and what may come of them.

    pub use crate::judge::{Mismatch, Progress, Rejection, admit, confirm, note_welcome, record};
}

pub use api::{Inbox, PeerStatus, SnapshotDone, SnapshotSource, Transport, VisitAnswer};
pub use config::{MAX_FRAME_BYTES, TransportConfig};
pub use error::{DecodeError, SendError, StartError};
pub use judge::{BootRefusal, MAX_BOOT_STEP, Verdict, judge};
pub use memory::MemoryNetwork;
pub use metrics::TransportMetrics;
use parking_lot::{Mutex, MutexGuard};
pub use tcp::TcpTransport;
pub use tcp::visit::{Visit, VisitError};
pub use window::snapshot_window_bytes;
pub use wire::{Founders, Outgoing, Parcel, RequestId, SnapshotChunk, SnapshotTaken, decode};
