//! The replica as a whole: takes inputs, meets the term of every message, changes roles.

use crate::candidate::Candidate;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::reads::Reader;
use crate::replica::Replica;
use crate::status::{PeerStatus, Status};
use crate::{
    Commands, Config, Entries, Fortification, Index, Input, LoadFor, LogId, Message, NodeId,
    Output, Payload, ReadFrom, ReadMode, ReadToken, Refusal, Restored, RoleKind, Round, Support,
    Term, Time, WriteSeq,
};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::time::Duration;

/// One replica of one group.
#[derive(Debug)]
pub struct Raft {
    pub(crate) replica: Replica,
    pub(crate) role: Role,
}

/// The role of a replica, and what it needs to know in it.
#[derive(Debug)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl Raft {
    /// A replica as found on disk. It begins as a follower of whom it is bound to. The preferred voter
    /// campaigns at the first [`Input::Tick`] if it is not bound; a group's only voter elects itself.
    /// What is known to be committed is handed out from the first step on, whatever its input is.
    ///
    /// # Panics
    /// When the voters are not sorted or lack this node, or when `restored` describes no log.
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Time) -> Self {
        let mut replica = Replica::new(config, restored, now);
        let role = Role::Follower(Follower::restored(&mut replica));
        Self { replica, role }
    }

    /// Takes an input and appends what follows from it to `out`. `support` is what the node knows of
    /// its peers: what a peer is granted in it must be durable before, or written to the same log
    /// before, what this step writes.
    ///
    /// # Panics
    /// When the caller or a peer breaks the protocol in a way that would endanger the data: a mark
    /// that was never handed out, a snapshot of what was not applied, an append over a committed
    /// entry.
    pub fn step(&mut self, now: Time, support: &Support, input: Input, out: &mut Vec<Output>) {
        self.replica.now = self.replica.now.max(now);
        let before = self.standing();
        match input {
            Input::Tick => self.on_tick(support, out),
            Input::SupportChanged => self.on_support_changed(support, out),
            // What reads wait for is looked at after every step.
            Input::Confirmed => {}
            Input::Receive { from, message } => self.on_receive(from, message, support, out),
            Input::Propose { commands } => self.on_propose(commands, out),
            Input::Read { token, mode } => self.on_read(token, mode, out),
            Input::Persisted { seq } => self.on_persisted(seq),
            Input::Loaded { target, entries } => self.on_loaded(target, entries, out),
            Input::Compact { last } => self.replica.compact(last, out),
            Input::SnapshotSent { to, last } => self.on_snapshot_sent(to, last, out),
            Input::SnapshotFailed { to } => self.on_snapshot_failed(to),
            Input::Unreachable { node } => self.on_unreachable(node),
            Input::Transfer { to } => self.on_transfer(to, out),
            Input::Campaign => self.on_campaign(out),
        }
        self.settle(before, support, out);
        if cfg!(debug_assertions) {
            self.invariants();
        }
    }

    /// Everything that an operator may want to see of the replica.
    #[must_use]
    pub fn status(&self) -> Status {
        let peers = match &self.role {
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => &[][..],
            Role::Leader(leader) => &leader.peers[..],
        };
        Status {
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
            fortified: self.replica.fortified,
            snapshot: self.snapshot(),
            last: self.last(),
            durable: self.replica.log.durable(),
            commit: self.commit(),
            applied: self.applied(),
            peers: peers.iter().map(PeerStatus::of).collect(),
        }
    }

    /// When an [`Input::Tick`] will have something to do. A replica at rest has nothing to wait for:
    /// an idle leader, and a follower that is bound to its leader.
    #[must_use]
    pub fn next_deadline(&self, support: &Support) -> Option<Time> {
        let election = match &self.role {
            Role::Follower(follower) if follower.rests(&self.replica, support) => None,
            Role::Follower(follower) => Some(follower.deadline),
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => Some(candidate.deadline),
            Role::Leader(leader) => leader.next_deadline(&self.replica, support),
        };
        election.into_iter().chain(self.replica.asked_deadline()).min()
    }

    /// The newest round of confirmations that reads here wait for: [`Input::Confirmed`] is to come when
    /// peers have answered it.
    #[must_use]
    pub fn awaited_round(&self) -> Option<Round> {
        match &self.role {
            Role::Leader(leader) => leader.awaited_round(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Whether this replica leads and `peer` has all of its log, so that leadership can be handed over
    /// without a pause.
    #[must_use]
    pub fn is_caught_up(&self, peer: NodeId) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_caught_up(&self.replica, peer),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// What a replica that has failed for good says to its peers, while its node lives and they
    /// support it: followers that fortified it would wait for ever. The caller sends the messages,
    /// and repeats them once an election timeout, since nobody acknowledges them.
    pub fn resignations(&self, support: &Support) -> impl Iterator<Item = (NodeId, Message)> {
        let term = self.term();
        self.replica.peers().filter_map(move |peer| {
            let epoch = support.of(peer).support_from?;
            Some((peer, Message { term, payload: Payload::Resign { epoch } }))
        })
    }

    /// The nodes of the other voters.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.replica.peers()
    }

    /// How long a leader may be silent.
    #[must_use]
    pub fn election_timeout(&self) -> Duration {
        self.replica.election_timeout()
    }

    /// The current role.
    #[must_use]
    pub const fn role(&self) -> RoleKind {
        match self.role {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// The current term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.replica.term
    }

    /// The leader of the current term, if known.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.replica.config.node),
        }
    }

    /// The leader's node that this replica has last bound itself to.
    #[must_use]
    pub const fn fortified(&self) -> Option<Fortification> {
        self.replica.fortified
    }

    /// The last entry known to be committed.
    #[must_use]
    pub const fn commit(&self) -> Index {
        self.replica.commit
    }

    /// The last entry handed out by [`Output::Apply`] or covered by a restored snapshot.
    #[must_use]
    pub const fn applied(&self) -> Index {
        self.replica.applied
    }

    /// The last entry of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.replica.log.last_id()
    }

    /// The last entry that the newest snapshot covers, where the log begins.
    #[must_use]
    pub const fn snapshot(&self) -> LogId {
        self.replica.log.snapshot()
    }

    /// Checks that the replica does not contradict itself. Debug builds do so after every step; a
    /// simulation can do so in a release build too.
    ///
    /// # Panics
    /// When it does, which is a bug of the core.
    pub fn invariants(&self) {
        self.replica.invariants();
        match &self.role {
            Role::Follower(_) | Role::PreCandidate(_) => {}
            Role::Candidate(_) => self.replica.assert_free(),
            Role::Leader(leader) => {
                self.replica.assert_free();
                leader.invariants(&self.replica);
            }
        }
    }

    pub(crate) fn on_tick(&mut self, support: &Support, out: &mut Vec<Output>) {
        let now = self.replica.now;
        match &mut self.role {
            Role::Follower(follower) => {
                let rests = follower.rests(&self.replica, support);
                let is_due = !rests && follower.deadline <= now;
                if is_due && !follower.present(&mut self.replica, support, out) {
                    self.on_election_deadline(support, out);
                }
                self.ask_again(out);
            }
            Role::PreCandidate(Candidate { deadline, failures, .. })
            | Role::Candidate(Candidate { deadline, failures, .. }) => {
                if *deadline <= now {
                    *failures = failures.saturating_add(1);
                    self.on_election_deadline(support, out);
                }
            }
            Role::Leader(leader) => {
                if !leader.on_tick(&mut self.replica, support, out) {
                    self.step_down(None, out);
                }
            }
        }
    }

    /// The leader's node may have lost this node's support, or this leader that of a majority.
    fn on_support_changed(&mut self, support: &Support, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Follower(follower) => {
                let bond = self.replica.fortified.map(|bond| bond.leader);
                let lost = bond.is_some() && bond == follower.leader;
                if lost && !follower.is_bound(&self.replica, support) {
                    let deadline = self.replica.succession_deadline(support);
                    self.role = Role::Follower(Follower::waiting(deadline, 0));
                    self.on_tick(support, out);
                }
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(leader) => {
                if self.replica.has_quorum(support) {
                    leader.on_support_changed(&mut self.replica, support, out);
                } else {
                    self.step_down(None, out);
                }
            }
        }
    }

    fn on_propose(&mut self, commands: Commands, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leader(leader) => leader.on_propose(&mut self.replica, commands, out),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                let reason = self.not_leader();
                out.push(Output::Refused { reason });
            }
        }
    }

    fn on_read(&mut self, token: ReadToken, mode: ReadMode, out: &mut Vec<Output>) {
        let ReadMode { from, lease } = mode;
        match (&mut self.role, from) {
            (Role::Leader(leader), ReadFrom::Leader | ReadFrom::Any) => {
                leader.on_read(&self.replica, Reader::Here(token), lease, out);
            }
            (&mut Role::Follower(Follower { leader: Some(leader), .. }), ReadFrom::Any) => {
                self.replica.ask(leader, token, lease, out);
            }
            (Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_), _) => {
                let reason = self.not_leader();
                out.push(Output::ReadRefused { token, reason });
            }
        }
    }

    /// Asks the leader again how far to apply for the reads that it did not answer.
    fn ask_again(&mut self, out: &mut Vec<Output>) {
        if let Some(leader) = self.leader() {
            self.replica.ask_again(leader, out);
        }
    }

    fn on_persisted(&mut self, seq: WriteSeq) {
        self.replica.persisted(seq);
        if let Role::Leader(leader) = &mut self.role {
            leader.advance_commit(&mut self.replica);
        }
    }

    fn on_loaded(&mut self, target: LoadFor, entries: Entries, out: &mut Vec<Output>) {
        if !self.replica.loaded(target) {
            return;
        }
        match (target, &mut self.role) {
            (LoadFor::Apply, _) => self.replica.apply_loaded(entries, out),
            (LoadFor::Peer(node), Role::Leader(leader)) => {
                leader.on_loaded(&mut self.replica, node, entries, out);
            }
            (LoadFor::Peer(_), Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_)) => {}
        }
    }

    fn on_snapshot_sent(&mut self, to: NodeId, last: LogId, out: &mut Vec<Output>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_snapshot_sent(&self.replica, to, last, out);
        }
    }

    fn on_snapshot_failed(&mut self, to: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_snapshot_failed(to);
        }
    }

    fn on_unreachable(&mut self, node: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_unreachable(node);
        }
    }

    fn on_transfer(&mut self, to: NodeId, out: &mut Vec<Output>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_transfer(&mut self.replica, to, out);
        }
    }

    fn on_campaign(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.role, Role::Leader(_)) {
            self.pre_campaign(out);
        }
    }

    /// Hands a message to the handler of its kind and the current role, once its term is met.
    fn on_receive(
        &mut self,
        from: NodeId,
        message: Message,
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        let is_peer = from != self.replica.node() && self.replica.config.voters.contains(&from);
        if !is_peer || !message.is_possible() || !self.meet_term(from, &message, support, out) {
            return;
        }
        let Message { term, payload } = message;
        let Self { role, replica } = self;
        match (role, payload) {
            (_, Payload::PreVote { last }) => self.on_pre_vote(from, term, last, support, out),
            (_, Payload::Vote { last, transfer }) => {
                self.on_vote(from, last, transfer, support, out);
            }
            (_, Payload::Resign { epoch }) => self.on_resign(from, epoch, support, out),
            (Role::PreCandidate(_), Payload::PreVoteReply { granted }) => {
                self.on_pre_vote_reply(from, term, granted, support, out);
            }
            (Role::Candidate(_), Payload::VoteReply { granted }) => {
                self.on_vote_reply(from, granted, out);
            }
            (Role::Follower(_), Payload::Append { prev, entries, commit }) => {
                Follower::bound(replica, from, support, out, |replica, out| {
                    Follower::on_append(replica, from, prev, entries, commit, out);
                });
            }
            (Role::Follower(_), Payload::Snapshot { last }) => {
                Follower::bound(replica, from, support, out, |replica, out| {
                    Follower::on_snapshot(replica, from, last, out);
                });
            }
            (Role::Follower(_), Payload::Fortify { commit }) => {
                Follower::on_fortify(replica, from, commit, support, out);
            }
            (Role::Follower(_) | Role::PreCandidate(_), Payload::TimeoutNow) => {
                self.campaign(true, out);
            }
            (Role::Follower(_), Payload::ReadIndexReply { token, index, commit }) => {
                replica.learn_index(token, index, commit, out);
            }
            (Role::Leader(leader), Payload::ReadIndex { token, lease }) => {
                leader.on_read(replica, Reader::Follower(from, token), lease, out);
            }
            (_, Payload::ReadIndex { token, .. }) => {
                let refusal =
                    Payload::ReadIndexReply { token, index: None, commit: Index::default() };
                replica.send_in_term(from, refusal, out);
            }
            (Role::Leader(leader), Payload::Appended { through, applied }) => {
                leader.on_appended(replica, from, through, applied, out);
            }
            (Role::Leader(leader), Payload::Rejected { prev, conflict }) => {
                leader.on_rejected(replica, from, prev, conflict, out);
            }
            (Role::Leader(leader), Payload::Fortified { epoch, applied }) => {
                leader.on_fortified(replica, from, epoch, applied, out);
            }
            // What a leader sends found a follower, unless two claim to lead the same term, which
            // votes on disk rule out. The rest are answers to a role that was given up since.
            (
                Role::Leader(_) | Role::Candidate(_) | Role::PreCandidate(_),
                Payload::Append { .. }
                | Payload::Fortify { .. }
                | Payload::Snapshot { .. }
                | Payload::ReadIndexReply { .. },
            )
            | (Role::Leader(_) | Role::Candidate(_), Payload::TimeoutNow)
            | (
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_),
                Payload::Appended { .. } | Payload::Rejected { .. } | Payload::Fortified { .. },
            )
            | (_, Payload::PreVoteReply { .. } | Payload::VoteReply { .. }) => {}
        }
    }

    /// Compares the message's term with the own one and adopts it if it is later. Returns whether
    /// the message is to be handled: as one of the current term, or as a pre-vote's, whose term
    /// nobody is in yet.
    fn meet_term(
        &mut self,
        from: NodeId,
        message: &Message,
        support: &Support,
        out: &mut Vec<Output>,
    ) -> bool {
        let leads = match message.payload {
            Payload::PreVote { .. }
            | Payload::PreVoteReply { granted: true }
            | Payload::Resign { .. } => return true,
            Payload::Append { .. } | Payload::Fortify { .. } | Payload::Snapshot { .. } => true,
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
        match message.term.cmp(&self.replica.term) {
            Ordering::Less => {
                self.answer_late(from, &message.payload, out);
                return false;
            }
            Ordering::Greater => {
                let defends = matches!(message.payload, Payload::Vote { transfer: false, .. });
                if defends && self.keeps_leader(from, support) {
                    return false;
                }
                self.step_down(leads.then_some(from), out);
                self.replica.enter_term(message.term);
            }
            Ordering::Equal => {}
        }
        if leads && !matches!(self.role, Role::Leader(_)) {
            self.role = Role::Follower(Follower::of(from, &mut self.replica));
        }
        true
    }

    /// Answers a message of an earlier term where the sender should learn that time has moved on.
    /// A leader must, even by a replica that can't win an election itself: otherwise one stranded
    /// in a later term could neither follow nor be replaced.
    fn answer_late(&mut self, from: NodeId, payload: &Payload, out: &mut Vec<Output>) {
        let applied = self.applied();
        let answer = match *payload {
            Payload::Vote { .. } => Payload::VoteReply { granted: false },
            Payload::Append { .. } | Payload::Snapshot { .. } | Payload::Fortify { .. } => {
                Payload::Fortified { epoch: None, applied }
            }
            Payload::ReadIndex { token, .. } => {
                Payload::ReadIndexReply { token, index: None, commit: Index::default() }
            }
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
        self.replica.send_in_term(from, answer, out);
    }

    fn not_leader(&self) -> Refusal {
        let leader = self.leader();
        Refusal::NotLeader { leader }
    }

    /// What every step ends with: entries that can be applied are, reads that can be answered are,
    /// a changed term or vote is written, and a change of role is reported.
    fn settle(
        &mut self,
        before: (RoleKind, Term, Option<NodeId>),
        support: &Support,
        out: &mut Vec<Output>,
    ) {
        self.replica.apply(out);
        let after = self.standing();
        if let Role::Leader(leader) = &mut self.role {
            leader.settle(&mut self.replica, support, out);
        }
        if after != before {
            self.replica.forget_asked(after.2, out);
        }
        self.replica.serve_asked(out);
        self.replica.persist_hard_state(out);
        if after != before {
            let (role, term, leader) = after;
            out.push(Output::RoleChanged { role, term, leader });
        }
    }

    fn standing(&self) -> (RoleKind, Term, Option<NodeId>) {
        (self.role(), self.term(), self.leader())
    }
}

#[cfg(test)]
mod tests;
