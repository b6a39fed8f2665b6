//! Messages, and the network that never forgets one.

use crate::ids::{BootCount, Epoch, NodeId, Round, Term};
use crate::state::{Log, State};

/// A message. If it names no receiver, it is for everybody but its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// A replica asks who would vote for it.
    PreVote {
        /// The term that its campaign would have.
        term: Term,
        /// The replica's node.
        from: NodeId,
    },
    /// A candidate asks for votes.
    RequestVote {
        /// The term of the election.
        term: Term,
        /// The candidate.
        from: NodeId,
        /// The term of the last entry of its log.
        last: Term,
        /// Whether it campaigns because the leader of the term before has asked it to.
        transfer: bool,
    },
    /// A vote. A candidate sends itself one.
    Vote {
        /// The term of the election.
        term: Term,
        /// The voter.
        from: NodeId,
        /// The candidate.
        to: NodeId,
    },
    /// A leader sends its log, and fortifies itself along with it.
    Append {
        /// The leader's term.
        term: Term,
        /// The leader.
        from: NodeId,
        /// Its log, with the entry of its term.
        log: Log,
    },
    /// A leader fortifies itself.
    Fortify {
        /// The leader's term.
        term: Term,
        /// The leader.
        from: NodeId,
    },
    /// A replica holds the entry of that term, durably.
    Appended {
        /// The leader's term.
        term: Term,
        /// The replica's node.
        from: NodeId,
    },
    /// A replica is bound to the leader of that term, durably.
    Fortified {
        /// The leader's term.
        term: Term,
        /// The replica's node.
        from: NodeId,
        /// The epoch at which that node supports the leader's.
        epoch: Epoch,
    },
    /// A leader asks a follower to campaign at once, and begins no reads any more.
    TimeoutNow {
        /// The leader's term.
        term: Term,
        /// The leader.
        from: NodeId,
    },
    /// A replica leads no more in this term and all before it, and lets a follower go.
    Resign {
        /// The replica's term.
        term: Term,
        /// The replica's node.
        from: NodeId,
        /// The follower.
        to: NodeId,
        /// The epoch at which the follower's node supports the replica's, as far as that knows.
        epoch: Epoch,
    },
    /// A node asks whether its peers support it.
    Confirm {
        /// The node that asks.
        from: NodeId,
        /// Its boot.
        boot: BootCount,
        /// The round of that boot.
        round: Round,
    },
    /// A node supports another in the boot in which that one has asked.
    Confirmed {
        /// The node that answers.
        from: NodeId,
        /// The node that has asked.
        to: NodeId,
        /// The boot in which it has.
        boot: BootCount,
        /// The round that is answered.
        round: Round,
        /// The epoch of the support.
        epoch: Epoch,
    },
}

impl Message {
    /// The nodes that it names: its sender, and the one that it is for if it is for one only.
    pub(crate) const fn names(self) -> (NodeId, Option<NodeId>) {
        match self {
            Self::PreVote { from, .. }
            | Self::RequestVote { from, .. }
            | Self::Append { from, .. }
            | Self::Fortify { from, .. }
            | Self::Appended { from, .. }
            | Self::Fortified { from, .. }
            | Self::TimeoutNow { from, .. }
            | Self::Confirm { from, .. } => (from, None),
            Self::Vote { from, to, .. }
            | Self::Resign { from, to, .. }
            | Self::Confirmed { from, to, .. } => (from, Some(to)),
        }
    }

    /// The same message among nodes that have other names.
    pub(crate) fn renamed(mut self, name: impl Fn(NodeId) -> NodeId) -> Self {
        match &mut self {
            Self::PreVote { from, .. }
            | Self::RequestVote { from, .. }
            | Self::Append { from, .. }
            | Self::Fortify { from, .. }
            | Self::Appended { from, .. }
            | Self::Fortified { from, .. }
            | Self::TimeoutNow { from, .. }
            | Self::Confirm { from, .. } => *from = name(*from),
            Self::Vote { from, to, .. }
            | Self::Resign { from, to, .. }
            | Self::Confirmed { from, to, .. } => {
                *from = name(*from);
                *to = name(*to);
            }
        }
        self
    }
}

/// Every message that was ever sent, in no order. Any may arrive at any moment, any number of
/// times, or never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network(Vec<Message>);

impl Network {
    /// Sends a message. It makes no difference to send it twice.
    pub fn send(&mut self, message: Message) {
        if let Err(place) = self.0.binary_search(&message) {
            self.0.insert(place, message);
        }
    }

    /// Takes out all messages but those that matter.
    pub fn retain(&mut self, matters: impl FnMut(&Message) -> bool) {
        self.0.retain(matters);
    }

    /// Whether the message was sent.
    pub fn has(&self, message: &Message) -> bool {
        self.0.binary_search(message).is_ok()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All messages.
    pub fn iter(&self) -> impl Iterator<Item = Message> + Clone {
        self.0.iter().copied()
    }

    /// Takes all messages.
    pub fn drain(&mut self) -> impl Iterator<Item = Message> {
        self.0.drain(..)
    }

    /// The same messages among nodes that have other names.
    pub(crate) fn renamed(&self, name: impl Fn(NodeId) -> NodeId) -> Self {
        let mut messages: Vec<_> = self.iter().map(|message| message.renamed(&name)).collect();
        messages.sort_unstable();
        Self(messages)
    }

    /// The leaders that were ever elected, with their terms and the logs that they led with.
    pub fn elected(&self) -> impl Iterator<Item = (Term, NodeId, Log)> + Clone {
        self.iter().filter_map(|message| match message {
            Message::Append { term, from, log } => Some((term, from, log)),
            _ => None,
        })
    }

    /// The newest term in which a leader was elected.
    pub fn newest_elected(&self) -> Term {
        self.elected().map(|(term, ..)| term).max().unwrap_or_default()
    }

    /// How many replicas hold the entry of `term`.
    pub fn holders(&self, term: Term) -> usize {
        let holds = |message| matches!(message, Message::Appended { term: of, .. } if of == term);
        self.iter().filter(|&message| holds(message)).count()
    }

    /// How many replicas have voted for `candidate` in `term`.
    pub fn votes(&self, candidate: NodeId, term: Term) -> usize {
        let votes = self.iter().filter(|&message| match message {
            Message::Vote { term: of, to, .. } => (of, to) == (term, candidate),
            _ => false,
        });
        votes.count()
    }

    /// Whether the leader of the term before has asked `candidate` to campaign in `term`.
    pub fn transfers(&self, candidate: NodeId, term: Term) -> bool {
        self.iter().any(|message| match message {
            Message::RequestVote { term: of, from, transfer, .. } => {
                transfer && (of, from) == (term, candidate)
            }
            _ => false,
        })
    }
}

impl<const N: usize> State<N> {
    /// Whether a majority holds the entry of `term`. Its leader may have acknowledged it.
    pub fn has_committed(&self, term: Term) -> bool {
        self.network.holders(term) >= Self::MAJORITY
    }

    /// The entries that a majority holds.
    pub fn committed(&self) -> impl Iterator<Item = Term> {
        let terms = self.network.elected().map(|(term, ..)| term);
        terms.filter(|&term| self.has_committed(term))
    }
}
