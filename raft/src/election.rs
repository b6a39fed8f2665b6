//! Elections: who asks for votes, who gives one, and who keeps the leader that there is.

use crate::candidate::Candidate;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::quorum::Outcome;
use crate::raft::{Raft, Role};
use crate::{Epoch, Fortification, LogId, Message, NodeId, Output, Payload, Support, Term};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

impl Raft {
    /// Says whether this replica would vote for a candidate in `term`: not when there is a leader,
    /// so that a node which was cut off does not disturb (Raft thesis, section 9.6).
    pub(crate) fn on_pre_vote(
        &mut self,
        from: NodeId,
        term: Term,
        last: LogId,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        if term > self.replica.term {
            self.release(from, support);
        }
        let granted = term > self.replica.term
            && !self.keeps_leader(from, support)
            && self.is_up_to_date(last);
        let term = if granted { term } else { self.replica.term };
        let payload = Payload::PreVoteReply { granted };
        self.replica.send_when_durable(from, Message { term, payload }, out);
        if let Role::Leader(leader) = &mut self.role {
            // One that has lost its majority will know soon: it must not hold up who takes its place.
            if self.replica.has_quorum(support) {
                leader.on_rival(&self.replica, from, out);
            }
        }
    }

    /// RequestVote (Raft paper, figure 2 and section 5.4.1), in the current term. A bond with a
    /// leader of an earlier term that asks for votes, or for another's campaign, is over: it has given
    /// up. One with the leader of this term was made after the vote, which is then only repeated.
    pub(crate) fn on_vote(
        &mut self,
        from: NodeId,
        last: LogId,
        transfer: bool,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        if self.replica.vote.is_none() {
            self.release(from, support);
        }
        let given = self.replica.vote == Some(from);
        let free = self.replica.vote.is_none();
        let bound = self.replica.bound_to(support).is_some_and(|leader| leader != from);
        let released = transfer || !bound;
        let gives = !given && free && released && self.is_up_to_date(last);
        if gives {
            self.replica.vote = Some(from);
            self.replica.fortified = None;
            let deadline = self.replica.draw_deadline();
            self.role = Role::Follower(Follower::waiting(deadline, 0));
        }
        let granted = given || gives;
        self.replica.send_in_term(from, Payload::VoteReply { granted }, out);
    }

    pub(crate) fn on_pre_vote_reply(
        &mut self,
        from: NodeId,
        term: Term,
        granted: bool,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        if granted && term != self.replica.term.next() {
            return; // For an earlier campaign.
        }
        if let Role::PreCandidate(candidate) = &mut self.role {
            candidate.record(from, granted);
            match candidate.outcome(&self.replica) {
                Outcome::Won if self.replica.bound_to(support).is_none() => {
                    self.campaign(false, out);
                }
                Outcome::Open if !candidate.has_all_answers(&self.replica, support) => {}
                Outcome::Won | Outcome::Lost | Outcome::Open => self.step_down(None, out),
            }
        }
    }

    pub(crate) fn on_vote_reply(&mut self, from: NodeId, granted: bool, out: &mut Vec<Output>) {
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.record(from, granted);
            match candidate.outcome(&self.replica) {
                Outcome::Won => self.lead(out),
                Outcome::Lost => self.step_down(None, out),
                Outcome::Open => {}
            }
        }
    }

    /// Campaigns if a majority's nodes support this one, and else looks again a little later.
    pub(crate) fn on_election_deadline(&mut self, support: &Support, out: &mut Vec<Output>) {
        if self.replica.has_quorum(support) {
            return self.pre_campaign(out);
        }
        let failures = self.failures();
        let deadline = self.replica.look_deadline();
        self.role = Role::Follower(Follower::waiting(deadline, failures));
    }

    /// Asks the others whether a campaign would succeed. The term stays as it is.
    pub(crate) fn pre_campaign(&mut self, out: &mut Vec<Output>) {
        let failures = self.failures();
        let candidate = Candidate::new(&mut self.replica, failures);
        if candidate.outcome(&self.replica) == Outcome::Won {
            return self.campaign(false, out);
        }
        self.role = Role::PreCandidate(candidate);
        let term = self.replica.term.next();
        let last = self.replica.log.last_id();
        for to in self.replica.peers() {
            let payload = Payload::PreVote { last };
            let message = Message { term, payload };
            out.push(Output::Send { to, message });
        }
    }

    /// Campaigns in the next term. The requests leave when term and own vote are durable.
    pub(crate) fn campaign(&mut self, transfer: bool, out: &mut Vec<Output>) {
        let failures = self.failures();
        self.replica.enter_term(self.replica.term.next());
        self.replica.vote = Some(self.replica.node());
        self.replica.fortified = None;
        let candidate = Candidate::new(&mut self.replica, failures);
        if candidate.outcome(&self.replica) == Outcome::Won {
            return self.lead(out);
        }
        self.role = Role::Candidate(candidate);
        let last = self.replica.log.last_id();
        for to in self.replica.peers().collect::<Vec<_>>() {
            self.replica.send_in_term(to, Payload::Vote { last, transfer }, out);
        }
    }

    fn lead(&mut self, out: &mut Vec<Output>) {
        self.role = Role::Leader(Box::new(Leader::new(&mut self.replica, out)));
    }

    /// Becomes a follower, in the same term or before entering another. A replica that was waiting
    /// to campaign goes on waiting for the same moment: a message that brings no leader must not
    /// put off the election of one. One that campaigned in vain waits ever longer; one that led lets
    /// others go first.
    pub(crate) fn step_down(&mut self, new_leader: Option<NodeId>, out: &mut Vec<Output>) {
        let failures = self.failures();
        let (deadline, failures) = match &self.role {
            Role::Follower(follower) => (follower.deadline, failures),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                (self.replica.retry_deadline(failures), failures.saturating_add(1))
            }
            Role::Leader(_) => (self.replica.look_deadline(), failures),
        };
        let follower = Role::Follower(Follower::waiting(deadline, failures));
        if let Role::Leader(leader) = mem::replace(&mut self.role, follower) {
            leader.resign(&self.replica, new_leader, out);
        }
    }

    /// Whether there is a leader that the group should keep although `rival` asks for votes. A bond
    /// says so, whatever the term and however long ago the leader was heard. A leader that asks for
    /// votes itself has given up.
    pub(crate) fn keeps_leader(&self, rival: NodeId, support: &Support) -> bool {
        let bound = self.replica.bound_to(support).is_some_and(|leader| leader != rival);
        bound
            || match &self.role {
                Role::Follower(follower) => {
                    follower.leader != Some(rival) && follower.hears_leader(&self.replica)
                }
                Role::PreCandidate(_) | Role::Candidate(_) => false,
                Role::Leader(_) => self.replica.has_quorum(support),
            }
    }

    /// The node that this replica is bound to asks for votes in a later term, so it does not lead any
    /// more. It may never do so again: a message that it sent before it crashed may have bound this
    /// replica to its next boot, which lacks entries that are here.
    fn release(&mut self, rival: NodeId, support: &Support) {
        if self.replica.bound_to(support) == Some(rival) {
            self.replica.fortified = None;
            if matches!(&self.role, Role::Follower(follower) if follower.leader == Some(rival)) {
                let deadline = self.replica.look_deadline();
                self.role = Role::Follower(Follower::waiting(deadline, 0));
            }
        }
    }

    /// A replica has failed while its node lives. If it was the leader, the next in line campaigns.
    pub(crate) fn on_resign(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        let bond = Fortification { leader: from, epoch };
        if self.replica.fortified == Some(bond) {
            self.replica.fortified = None;
        }
        let follows = matches!(&self.role, Role::Follower(it) if it.leader == Some(from));
        if follows && support.support_for(from) == Some(epoch) {
            let deadline = self.replica.succession_deadline(support);
            self.role = Role::Follower(Follower::waiting(deadline, 0));
            self.on_tick(support, out);
        }
    }

    /// Whether a log that ends with `last` holds all that is committed, as far as this one can tell
    /// (Raft paper, section 5.4.1).
    fn is_up_to_date(&self, last: LogId) -> bool {
        last >= self.replica.log.last_id()
    }

    /// How many campaigns of this replica have failed since it followed or led.
    const fn failures(&self) -> u8 {
        match &self.role {
            Role::Follower(follower) => follower.failures,
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate.failures,
            Role::Leader(_) => 0,
        }
    }
}
