//! The replica as a whole: takes inputs, meets the term of every message, changes roles.

use crate::candidate::Candidate;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::quorum::Outcome;
use crate::replica::Replica;
use crate::status::{PeerStatus, Status};
use crate::{
    Commands, Config, Entries, Index, Input, LoadFor, LogId, Mark, Message, NodeId, Output,
    Payload, ReadToken, Refusal, Restored, RoleKind, Term, Time,
};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::mem;

/// One replica of one group.
#[derive(Debug)]
pub struct Raft {
    replica: Replica,
    role: Role,
}

/// The role of a replica, and what it needs to know in it.
#[derive(Debug)]
enum Role {
    Follower(Follower),
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

impl Raft {
    /// A replica as found on disk. It begins as a follower; a group's only voter elects itself
    /// at the first [`Input::Tick`]. What is known to be committed is handed out from the first step
    /// on, whatever its input is.
    ///
    /// # Panics
    /// When the voters are not sorted or lack this node, or when `restored` describes no log.
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Time) -> Self {
        let mut replica = Replica::new(config, restored, now);
        let role = Role::Follower(Follower::waiting(replica.draw_deadline()));
        Self { replica, role }
    }

    /// Takes an input and appends what follows from it to `out`.
    ///
    /// # Panics
    /// When the caller or a peer breaks the protocol in a way that would endanger the data: a mark
    /// that was never handed out, a snapshot of what was not applied, an append over a committed
    /// entry.
    pub fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.replica.now = self.replica.now.max(now);
        let before = self.standing();
        match input {
            Input::Tick => self.on_tick(out),
            Input::Receive { from, message } => self.on_receive(from, message, out),
            Input::Propose { commands } => self.on_propose(commands, out),
            Input::Read { token } => self.on_read(token, out),
            Input::Persisted { mark } => self.on_persisted(mark),
            Input::Loaded { target, entries } => self.on_loaded(target, entries, out),
            Input::Compact { last } => self.replica.compact(last, out),
            Input::SnapshotSent { to } => self.on_snapshot_sent(to),
            Input::SnapshotFailed { to } => self.on_snapshot_failed(to),
            Input::Unreachable { node } => self.on_unreachable(node),
            Input::Transfer { to } => self.on_transfer(to, out),
            Input::Campaign => self.on_campaign(out),
        }
        self.settle(before, out);
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
            snapshot: self.snapshot(),
            last: self.last(),
            durable: self.replica.log.durable(),
            commit: self.commit(),
            applied: self.applied(),
            peers: peers.iter().map(PeerStatus::of).collect(),
        }
    }

    /// When an [`Input::Tick`] will have something to do other than a leader's heartbeats. Until
    /// then a replica that does not lead need not be ticked.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.role {
            Role::Follower(follower) => Some(follower.deadline),
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => Some(candidate.deadline),
            Role::Leader(leader) => leader.next_deadline(&self.replica),
        }
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
            Role::Candidate(_) => assert_eq!(self.replica.vote, Some(self.replica.node())),
            Role::Leader(leader) => {
                assert_eq!(self.replica.vote, Some(self.replica.node()));
                leader.invariants(&self.replica);
            }
        }
    }

    fn on_tick(&mut self, out: &mut Vec<Output>) {
        let now = self.replica.now;
        match &mut self.role {
            Role::Follower(Follower { deadline, .. })
            | Role::PreCandidate(Candidate { deadline, .. })
            | Role::Candidate(Candidate { deadline, .. }) => {
                if *deadline <= now {
                    self.pre_campaign(out);
                }
            }
            Role::Leader(leader) if leader.lost_quorum(&self.replica) => self.step_down(None, out),
            Role::Leader(leader) => leader.on_tick(&mut self.replica, out),
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

    fn on_read(&mut self, token: ReadToken, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leader(leader) => leader.on_read(token),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                let reason = self.not_leader();
                out.push(Output::ReadRefused { token, reason });
            }
        }
    }

    fn on_persisted(&mut self, mark: Mark) {
        self.replica.persisted(mark);
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

    fn on_snapshot_sent(&mut self, to: NodeId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_snapshot_sent(&self.replica, to);
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
    fn on_receive(&mut self, from: NodeId, message: Message, out: &mut Vec<Output>) {
        let is_peer = from != self.replica.node() && self.replica.config.voters.contains(&from);
        if !is_peer || !message.is_possible() || !self.meet_term(from, &message, out) {
            return;
        }
        let Message { term, payload } = message;
        let Self { role, replica } = self;
        match (role, payload) {
            (_, Payload::PreVote { last }) => self.on_pre_vote(from, term, last, out),
            (_, Payload::Vote { last, .. }) => self.on_vote(from, last, out),
            (Role::PreCandidate(_), Payload::PreVoteReply { granted }) => {
                self.on_pre_vote_reply(from, term, granted, out);
            }
            (Role::Candidate(_), Payload::VoteReply { granted }) => {
                self.on_vote_reply(from, granted, out);
            }
            (Role::Follower(_), Payload::Append { prev, entries, commit }) => {
                Follower::on_append(replica, from, prev, entries, commit, out);
            }
            (Role::Follower(_), Payload::Heartbeat { commit, round }) => {
                Follower::on_heartbeat(replica, from, commit, round, out);
            }
            (Role::Follower(_), Payload::Snapshot { last }) => {
                Follower::on_snapshot(replica, from, last, out);
            }
            (Role::Follower(_) | Role::PreCandidate(_), Payload::TimeoutNow) => {
                self.campaign(true, out);
            }
            (Role::Leader(leader), Payload::Appended { through, applied }) => {
                leader.on_appended(replica, from, through, applied, out);
            }
            (Role::Leader(leader), Payload::Rejected { prev, conflict }) => {
                leader.on_rejected(replica, from, prev, conflict, out);
            }
            (Role::Leader(leader), Payload::HeartbeatReply { round, applied }) => {
                leader.on_heartbeat_reply(replica, from, round, applied, out);
            }
            // What a leader sends found a follower, unless two claim to lead the same term, which
            // votes on disk rule out. The rest are answers to a role that was given up since.
            (
                Role::Leader(_) | Role::Candidate(_) | Role::PreCandidate(_),
                Payload::Append { .. } | Payload::Heartbeat { .. } | Payload::Snapshot { .. },
            )
            | (Role::Leader(_) | Role::Candidate(_), Payload::TimeoutNow)
            | (
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_),
                Payload::Appended { .. }
                | Payload::Rejected { .. }
                | Payload::HeartbeatReply { .. },
            )
            | (
                Role::Follower(_) | Role::Candidate(_) | Role::Leader(_),
                Payload::PreVoteReply { .. },
            )
            | (
                Role::Follower(_) | Role::PreCandidate(_) | Role::Leader(_),
                Payload::VoteReply { .. },
            ) => {}
        }
    }

    /// Compares the message's term with the own one and adopts it if it is later. Returns whether
    /// the message is to be handled: as one of the current term, or as a pre-vote's, whose term
    /// nobody is in yet.
    fn meet_term(&mut self, from: NodeId, message: &Message, out: &mut Vec<Output>) -> bool {
        let leads = match message.payload {
            Payload::PreVote { .. } if mutant!(PreVoteRaisesTerm) => false,
            Payload::PreVote { .. } | Payload::PreVoteReply { granted: true } => return true,
            Payload::Append { .. } | Payload::Heartbeat { .. } | Payload::Snapshot { .. } => true,
            Payload::PreVoteReply { granted: false }
            | Payload::Vote { .. }
            | Payload::VoteReply { .. }
            | Payload::Appended { .. }
            | Payload::Rejected { .. }
            | Payload::HeartbeatReply { .. }
            | Payload::TimeoutNow => false,
        };
        match message.term.cmp(&self.replica.term) {
            Ordering::Less => {
                self.answer_late(from, &message.payload, out);
                return false;
            }
            Ordering::Greater => {
                let defends = matches!(message.payload, Payload::Vote { transfer: false, .. });
                if defends && self.hears_leader() {
                    return false;
                }
                self.step_down(leads.then_some(from), out);
                self.replica.enter_term(message.term);
            }
            Ordering::Equal => {}
        }
        match &mut self.role {
            Role::Leader(leader) => leader.heard(from, self.replica.now),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                if leads {
                    self.role = Role::Follower(Follower::of(from, &mut self.replica));
                }
            }
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
            Payload::Append { .. } | Payload::Snapshot { .. } => {
                Payload::HeartbeatReply { round: 0, applied }
            }
            Payload::Heartbeat { round, .. } => Payload::HeartbeatReply { round, applied },
            Payload::PreVote { .. }
            | Payload::PreVoteReply { .. }
            | Payload::VoteReply { .. }
            | Payload::Appended { .. }
            | Payload::Rejected { .. }
            | Payload::HeartbeatReply { .. }
            | Payload::TimeoutNow => return,
        };
        self.replica.send_in_term(from, answer, out);
    }

    /// Says whether this replica would vote for a candidate in `term`: not when there is a leader,
    /// so that a node which was cut off does not disturb (Raft thesis, section 9.6).
    fn on_pre_vote(&mut self, from: NodeId, term: Term, last: LogId, out: &mut Vec<Output>) {
        let granted = term > self.replica.term && !self.hears_leader() && self.is_up_to_date(last);
        let term = if granted { term } else { self.replica.term };
        let payload = Payload::PreVoteReply { granted };
        self.replica.send_when_durable(from, Message { term, payload }, out);
    }

    /// RequestVote (Raft paper, figure 2 and section 5.4.1), in the current term.
    fn on_vote(&mut self, from: NodeId, last: LogId, out: &mut Vec<Output>) {
        let free = self.replica.vote.is_none_or(|vote| vote == from || mutant!(TwoVotesATerm));
        let granted = free && self.is_up_to_date(last);
        if granted {
            self.replica.vote = Some(from);
            let deadline = self.replica.draw_deadline();
            match &mut self.role {
                Role::Follower(follower) => follower.deadline = deadline,
                Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => {
                    self.role = Role::Follower(Follower::waiting(deadline));
                }
            }
        }
        self.replica.send_in_term(from, Payload::VoteReply { granted }, out);
    }

    fn on_pre_vote_reply(
        &mut self,
        from: NodeId,
        term: Term,
        granted: bool,
        out: &mut Vec<Output>,
    ) {
        if granted && term != self.replica.term.next() {
            return; // For an earlier campaign.
        }
        if let Role::PreCandidate(candidate) = &mut self.role {
            candidate.record(from, granted);
            match candidate.outcome(&self.replica) {
                Outcome::Won => self.campaign(false, out),
                Outcome::Lost => self.step_down(None, out),
                Outcome::Open => {}
            }
        }
    }

    fn on_vote_reply(&mut self, from: NodeId, granted: bool, out: &mut Vec<Output>) {
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.record(from, granted);
            match candidate.outcome(&self.replica) {
                Outcome::Won => self.lead(out),
                Outcome::Lost => self.step_down(None, out),
                Outcome::Open => {}
            }
        }
    }

    /// Asks the others whether a campaign would succeed. The term stays as it is.
    fn pre_campaign(&mut self, out: &mut Vec<Output>) {
        let candidate = Candidate::new(&mut self.replica);
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
    fn campaign(&mut self, transfer: bool, out: &mut Vec<Output>) {
        self.replica.enter_term(self.replica.term.next());
        self.replica.vote = Some(self.replica.node());
        let candidate = Candidate::new(&mut self.replica);
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
    /// put off the election of one.
    fn step_down(&mut self, new_leader: Option<NodeId>, out: &mut Vec<Output>) {
        let deadline = match &self.role {
            Role::Follower(follower) => follower.deadline,
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate.deadline,
            Role::Leader(_) => self.replica.draw_deadline(),
        };
        let follower = Role::Follower(Follower::waiting(deadline));
        if let Role::Leader(leader) = mem::replace(&mut self.role, follower) {
            leader.resign(new_leader, out);
        }
    }

    /// Whether there is a leader that the group should keep.
    fn hears_leader(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.hears_leader(&self.replica),
            Role::PreCandidate(_) | Role::Candidate(_) => false,
            Role::Leader(leader) => !leader.lost_quorum(&self.replica),
        }
    }

    /// Whether a log that ends with `last` holds all that is committed, as far as this one can tell
    /// (Raft paper, section 5.4.1).
    fn is_up_to_date(&self, last: LogId) -> bool {
        last >= self.replica.log.last_id() || mutant!(VoteForAShorterLog)
    }

    fn not_leader(&self) -> Refusal {
        let leader = self.leader();
        Refusal::NotLeader { leader }
    }

    /// What every step ends with: entries that can be applied are, reads that can be answered are,
    /// a changed term or vote is written, and a change of role is reported.
    fn settle(&mut self, before: (RoleKind, Term, Option<NodeId>), out: &mut Vec<Output>) {
        self.replica.apply(out);
        if let Role::Leader(leader) = &mut self.role {
            leader.settle(&mut self.replica, out);
        }
        self.replica.persist_hard_state(out);
        let after = self.standing();
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
mod tests {
    use super::Raft;
    use crate::{
        Config, Conflict, Entry, EntryKind, GroupId, Index, Input, LogId, Mark, Message, NodeId,
        Output, Payload, Restored, RoleKind, Term, Time, Tuning,
    };
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use bytes::Bytes;

    /// Thousands of replicas live in one process, and most of them are idle followers. Besides this
    /// an idle one has its voters, its term runs and a few words of queues on the heap.
    #[test]
    fn a_replica_is_small() {
        assert!(size_of::<Raft>() <= 448, "{} bytes", size_of::<Raft>());
    }

    #[test]
    fn strangers_are_not_heard() {
        let mut raft = replica();
        let last = LogId::default();
        let vote = Payload::Vote { last, transfer: false };
        assert_eq!(receive(&mut raft, 9, 1, vote.clone()), []);
        assert_eq!(receive(&mut raft, 1, 1, vote.clone()), [], "nor the replica itself");
        assert_ne!(receive(&mut raft, 3, 1, vote), []);
    }

    #[test]
    fn what_no_replica_can_have_said_is_not_heard() {
        let entry = |term, index| {
            let id = LogId::new(Term(term), Index(index));
            Entry::new(GroupId(1), id, EntryKind::Noop, Bytes::new())
        };
        let append = |terms: [u64; 2]| Payload::Append {
            prev: LogId::default(),
            entries: [entry(terms[0], 1), entry(terms[1], 2)].into_iter().collect(),
            commit: Index(0),
        };
        let snapshot =
            |term, index| Payload::Snapshot { last: LogId::new(Term(term), Index(index)) };
        let heartbeat = Payload::Heartbeat { commit: Index(0), round: 0 };
        for (term, payload) in [
            (4, append([3, 2])),
            (4, append([4, 5])),
            (4, snapshot(5, 9)),
            (4, snapshot(4, u64::MAX)),
            (u64::MAX, heartbeat),
        ] {
            let mut raft = replica();
            assert_eq!(receive(&mut raft, 2, term, payload), []);
            assert_eq!(raft.term(), Term(0));
        }
        assert_ne!(receive(&mut replica(), 2, 4, append([3, 4])), []);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_ignored() {
        let mut raft = replica();
        raft.step(Time(0), Input::Campaign, &mut Vec::new());
        receive(&mut raft, 2, 1, Payload::PreVoteReply { granted: true });
        receive(&mut raft, 2, 1, Payload::VoteReply { granted: true });
        assert_eq!(raft.role(), RoleKind::Leader);
        let through = Index(2);
        assert_eq!(receive(&mut raft, 2, 1, Payload::Appended { through, applied: Index(0) }), []);
        assert_eq!(raft.status().peers[0].matched, Index(0));
    }

    #[test]
    fn a_snapshot_that_left_and_got_lost_is_sent_again() {
        let timeout = Tuning::default().election_timeout;
        let mut raft = replica();
        let mut out = Vec::new();
        raft.step(Time(0), Input::Campaign, &mut out);
        receive(&mut raft, 2, 1, Payload::PreVoteReply { granted: true });
        receive(&mut raft, 2, 1, Payload::VoteReply { granted: true });
        raft.step(Time(0), Input::Persisted { mark: Mark(2) }, &mut out);
        let through = Index(1);
        receive(&mut raft, 2, 1, Payload::Appended { through, applied: Index(0) });
        let last = raft.last();
        raft.step(Time(0), Input::Compact { last }, &mut out);
        raft.step(Time(0), Input::Unreachable { node: NodeId(3) }, &mut out);
        raft.step(Time(0), Input::Tick, &mut out);
        let to = NodeId(3);
        let lacks = |raft: &mut Raft, now| {
            let mut out = Vec::new();
            let (x_index, x_len) = (Index(1), Index(1));
            let conflict = Conflict { x_term: None, x_index, x_len };
            let payload = Payload::Rejected { prev: last.index, conflict };
            let message = Message { term: Term(1), payload };
            raft.step(now, Input::Receive { from: to, message }, &mut out);
            out.contains(&Output::SendSnapshot { to })
        };
        assert!(out.contains(&Output::SendSnapshot { to }));
        assert!(!lacks(&mut raft, Time(0) + timeout), "it is on its way");
        raft.step(Time(0) + timeout, Input::SnapshotSent { to }, &mut out);
        assert!(!lacks(&mut raft, Time(0) + timeout), "it may be being written");
        assert!(lacks(&mut raft, Time(0) + timeout * 2));
        assert!(!lacks(&mut raft, Time(0) + timeout * 2), "another is on its way");
    }

    fn replica() -> Raft {
        let config = Config {
            group: GroupId(1),
            node: NodeId(1),
            voters: [1, 2, 3].map(NodeId).into(),
            seed: 1,
            tuning: Arc::new(Tuning::default()),
        };
        Raft::new(config, Restored::default(), Time(0))
    }

    fn receive(raft: &mut Raft, from: u64, term: u64, payload: Payload) -> Vec<Output> {
        let mut out = Vec::new();
        let from = NodeId(from);
        let term = Term(term);
        let message = Message { term, payload };
        raft.step(Time(0), Input::Receive { from, message }, &mut out);
        out
    }
}
