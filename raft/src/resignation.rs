//! What a replica that leads no more says to its peers, until each of them has answered.
//!
//! The support for the replica's node goes on, so a bond with the replica has to end by word. The
//! replica itself says that word while it lives, its node when it has failed, and its tombstone
//! when it is gone. A restart of the node ends all bonds, so nobody has to write this down.

use crate::{Message, NodeId, Payload, ReplicaAddress, ReplicaId, Support, Term};
use alloc::vec::Vec;

/// A resignation that some peers have not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resignation {
    /// The replica that leads no more.
    replica: ReplicaId,
    /// The last term in which it may have led.
    term: Term,
    /// A later or equal term that is durable there.
    entered: Term,
    /// Those that have not answered. Another replica on the same node can't answer for one.
    peers: Vec<ReplicaAddress>,
}

impl Resignation {
    /// The resignation of `replica`, which may have led in `term` and not since. It has entered
    /// `entered`.
    pub(crate) fn new(
        replica: ReplicaId,
        term: Term,
        entered: Term,
        peers: impl Iterator<Item = ReplicaAddress>,
    ) -> Self {
        Self { replica, term, entered, peers: peers.collect() }
    }

    /// The last term in which the replica may have led.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// What to say to whom: to all that have not answered and whose nodes support this one. To be
    /// repeated once an election timeout while there are any ([`Self::is_awaited`]).
    pub fn messages(&self, support: &Support) -> impl Iterator<Item = (NodeId, Message)> {
        let (from, entered) = (self.replica, self.entered);
        self.payloads(support).map(move |(peer, payload)| {
            (peer.node, Message { from, to: peer.replica, term: entered, payload })
        })
    }

    /// Whether somebody is to be told whom a message can reach.
    #[must_use]
    pub fn is_awaited(&self, support: &Support) -> bool {
        self.payloads(support).next().is_some()
    }

    /// Whether all have answered.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.peers.is_empty()
    }

    /// Takes an answer, if the message is one.
    pub fn receive(&mut self, from: NodeId, message: &Message) {
        if let Payload::Resigned { term } = message.payload
            && message.to == self.replica
        {
            self.answered(ReplicaAddress::new(from, message.from), term);
        }
    }

    /// A replica has answered a resignation from this term.
    pub(crate) fn answered(&mut self, from: ReplicaAddress, term: Term) {
        if term == self.term {
            self.peers.retain(|peer| *peer != from);
        }
    }

    /// Those that have not answered.
    pub(crate) fn into_peers(self) -> Vec<ReplicaAddress> {
        self.peers
    }

    /// The same as [`Self::messages`], without the envelope.
    pub(crate) fn payloads(
        &self,
        support: &Support,
    ) -> impl Iterator<Item = (ReplicaAddress, Payload)> {
        let term = self.term;
        self.peers.iter().filter_map(move |&peer| {
            let epoch = support.support_from(peer.node)?;
            Some((peer, Payload::Resign { epoch, term }))
        })
    }
}
