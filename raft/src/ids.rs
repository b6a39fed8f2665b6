//! Identifiers and positions, one newtype each, so that a term never stands where an index should.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A node: one process with one data directory, host to a replica of many groups.
    NodeId
}
number! {
    /// A Raft group, unique in a cluster.
    GroupId
}
/// A cluster: nodes of different clusters refuse each other, so that a wrong address can't mix two
/// sets of data. It has an id that follows from its name and its first nodes, and one that is drawn
/// when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    /// Sixteen hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

number! {
    /// The incarnation of a node: a random number drawn when its data directory is made. A node
    /// that comes back with another incarnation has lost what it promised under its id.
    Incarnation
}
number! {
    /// How often a node has given its support to a certain peer. The node that gives it counts, and
    /// never sets the count back. Zero comes before the first time.
    Epoch
}
number! {
    /// How often a node has started. The count is on the node's disk before any peer hears of it.
    BootCount
}
number! {
    /// A round of confirmations, numbered from 1 on by the worker that opens it. The worker asks
    /// every peer once, for the reads of all groups: "at which epoch do you support me?"
    Round
}
number! {
    /// A request for support, numbered from 1 on by the node that asks.
    RequestSeq
}
number! {
    /// A Raft term. Zero comes before the first election.
    Term
}
number! {
    /// A position in a group's log. The first entry has index 1; zero means "before the log".
    Index
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The term before this one; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Round {
    /// The round after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl RequestSeq {
    /// The request after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The index `count` places after this one.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

/// The identity of an entry. Two logs that hold the same `LogId` are the same up to it (the log
/// matching property, Raft paper section 5.3). Ordered by term first, which is the order in which a
/// voter compares logs (section 5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its position.
    pub index: Index,
}

impl LogId {
    /// The identity of the entry at `index`, made in `term`.
    #[must_use]
    pub const fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for LogId {
    /// `index@term`, as the transcripts of the tests write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// The identity of a replica: the entry that added it to its group's configuration. A node that was
/// removed from a group and comes back to it does so as another replica, with a later id.
///
/// Ids are ordered by term, then by index. An index alone would not do: a replica may be added by
/// entry 10 of term 1, which is truncated, and anew by entry 8 of term 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub LogId);

impl ReplicaId {
    /// The id of the replicas with which a group is founded. No entry has this position.
    pub const FOUNDER: Self = Self(LogId::new(Term(0), Index(1)));

    /// The smallest id after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(LogId::new(self.0.term, self.0.index.next()))
    }
}

impl Default for ReplicaId {
    /// That of a founder.
    fn default() -> Self {
        Self::FOUNDER
    }
}

impl fmt::Display for ReplicaId {
    /// Like the entry: `index@term`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One replica of a group among all that there ever are: the node that hosts it, and which of that
/// node's replicas it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaAddress {
    /// The node.
    pub node: NodeId,
    /// Which replica of the group on that node.
    pub replica: ReplicaId,
}

impl ReplicaAddress {
    /// The replica on `node` with this id.
    #[must_use]
    pub const fn new(node: NodeId, replica: ReplicaId) -> Self {
        Self { node, replica }
    }

    /// The replica on `node` with which the group was founded.
    #[must_use]
    pub const fn founder(node: NodeId) -> Self {
        Self::new(node, ReplicaId::FOUNDER)
    }
}

impl fmt::Display for ReplicaAddress {
    /// The node alone for a founder, `node#index@term` for others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)?;
        if self.replica == ReplicaId::FOUNDER {
            return Ok(());
        }
        write!(f, "#{}", self.replica)
    }
}
