//! What reaches a poller: from the network, from clients, and the end.

use bytes::Bytes;
use raft::eraftpb::Message;
use tokio::sync::oneshot;

/// What a poller is told.
pub(crate) enum Event {
    Messages(Vec<(u64, Message)>),
    Propose(Proposal),
    Stop,
}

/// A command, and who waits for it to be applied.
pub(crate) struct Proposal {
    pub(crate) group: u64,
    pub(crate) command: Bytes,
    pub(crate) done: oneshot::Sender<()>,
}
