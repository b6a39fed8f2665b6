//! What a state of the model is made of: three nodes, and every message that was ever sent.

use crate::network::Network;
use logboat_raft::{BootCount, Epoch, NodeId, Term};
use std::ops::{Index, IndexMut};

/// The nodes of the model. Each has one replica of the one group.
pub const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// How many of [`NODES`] make a majority.
pub const MAJORITY: usize = NODES.len() / 2 + 1;

/// The peers of a node.
pub fn peers(node: NodeId) -> impl Iterator<Item = NodeId> {
    NODES.into_iter().filter(move |&peer| peer != node)
}

/// One of something for each node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerNode<T>([T; NODES.len()]);

impl<T> PerNode<T> {
    /// All of them, in the order of the nodes.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> Index<NodeId> for PerNode<T> {
    type Output = T;

    fn index(&self, node: NodeId) -> &T {
        &self.0[place(node)]
    }
}

impl<T> IndexMut<NodeId> for PerNode<T> {
    fn index_mut(&mut self, node: NodeId) -> &mut T {
        &mut self.0[place(node)]
    }
}

fn place(node: NodeId) -> usize {
    NODES.iter().position(|&other| other == node).expect("there are no nodes but those of NODES")
}

/// A state of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The nodes.
    pub nodes: PerNode<Node>,
    /// What they have sent.
    pub network: Network,
}

/// A node. All of it is durable at once but the fields said to be volatile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// Counts its starts, from zero.
    pub run: BootCount,
    /// The newest round in which it has asked its peers whether they support it. Volatile.
    pub round: u64,
    /// The support that it gives to each peer.
    pub grants: PerNode<Grant>,
    /// Its replica of the group.
    pub replica: Replica,
}

/// The support that a node gives to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The epoch at which it supports the peer, or last did. Zero if it never did.
    pub epoch: Epoch,
    /// The run of the peer that the support is for.
    pub run: BootCount,
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

/// A replica. All of it is durable at once but the role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    /// Its term.
    pub term: Term,
    /// Whom it has voted for in that term.
    pub vote: Option<NodeId>,
    /// The bond to the leader that fortified itself here last.
    pub bond: Option<Bond>,
    /// Its log.
    pub log: Log,
    /// What it is to the others. Volatile: every run begins as a follower.
    pub role: Role,
}

/// The bond of a replica to a leader, which holds while the replica's node supports the leader's
/// node at that epoch.
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
    /// It has asked for votes in its term.
    Candidate,
    /// It has been elected in its term.
    Leader {
        /// The linearizable read that waits for confirmation. A later one takes its place.
        read: Option<Read>,
    },
}

impl Role {
    /// The read that a leader has to answer.
    pub const fn read(self) -> Option<Read> {
        match self {
            Self::Leader { read } => read,
            Self::Follower | Self::Candidate => None,
        }
    }
}

/// A linearizable read, with what had happened in the cluster when it began: the reader doesn't
/// know that, the properties do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// The round that confirms it.
    pub round: u64,
    /// The newest term in which a leader had been elected.
    pub elected: Term,
    /// The newest write that a majority held.
    pub committed: Term,
}

/// A log: the set of terms of its entries. A leader makes one entry, the one that every new leader
/// writes, so an entry is known by its term, and two logs that share one share all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Log(u64);

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
    pub const fn last(self) -> Term {
        Term(match self.0.checked_ilog2() {
            Some(bit) => bit as u64,
            None => 0,
        })
    }
}

impl State {
    /// The bond of the replica of `node`, if it holds: its node supports the leader's at the epoch.
    pub fn bound(&self, node: NodeId) -> Option<Bond> {
        let node = &self.nodes[node];
        node.replica.bond.filter(|bond| {
            let grant = node.grants[bond.leader];
            grant.live && grant.epoch == bond.epoch
        })
    }
}
