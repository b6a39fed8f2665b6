//! The messages between replicas of a group. The group and the nodes of sender and receiver stand
//! on the envelope.

use crate::{
    Entries, Entry, Epoch, Index, LogId, ReadToken, ReplicaId, SnapshotMeta, Term, VotersDigest,
};
use core::iter;

/// Terms and indexes are counted up from zero, so none ever gets this far. What lies below leaves
/// room to count on.
const UNREACHABLE: u64 = 1 << 62;

/// A message from one replica of a group to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which replica of the group on its node sends it.
    pub from: ReplicaId,
    /// For which replica of the group on the receiver's node it is.
    pub to: ReplicaId,
    /// The sender's term. A [`Payload::PreVote`] and a [`Payload::PreVoteReply`] that grants it
    /// carry the term that the campaign would have instead, which nobody is in yet.
    pub term: Term,
    /// What the message says.
    pub payload: Payload,
}

impl Message {
    /// A message between two replicas with which their group was founded.
    #[must_use]
    pub const fn of_founder(term: Term, payload: Payload) -> Self {
        Self { from: ReplicaId::FOUNDER, to: ReplicaId::FOUNDER, term, payload }
    }

    /// What the node of a replica that is no more answers in its place, if anything: nothing that
    /// it promised stands, and it need not be told that it is gone.
    #[must_use]
    pub const fn answer_for_former(&self) -> Option<Self> {
        let payload = match self.payload {
            Payload::Resign { term, .. } => Payload::Resigned { term },
            Payload::Gone { .. } => Payload::Left,
            _ => return None,
        };
        Some(Self { from: self.to, to: self.from, term: Term(0), payload })
    }

    /// The smallest id that a replica may have on a node which never had this message's receiver,
    /// if the message says that the group is without that one for good. So the node can keep it
    /// from being born late.
    #[must_use]
    pub fn floor_if_gone(&self) -> Option<ReplicaId> {
        let is_reachable = self.to.0.index.0 < UNREACHABLE && self.is_possible();
        let is_gone = matches!(self.payload, Payload::Gone { floor, .. } if floor > self.to);
        (is_gone && is_reachable).then(|| self.to.next())
    }

    /// Whether any replica can have sent this. Taking a message that none can have sent would lead
    /// to a log that contradicts itself, or to numbers with no next one.
    pub(crate) fn is_possible(&self) -> bool {
        let reachable = |id: LogId| id.term <= self.term && id.index.0 < UNREACHABLE;
        let precedes =
            |a: &LogId, b: &LogId| a.term <= b.term && a.index.0.checked_add(1) == Some(b.index.0);
        let is_payload_possible = match &self.payload {
            Payload::AppendEntries { prev, entries, .. } => {
                let ids = iter::once(*prev).chain(entries.iter().map(Entry::id));
                let last = entries.last().map_or(*prev, Entry::id);
                reachable(last) && ids.is_sorted_by(precedes)
            }
            Payload::Snapshot { meta: SnapshotMeta { last, configuration } } => {
                let id = configuration.id();
                reachable(*last) && id.term <= last.term && id.index <= last.index
            }
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
            | Payload::Resigned { .. }
            | Payload::Left => true,
            Payload::Resign { term, .. } => *term <= self.term,
            // An entry of the sender's log, or the one after.
            Payload::Gone { floor, .. } => reachable(floor.0),
        };
        // Whom a leader calls was added by an entry of its log.
        let is_called_possible = !self.payload.is_leaders() || reachable(self.to.0);
        self.term.0 < UNREACHABLE && is_called_possible && is_payload_possible
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// "Would you vote for me?" Changes no term on either side (Raft thesis, section 9.6). It says
    /// that the sender leads in no earlier term any more, which ends fortifications of such terms.
    /// The term before is durable there.
    PreVote {
        /// The candidate's last entry.
        last: LogId,
        /// The voters that the sender's group was founded with. A receiver whose group has others
        /// ignores the message.
        founders: VotersDigest,
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
        /// Whether the leader asked for this campaign. Then even a voter that fortifies the
        /// leader's node may vote.
        transfer: bool,
        /// The voters that the sender's group was founded with. A receiver whose group has others
        /// ignores the message.
        founders: VotersDigest,
    },
    /// The answer to a vote request. A granted vote is durable before this leaves.
    VoteReply {
        /// Whether the vote is given.
        granted: bool,
    },
    /// AppendEntries (Raft paper, figure 2). The follower fortifies the leader, as by
    /// [`Payload::Fortify`].
    AppendEntries {
        /// The entry just before `entries`; zero at the start of the log.
        prev: LogId,
        /// Consecutive entries from `prev.index + 1` on; empty to probe.
        entries: Entries,
        /// The leader's commit index.
        commit: Index,
        /// The voters that the sender's group was founded with. A receiver whose group has others
        /// ignores the message.
        founders: VotersDigest,
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
    /// "I lead this term, and so much is committed: fortify me." Sent to a follower that does not
    /// fortify the leader yet, and to one that should apply what no append will tell it of.
    Fortify {
        /// The leader's commit index, cut to what this follower is known to hold.
        commit: Index,
        /// The voters that the sender's group was founded with. A receiver whose group has others
        /// ignores the message.
        founders: VotersDigest,
    },
    /// The follower fortifies the leader's node, durably.
    Fortified {
        /// The epoch at which its node supports the leader's. `None` when it does not, so that
        /// there is no fortification.
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
        /// The leader's commit index after the question arrived. `None` when the receiver does not
        /// lead, or not for long any more.
        index: Option<Index>,
        /// The leader's commit index, cut to what this follower is known to hold.
        commit: Index,
    },
    /// The offer of a snapshot. The leader's node streams the snapshot's bytes beside the messages
    /// and sends this when the last one has left; the follower's node hands it to the core only
    /// when the bytes are whole, verified and durable there. Answered by [`Payload::Appended`].
    Snapshot {
        /// What the snapshot is of.
        meta: SnapshotMeta,
    },
    /// "Campaign now, without a pre-vote": a leader hands over (Raft thesis, section 3.10).
    TimeoutNow,
    /// "I lead no more, in this term and before, though my node lives." Ends the fortifications of
    /// the sender that were made in that term or before. Sent by a leader that lost its majority's
    /// support, by a replica that would campaign but has no such support, by one that failed, and
    /// by the tombstone of one that is gone. All of them repeat it until it is answered. The term
    /// is durable there.
    Resign {
        /// The epoch of the fortifications that end.
        epoch: Epoch,
        /// The last term in which the sender may have led.
        term: Term,
    },
    /// The answer to [`Payload::Resign`]: no fortification of the sender in that term or before
    /// stands, at whatever epoch, nor can what is still under way make one. It counts for the
    /// replica that gives it.
    Resigned {
        /// The term of the resignation.
        term: Term,
    },
    /// "You are gone: a committed configuration, not older than you, is without you." True for
    /// ever. Answered by [`Payload::Left`].
    Gone {
        /// The smallest id that a replica on the receiver's node may still have. It is later than
        /// the receiver.
        floor: ReplicaId,
        /// The voters that the sender's group was founded with. A receiver whose group has others
        /// ignores the message.
        founders: VotersDigest,
    },
    /// The answer to [`Payload::Gone`], by the tombstone: the replica is no more.
    Left,
}

impl Payload {
    /// The founding voters of the sender's group, in the messages that ask for a vote or for a
    /// follower.
    pub(crate) fn founders(&self) -> Option<VotersDigest> {
        match *self {
            Self::PreVote { founders, .. }
            | Self::Vote { founders, .. }
            | Self::AppendEntries { founders, .. }
            | Self::Fortify { founders, .. }
            | Self::Gone { founders, .. } => Some(founders),
            Self::Snapshot { ref meta } => Some(meta.configuration.founders()),
            Self::PreVoteReply { .. }
            | Self::VoteReply { .. }
            | Self::Appended { .. }
            | Self::Rejected { .. }
            | Self::Fortified { .. }
            | Self::ReadIndex { .. }
            | Self::ReadIndexReply { .. }
            | Self::TimeoutNow
            | Self::Resign { .. }
            | Self::Resigned { .. }
            | Self::Left => None,
        }
    }

    /// Whether only the leader of the message's term sends this, to those of whom its configuration
    /// says that they follow it.
    pub(crate) const fn is_leaders(&self) -> bool {
        matches!(self, Self::AppendEntries { .. } | Self::Fortify { .. } | Self::Snapshot { .. })
    }

    /// The answer to a [`Payload::ReadIndex`] by a replica that can't prove that it leads.
    pub(crate) const fn refused_read(token: ReadToken) -> Self {
        Self::ReadIndexReply { token, index: None, commit: Index(0) }
    }
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
