//! What the tasks of a TCP transport share.

use crate::api::Inbox;
use crate::config::TransportConfig;
use crate::metrics::TransportMetrics;
use crate::outbox::Outbox;
use crate::tcp::handshake::AdmitError;
use logboat_raft::NodeId;
use logboat_security::audit;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The causes of refusals that are in the log already, by the peer that the other side claimed to
/// be.
type LoggedCauses = BTreeSet<(Option<NodeId>, &'static str)>;

/// What the tasks of a transport share.
pub(crate) struct Shared {
    pub(crate) config: TransportConfig,
    pub(crate) inbox: Arc<dyn Inbox>,
    pub(crate) peers: BTreeMap<NodeId, Arc<Peer>>,
    pub(crate) metrics: TransportMetrics,
    /// The refusals of incoming connections that are in the log already.
    pub(crate) warned: Mutex<LoggedCauses>,
}

/// One peer, both ways.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) address: String,
    /// What waits for it.
    pub(crate) outbox: Outbox,
    /// The peer has dialled this node, so it is there: dialing it is worth a try.
    pub(crate) dial_now: Notify,
    /// What its address was resolved to when it was last dialled.
    pub(crate) resolved: Mutex<Vec<IpAddr>>,
    /// Ends the task that reads from it.
    pub(crate) incoming: Mutex<Option<AbortHandle>>,
}

impl Shared {
    pub(crate) fn new(config: TransportConfig, inbox: Arc<dyn Inbox>) -> Self {
        let metrics = TransportMetrics::default();
        let others = config.peers.iter().filter(|(node, _)| **node != config.node);
        let peers = others.map(|(&node, address)| {
            let peer = Peer {
                node,
                address: address.clone(),
                outbox: Outbox::new(
                    config.max_frame_bytes,
                    config.max_queued_bytes,
                    metrics.of_peer(node),
                ),
                dial_now: Notify::new(),
                resolved: Mutex::default(),
                incoming: Mutex::new(None),
            };
            (node, Arc::new(peer))
        });
        Self { peers: peers.collect(), config, inbox, metrics, warned: Mutex::default() }
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

    /// Whether a peer was last dialled at this address.
    pub(crate) fn is_peer_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.peers.values().any(|peer| peer.resolved.lock().contains(&address))
    }

    /// Counts a connection that was refused, and logs the first one of each cause.
    pub(crate) fn note_refusal(&self, address: SocketAddr, error: &AdmitError) {
        self.metrics.refused(error.cause());
        let known = error.claimed().and_then(|node| self.peers.get(&node));
        if let Some(peer) = known {
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
