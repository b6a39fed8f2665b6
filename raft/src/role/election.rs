//! Elections: who asks for votes, who gives one, and who keeps the leader that there is.
//!
//! Raft's rules (paper, sections 5.2 and 5.4.1) with pre-votes (thesis, section 9.6) and transfers
//! of leadership (thesis, section 3.10). What fortification adds: while a replica fortifies a
//! leader, it votes for no other replica, in whatever term, and does not campaign itself.

use super::{Candidate, Follower, Leader, Role};
use crate::quorum::Outcome;
use crate::replica::Replica;
use crate::step::Step;
use crate::{Epoch, Fortification, LogId, Payload, ReplicaAddress, Term};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

impl Role {
    /// Says whether this replica would vote for a candidate in `term`. It would not while there is
    /// a leader, so that a node which was cut off does not disturb (Raft thesis, section 9.6).
    pub(super) fn on_pre_vote(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        term: Term,
        last: LogId,
    ) {
        let current = step.replica.term;
        self.end_fortification(step, from, term);
        let granted =
            term > current && !self.keeps_leader(step, from) && is_up_to_date(step.replica, last);
        let term = if granted { term } else { current };
        let payload = Payload::PreVoteReply { granted };
        step.send_when_durable(from, term, payload);
        self.note_request(step, from, last);
        if let Self::Leader(leader) = self {
            // A leader without its majority will step down soon. Until then it must not call back
            // the followers that are about to elect another.
            if step.has_quorum() {
                leader.on_rival(step, from);
            }
        }
    }

    /// RequestVote (Raft paper, figure 2 and section 5.4.1), in the current term.
    ///
    /// A vote is given once a term, and repeated to the same replica only. A fortification of
    /// another replica forbids it, unless that leader itself asked for the campaign (`transfer`).
    pub(super) fn on_vote(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        last: LogId,
        transfer: bool,
    ) {
        self.end_fortification(step, from, step.replica.term);
        let given = step.replica.vote() == Some(from);
        let free = step.replica.vote().is_none();
        let bound = step.fortified_leader().is_some_and(|leader| leader != from);
        let released = transfer || !bound;
        let gives = !given && free && released && is_up_to_date(step.replica, last);
        if gives {
            step.replica.set_vote(Some(from));
            step.replica.set_fortified(None);
            let deadline = step.replica.election_deadline();
            *self = Self::Follower(Follower::waiting(deadline, 0));
        }
        let granted = given || gives;
        step.send_in_term(from, Payload::VoteReply { granted });
        self.note_request(step, from, last);
    }

    /// A replica whose log ends with `last` has asked this one for its vote, so it takes this one
    /// for a voter. If it lacks what is here, it can't win. So this one has to campaign while there
    /// is no leader, even if it is no voter by its own log: see [`Replica::is_electable`].
    fn note_request(&mut self, step: &mut Step<'_>, from: ReplicaAddress, last: LogId) {
        let is_of_no_use = is_up_to_date(step.replica, last) || self.keeps_leader(step, from);
        if is_of_no_use || step.replica.is_electable() {
            return;
        }
        step.replica.taken_for_voter = true;
        let deadline = step.replica.look_deadline();
        if let Self::Follower(follower) = self {
            follower.deadline = follower.deadline.min(deadline);
        }
    }

    /// Counts the answer to a pre-vote, and campaigns when a majority would vote for this replica.
    /// A leader may have been heard and fortified meanwhile: then it does not.
    pub(super) fn on_pre_vote_reply(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        term: Term,
        granted: bool,
    ) {
        if granted && term != step.replica.term.next() {
            return; // For an earlier campaign.
        }
        if let Self::PreCandidate(candidate) = self
            && candidate.record(step.replica, from, granted)
        {
            match candidate.outcome(step.replica) {
                Outcome::Won if step.fortified_leader().is_none() => self.campaign(step, false),
                Outcome::Open if !candidate.has_all_answers(step.replica, step.support) => {}
                Outcome::Won | Outcome::Lost | Outcome::Open => self.step_down(step, None),
            }
        }
    }

    /// Counts the answer to a vote request.
    pub(super) fn on_vote_reply(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        granted: bool,
    ) {
        if let Self::Candidate(candidate) = self
            && candidate.record(step.replica, from, granted)
        {
            match candidate.outcome(step.replica) {
                Outcome::Won => self.lead(step),
                Outcome::Lost => self.step_down(step, None),
                Outcome::Open => {}
            }
        }
    }

    /// A replica leads no more in `term`, nor in an earlier one, though its node lives and the
    /// support for that does not end. The fortification of it does, unless it was made since, in a
    /// later term. If it is the leader here, the next in line campaigns.
    ///
    /// This replica enters the next term, durably before it answers: what that leader sent before
    /// and comes late must not have it fortified again. That is not needed where another replica is
    /// known to lead that term, or a later one has been entered.
    ///
    /// It does not answer while a fortification stands that was made at another epoch: support may
    /// have been given anew, and an append may have come, before the word of the end did. The
    /// resignation is repeated with the newest epoch, and ends it then.
    pub(super) fn on_resign(
        &mut self,
        step: &mut Step<'_>,
        from: ReplicaAddress,
        term: Term,
        epoch: Epoch,
    ) {
        let is_over = |bond: Fortification| {
            (bond.address(), bond.epoch) == (from, epoch) && bond.term <= term
        };
        let ends = step.replica.fortified().is_some_and(is_over);
        if ends {
            step.replica.set_fortified(None);
        }
        let is_leader = matches!(self, Self::Follower(follower) if follower.leader == Some(from));
        let follows = is_leader && (ends || step.replica.term <= term);
        let has_other = step.replica.term == term && self.has_other_leader(step.replica, from);
        if step.replica.term <= term && !has_other {
            self.step_down(step, None);
            step.replica.raise_term(term.next());
        }
        if follows {
            self.succeed_leader(step);
        }
        let is_left = step.replica.fortified().is_some_and(|bond| bond.term <= term)
            && step.fortified_leader() == Some(from);
        if !is_left {
            step.send_in_term(from, Payload::Resigned { term });
        }
    }

    /// Whether it is known that another replica than `other` leads the current term.
    fn has_other_leader(&self, replica: &Replica, other: ReplicaAddress) -> bool {
        match self {
            Self::Follower(Follower { leader: Some(leader), heard: Some(_), .. }) => {
                *leader != other
            }
            Self::Follower(_) => replica
                .fortified()
                .is_some_and(|bond| bond.term == replica.term && bond.address() != other),
            Self::PreCandidate(_) | Self::Candidate(_) => false,
            Self::Leader(_) => true,
        }
    }

    /// Campaigns if a majority's nodes support this one, and else looks again a little later.
    ///
    /// A replica that can't campaign says that it does not lead any more, if it may have led: there
    /// may be others that fortify it and that would be a majority without it.
    pub(super) fn on_election_deadline(&mut self, step: &mut Step<'_>) {
        if step.can_win() {
            return self.pre_campaign(step);
        }
        let failures = self.failures();
        let deadline = if step.replica.is_electable() {
            step.replica.look_deadline()
        } else {
            step.replica.election_deadline()
        };
        *self = Self::Follower(Follower::waiting(deadline, failures));
        step.resign();
    }

    /// The leader asks this replica to succeed it. If no majority's nodes support this one, it
    /// could not win, and would only keep the others from the next leader.
    pub(super) fn on_timeout_now(&mut self, step: &mut Step<'_>) {
        if step.can_win() {
            self.campaign(step, true);
        }
    }

    /// Asks the others whether a campaign would succeed. The term stays as it is.
    ///
    /// Those who hear it no longer fortify this replica for what it led before. So it leads nothing
    /// in this term from now on, and the term is durable before the requests leave: a replica that
    /// forgot the term could come to lead in it.
    ///
    /// Only a replica that is bound to nobody campaigns by its own vote alone. One that is bound
    /// asks its leader as well, even if that votes no more: the leader calls it back, or learns
    /// that there is a later term and lets it go.
    pub(super) fn pre_campaign(&mut self, step: &mut Step<'_>) {
        let failures = self.failures();
        let candidate = Candidate::new(step.replica, failures);
        let leader = step.fortified_leader();
        if leader.is_none() && candidate.outcome(step.replica) == Outcome::Won {
            return self.campaign(step, false);
        }
        *self = Self::PreCandidate(candidate);
        let term = step.replica.term.next();
        let last = step.replica.log.last_id();
        let founders = step.founders();
        let votes = |leader| {
            let member = step.replica.configuration().member_at(leader);
            member.is_some_and(|member| member.role.is_voter())
        };
        let leader = leader.filter(|leader| !votes(*leader));
        for to in step.replica.voters().chain(leader).collect::<Vec<_>>() {
            let payload = Payload::PreVote { last, founders };
            step.send_when_durable(to, term, payload);
        }
    }

    /// Enters the next term, votes for itself and asks the others for their votes. The requests
    /// leave when term and own vote are durable. Whoever campaigns fortifies nobody any more, so a
    /// replica that is bound campaigns only when a leader wants it to (`transfer`).
    pub(super) fn campaign(&mut self, step: &mut Step<'_>, transfer: bool) {
        assert!(transfer || step.fortified_leader().is_none(), "a bond that stands is kept");
        let failures = self.failures();
        step.replica.enter_term(step.replica.term.next());
        step.replica.set_vote(Some(step.replica.address()));
        step.replica.set_fortified(None);
        *self = Self::Candidate(Candidate::new(step.replica, failures));
        let (last, founders) = (step.replica.log.last_id(), step.founders());
        for to in step.replica.voters().collect::<Vec<_>>() {
            step.send_in_term(to, Payload::Vote { last, transfer, founders });
        }
    }

    /// Leads if the candidate's own vote, which is durable now, is all that it needs. Otherwise it
    /// could lead in this term again after a crash, and learners could have heard it before.
    pub(super) fn on_own_vote(&mut self, step: &mut Step<'_>) {
        if let Self::Candidate(candidate) = self
            && step.replica.has_durable_vote()
            && candidate.outcome(step.replica) == Outcome::Won
        {
            self.lead(step);
        }
    }

    /// Becomes a follower, in the same term or before entering another.
    ///
    /// A replica that was waiting to campaign goes on waiting for the same moment: a message that
    /// brings no leader must not put off the election of one. A candidate waits longer each time
    /// that it fails. A leader lets others go first.
    pub(super) fn step_down(&mut self, step: &mut Step<'_>, new_leader: Option<ReplicaAddress>) {
        let failures = self.failures();
        let (deadline, failures) = match self {
            Self::Follower(follower) => (follower.deadline, failures),
            Self::PreCandidate(_) | Self::Candidate(_) => {
                (step.replica.retry_deadline(failures), failures.saturating_add(1))
            }
            Self::Leader(_) => (step.replica.look_deadline(), failures),
        };
        let follower = Self::Follower(Follower::waiting(deadline, failures));
        if let Self::Leader(leader) = mem::replace(self, follower) {
            leader.refuse_reads(step, new_leader.map(|leader| leader.node));
        }
    }

    /// Gives up the leadership: no majority's nodes support this one any more, the successor that
    /// was told to campaign has not been heard of, the replica may not lead, or it votes no more.
    /// Says so to all whose nodes still support this one: as long as they do, those who fortify it
    /// elect nobody else.
    pub(super) fn abandon_leadership(&mut self, step: &mut Step<'_>) {
        self.step_down(step, None);
        step.resign();
    }

    /// Forgets the leader, which was lost, and campaigns when it is this replica's turn.
    pub(super) fn succeed_leader(&mut self, step: &mut Step<'_>) {
        let deadline = step.replica.succession_deadline(step.support);
        *self = Self::Follower(Follower::waiting(deadline, 0));
        self.on_tick(step);
    }

    /// Whether there is a leader that the group should keep although `rival` asks for votes.
    ///
    /// A fortification says so, whatever the term and however long ago the leader was heard; else
    /// that the leader was heard lately. A leader that asks for votes itself has given up.
    pub(super) fn keeps_leader(&self, step: &Step<'_>, rival: ReplicaAddress) -> bool {
        let bound = step.fortified_leader().is_some_and(|leader| leader != rival);
        bound
            || match self {
                Self::Follower(follower) => {
                    follower.leader != Some(rival) && follower.hears_leader(step.replica)
                }
                Self::PreCandidate(_) | Self::Candidate(_) => false,
                Self::Leader(_) => step.has_quorum(),
            }
    }

    fn lead(&mut self, step: &mut Step<'_>) {
        step.replica.parting.leads(step.replica.term);
        *self = Self::Leader(Box::new(Leader::new(step)));
    }

    /// Ends the fortification of the node of `rival` if it was made before `term`. The rival asks
    /// for votes in that term, so it does not lead in an earlier one any more. It may never lead
    /// again: a message that it sent before it crashed may have this replica fortify it after its
    /// restart, when it lacks entries that are here.
    ///
    /// The request may be late. If the rival was elected since, a fortification of `term` or later
    /// stands.
    fn end_fortification(&mut self, step: &mut Step<'_>, rival: ReplicaAddress, term: Term) {
        let is_earlier = step.replica.fortified().is_some_and(|bond| bond.term < term);
        if is_earlier && step.fortified_leader() == Some(rival) {
            step.replica.set_fortified(None);
            if matches!(self, Self::Follower(follower) if follower.leader == Some(rival)) {
                let deadline = step.replica.look_deadline();
                *self = Self::Follower(Follower::waiting(deadline, 0));
            }
        }
    }

    /// How many campaigns of this replica have failed since it followed or led.
    const fn failures(&self) -> u8 {
        match self {
            Self::Follower(follower) => follower.failures,
            Self::PreCandidate(candidate) | Self::Candidate(candidate) => candidate.failures,
            Self::Leader(_) => 0,
        }
    }
}

/// Whether a log that ends with `last` holds all that is committed, as far as this replica can tell
/// (the election restriction, Raft paper, section 5.4.1).
fn is_up_to_date(replica: &Replica, last: LogId) -> bool {
    last >= replica.log.last_id()
}
