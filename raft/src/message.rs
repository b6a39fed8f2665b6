//! What replicas of a group say to each other. Group, sender and receiver stand on the envelope.

use crate::{Entries, Entry, Epoch, Index, LogId, ReadToken, Term};
use core::iter;

/// Terms and indexes are counted up from zero, so none ever gets this far. What lies below leaves
/// room to count on.
const UNREACHABLE: u64 = 1 << 62;

/// A message from one replica of a group to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's term. Only for [`Payload::PreVote`] and the granting [`Payload::PreVoteReply`]
    /// is it the term that the campaign would have, which nobody is in yet.
    pub term: Term,
    /// What is said.
    pub payload: Payload,
}

impl Message {
    /// Whether a replica can have said this at all. A message that none can have said would lead
    /// to a log that contradicts itself, or to numbers with no next one.
    pub(crate) fn is_possible(&self) -> bool {
        let reachable = |id: LogId| id.term <= self.term && id.index.0 < UNREACHABLE;
        let precedes =
            |a: &LogId, b: &LogId| a.term <= b.term && a.index.0.checked_add(1) == Some(b.index.0);
        let says_possible = match &self.payload {
            Payload::Append { prev, entries, .. } => {
                let ids = iter::once(*prev).chain(entries.iter().map(Entry::id));
                let last = entries.last().map_or(*prev, Entry::id);
                reachable(last) && ids.is_sorted_by(precedes)
            }
            Payload::Snapshot { last } => reachable(*last),
            // Nothing in these is taken over; it is only compared.
            Payload::PreVote { .. }
            | Payload::PreVoteReply { .. }
            | Payload::Vote { .. }
            | Payload::VoteReply { .. }
            | Payload::Appended { .. }
            | Payload::Rejected { .. }
            | Payload::Fortify { .. }
            | Payload::Fortified { .. }
            | Payload::ReadIndex { .. }
            | Payload::ReadIndexReply { .. }
            | Payload::TimeoutNow
            | Payload::Resign { .. } => true,
        };
        self.term.0 < UNREACHABLE && says_possible
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// "Would you vote for me?" Changes no state on either side (Raft thesis, section 9.6).
    PreVote {
        /// The candidate's last entry.
        last: LogId,
    },
    /// The answer to a pre-vote.
    PreVoteReply {
        /// Whether the vote would be given.
        granted: bool,
    },
    /// RequestVote (Raft paper, figure 2).
    Vote {
        /// The candidate's last entry.
        last: LogId,
        /// The leader asked for this campaign: a voter that hears from that leader answers too.
        transfer: bool,
    },
    /// The answer to a vote request. A granted vote is durable before this leaves.
    VoteReply {
        /// Whether the vote is given.
        granted: bool,
    },
    /// AppendEntries (Raft paper, figure 2), which binds the follower like [`Payload::Fortify`].
    Append {
        /// The entry just before `entries`; zero at the start of the log.
        prev: LogId,
        /// Consecutive entries from `prev.index + 1` on; empty to probe.
        entries: Entries,
        /// The leader's commit index.
        commit: Index,
    },
    /// The follower's log equals the leader's up to `through`, durably.
    Appended {
        /// The last entry known to be equal.
        through: Index,
        /// The last entry that the follower's state machine has applied.
        applied: Index,
    },
    /// The follower's log has no entry equal to `prev` of the append.
    Rejected {
        /// Index of the `prev` that was refused; says which append this answers.
        prev: Index,
        /// Where the logs part.
        conflict: Conflict,
    },
    /// "I lead this term, and so much is committed." Asks the follower to bind itself to the leader's
    /// node. Sent to who is not bound yet, and to who should apply what nothing else tells it of.
    Fortify {
        /// The leader's commit index, cut to what this follower is known to hold.
        commit: Index,
    },
    /// The follower has bound itself to the leader's node, durably.
    Fortified {
        /// The epoch at which its node supports the leader's; `None` when it does not, so that the
        /// follower is not bound.
        epoch: Option<Epoch>,
        /// The last entry that the follower's state machine has applied.
        applied: Index,
    },
    /// A follower asks up to where it must have applied the log to serve a linearizable read.
    ReadIndex {
        /// The follower's name for its reads.
        token: ReadToken,
        /// Whether the leader may answer on its lease.
        lease: bool,
    },
    /// The answer to [`Payload::ReadIndex`].
    ReadIndexReply {
        /// The follower's name for its reads.
        token: ReadToken,
        /// The leader's commit index after the question arrived; `None` when it does not lead, or not
        /// for long any more.
        index: Option<Index>,
        /// The leader's commit index, cut to what this follower is known to hold.
        commit: Index,
    },
    /// The offer of a snapshot. The leader's node streams the snapshot's bytes beside the messages and
    /// sends this when the last one has left; the follower's node hands it to the core only when the
    /// bytes are whole, verified and durable there. Answered by [`Payload::Appended`].
    Snapshot {
        /// The last entry that the snapshot covers.
        last: LogId,
    },
    /// "Campaign now, without a pre-vote" (Raft thesis, section 3.10).
    TimeoutNow,
    /// "I have stopped for good, though my node lives: be bound to me no longer." Said by a replica that
    /// failed, of whatever term, until its node runs anew.
    Resign {
        /// The epoch of the bonds that end: the sender does not lead while that lasts.
        epoch: Epoch,
    },
}

/// Where a follower's log parts from the leader's: XTerm, XIndex and XLen of the fast backup
/// described in the students' guide to Raft (MIT 6.824) and hinted at in the Raft paper, 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// XTerm: term of the follower's entry at `prev`; `None` when its log is too short for one.
    pub x_term: Option<Term>,
    /// XIndex: the first index that the follower's log holds of that term.
    pub x_index: Index,
    /// XLen: the index after the follower's last entry.
    pub x_len: Index,
}
