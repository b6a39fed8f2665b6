//! Violations of the protocol: what is not believed of a peer.

use crate::{Index, Term};

/// How a peer broke the protocol. Its message was dropped, and has changed nothing that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An append would have replaced a committed entry. By the leader completeness property (Raft
    /// paper, section 5.4) every leader has all that is committed.
    #[error("an append over the committed entry {index}")]
    CommittedEntry {
        /// The first committed entry that the append would have replaced.
        index: Index,
    },
    /// An entry should hold a configuration and does not, or holds one of another group or entry.
    #[error("entry {index} holds no configuration of this group")]
    Configuration {
        /// That entry.
        index: Index,
    },
    /// The message's term is further ahead than elections can have brought it.
    #[error("term {term} is not plausible after term {known}")]
    ImplausibleTerm {
        /// The message's term.
        term: Term,
        /// The replica's term.
        known: Term,
    },
    /// The message names an index that no log of the group can have reached.
    #[error("index {index} is not plausible after index {known}")]
    ImplausibleIndex {
        /// The message's index.
        index: Index,
        /// The last index of the replica.
        known: Index,
    },
}

impl Violation {
    /// Whether the peer that sent the message is certainly wrong. A term may come from another one:
    /// the peer may have run for long enough to believe what this node, which has not, does not
    /// believe yet.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        !matches!(self, Self::ImplausibleTerm { .. })
    }
}
