//! The peers of a TCP transport, which come and go while it runs.

use crate::config::TransportConfig;
use crate::metrics::TransportMetrics;
use crate::outbox::Outbox;
use logboat_raft::NodeId;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

/// How many connections from the addresses of peers may introduce themselves at a time, for each
/// peer. A peer dials one at a time, and may give up a few before this node has noticed.
const HANDSHAKES_A_PEER: usize = 4;

/// One peer, both ways.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    /// Where it is dialled next.
    address: Mutex<String>,
    /// What waits for it.
    pub(crate) outbox: Outbox,
    /// The peer has dialled this node, or has another address: dialing it is worth a try.
    pub(crate) dial_now: Notify,
    /// When it was last dialled because somebody came who is not recorded and claims to be it.
    called_back: Mutex<Option<Instant>>,
    /// It is a peer no longer.
    pub(crate) removed: Notify,
    /// What its address was resolved to when it was last dialled.
    pub(crate) resolved: Mutex<Vec<IpAddr>>,
    /// Ends the task that reads from it.
    pub(crate) incoming: Mutex<Option<AbortHandle>>,
}

impl Peer {
    /// Where it is dialled next.
    pub(crate) fn address(&self) -> String {
        self.address.lock().clone()
    }

    /// Has the peer dialled, since somebody came who claims to be it. That may be anybody, as often
    /// as it likes, so it counts once in this `interval`.
    pub(crate) fn call_back(&self, interval: Duration) {
        let now = Instant::now();
        let mut last = self.called_back.lock();
        if last.is_none_or(|last| now.duration_since(last) >= interval) {
            *last = Some(now);
            self.dial_now.notify_one();
        }
    }
}

/// The peers by node.
pub(crate) struct Peers {
    own: NodeId,
    by_node: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// For connections from the addresses of peers that introduce themselves.
    pub(crate) places: Arc<Semaphore>,
}

impl Peers {
    /// The peers of the configuration.
    pub(crate) fn new(config: &TransportConfig, metrics: &TransportMetrics) -> Self {
        let places = Arc::new(Semaphore::new(0));
        let peers = Self { own: config.node, by_node: RwLock::default(), places };
        for (node, address) in &config.peers {
            peers.put(*node, address, config, metrics);
        }
        peers
    }

    /// Adds a peer, or has one that is known dialled at this address from now on. Returns a new
    /// one.
    pub(crate) fn put(
        &self,
        node: NodeId,
        address: &str,
        config: &TransportConfig,
        metrics: &TransportMetrics,
    ) -> Option<Arc<Peer>> {
        let mut peers = self.by_node.write();
        if node == self.own {
            return None;
        }
        if let Some(known) = peers.get(&node) {
            address.clone_into(&mut known.address.lock());
            known.dial_now.notify_one();
            return None;
        }
        let peer = Arc::new(Peer {
            node,
            address: Mutex::new(address.to_owned()),
            outbox: Outbox::new(
                config.max_frame_bytes,
                config.max_queued_bytes,
                metrics.of_peer(node),
            ),
            dial_now: Notify::new(),
            called_back: Mutex::default(),
            removed: Notify::new(),
            resolved: Mutex::default(),
            incoming: Mutex::new(None),
        });
        peers.insert(node, Arc::clone(&peer));
        self.places.add_permits(HANDSHAKES_A_PEER);
        Some(peer)
    }

    /// Takes a peer out.
    pub(crate) fn take(&self, node: NodeId) -> Option<Arc<Peer>> {
        let peer = self.by_node.write().remove(&node)?;
        self.places.forget_permits(HANDSHAKES_A_PEER);
        Some(peer)
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.by_node.read().get(&node).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.by_node.read().values().cloned().collect()
    }

    /// Whether this is a peer, by whatever address.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.by_node.read().contains_key(&node)
    }

    /// Whether a peer was last dialled at this address.
    pub(crate) fn are_at(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.by_node.read().values().any(|peer| peer.resolved.lock().contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::ClusterId;
    use tokio::time::timeout;

    #[tokio::test]
    async fn whoever_claims_to_be_a_peer_has_it_dialled_once_in_a_while() {
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let config = TransportConfig::new(NodeId(1), ClusterId(1), listen, BTreeMap::new());
        let peers = Peers::new(&config, &TransportMetrics::default());
        let peer = peers.put(NodeId(2), "nowhere", &config, &TransportMetrics::default()).unwrap();
        let mut calls = 0;
        for _ in 0..100 {
            peer.call_back(Duration::from_secs(3600));
            calls += u32::from(timeout(Duration::ZERO, peer.dial_now.notified()).await.is_ok());
        }
        assert_eq!(calls, 1);
        peer.call_back(Duration::ZERO);
        peer.dial_now.notified().await;
    }
}
