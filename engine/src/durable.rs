//! What is done when a batch of the log is durable.

use crate::liveness::manager::LivenessManager;
use crate::turn::Slot;
use crate::worker::inbox::{Event, WorkerInbox};
use logboat_raft::{Epoch, NodeId, SupportMessage, WriteSeq};
use logboat_storage::Poisoned;
use logboat_transport::{Outgoing, Transport};
use std::sync::Arc;

/// When a turn's batch is durable, what was promised leaves for the peers straight away, and the
/// worker learns the seqs.
pub(crate) struct TurnDurable {
    pub(crate) seqs: Vec<(Slot, WriteSeq)>,
    pub(crate) promises: Vec<(NodeId, Outgoing)>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) inbox: Arc<WorkerInbox>,
}

/// When grants are durable, the peers learn of them.
pub(crate) struct GrantsDurable {
    pub(crate) grants: Vec<(NodeId, Epoch)>,
    pub(crate) sends: Vec<(NodeId, SupportMessage)>,
    pub(crate) liveness: Arc<LivenessManager>,
}

impl TurnDurable {
    /// Ends the turn of a batch that is durable, or never will be.
    pub(crate) fn complete(self, result: Result<(), Poisoned>) {
        match result {
            Ok(()) => {
                send_all(&*self.transport, self.promises);
                self.inbox.post(Event::Durable(self.seqs));
            }
            Err(poisoned) => self.inbox.post(Event::Poisoned(poisoned)),
        }
    }
}

impl GrantsDurable {
    /// Tells the peers, unless the log failed: then the node promises nothing any more, and the
    /// workers hear of it themselves.
    pub(crate) fn complete(&self, result: Result<(), Poisoned>) {
        if result.is_ok() {
            self.liveness.durable(&self.grants, &self.sends);
        }
    }
}

/// Raft survives the loss of any message, so one that can't be queued is lost like one on the way;
/// the transport counts it.
pub(crate) fn send_all(transport: &dyn Transport, outgoing: Vec<(NodeId, Outgoing)>) {
    for (peer, outgoing) in outgoing {
        let _ = transport.send(peer, outgoing);
    }
}
