//! The role of a replica: what it does with each input, and how it changes roles.
//!
//! One file a role holds what that role alone does. `receive` meets the term of messages and hands
//! them to their handlers; `election` gives votes and asks for them.

mod candidate;
mod election;
mod follower;
mod leader;
mod receive;

use crate::read_queue::Reader;
use crate::replica::Replica;
use crate::step::Step;
use crate::{
    Change, ChangeError, Commands, Entries, Input, LogReadTarget, NodeId, Output, ReadFrom,
    ReadMode, ReadToken, Refusal, RoleKind, Support, Time, WriteSeq,
};
use alloc::boxed::Box;
pub(crate) use candidate::Candidate;
pub(crate) use follower::Follower;
pub(crate) use leader::Leader;

/// The role of a replica, and what the replica needs to know in it.
#[derive(Debug)]
pub(crate) enum Role {
    /// Follows a leader, or waits for one.
    Follower(Follower),
    /// Asks the others whether they would vote for it. Its term has no vote of its own yet.
    PreCandidate(Candidate),
    /// Asks the others for their votes; has its own.
    Candidate(Candidate),
    /// Leads. Boxed, since most replicas of a node follow, and thousands of them are in memory.
    Leader(Box<Leader>),
}

impl Role {
    /// The role that a replica begins in: a follower of the leader that it fortifies.
    pub(crate) fn new(replica: &mut Replica) -> Self {
        Self::Follower(Follower::after_restart(replica))
    }

    /// The role without what belongs to it.
    pub(crate) const fn kind(&self) -> RoleKind {
        match self {
            Self::Follower(_) => RoleKind::Follower,
            Self::PreCandidate(_) => RoleKind::PreCandidate,
            Self::Candidate(_) => RoleKind::Candidate,
            Self::Leader(_) => RoleKind::Leader,
        }
    }

    /// The leader of the current term, if known.
    pub(crate) const fn leader(&self, replica: &Replica) -> Option<NodeId> {
        match self {
            Self::Follower(Follower { leader: Some(leader), .. }) => Some(leader.node),
            Self::Follower(_) | Self::PreCandidate(_) | Self::Candidate(_) => None,
            Self::Leader(_) => Some(replica.config.node),
        }
    }

    /// The leadership, if the replica leads.
    pub(crate) const fn as_leader(&self) -> Option<&Leader> {
        match self {
            Self::Leader(leader) => Some(leader),
            Self::Follower(_) | Self::PreCandidate(_) | Self::Candidate(_) => None,
        }
    }

    /// When a tick will have something to do for this role.
    pub(crate) fn next_deadline(&self, replica: &Replica, support: &Support) -> Option<Time> {
        match self {
            Self::Follower(follower) if follower.is_at_rest(replica, support) => None,
            Self::Follower(follower) => Some(follower.deadline),
            Self::PreCandidate(candidate) | Self::Candidate(candidate) => Some(candidate.deadline),
            Self::Leader(leader) => leader.next_deadline(replica, support),
        }
    }

    /// Hands an input to its handler.
    pub(crate) fn on_input(&mut self, step: &mut Step<'_>, input: Input) {
        match input {
            Input::Tick => self.on_tick(step),
            Input::Founded => {
                *self = Self::new(step.replica);
                self.on_tick(step);
            }
            Input::SupportChanged => self.on_support_changed(step),
            // What reads wait for is looked at after every step.
            Input::Confirmed => {}
            Input::Receive { from, mut message } => self.on_receive(step, from, &mut message),
            Input::Propose { commands } => self.on_propose(step, commands),
            Input::Change { changes } => self.on_change(step, &changes),
            Input::Read { token, mode } => self.on_read(step, token, mode),
            Input::Persisted { seq } => self.on_persisted(step, seq),
            Input::LogRead { target, entries } => self.on_log_read(step, target, entries),
            Input::Compact { meta } => step.compact(meta),
            Input::SnapshotSent { to, meta } => {
                self.if_leader(|leader| leader.on_snapshot_sent(step, to, meta));
            }
            Input::SnapshotFailed { to } => self.if_leader(|leader| leader.on_snapshot_failed(to)),
            Input::Unreachable { node } => self.if_leader(|leader| leader.on_unreachable(node)),
            Input::Transfer { to } => self.if_leader(|leader| leader.on_transfer(step, to)),
            Input::Campaign => self.on_campaign(step),
            Input::MayLead(may) => self.on_may_lead(step, may),
        }
    }

    /// Acts on deadlines that have passed.
    pub(crate) fn on_tick(&mut self, step: &mut Step<'_>) {
        let now = step.now();
        step.refuse_late_reads(self.leader(step.replica));
        step.say_again();
        match self {
            Self::Follower(follower) => {
                let rests = follower.is_at_rest(step.replica, step.support);
                let is_due = !rests && follower.deadline <= now;
                if is_due && !follower.announce(step) {
                    self.on_election_deadline(step);
                }
                if let Self::Follower(Follower { leader: Some(leader), .. }) = self {
                    step.ask_leader_again(*leader);
                }
            }
            Self::PreCandidate(Candidate { deadline, failures, .. })
            | Self::Candidate(Candidate { deadline, failures, .. }) => {
                if *deadline <= now {
                    *failures = failures.saturating_add(1);
                    self.on_election_deadline(step);
                }
            }
            Self::Leader(leader) => {
                if !leader.on_tick(step) {
                    self.abandon_leadership(step);
                }
            }
        }
    }

    /// What every step ends with for changes of members: the next thing that the change under way
    /// asks of a leader. A leader that does not vote any more steps down at the end of it.
    pub(crate) fn steer(&mut self, step: &mut Step<'_>) {
        if let Self::Leader(leader) = self
            && !leader.steer(step)
        {
            self.abandon_leadership(step);
        }
    }

    /// What every step ends with for reads: those that can be answered are. `leader_changed` says
    /// that the role, the term or the leader did.
    pub(crate) fn serve_reads(&mut self, step: &mut Step<'_>, leader_changed: bool) {
        let leader = self.leader(step.replica);
        self.if_leader(|it| it.serve_reads(step));
        if leader_changed {
            step.refuse_unanswered_reads(leader);
        }
        step.serve_follower_reads();
    }

    /// Panics when role and replica contradict each other.
    pub(crate) fn invariants(&self, replica: &Replica) {
        match self {
            Self::Follower(_) | Self::PreCandidate(_) => {}
            Self::Candidate(_) => replica.assert_unbound(),
            Self::Leader(leader) => {
                replica.assert_unbound();
                leader.invariants(replica);
            }
        }
    }

    /// This node withdrew its support from the leader's, or the support for this leader changed.
    fn on_support_changed(&mut self, step: &mut Step<'_>) {
        match self {
            Self::Follower(follower) => {
                let bond = step.replica.fortified().map(|bond| bond.address());
                let is_bond = bond.is_some() && bond == follower.leader;
                if is_bond && !follower.fortifies_leader(step.replica, step.support) {
                    self.succeed_leader(step);
                }
            }
            Self::PreCandidate(_) | Self::Candidate(_) => {}
            Self::Leader(leader) => {
                if !step.has_quorum() || !leader.on_support_changed(step) {
                    self.abandon_leadership(step);
                }
            }
        }
    }

    fn on_propose(&mut self, step: &mut Step<'_>, commands: Commands) {
        match self {
            Self::Leader(leader) => leader.on_propose(step, commands),
            Self::Follower(_) | Self::PreCandidate(_) | Self::Candidate(_) => {
                let leader = self.leader(step.replica);
                let reason = Refusal::NotLeader { leader };
                step.out.push(Output::Refused { reason });
            }
        }
    }

    fn on_change(&mut self, step: &mut Step<'_>, changes: &[Change]) {
        match self {
            Self::Leader(leader) => leader.on_change(step, changes),
            Self::Follower(_) | Self::PreCandidate(_) | Self::Candidate(_) => {
                let leader = self.leader(step.replica);
                step.refuse_change(ChangeError::NotLeader { leader });
            }
        }
    }

    fn on_read(&mut self, step: &mut Step<'_>, token: ReadToken, mode: ReadMode) {
        let ReadMode { from, lease } = mode;
        match (&mut *self, from) {
            (Self::Leader(leader), ReadFrom::Leader | ReadFrom::Any) => {
                leader.on_read(step, Reader::Here(token), lease);
            }
            (&mut Self::Follower(Follower { leader: Some(leader), .. }), ReadFrom::Any) => {
                step.ask_leader(leader, token, lease);
            }
            (Self::Follower(_) | Self::PreCandidate(_) | Self::Candidate(_), _) => {
                step.refuse_read(token, self.leader(step.replica));
            }
        }
    }

    fn on_persisted(&mut self, step: &mut Step<'_>, seq: WriteSeq) {
        step.replica.persisted(seq);
        match self {
            Self::Leader(leader) => leader.advance_commit(step.replica),
            Self::Candidate(_) => self.on_own_vote(step),
            Self::Follower(_) | Self::PreCandidate(_) => {}
        }
    }

    fn on_log_read(&mut self, step: &mut Step<'_>, target: LogReadTarget, entries: Entries) {
        if !step.replica.close_log_read(target) {
            return;
        }
        match target {
            LogReadTarget::Apply => step.apply_log_read(entries),
            LogReadTarget::Peer(node) => {
                self.if_leader(|leader| leader.on_log_read(step, node, entries))
            }
        }
    }

    fn on_campaign(&mut self, step: &mut Step<'_>) {
        let may = step.replica.may_lead && step.replica.is_electable();
        if !matches!(self, Self::Leader(_)) && may {
            self.pre_campaign(step);
        }
    }

    fn on_may_lead(&mut self, step: &mut Step<'_>, may: bool) {
        step.replica.may_lead = may;
        match self {
            Self::Leader(_) if !may => self.abandon_leadership(step),
            Self::PreCandidate(_) | Self::Candidate(_) if !may => self.step_down(step, None),
            Self::Leader(_) | Self::PreCandidate(_) | Self::Candidate(_) | Self::Follower(_) => {}
        }
    }

    fn if_leader(&mut self, act: impl FnOnce(&mut Leader)) {
        if let Self::Leader(leader) = self {
            act(leader);
        }
    }
}
