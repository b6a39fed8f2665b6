//! The peers of a node, which may come and go while it runs.

use logboat_raft::NodeId;
use parking_lot::RwLock;
use std::sync::Arc;

/// The nodes of the cluster that this node knows, without itself.
pub struct Peers(RwLock<Arc<[NodeId]>>);

impl Peers {
    /// These peers.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = NodeId>) -> Self {
        Self(RwLock::new(peers.into_iter().collect()))
    }

    /// Adds one, unless it is one already.
    pub(crate) fn add(&self, node: NodeId) {
        let mut peers = self.0.write();
        if !peers.contains(&node) {
            *peers = peers.iter().copied().chain([node]).collect();
        }
    }

    /// Takes one out.
    pub(crate) fn remove(&self, node: NodeId) {
        let mut peers = self.0.write();
        *peers = peers.iter().copied().filter(|peer| *peer != node).collect();
    }

    /// The peers now.
    pub(crate) fn all(&self) -> Arc<[NodeId]> {
        Arc::clone(&self.0.read())
    }

    /// Whether this is a peer.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.0.read().contains(&node)
    }
}
