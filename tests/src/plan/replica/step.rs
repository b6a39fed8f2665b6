//! A step of a replica, message by message and role by role.

use super::{
    Answers, Followers, Input, Message, NEVER, Payload, Produced, Replica, Role, View, short,
};
use crate::plan::voters::Place;
use logboat_raft::Time;
use std::time::Duration;

impl Replica {
    /// Takes an input; see `logboat_raft::Raft::step`.
    pub(in crate::plan) fn step(&mut self, view: &mut View<'_>, input: Input, out: &mut Produced) {
        let mut step = Step { written: self.promises(), replica: self, view, out, appended: false };
        match input {
            Input::Tick => step.on_tick(),
            Input::SupportChanged => step.on_support_changed(),
            Input::Synced => step.advance_commit(),
            Input::Receive(message) => step.on_receive(message),
        }
        if step.writes() {
            step.out.wrote.push(step.view.id);
            self.unsynced += 1;
        }
    }
}

/// A step of a replica.
struct Step<'a, 'b> {
    replica: &'a mut Replica,
    view: &'a mut View<'b>,
    out: &'a mut Produced,
    /// What of the replica was written before.
    written: (u32, Option<Place>, Option<Place>, u32),
    /// Whether the step writes to the log.
    appended: bool,
}

impl Step<'_, '_> {
    fn on_tick(&mut self) {
        let deadline = self.replica.deadline(self.view.voters, self.view.support);
        if deadline.is_none_or(|deadline| deadline > self.view.now) {
            return;
        }
        match self.replica.role {
            Role::Follower { .. } | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.on_election_deadline();
            }
            Role::Leader(_) => self.tell_committed(),
        }
    }

    fn on_support_changed(&mut self) {
        match self.replica.role {
            Role::Follower { leader } => {
                let lost = leader.is_some() && self.replica.bond == leader;
                if lost && self.bound_to().is_none() {
                    let deadline = self.succession_deadline();
                    self.wait(deadline);
                    self.replica.failures = 0;
                    self.on_tick();
                }
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(followers) if self.has_quorum() => self.bind_anew(followers),
            Role::Leader(_) => self.step_down(),
        }
    }

    fn on_receive(&mut self, message: Message) {
        if !self.meet_term(message) {
            return;
        }
        let Message { from, term, payload, .. } = message;
        match (self.replica.role, payload) {
            (_, Payload::PreVote) => self.on_pre_vote(from, term),
            (_, Payload::Vote) => self.on_vote(from),
            (Role::PreCandidate(answers), Payload::PreVoteReply { granted }) => {
                self.on_pre_vote_reply(answers.with(from, granted), term, granted);
            }
            (Role::Candidate(answers), Payload::VoteReply { granted }) => {
                self.on_vote_reply(answers.with(from, granted));
            }
            (Role::Follower { .. }, Payload::Append) => {
                let news = self.bind(from);
                self.appended = true;
                self.send_when_durable(from, self.replica.term, Payload::Appended);
                if news {
                    self.tell_bond(from);
                }
            }
            (Role::Follower { .. }, Payload::Fortify) => {
                self.bind(from);
                self.tell_bond(from);
            }
            (Role::Leader(mut followers), Payload::Appended) => {
                followers.hold = followers.hold.with(from);
                self.replica.role = Role::Leader(followers);
                self.advance_commit();
            }
            (Role::Leader(mut followers), Payload::Fortified { bound }) => {
                if bound {
                    followers.bound = followers.bound.with(from);
                    self.replica.role = Role::Leader(followers);
                }
            }
            // Answers to a role that was given up since.
            (Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_), Payload::Append)
            | (Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_), Payload::Fortify)
            | (
                Role::Follower { .. } | Role::Candidate(_) | Role::Leader(_),
                Payload::PreVoteReply { .. },
            )
            | (
                Role::Follower { .. } | Role::PreCandidate(_) | Role::Leader(_),
                Payload::VoteReply { .. },
            )
            | (
                Role::Follower { .. } | Role::PreCandidate(_) | Role::Candidate(_),
                Payload::Appended | Payload::Fortified { .. },
            ) => {}
        }
    }

    /// Compares the message's term with the own one. Whether the message is to be handled.
    fn meet_term(&mut self, Message { from, term, payload, .. }: Message) -> bool {
        let leads = match payload {
            Payload::PreVote | Payload::PreVoteReply { granted: true } => return true,
            Payload::Append | Payload::Fortify => true,
            Payload::PreVoteReply { granted: false }
            | Payload::Vote
            | Payload::VoteReply { .. }
            | Payload::Appended
            | Payload::Fortified { .. } => false,
        };
        if term < self.replica.term {
            self.answer_late(from, payload);
            return false;
        }
        if term > self.replica.term {
            if matches!(payload, Payload::Vote) && self.keeps_leader(from) {
                return false;
            }
            self.step_down();
            self.enter_term(term);
        }
        if leads && !matches!(self.replica.role, Role::Leader(_)) {
            self.replica.role = Role::Follower { leader: Some(from) };
            self.replica.deadline = self.drawn_from(self.view.tuning.election_timeout);
            self.replica.failures = 0;
        }
        true
    }

    fn answer_late(&mut self, from: Place, payload: Payload) {
        let answer = match payload {
            Payload::Vote => Payload::VoteReply { granted: false },
            Payload::Append | Payload::Fortify => Payload::Fortified { bound: false },
            Payload::PreVote
            | Payload::PreVoteReply { .. }
            | Payload::VoteReply { .. }
            | Payload::Appended
            | Payload::Fortified { .. } => return,
        };
        self.send_when_durable(from, self.replica.term, answer);
    }

    fn on_pre_vote(&mut self, from: Place, term: u32) {
        if term > self.replica.term {
            self.release(from);
        }
        let granted = term > self.replica.term && !self.keeps_leader(from);
        let term = if granted { term } else { self.replica.term };
        self.send_when_durable(from, term, Payload::PreVoteReply { granted });
        if matches!(self.replica.role, Role::Leader(_)) {
            self.send(from, Payload::Fortify);
        }
    }

    fn on_vote(&mut self, from: Place) {
        if self.replica.vote.is_none() {
            self.release(from);
        }
        let bound = self.bound_to().is_some_and(|leader| leader != from);
        if self.replica.vote.is_none() && !bound {
            self.replica.vote = Some(from);
            self.replica.bond = None;
            let deadline = self.drawn_from(self.view.tuning.election_timeout);
            self.wait(deadline);
            self.replica.failures = 0;
        }
        let granted = self.replica.vote == Some(from);
        self.send_when_durable(from, self.replica.term, Payload::VoteReply { granted });
    }

    fn on_pre_vote_reply(&mut self, answers: Answers, term: u32, granted: bool) {
        if granted && term != self.replica.term + 1 {
            return; // For an earlier campaign.
        }
        self.replica.role = Role::PreCandidate(answers);
        if answers.granted.is_majority() && self.bound_to().is_none() {
            self.campaign();
        } else if answers.granted.is_majority()
            || answers.refused.is_majority()
            || self.has_all(answers)
        {
            self.step_down();
        }
    }

    fn on_vote_reply(&mut self, answers: Answers) {
        self.replica.role = Role::Candidate(answers);
        if answers.granted.is_majority() {
            self.lead();
        } else if answers.refused.is_majority() {
            self.step_down();
        }
    }

    fn on_election_deadline(&mut self) {
        if !self.has_quorum() {
            let deadline = self.look_deadline();
            return self.wait(deadline);
        }
        self.out.pre_campaigns += 1;
        self.replica.role = Role::PreCandidate(Answers::new(self.own()));
        self.replica.deadline = self.answer_deadline();
        for to in self.others() {
            let term = self.replica.term + 1;
            self.out.sends.push(self.view.message(to, term, Payload::PreVote));
        }
    }

    fn campaign(&mut self) {
        self.out.campaigns += 1;
        self.enter_term(self.replica.term + 1);
        self.replica.vote = Some(self.own());
        self.replica.bond = None;
        self.replica.role = Role::Candidate(Answers::new(self.own()));
        self.replica.deadline = self.answer_deadline();
        for to in self.others() {
            self.send_when_durable(to, self.replica.term, Payload::Vote);
        }
    }

    /// The first entry of the term leaves before it is durable here.
    fn lead(&mut self) {
        self.replica.role = Role::Leader(Followers::default());
        self.replica.deadline = NEVER;
        self.replica.failures = 0;
        self.appended = true;
        self.out.elected.push((self.view.id, self.replica.term));
        for to in self.others() {
            self.send(to, Payload::Append);
        }
    }

    /// Commits the first entry of the term, once it is durable here and there; then there is
    /// something to tell whoever holds it.
    fn advance_commit(&mut self) {
        let Role::Leader(followers) = &mut self.replica.role else { return };
        let own = self.replica.unsynced == 0 && !self.appended;
        if own && !followers.committed && !followers.hold.is_empty() {
            followers.committed = true;
            self.out.leading.push(self.view.id);
        }
        if followers.committed && followers.hold != followers.told && self.replica.deadline == NEVER
        {
            self.replica.deadline = self.view.now + self.view.tuning.commit_delay;
        }
    }

    fn tell_committed(&mut self) {
        let Role::Leader(mut followers) = self.replica.role else { return };
        for to in self.others() {
            let untold = followers.hold.contains(to) && !followers.told.contains(to);
            if untold && self.view.supports_own(to) {
                self.send(to, Payload::Fortify);
            }
        }
        followers.told = followers.hold;
        self.replica.role = Role::Leader(followers);
        self.replica.deadline = NEVER;
    }

    fn bind_anew(&mut self, followers: Followers) {
        for to in self.others() {
            if self.view.supports_own(to) && !followers.bound.contains(to) {
                if !followers.hold.contains(to) {
                    self.send(to, Payload::Append);
                }
                self.send(to, Payload::Fortify);
            }
        }
    }

    /// See `Raft::step_down`: whoever campaigned in vain waits ever longer.
    fn step_down(&mut self) {
        let deadline = match self.replica.role {
            Role::Follower { .. } => self.replica.deadline,
            Role::PreCandidate(_) | Role::Candidate(_) => {
                let deadline = self.retry_deadline();
                self.replica.failures = self.replica.failures.saturating_add(1);
                deadline
            }
            Role::Leader(_) => self.look_deadline(),
        };
        self.wait(deadline);
    }

    /// Becomes a follower that knows no leader.
    fn wait(&mut self, deadline: Time) {
        self.replica.deadline = deadline;
        self.replica.role = Role::Follower { leader: None };
    }

    fn release(&mut self, rival: Place) {
        if self.bound_to() == Some(rival) {
            self.replica.bond = None;
            if matches!(self.replica.role, Role::Follower { leader } if leader == Some(rival)) {
                let deadline = self.look_deadline();
                self.wait(deadline);
                self.replica.failures = 0;
            }
        }
    }

    /// Whether it learns that it is bound to the leader, who does not know that yet.
    fn bind(&mut self, leader: Place) -> bool {
        let node = self.view.voters.node(leader);
        let Some(epoch) = self.view.support.of(node).support_for.map(short) else {
            self.replica.bond = self.replica.bond.filter(|bond| *bond == leader);
            return false;
        };
        let replica = &mut self.replica;
        if (replica.bond, replica.bond_epoch) == (Some(leader), epoch) && replica.vote.is_some() {
            return false;
        }
        (replica.bond, replica.bond_epoch) = (Some(leader), epoch);
        replica.vote.get_or_insert(leader);
        true
    }

    fn tell_bond(&mut self, leader: Place) {
        let bound = self.bound_to() == Some(leader);
        self.send_when_durable(leader, self.replica.term, Payload::Fortified { bound });
    }

    fn keeps_leader(&self, rival: Place) -> bool {
        let bound = self.bound_to().is_some_and(|leader| leader != rival);
        bound || (matches!(self.replica.role, Role::Leader(_)) && self.has_quorum())
    }

    fn has_quorum(&self) -> bool {
        self.others().any(|peer| self.view.supports_own(peer))
    }

    /// Whether all have answered whose nodes and this one support each other.
    fn has_all(&self, answers: Answers) -> bool {
        let answered = |peer| answers.granted.contains(peer) || answers.refused.contains(peer);
        let live = |peer: &Place| self.view.supports_own(*peer) && self.view.supports(*peer);
        self.others().filter(live).all(answered)
    }

    fn enter_term(&mut self, term: u32) {
        self.replica.term = term;
        self.replica.vote = None;
    }

    fn send(&mut self, to: Place, payload: Payload) {
        self.out.sends.push(self.view.message(to, self.replica.term, payload));
    }

    fn send_when_durable(&mut self, to: Place, term: u32, payload: Payload) {
        let message = self.view.message(to, term, payload);
        let waits = self.replica.unsynced > 0 || self.writes();
        if waits { &mut self.out.promises } else { &mut self.out.sends }.push(message);
    }

    /// Whether the step has written, or has to.
    fn writes(&self) -> bool {
        self.appended || self.replica.promises() != self.written
    }

    fn bound_to(&self) -> Option<Place> {
        self.replica.bound_to(self.view.voters, self.view.support)
    }

    const fn own(&self) -> Place {
        self.view.id.place()
    }

    fn others(&self) -> impl Iterator<Item = Place> + use<> {
        let own = self.own();
        Place::ALL.into_iter().filter(move |place| *place != own)
    }

    /// See `Replica::succession_deadline`.
    fn succession_deadline(&mut self) -> Time {
        let View { id, voters, tuning, .. } = *self.view;
        let ahead = self.others().filter(|place| self.view.supports(*place));
        let ahead = ahead.filter(|place| voters.precedes(id.group(), *place, id.place())).count();
        if ahead == 0 {
            return self.view.now;
        }
        let places = u32::try_from(ahead).expect("there are three voters");
        let wait = tuning.campaign_stagger * places;
        self.view.now + wait + self.draw(tuning.campaign_stagger)
    }

    fn retry_deadline(&mut self) -> Time {
        self.backoff(self.view.tuning.campaign_stagger / 4, self.replica.failures)
    }

    fn answer_deadline(&mut self) -> Time {
        self.backoff(self.view.tuning.campaign_stagger * 2, self.replica.failures)
    }

    fn look_deadline(&mut self) -> Time {
        self.backoff(self.view.tuning.campaign_stagger, 0)
    }

    fn backoff(&mut self, shortest: Duration, failures: u8) -> Time {
        let wait = shortest * (1 << failures.min(10));
        self.drawn_from(wait.min(self.view.tuning.election_timeout))
    }

    /// A moment between one and two times `wait` from now.
    fn drawn_from(&mut self, wait: Duration) -> Time {
        self.view.now + wait + self.draw(wait)
    }

    fn draw(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.view.random.draw() % micros)
    }
}
