//! What a state of the model is made of.

use super::configuration::Nodes;
use super::log::{Log, LogId, Member};
use super::message::{Message, Messages};
use crate::ids::{NodeId, Term};
use crate::state::PerNode;

/// A state of `N` nodes, each with one replica of the group at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State<const N: usize> {
    /// The nodes.
    pub nodes: PerNode<Node, N>,
    /// What they have sent.
    pub sent: Messages,
    /// What has happened: the nodes don't know it, the properties do.
    pub history: History,
}

/// A node. All of it is durable, but for the role of its replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// The peers that it supports. It gives support to each of them once, before the start, so that
    /// epochs are left to the other model.
    pub supports: Nodes,
    /// The tombstone: the smallest id of a replica that may live here.
    pub least: LogId,
    /// The replica that does.
    pub replica: Option<Replica>,
}

/// A replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    /// The entry that added it.
    pub id: LogId,
    /// Its term.
    pub term: Term,
    /// Whom it has voted for in that term, or whose follower it is there.
    pub vote: Option<Member>,
    /// Its bond.
    pub bond: Option<Bond>,
    /// Its log.
    pub log: Log,
    /// By mistake, a log that it had and of which it has truncated the configuration.
    pub reverted: Option<Log>,
    /// What it is to the others.
    pub role: Role,
}

/// What remains at a follower of its leader's fortification. It stands while the follower's node
/// supports the leader's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bond {
    /// The leader.
    pub leader: Member,
    /// The leader's term.
    pub term: Term,
}

/// The role of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It waits for a leader.
    #[default]
    Follower,
    /// It has asked for votes in its term.
    Candidate,
    /// It has been elected in its term.
    Leader,
}

/// What has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// The leaders that were elected, with their terms and the logs that they led with.
    pub elected: Vec<(Term, Member, Log)>,
    /// What was committed, by the term of the leader that found it committed.
    pub committed: Vec<(Term, Log)>,
}

impl History {
    /// The newest term in which a leader was elected.
    pub fn newest_elected(&self) -> Term {
        self.elected.iter().map(|(term, ..)| *term).max().unwrap_or_default()
    }

    /// What the leader of `term` has found committed, which ends in an entry of that term.
    pub fn committed_in(&self, term: Term) -> Option<&Log> {
        self.committed.iter().find(|(of, _)| *of == term).map(|(_, log)| log)
    }

    /// Whether `log` has the entry at `index`, and that is committed.
    pub(crate) fn has_committed(&self, log: &Log, index: u8) -> bool {
        let prefix = log.prefix(index);
        self.committed.iter().any(|(_, committed)| committed.starts_with(&prefix))
    }

    pub(crate) fn elect(&mut self, term: Term, leader: Member, log: Log) {
        self.elected.push((term, leader, log));
        self.elected.sort_unstable();
    }

    pub(crate) fn commit(&mut self, term: Term, log: Log) {
        self.committed.retain(|(of, _)| *of != term);
        self.committed.push((term, log));
        self.committed.sort_unstable();
    }
}

impl Replica {
    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }

    /// Enters a later term, in which it has not voted. The bond outlives that.
    pub(crate) fn enter(&mut self, term: Term) {
        if term > self.term {
            (self.term, self.vote, self.role) = (term, None, Role::Follower);
        }
    }
}

impl Node {
    /// The bond of its replica, if it stands.
    pub fn bound(&self) -> Option<Bond> {
        let bond = self.replica.and_then(|replica| replica.bond);
        bond.filter(|bond| self.supports.has(bond.leader.node))
    }
}

impl<const N: usize> State<N> {
    /// All nodes.
    pub fn ids() -> impl Iterator<Item = NodeId> + Clone {
        crate::State::<N>::ids()
    }

    /// The replica of `node` by its full name.
    pub fn member(&self, node: NodeId) -> Option<Member> {
        self.nodes[node].replica.map(|replica| Member { node, id: replica.id })
    }

    /// The replicas, with their names.
    pub fn replicas(&self) -> impl Iterator<Item = (Member, &Replica)> {
        Self::ids().zip(self.nodes.iter()).filter_map(|(node, it)| {
            it.replica.as_ref().map(|replica| (Member { node, id: replica.id }, replica))
        })
    }

    /// Whether the leader on `node` has asked another replica to campaign.
    pub fn has_abdicated(&self, node: NodeId) -> bool {
        self.replicas().any(|(from, replica)| {
            from.node == node && self.sent.has(&Message::TimeoutNow { term: replica.term, from })
        })
    }
}
