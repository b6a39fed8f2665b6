//! What a state of the model is made of: some nodes, and every message that was ever sent.

use crate::ids::{BootCount, Epoch, NodeId, Round, Term};
use crate::network::Network;
use std::ops::{Index, IndexMut};

/// One of something for each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PerNode<T, const N: usize>(pub(crate) [T; N]);

impl<T: Default, const N: usize> Default for PerNode<T, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

impl<T, const N: usize> PerNode<T, N> {
    /// All of them, in the order of the nodes.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T, const N: usize> Index<NodeId> for PerNode<T, N> {
    type Output = T;

    fn index(&self, node: NodeId) -> &T {
        &self.0[usize::from(node.0) - 1]
    }
}

impl<T, const N: usize> IndexMut<NodeId> for PerNode<T, N> {
    fn index_mut(&mut self, node: NodeId) -> &mut T {
        &mut self.0[usize::from(node.0) - 1]
    }
}

/// A state of the whole cluster of `N` nodes, each with one replica of the one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State<const N: usize> {
    /// The nodes.
    pub nodes: PerNode<Node<N>, N>,
    /// What they have sent.
    pub network: Network,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node<const N: usize> {
    /// How often it has restarted. Durable before the node says anything.
    pub boot: BootCount,
    /// The newest round of this boot in which it has asked its peers whether they support it.
    pub round: Round,
    /// What its replica is to the others. Every boot begins as a follower.
    pub role: Role,
    /// What the node goes by.
    pub memory: Stored<N>,
    /// What a crash would leave, where that is less.
    pub disk: Option<Stored<N>>,
    /// Messages that wait for the disk to be like the memory.
    pub outbox: Network,
}

/// What a node keeps over restarts. It has one log for all of it, of which a crash leaves a
/// beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stored<const N: usize> {
    /// The support that the node gives to each peer.
    pub grants: PerNode<Grant, N>,
    /// The replica's term.
    pub term: Term,
    /// Whom it has voted for in that term, or whose follower it is there.
    pub vote: Option<NodeId>,
    /// The replica's bond.
    pub bond: Option<Bond>,
    /// The replica's log.
    pub log: Log,
}

/// The support that a node gives to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The epoch at which it supports the peer, or last did. Zero if it never did.
    pub epoch: Epoch,
    /// The boot of the peer that the support is for.
    pub boot: BootCount,
    /// Whether the support stands.
    pub live: bool,
    /// The newest epoch at which support has ended. Not part of the protocol: it remembers what
    /// happened even where the node forgets.
    pub ended: Epoch,
}

impl Grant {
    /// Ends the support, as far as it stands.
    pub const fn end(&mut self) {
        if self.live {
            self.live = false;
            self.ended = self.epoch;
        }
    }
}

/// What remains at a follower of its leader's fortification. It stands while the follower's node
/// supports the leader's node at that epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bond {
    /// The leader's node.
    pub leader: NodeId,
    /// The epoch of the support that it rests on.
    pub epoch: Epoch,
    /// The leader's term.
    pub term: Term,
}

/// The role of a replica, with what only this role needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It waits for a leader.
    #[default]
    Follower,
    /// It has restarted with a bond, and neither heard from anybody nor entered a term since.
    Restored,
    /// It has asked for votes in its term.
    Candidate,
    /// It has been elected in its term.
    Leader {
        /// The linearizable read that waits for confirmation. A later one takes its place.
        read: Option<Read>,
    },
}

impl Role {
    /// Whether it leads.
    pub const fn leads(self) -> bool {
        matches!(self, Self::Leader { .. })
    }

    /// The read that a leader has to answer.
    pub const fn read(self) -> Option<Read> {
        match self {
            Self::Leader { read } => read,
            Self::Follower | Self::Restored | Self::Candidate => None,
        }
    }
}

/// A linearizable read, with what had happened in the cluster when it began: the reader doesn't
/// know that, the properties do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// The round that confirms it.
    pub round: Round,
    /// The newest term in which a leader had been elected.
    pub elected: Term,
    /// The newest write that a majority held.
    pub committed: Term,
}

/// A log: the set of terms of its entries. A leader makes a single entry, its no-op, so an entry is
/// known by its term. Two logs that share an entry share all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Log(u8);

impl Log {
    /// The log with one more entry, made in `term`.
    #[must_use]
    pub const fn with(self, term: Term) -> Self {
        Self(self.0 | 1 << term.0)
    }

    /// Whether it has the entry of `term`.
    pub const fn has(self, term: Term) -> bool {
        self.0 & 1 << term.0 != 0
    }

    /// The term of its last entry; zero if it is empty. A voter compares logs by it: with one entry
    /// a term, of two logs that end in the same term none is longer.
    pub fn last(self) -> Term {
        let bit = self.0.checked_ilog2().unwrap_or_default();
        Term(u8::try_from(bit).expect("a log has eight bits"))
    }
}

impl<const N: usize> State<N> {
    /// How many nodes make a majority.
    pub const MAJORITY: usize = N / 2 + 1;

    /// All nodes.
    pub fn ids() -> impl Iterator<Item = NodeId> + Clone {
        (1..=N).map(|id| NodeId(u8::try_from(id).expect("there are few nodes")))
    }

    /// The peers of a node.
    pub fn peers(node: NodeId) -> impl Iterator<Item = NodeId> + Clone {
        Self::ids().filter(move |&peer| peer != node)
    }

    /// The bond of the replica of `node`, if it stands.
    pub fn bound(&self, node: NodeId) -> Option<Bond> {
        self.nodes[node].memory.bound()
    }
}

impl<const N: usize> Node<N> {
    /// What a crash would leave.
    pub fn durable(&self) -> &Stored<N> {
        self.disk.as_ref().unwrap_or(&self.memory)
    }

    /// What the node goes by, and what it may go by after a crash.
    pub fn versions(&self) -> impl Iterator<Item = &Stored<N>> {
        [&self.memory].into_iter().chain(&self.disk)
    }
}

impl<const N: usize> Stored<N> {
    /// The bond, if it stands: the node supports the leader's at its epoch.
    pub fn bound(&self) -> Option<Bond> {
        self.bond.filter(|bond| {
            let grant = self.grants[bond.leader];
            grant.live && grant.epoch == bond.epoch
        })
    }

    /// Enters a later term, in which the replica has not voted. The bond outlives that.
    pub fn enter(&mut self, term: Term) {
        self.term = term;
        self.vote = None;
    }
}
