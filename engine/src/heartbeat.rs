//! One heartbeat message a peer and interval, whatever the number of groups and workers.

use super::Mutex;
use crate::turn::Buffers;
use logboat_raft::NodeId;
use logboat_transport::{Outgoing, Transport};
use std::sync::Arc;

/// Collects the heartbeats of one interval. Each worker holds one reference and adds its share; the
/// last to let go of it sends them.
pub(crate) struct Gathering {
    transport: Arc<dyn Transport>,
    buffers: Mutex<Buffers>,
}

impl Gathering {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Arc<Self> {
        Arc::new(Self { transport, buffers: Mutex::default() })
    }

    pub(crate) fn add(&self, heartbeats: Vec<(NodeId, Outgoing)>) {
        let mut buffers = self.buffers.lock();
        for (peer, mut outgoing) in heartbeats {
            buffers.to(peer).append(&mut outgoing);
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        for (peer, outgoing) in self.buffers.get_mut().take() {
            // A heartbeat that can't be queued is one that the peer would not get in time.
            let _ = self.transport.send(peer, outgoing);
        }
    }
}
