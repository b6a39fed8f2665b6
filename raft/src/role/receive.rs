//! Messages: the rules of terms that hold for all of them, and who handles which.

use super::{Follower, Role};
use crate::read_queue::Reader;
use crate::step::Step;
use crate::{Message, NodeId, Output, Payload, Violation};
use core::cmp::Ordering;

impl Role {
    /// Hands a message to the handler of its kind and the current role, once its term is met.
    /// Messages of replicas of another group, and those that no replica can have sent, are dropped.
    ///
    /// The sender need not be a member. It may lead by a configuration that this replica has yet to
    /// hear of, and a candidate may need the vote of a replica that does not know it. Whoever
    /// counts answers asks the configuration.
    pub(super) fn on_receive(&mut self, step: &mut Step<'_>, from: NodeId, message: Message) {
        if !is_credible(step, from, &message) || !self.meet_term(step, from, &message) {
            return;
        }
        let Message { term, payload } = message;
        match (&mut *self, payload) {
            (_, Payload::PreVote { last, .. }) => self.on_pre_vote(step, from, term, last),
            (_, Payload::Vote { last, transfer, .. }) => self.on_vote(step, from, last, transfer),
            (_, Payload::Resign { epoch }) => self.on_resign(step, from, term, epoch),
            (Self::PreCandidate(_), Payload::PreVoteReply { granted }) => {
                self.on_pre_vote_reply(step, from, term, granted);
            }
            (Self::Candidate(_), Payload::VoteReply { granted }) => {
                self.on_vote_reply(step, from, granted);
            }
            (Self::Follower(_), Payload::AppendEntries { prev, entries, commit, .. }) => {
                Follower::on_append(step, from, prev, entries, commit);
            }
            (Self::Follower(_), Payload::Snapshot { meta }) => {
                Follower::on_snapshot(step, from, meta);
            }
            (Self::Follower(_), Payload::Fortify { commit, .. }) => {
                Follower::on_fortify(step, from, commit);
            }
            (Self::Follower(_) | Self::PreCandidate(_), Payload::TimeoutNow) => {
                self.on_timeout_now(step);
            }
            (Self::Follower(follower), Payload::ReadIndexReply { token, index, commit })
                if follower.leader == Some(from) =>
            {
                step.on_read_index(from, token, index, commit);
            }
            (Self::Leader(leader), Payload::ReadIndex { token, lease }) => {
                leader.on_read(step, Reader::Follower(from, token), lease);
            }
            (_, Payload::ReadIndex { token, .. }) => {
                step.send_in_term(from, Payload::refused_read(token));
            }
            (Self::Leader(leader), Payload::Appended { through, applied }) => {
                leader.on_appended(step, from, through, applied);
            }
            (Self::Leader(leader), Payload::Rejected { prev, conflict }) => {
                leader.on_rejected(step, from, prev, conflict);
            }
            (Self::Leader(leader), Payload::Fortified { epoch, applied }) => {
                leader.on_fortified(step, from, epoch, applied);
            }
            // What a leader sends found a follower, unless two claim to lead the same term, which
            // votes on disk rule out. The rest are answers to a role that was given up since, or
            // were not asked for.
            (
                Self::Leader(_) | Self::Candidate(_) | Self::PreCandidate(_),
                Payload::AppendEntries { .. } | Payload::Fortify { .. } | Payload::Snapshot { .. },
            )
            | (_, Payload::ReadIndexReply { .. })
            | (Self::Leader(_) | Self::Candidate(_), Payload::TimeoutNow)
            | (
                Self::Follower(_) | Self::PreCandidate(_) | Self::Candidate(_),
                Payload::Appended { .. } | Payload::Rejected { .. } | Payload::Fortified { .. },
            )
            | (_, Payload::PreVoteReply { .. } | Payload::VoteReply { .. }) => {}
        }
    }

    /// Compares the message's term with the replica's, and adopts it if it is later ("Rules for
    /// servers", Raft paper, figure 2). Returns whether the message is to be handled: as one of the
    /// current term, or as a pre-vote's, whose term nobody is in yet.
    fn meet_term(&mut self, step: &mut Step<'_>, from: NodeId, message: &Message) -> bool {
        let is_leaders = match message.payload {
            // Whoever answers a pre-vote names a term that this replica may enter, and the others
            // one that they leave. Only a resignation may raise the term, and it does so itself.
            Payload::PreVote { .. }
            | Payload::PreVoteReply { granted: true }
            | Payload::Resign { .. } => return true,
            Payload::AppendEntries { .. } | Payload::Fortify { .. } | Payload::Snapshot { .. } => {
                true
            }
            Payload::PreVoteReply { granted: false }
            | Payload::Vote { .. }
            | Payload::VoteReply { .. }
            | Payload::Appended { .. }
            | Payload::Rejected { .. }
            | Payload::Fortified { .. }
            | Payload::ReadIndex { .. }
            | Payload::ReadIndexReply { .. }
            | Payload::TimeoutNow => false,
        };
        match message.term.cmp(&step.replica.term) {
            Ordering::Less => {
                answer_late(step, from, &message.payload);
                return false;
            }
            Ordering::Greater => {
                // A vote request does not raise the term where a leader is defended: else a node
                // that was cut off would depose it on its return (Raft thesis, section 4.2.3).
                let disturbs = matches!(message.payload, Payload::Vote { transfer: false, .. });
                if disturbs && self.keeps_leader(step, from) {
                    return false;
                }
                self.step_down(step, is_leaders.then_some(from));
                step.replica.raise_term(message.term);
            }
            Ordering::Equal => {}
        }
        if is_leaders && !matches!(self, Self::Leader(_)) {
            step.replica.taken_for_voter = false;
            *self = Self::Follower(Follower::of(from, step.replica));
        }
        true
    }
}

/// Whether a message can be one of this group. Says what is wrong with it if that concerns anybody.
fn is_credible(step: &mut Step<'_>, from: NodeId, message: &Message) -> bool {
    let is_other = |founders| step.replica.founders.is_some_and(|own| own != founders);
    if message.payload.founders().is_some_and(is_other) {
        step.out.push(Output::OtherVoters { from });
        return false;
    }
    if from == step.replica.node() || !message.is_possible() {
        return false;
    }
    let (term, known) = (message.term, step.replica.term);
    if !step.replica.believes(term) {
        step.violated(from, Violation::ImplausibleTerm { term, known });
        return false;
    }
    true
}

/// Answers a message of an earlier term where the sender should learn that there is a later one. A
/// leader must learn it, even from a replica that can't win an election itself: otherwise a replica
/// that is stranded in a later term could neither follow nor be replaced.
fn answer_late(step: &mut Step<'_>, from: NodeId, payload: &Payload) {
    let applied = step.replica.applied;
    let answer = match *payload {
        Payload::Vote { .. } => Payload::VoteReply { granted: false },
        Payload::AppendEntries { .. } | Payload::Snapshot { .. } | Payload::Fortify { .. } => {
            Payload::Fortified { epoch: None, applied }
        }
        Payload::ReadIndex { token, .. } => Payload::refused_read(token),
        Payload::PreVote { .. }
        | Payload::PreVoteReply { .. }
        | Payload::VoteReply { .. }
        | Payload::Appended { .. }
        | Payload::Rejected { .. }
        | Payload::Fortified { .. }
        | Payload::ReadIndexReply { .. }
        | Payload::TimeoutNow
        | Payload::Resign { .. } => return,
    };
    step.send_in_term(from, answer);
}
