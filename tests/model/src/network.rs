//! Messages, and the network that never forgets one.

use crate::state::{Log, MAJORITY, State};
use logboat_raft::{BootCount, Epoch, NodeId, Term};

/// A message. One that names no receiver is for everybody but its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
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
    /// A replica holds the entry of that term.
    Appended {
        /// The leader's term.
        term: Term,
        /// The replica's node.
        from: NodeId,
    },
    /// A replica has bound itself to the leader of that term.
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
    /// A node asks whether its peers support it.
    Confirm {
        /// The node that asks.
        from: NodeId,
        /// Its run.
        run: BootCount,
        /// The round of that run.
        round: u64,
    },
    /// A node supports another in the run in which that one has asked.
    Confirmed {
        /// The node that answers.
        from: NodeId,
        /// The node that has asked.
        to: NodeId,
        /// The run in which it has.
        run: BootCount,
        /// The round that is answered.
        round: u64,
        /// The epoch of the support.
        epoch: Epoch,
    },
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

    /// All messages.
    pub fn iter(&self) -> impl Iterator<Item = Message> + Clone {
        self.0.iter().copied()
    }

    /// The leaders that were ever elected, with their terms and the logs that they led with.
    pub fn elected(&self) -> impl Iterator<Item = (Term, NodeId, Log)> + Clone {
        self.iter().filter_map(|message| match message {
            Message::Append { term, from, log } => Some((term, from, log)),
            _ => None,
        })
    }

    /// The entries that a majority holds. Their leaders may have acknowledged them.
    pub fn committed(&self) -> impl Iterator<Item = Term> {
        self.elected().map(|(term, ..)| term).filter(|&term| self.has_committed(term))
    }

    /// Whether a majority holds the entry of `term`.
    pub fn has_committed(&self, term: Term) -> bool {
        let holds = |message| matches!(message, Message::Appended { term: of, .. } if of == term);
        self.iter().filter(|&message| holds(message)).count() >= MAJORITY
    }

    /// Whether a majority has voted for `candidate` in `term`.
    pub fn elects(&self, candidate: NodeId, term: Term) -> bool {
        let votes = self.iter().filter(|&message| match message {
            Message::Vote { term: of, to, .. } => (of, to) == (term, candidate),
            _ => false,
        });
        votes.count() >= MAJORITY
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

/// Whether `message` may reach `node` and do something there. Answers are not received: what rests
/// on them looks for them in the network.
pub(crate) fn reaches(state: &State, message: Message, node: NodeId) -> bool {
    match message {
        Message::RequestVote { term, from, .. }
        | Message::Append { term, from, .. }
        | Message::Fortify { term, from }
        | Message::TimeoutNow { term, from } => {
            from != node && term >= state.nodes[node].replica.term
        }
        Message::Confirm { from, .. } => from != node,
        Message::Vote { .. }
        | Message::Appended { .. }
        | Message::Fortified { .. }
        | Message::Confirmed { .. } => false,
    }
}
