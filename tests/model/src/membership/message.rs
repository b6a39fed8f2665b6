//! Messages, and the network that never forgets one.

use super::log::{Log, LogId, Member};
use crate::ids::{NodeId, Term};

/// A message. It names its sender and, where it is for one replica only, its receiver. Others are
/// for each replica that the configuration of the sender's log names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// A candidate asks for votes.
    RequestVote {
        /// The term of the election.
        term: Term,
        /// The candidate.
        from: Member,
        /// The last entry of its log.
        last: LogId,
        /// Its log, as far as it says whom it asks.
        log: Log,
        /// Whether it campaigns because the leader of the term before has asked it to.
        transfer: bool,
    },
    /// A vote. A candidate sends itself one.
    Vote {
        /// The term of the election.
        term: Term,
        /// The voter.
        from: Member,
        /// The candidate.
        to: Member,
    },
    /// A leader sends its log, and fortifies itself along with it.
    Append {
        /// The leader's term.
        term: Term,
        /// The leader.
        from: Member,
        /// Its log, which says for whom it is.
        log: Log,
    },
    /// A replica holds the log of the leader of that term, durably.
    Appended {
        /// The leader's term.
        term: Term,
        /// The replica.
        from: Member,
        /// Up to which index.
        index: u8,
    },
    /// A replica is bound to the leader of that term, durably.
    Fortified {
        /// The leader's term.
        term: Term,
        /// The replica.
        from: Member,
    },
    /// A leader asks a follower to campaign at once, and serves nothing any more in its term.
    TimeoutNow {
        /// The leader's term.
        term: Term,
        /// The leader.
        from: Member,
    },
    /// A replica leads no more in this term and all before it, and lets its followers go.
    Resign {
        /// The replica's term.
        term: Term,
        /// The replica, which may be gone.
        from: Member,
    },
    /// A replica has heard of a resignation, and can't be bound again to whoever has resigned, in
    /// that term or before.
    Resigned {
        /// The term of the resignation.
        term: Term,
        /// The replica.
        from: Member,
        /// Who has resigned.
        to: Member,
    },
}

impl Message {
    /// Who has sent it.
    pub const fn from(&self) -> Member {
        match *self {
            Self::RequestVote { from, .. }
            | Self::Vote { from, .. }
            | Self::Append { from, .. }
            | Self::Appended { from, .. }
            | Self::Fortified { from, .. }
            | Self::TimeoutNow { from, .. }
            | Self::Resign { from, .. }
            | Self::Resigned { from, .. } => from,
        }
    }

    /// The one replica that it is for, if it is for one only.
    pub(crate) const fn to(&self) -> Option<Member> {
        match *self {
            Self::Vote { to, .. } | Self::Resigned { to, .. } => Some(to),
            _ => None,
        }
    }

    /// The log that it carries, if any.
    pub(crate) const fn log(&self) -> Option<Log> {
        match *self {
            Self::RequestVote { log, .. } | Self::Append { log, .. } => Some(log),
            _ => None,
        }
    }

    /// What it says without what names nodes.
    pub(crate) const fn bare(&self) -> (u8, LogId, Term, LogId, bool) {
        let none = LogId { term: Term(0), index: 0 };
        match *self {
            Self::RequestVote { term, from, last, transfer, .. } => {
                (0, from.id, term, last, transfer)
            }
            Self::Vote { term, from, .. } => (1, from.id, term, none, false),
            Self::Append { term, from, .. } => (2, from.id, term, none, false),
            Self::Appended { term, from, index } => {
                (3, from.id, term, LogId { term: Term(0), index }, false)
            }
            Self::Fortified { term, from } => (4, from.id, term, none, false),
            Self::TimeoutNow { term, from } => (5, from.id, term, none, false),
            Self::Resign { term, from } => (6, from.id, term, none, false),
            Self::Resigned { term, from, .. } => (7, from.id, term, none, false),
        }
    }

    /// The same message among nodes that have other names.
    pub(crate) fn renamed(mut self, name: impl Fn(NodeId) -> NodeId + Copy) -> Self {
        match &mut self {
            Self::RequestVote { from, log, .. } | Self::Append { from, log, .. } => {
                from.node = name(from.node);
                *log = log.renamed(name);
            }
            Self::Vote { from, to, .. } | Self::Resigned { from, to, .. } => {
                from.node = name(from.node);
                to.node = name(to.node);
            }
            Self::Appended { from, .. }
            | Self::Fortified { from, .. }
            | Self::TimeoutNow { from, .. }
            | Self::Resign { from, .. } => from.node = name(from.node),
        }
        self
    }
}

/// Every message that was ever sent, in no order. Any may arrive at any moment, any number of
/// times, or never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Messages(Vec<Message>);

impl Messages {
    /// Sends a message. It makes no difference to send it twice.
    pub(crate) fn send(&mut self, message: Message) {
        if let Err(place) = self.0.binary_search(&message) {
            self.0.insert(place, message);
        }
    }

    /// Takes out all messages but those that matter.
    pub(crate) fn retain(&mut self, matters: impl FnMut(&Message) -> bool) {
        self.0.retain(matters);
    }

    /// Whether the message was sent.
    pub fn has(&self, message: &Message) -> bool {
        self.0.binary_search(message).is_ok()
    }

    /// All messages.
    pub fn iter(&self) -> impl Iterator<Item = Message> + Clone {
        self.0.iter().copied()
    }

    /// The same messages among nodes that have other names.
    pub(crate) fn renamed(&self, name: impl Fn(NodeId) -> NodeId + Copy) -> Self {
        let mut messages: Vec<_> = self.iter().map(|message| message.renamed(name)).collect();
        messages.sort_unstable();
        Self(messages)
    }
}
