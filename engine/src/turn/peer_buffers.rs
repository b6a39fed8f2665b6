//! Outgoing messages, batched by peer.

use logboat_raft::NodeId;
use logboat_transport::{Outgoing, Transport};

/// Buffers by peer. A node has few peers, so a scan is faster than a hash map.
#[derive(Default)]
pub struct PeerBuffers(Vec<(NodeId, Outgoing)>);

impl PeerBuffers {
    /// The buffer of `peer`.
    pub fn to(&mut self, peer: NodeId) -> &mut Outgoing {
        let found = self.0.iter().position(|(node, _)| *node == peer);
        let at = found.unwrap_or_else(|| {
            self.0.push((peer, Outgoing::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Takes out what there is to send.
    pub fn take(&mut self) -> Vec<(NodeId, Outgoing)> {
        self.0
            .iter_mut()
            .filter(|(_, outgoing)| !outgoing.is_empty())
            .map(|(node, outgoing)| (*node, std::mem::take(outgoing)))
            .collect()
    }
}

/// Hands each peer's buffer to the transport. Raft survives the loss of any message. So a message
/// that can't be queued is dropped, and the transport counts it.
pub(crate) fn send_all(transport: &dyn Transport, buffers: Vec<(NodeId, Outgoing)>) {
    for (peer, outgoing) in buffers {
        let _ = transport.send(peer, outgoing);
    }
}
