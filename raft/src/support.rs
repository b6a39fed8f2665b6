//! What a node knows of its peers' liveness. All replicas of the node go by it, so that none of them
//! needs a clock of its own while it is idle.

use crate::{Epoch, NodeId, Run, Time};
use alloc::vec::Vec;

/// What a node and its peers have promised each other, as it stands at the time of a step.
///
/// That a node *supports* a peer at an epoch means: none of its replicas that is fortified by that
/// peer at that epoch campaigns, or votes for another. A node that withdraws its support never gives
/// it at the same epoch again, so whoever hears of an epoch knows how things stood until then.
#[derive(Clone, Debug)]
pub struct Support {
    peers: Vec<PeerSupport>,
    /// The round of confirmations that is the next to be opened, from 1 on. Reads that a step takes wait for this
    /// one, so no message of it may have left before the step.
    pub next_round: u64,
}

impl Default for Support {
    /// Nobody has promised anything.
    fn default() -> Self {
        Self { peers: Vec::new(), next_round: 1 }
    }
}

/// What a node and one peer have promised each other.
#[derive(Clone, Copy, Debug)]
pub struct PeerSupport {
    /// The peer.
    pub node: NodeId,
    /// The epoch at which this node supports the peer, if it does.
    pub given: Option<Epoch>,
    /// The epoch at which the peer was last heard to support this node, until that is so long ago
    /// that it may have withdrawn.
    pub received: Option<Epoch>,
    /// An epoch at which the peer supports this node, and until when it certainly does, if the clocks
    /// of the two nodes run equally fast but for the drift that was allowed for. Only lease reads rely
    /// on it.
    pub lease: (Epoch, Time),
    /// The newest round that the peer answered, and the epoch at which it supported this node then.
    /// Its answer was sent after the round was opened.
    pub confirmed: (u64, Option<Epoch>),
}

impl PeerSupport {
    /// A peer of which nothing is known.
    const fn new(node: NodeId) -> Self {
        Self { node, given: None, received: None, lease: (Epoch(0), Time(0)), confirmed: (0, None) }
    }
}

impl Support {
    /// What is known of `node`.
    #[must_use]
    pub fn of(&self, node: NodeId) -> PeerSupport {
        let known = self.peers.iter().find(|peer| peer.node == node);
        known.copied().unwrap_or(PeerSupport::new(node))
    }

    /// The place of what is known of `node`.
    pub fn of_mut(&mut self, node: NodeId) -> &mut PeerSupport {
        let at = self.peers.iter().position(|peer| peer.node == node).unwrap_or_else(|| {
            self.peers.push(PeerSupport::new(node));
            self.peers.len() - 1
        });
        &mut self.peers[at]
    }

    /// The epoch at which this node supports `node`.
    pub(crate) fn given(&self, node: NodeId) -> Option<Epoch> {
        self.of(node).given
    }

    /// The epoch at which `node` supports this node, as far as is known.
    pub(crate) fn received(&self, node: NodeId) -> Option<Epoch> {
        self.of(node).received
    }
}

/// What nodes say to each other about their liveness. Whatever the number of groups, it is as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupportMessage {
    /// "I live: support me." Once an interval, and only when the sender's disk took a write since.
    Request {
        /// The sender's run.
        run: Run,
        /// Which request it is; comes back in the answer.
        round: u64,
        /// Whether the sender has lately heard that the receiver supports it. Otherwise support is of no
        /// use to it, and only keeps others from being elected.
        heard: bool,
    },
    /// The answer to a request. A grant is durable before this leaves.
    Granted {
        /// The run of the request.
        run: Run,
        /// The round of the request.
        round: u64,
        /// The epoch at which the sender supports the receiver.
        epoch: Epoch,
        /// Whether it will for a whole timeout from the request's arrival on; only leases rely on that.
        prolonged: bool,
    },
    /// "At which epoch do you support me now?" Asked for the reads of all groups of a worker.
    Confirm {
        /// The sender's run.
        run: Run,
        /// Who asks there; comes back in the answer.
        worker: u32,
        /// Which round of that worker it is; comes back in the answer.
        round: u64,
    },
    /// The answer to a question.
    Confirmed {
        /// The run of the question.
        run: Run,
        /// Who asked.
        worker: u32,
        /// The round of the question.
        round: u64,
        /// The epoch at which the sender supports the receiver in that run, if it does.
        epoch: Option<Epoch>,
    },
}
