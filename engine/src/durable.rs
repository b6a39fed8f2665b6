//! What is done when a batch of the log is durable.

use crate::liveness::manager::LivenessManager;
use crate::turn::Slot;
use crate::worker::inbox::{Event, WorkerInbox};
use logboat_raft::{Epoch, NodeId, SupportMessage, WriteSeq};
use logboat_storage::{Completion, Poisoned};
use logboat_transport::{Outgoing, Transport};
use std::sync::Arc;

/// Travels with a batch through the log.
pub(crate) enum Durable {
    /// That of a worker's turn.
    Turn(TurnDurable),
    /// That of the node's liveness.
    Grants(GrantsDurable),
}

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

impl Completion for Durable {
    fn complete(self, result: Result<(), Poisoned>) {
        match (self, result) {
            (Self::Turn(turn), Ok(())) => {
                send_all(&*turn.transport, turn.promises);
                turn.inbox.post(Event::Durable(turn.seqs));
            }
            (Self::Turn(turn), Err(poisoned)) => turn.inbox.post(Event::Poisoned(poisoned)),
            (Self::Grants(GrantsDurable { grants, sends, liveness }), Ok(())) => {
                liveness.durable(&grants, &sends);
            }
            // Without a log the node promises nothing any more; the workers hear of it themselves.
            (Self::Grants(_), Err(_)) => {}
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
