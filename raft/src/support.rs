//! Node liveness as the core sees it: who supports whom.
//!
//! This is CockroachDB's *store liveness*, and what [`Fortification`](crate::Fortification) adds is
//! its *leader fortification*. A node asks each of its peers for support once a heartbeat interval,
//! for all of its groups at once. All replicas of a node go by the answers, so that none of them
//! needs a clock or a heartbeat of its own while it is idle.
//!
//! What differs from CockroachDB:
//! - Each pair of nodes has an epoch of its own, counted by the node that gives support. Trouble
//!   between two nodes changes no epoch of a third, and a node has to persist nothing about the
//!   support that it asks for but how often it has started ([`BootCount`]).
//! - Reads are confirmed by *rounds* ([`Round`]) rather than by leases. The leader's node asks its
//!   peers at which epoch they support it, once for the reads of all groups, and no clock decides
//!   whether a read is safe. Leases are there as well, for reads that ask for them.
//! - A follower's fortification stands in its [`HardState`](crate::HardState) and outlives the
//!   term, so that a restart or a stray message of a later term does not set a follower free.

use crate::{BootCount, Epoch, LogPosition, NodeId, RequestSeq, Round, Time};
use alloc::vec::Vec;
use core::time::Duration;

/// What a node and its peers have promised each other, as it stands at the time of a step.
///
/// That a node *supports* a peer at an epoch means: none of its replicas that fortifies a leader on
/// that peer at that epoch campaigns, or votes for another. A node that withdraws its support never
/// gives it at the same epoch again, so whoever hears of an epoch knows how things stood until
/// then.
#[derive(Clone, Debug)]
pub struct Support {
    peers: Vec<PeerSupport>,
    /// The round of confirmations that is the next to be opened, from 1 on. Reads that a step takes
    /// wait for this one, so no message of it may have left before the step.
    pub next_round: Round,
    /// Whether the node may promise anything. A node on a new data directory may not before its
    /// peers have recorded it: an emptied directory must not pass for a new one. Until then its
    /// replicas take part in nothing; [`Input::Founded`](crate::Input::Founded) tells them of the
    /// change.
    pub founded: bool,
}

impl Default for Support {
    /// Nobody has promised anything; this node may.
    fn default() -> Self {
        Self { peers: Vec::new(), next_round: Round(1), founded: true }
    }
}

/// What a node and one peer have promised each other.
#[derive(Clone, Copy, Debug)]
pub struct PeerSupport {
    /// The peer.
    pub node: NodeId,
    /// The epoch at which this node supports the peer, if it does.
    pub support_for: Option<Epoch>,
    /// The epoch at which the peer was last heard to support this node, until that is so long ago
    /// that the peer may have withdrawn.
    pub support_from: Option<Epoch>,
    /// How long the peer has promised its support. Only lease reads rely on it.
    pub lease: Lease,
    /// The peer's newest answer to a round of confirmations.
    pub confirmed: Confirmation,
}

/// A peer's promise of support for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The epoch at which the peer supports this node.
    pub epoch: Epoch,
    /// Until when it certainly does, by this node's clock, if the clocks of the two nodes run
    /// equally fast but for the drift that was allowed for.
    pub until: Time,
}

/// A peer's answer to a round of confirmations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// The newest round that the peer answered; zero before the first. The answer was sent after
    /// the round was opened.
    pub round: Round,
    /// The epoch at which the peer supported this node then, if it did.
    pub epoch: Option<Epoch>,
}

impl PeerSupport {
    /// A peer of which nothing is known.
    const fn new(node: NodeId) -> Self {
        Self {
            node,
            support_for: None,
            support_from: None,
            lease: Lease { epoch: Epoch(0), until: Time(0) },
            confirmed: Confirmation { round: Round(0), epoch: None },
        }
    }
}

impl Support {
    /// What a replica goes by that may not promise anything: see [`Self::founded`].
    #[must_use]
    pub const fn unfounded() -> Self {
        Self { peers: Vec::new(), next_round: Round(1), founded: false }
    }

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
    pub(crate) fn support_for(&self, node: NodeId) -> Option<Epoch> {
        self.of(node).support_for
    }

    /// The epoch at which `node` supports this node, as far as is known.
    pub(crate) fn support_from(&self, node: NodeId) -> Option<Epoch> {
        self.of(node).support_from
    }
}

/// What a node has promised to a peer, as it stands on the node's disk. A node keeps such a record
/// of itself too, with epoch zero: that is where it counts its starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The epoch at which the peer is or was supported. Zero if it never was.
    pub epoch: Epoch,
    /// The boot of the peer that the support is for. After its next start the peer is supported at
    /// a later epoch.
    pub boot: BootCount,
    /// Whether the support stands. Withdrawn, it is given again only at a later epoch.
    pub live: bool,
    /// The longest lease that may have been promised with this support, from a request of the peer
    /// on. A restart, even with other settings, keeps to it.
    pub lease: Duration,
    /// How far the peer's log was durable, as far as the peer has said. A peer whose log ends
    /// before that at a start has lost a part of what it had promised.
    pub log_end: LogPosition,
}

/// The settings by which a node supports its peers. They should be the same on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportSettings {
    /// How long a peer may be silent before the node withdraws its support.
    pub timeout: Duration,
    /// Whether the node promises its support for a time, so that leaders may read on leases.
    pub leases: bool,
}

/// What the clock of a node shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockReading {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Whether the node has settled on this clock, so that others may go by it. Otherwise it is the
    /// node's wall clock, or what the node makes of those that it has heard.
    pub is_settled: bool,
}

/// What nodes say to each other about their liveness. It is as much for a million groups as for
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupportMessage {
    /// "I live: support me." Once a heartbeat interval, and only when the sender's disk took a
    /// write since.
    Request {
        /// How often the sender has started.
        boot: BootCount,
        /// Which request it is; comes back in the answer.
        seq: RequestSeq,
        /// Whether the sender has lately heard that the receiver supports it. Otherwise support is
        /// of no use to it, and only keeps others from being elected.
        heard: bool,
        /// By which settings the sender supports its peers.
        settings: SupportSettings,
        /// How far the sender's log is durable.
        log_end: LogPosition,
        /// Whether the sender is about to stop, so that nobody should count on its support.
        leaving: bool,
    },
    /// The answer to a request. A grant is durable before this leaves.
    Granted {
        /// The boot count of the request.
        boot: BootCount,
        /// The number of the request.
        seq: RequestSeq,
        /// The epoch at which the sender supports the receiver.
        epoch: Epoch,
        /// How long it certainly will, from the request's arrival on: what the sender promises,
        /// whatever the receiver's settings. Zero promises nothing. Only leases rely on it.
        lease: Duration,
        /// What the sender's clock shows.
        clock: ClockReading,
    },
    /// "At which epoch do you support me now?" Asked for the reads of all groups of a worker.
    Confirm {
        /// How often the sender has started.
        boot: BootCount,
        /// Who asks there; comes back in the answer.
        worker: u32,
        /// Which round of that worker it is; comes back in the answer.
        round: Round,
    },
    /// The answer to a question.
    Confirmed {
        /// The boot count of the question.
        boot: BootCount,
        /// Who asked.
        worker: u32,
        /// The round of the question.
        round: Round,
        /// The epoch at which the sender supports the receiver in that boot, if it does.
        epoch: Option<Epoch>,
    },
}
