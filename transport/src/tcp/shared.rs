//! What the tasks of a TCP transport share.

use crate::api::Inbox;
use crate::config::TransportConfig;
use crate::metrics::TransportMetrics;
use crate::tcp::handshake::AdmitError;
use crate::tcp::peers::{Peer, Peers};
use logboat_raft::NodeId;
use logboat_security::audit;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The causes of refusals that are in the log already, by the peer that the other side claimed to
/// be.
type LoggedCauses = BTreeSet<(Option<NodeId>, &'static str)>;

/// What the tasks of a transport share.
pub(crate) struct Shared {
    pub(crate) config: TransportConfig,
    pub(crate) inbox: Arc<dyn Inbox>,
    pub(crate) peers: Peers,
    /// The tasks that keep connections to the peers.
    pub(crate) dialers: Mutex<JoinSet<()>>,
    pub(crate) metrics: TransportMetrics,
    /// The refusals of incoming connections that are in the log already.
    pub(crate) warned: Mutex<LoggedCauses>,
}

impl Shared {
    pub(crate) fn new(config: TransportConfig, inbox: Arc<dyn Inbox>) -> Self {
        let metrics = TransportMetrics::default();
        let peers = Peers::new(&config, &metrics);
        Self { peers, dialers: Mutex::default(), config, inbox, metrics, warned: Mutex::default() }
    }

    /// Closes a peer's connection to this node, says why, and counts it.
    pub(crate) fn disconnect(&self, peer: &Peer, reason: &str) {
        if let Some(reader) = peer.incoming.lock().take() {
            reader.abort();
        }
        peer.outbox.metrics().violations.inc();
        peer.outbox.note_error(format!("disconnected for breaking the protocol: {reason}"));
        tracing::error!(peer = %peer.node, "closed the peer's connection: {reason}");
        self.inbox.incoming_closed(peer.node);
    }

    /// Counts a connection that was refused, and logs the first one of each cause.
    pub(crate) fn note_refusal(&self, address: SocketAddr, error: &AdmitError) {
        self.metrics.refused(error.cause());
        let known = error.claimed().and_then(|node| self.peers.get(node));
        if let Some(peer) = &known {
            peer.outbox.note_error(error.to_string());
        }
        if error.is_about_certificate() {
            return audit::certificate_refused("peers", address, error);
        }
        let mut warned = self.warned.lock();
        if !warned.insert((known.map(|peer| peer.node), error.cause())) {
            return;
        }
        match error.mismatch() {
            Some(mismatch) if mismatch.culprit() == self.config.node => tracing::error!(
                %address,
                "turned a connection away: {error}. What this node knew since is not here: put \
                 its newest data directory back, or keep the node off"
            ),
            _ if error.refuses() => audit::peer_refused(address, error),
            _ => tracing::warn!(%address, "turned a connection away: {error}"),
        }
    }
}
