//! Messages: the rules of terms that hold for all of them, and who handles which.

use super::{Follower, Role};
use crate::read_queue::Reader;
use crate::step::Step;
use crate::{Message, NodeId, Output, Payload, ReplicaAddress, ReplicaId, Violation};
use core::cmp::Ordering;
use core::mem;

impl Role {
    /// Hands a message to the handler of its kind and the current role, once its term is met.
    /// Messages of replicas of another group, and those that no replica can have sent, are dropped.
    ///
    /// The sender need not be a member. It may lead by a configuration that this replica has yet to
    /// hear of, and a candidate may need the vote of a replica that does not know it. Whoever
    /// counts answers asks the configuration.
    ///
    /// What is for a former replica on this node is answered as its tombstone would answer it. What
    /// is for a later one, if a leader says it, names a replica that is about to be added, or says
    /// that this one is gone.
    ///
    /// The message is not moved on the way, since it is large. What it holds is taken out.
    pub(super) fn on_receive(&mut self, step: &mut Step<'_>, node: NodeId, message: &mut Message) {
        let from = ReplicaAddress::new(node, message.from);
        if !self.hears(step, from, message) || !self.meet_term(step, from, message) {
            return;
        }
        let Message { term, ref mut payload, .. } = *message;
        match (&mut *self, payload) {
            (_, &mut Payload::PreVote { last, .. }) => self.on_pre_vote(step, from, term, last),
            (_, &mut Payload::Vote { last, transfer, .. }) => {
                self.on_vote(step, from, last, transfer);
            }
            (_, &mut Payload::Resign { epoch, term }) => self.on_resign(step, from, term, epoch),
            (_, &mut Payload::Resigned { term }) => step.replica.parting.resigned(from, term),
            (_, &mut Payload::Gone { floor, .. }) => self.on_gone(step, floor),
            (_, Payload::Left) => step.replica.parting.left(from),
            (Self::PreCandidate(_), &mut Payload::PreVoteReply { granted }) => {
                self.on_pre_vote_reply(step, from, term, granted);
            }
            (Self::Candidate(_), &mut Payload::VoteReply { granted }) => {
                self.on_vote_reply(step, from, granted);
            }
            (Self::Follower(_), Payload::AppendEntries { prev, entries, commit, .. }) => {
                Follower::on_append(step, from, *prev, mem::take(entries), *commit);
            }
            (Self::Follower(_), Payload::Snapshot { meta }) => {
                Follower::on_snapshot(step, from, meta.clone());
            }
            (Self::Follower(_), &mut Payload::Fortify { commit, .. }) => {
                Follower::on_fortify(step, from, commit);
            }
            (Self::Follower(_) | Self::PreCandidate(_), Payload::TimeoutNow) => {
                self.on_timeout_now(step);
            }
            (Self::Follower(follower), &mut Payload::ReadIndexReply { token, index, commit })
                if follower.leader == Some(from) =>
            {
                step.on_read_index(from, token, index, commit);
            }
            (Self::Leader(leader), &mut Payload::ReadIndex { token, lease }) => {
                leader.on_read(step, Reader::Follower(from, token), lease);
            }
            (_, &mut Payload::ReadIndex { token, .. }) => {
                step.send_in_term(from, Payload::refused_read(token));
            }
            (Self::Leader(leader), &mut Payload::Appended { through, applied }) => {
                leader.on_appended(step, from, through, applied);
            }
            (Self::Leader(leader), &mut Payload::Rejected { prev, conflict }) => {
                leader.on_rejected(step, from, prev, conflict);
            }
            (Self::Leader(leader), &mut Payload::Fortified { epoch, applied }) => {
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

    /// Whether a message is for this replica, and one that it listens to.
    fn hears(&mut self, step: &mut Step<'_>, from: ReplicaAddress, message: &Message) -> bool {
        if message.to < step.replica.id() || is_about_unborn(step, message) {
            step.answer_for_former(from.node, message);
            return false;
        }
        is_credible(step, from.node, message)
            && (message.to == step.replica.id() || self.is_called(step, message))
            && !turns_away(step, from, &message.payload)
    }

    /// Compares the message's term with the replica's, and adopts it if it is later ("Rules for
    /// servers", Raft paper, figure 2). Returns whether the message is to be handled: as one of the
    /// current term, or as a pre-vote's, whose term nobody is in yet.
    fn meet_term(&mut self, step: &mut Step<'_>, from: ReplicaAddress, message: &Message) -> bool {
        let is_leaders = match message.payload {
            // Whoever answers a pre-vote names a term that this replica may enter, and the others
            // one that they leave. Only a resignation may raise the term, and it does so itself.
            Payload::PreVote { .. }
            | Payload::PreVoteReply { granted: true }
            | Payload::Resign { .. }
            | Payload::Resigned { .. }
            | Payload::Gone { .. }
            | Payload::Left => return true,
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

    /// A message for a later replica on this node. A leader of the current or a later term has all
    /// that is committed in its log, and it adds a replica only where there is none. So this one is
    /// gone, if it was ever a member. One that has no log yet and belongs to nothing takes the id
    /// for its own, whatever the term: a leader of an earlier term has to learn of the later one,
    /// and believes that of a replica which it knows. Returns whether the message is to be handled.
    ///
    /// Whoever else names a later replica may do so by an entry that was truncated since. This one
    /// may have been added by another entry, and be a voter.
    fn is_called(&mut self, step: &mut Step<'_>, message: &Message) -> bool {
        if !message.payload.is_leaders() {
            return false;
        }
        if step.replica.is_blank() {
            step.replica.set_id(message.to);
            return true;
        }
        if message.term < step.replica.term {
            return false;
        }
        self.on_gone(step, message.to);
        false
    }

    /// The group is without this replica for good.
    fn on_gone(&mut self, step: &mut Step<'_>, floor: ReplicaId) {
        if floor > step.replica.id() {
            self.step_down(step, None);
            step.replica.parting.go(floor);
        }
    }
}

/// Whether a message is for a replica that was to be this one, and was never called, and says that
/// it is gone, or that the sender leads no more: it is bound to nobody.
fn is_about_unborn(step: &Step<'_>, message: &Message) -> bool {
    let needs_answer =
        matches!(message.payload, Payload::Resign { .. }) || message.floor_if_gone().is_some();
    message.to > step.replica.id() && step.replica.is_blank() && needs_answer
}

/// Tells a replica that it is gone, if it is by what is known here to be committed. Nothing that it
/// says counts any more, but what it gives up or answers. Returns whether the message is not to be
/// handled.
fn turns_away(step: &mut Step<'_>, from: ReplicaAddress, payload: &Payload) -> bool {
    if matches!(payload, Payload::Resigned { .. } | Payload::Gone { .. } | Payload::Left) {
        return false;
    }
    let Some(floor) = step.replica.floor_in_place_of(from) else {
        return false;
    };
    let founders = step.founders();
    step.send_in_term(from, Payload::Gone { floor, founders });
    !matches!(payload, Payload::Resign { .. })
}

/// Whether a message can be one of this group. Says what is wrong with it if that concerns anybody.
fn is_credible(step: &mut Step<'_>, from: NodeId, message: &Message) -> bool {
    let is_other = |founders| step.replica.founders.is_some_and(|own| own != founders);
    if message.payload.founders().is_some_and(is_other) {
        let leads = matches!(
            message.payload,
            Payload::AppendEntries { .. } | Payload::Fortify { .. } | Payload::Snapshot { .. }
        );
        step.out.push(Output::OtherVoters { from, leads });
        return false;
    }
    if from == step.replica.node() || !message.is_possible() {
        return false;
    }
    let (term, known) = (message.term, step.replica.term);
    if !step.replica.believes(from, term) {
        step.violated(from, Violation::ImplausibleTerm { term, known });
        return false;
    }
    true
}

/// Answers a message of an earlier term where the sender should learn that there is a later one. A
/// leader must learn it, even from a replica that can't win an election itself: otherwise a replica
/// that is stranded in a later term could neither follow nor be replaced.
fn answer_late(step: &mut Step<'_>, from: ReplicaAddress, payload: &Payload) {
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
        | Payload::Resign { .. }
        | Payload::Resigned { .. }
        | Payload::Gone { .. }
        | Payload::Left => return,
    };
    step.send_in_term(from, answer);
}
