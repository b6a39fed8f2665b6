//! Changes of members: which ones a leader takes, and how it takes the group through them.
//!
//! Voters change by joint consensus (Raft thesis, section 4.3). The leader proposes the joint
//! configuration when it is asked for the change, and the one after it by itself. It proposes a
//! configuration only when it has committed the one before and an entry of its own term. So a joint
//! configuration that a leader finds in its log is committed before its successor is proposed.
//!
//! A leader that votes no more when the change is over hands over to one that does. If nobody takes
//! over, it completes the change, and steps down when that is committed.

use super::{Leader, Transfer};
use crate::progress::Progress;
use crate::replica::Replica;
use crate::step::Step;
use crate::{
    Change, ChangeError, ChangeRefusal, Configuration, Entry, EntryKind, LogId, MemberRole, NodeId,
    Output, Support,
};
use alloc::sync::Arc;
use smallvec::smallvec;

impl Leader {
    /// Appends the configuration that these changes lead to, or says why not.
    pub(crate) fn on_change(&mut self, step: &mut Step<'_>, changes: &[Change]) {
        match self.next_configuration(step, changes) {
            Ok(next) => {
                step.out.push(Output::ChangeProposed { id: next.id() });
                self.propose_configuration(step, next);
            }
            Err(error) => step.refuse_change(error),
        }
    }

    /// Takes the change under way one step further. Returns false when the leadership is over,
    /// because this replica does not vote any more.
    pub(crate) fn steer(&mut self, step: &mut Step<'_>) -> bool {
        let stays = self.own.is_incoming();
        if stays && !self.is_joint {
            return true; // There is no change, or the leader waits for its commit.
        }
        if self.waits_for_commit(step.replica).is_some() || self.transfer.is_some() {
            return true;
        }
        if !stays && !self.has_handed_over {
            self.has_handed_over = true;
            if let Some(to) = self.successor(step, step.replica.configuration()) {
                self.on_transfer(step, to);
                return true;
            }
        }
        if self.is_joint {
            let next = step.replica.configuration().leave(self.next_id(step.replica));
            self.propose_configuration(step, next);
            return true;
        }
        false
    }

    /// Counts the members of the newest configuration from now on. What is known of those that stay
    /// is kept.
    pub(super) fn count_members(&mut self, replica: &Replica) {
        let configuration = replica.configuration();
        let (next, now) = (replica.log.last().next(), replica.now);
        self.own = replica.role();
        self.is_joint = configuration.is_joint();
        self.has_handed_over = false;
        let mut before = core::mem::take(&mut self.peers).into_iter().peekable();
        // A list that grows as it likes would take twice the memory, in thousands of groups.
        self.peers.reserve_exact(replica.others().count());
        for member in configuration.members() {
            while before.next_if(|peer| peer.node < member.node).is_some() {}
            if member.node == replica.node() {
                continue;
            }
            let known = before.next_if(|peer| peer.address() == member.address());
            let mut peer = known.unwrap_or_else(|| Progress::new(member, next, now));
            peer.role = member.role;
            self.peers.push(peer);
        }
    }

    /// The configuration that these changes lead to, if they may be proposed now.
    fn next_configuration(
        &mut self,
        step: &mut Step<'_>,
        changes: &[Change],
    ) -> Result<Configuration, ChangeError> {
        if let Some(Transfer { to, .. }) = self.transfer {
            return Err(ChangeError::NotLeader { leader: Some(to) });
        }
        if let Some(refusal) = self.waits_for_commit(step.replica) {
            return Err(refusal.into());
        }
        let next = step.replica.configuration().change(self.next_id(step.replica), changes)?;
        for &change in changes {
            if let Change::Promote(node) = change {
                self.check_learner(step.replica, step.support, node)?;
            }
        }
        if !next.is_quorum(|node| step.replica.lives(node, step.support)) {
            return Err(ChangeRefusal::NoQuorum.into());
        }
        // Whoever stays proposes it as soon as it leads. Without such a voter, this replica hands
        // over in the joint configuration.
        if next.role(step.replica.node()) == Some(MemberRole::Outgoing)
            && let Some(to) = self.successor(step, &next)
        {
            self.on_transfer(step, to);
            return Err(ChangeError::NotLeader { leader: Some(to) });
        }
        Ok(next)
    }

    /// Why nothing can be proposed yet: the configuration in force or the first entry of the term
    /// is not committed.
    fn waits_for_commit(&self, replica: &Replica) -> Option<ChangeRefusal> {
        if !replica.is_configuration_committed() {
            return Some(ChangeRefusal::InProgress { id: replica.configuration().id() });
        }
        (replica.commit < self.first).then_some(ChangeRefusal::TermNotCommitted)
    }

    /// Checks that a learner can be promoted: it would hold up what is committed if it lacked much,
    /// and what is read if it were not bound.
    pub(crate) fn check_learner(
        &self,
        replica: &Replica,
        support: &Support,
        node: NodeId,
    ) -> Result<(), ChangeRefusal> {
        let Some(peer) = self.peers.iter().find(|peer| peer.node == node) else {
            return Err(ChangeRefusal::NotMember { node });
        };
        let (matched, last) = (peer.matched, replica.log.last());
        if peer.lag(last, replica.now) > replica.election_timeout() {
            return Err(ChangeRefusal::NotCaughtUp { node, matched, last });
        }
        let epoch = support.support_from(node);
        if epoch.is_none() || epoch != peer.fortified {
            return Err(ChangeRefusal::NotFortified { node });
        }
        Ok(())
    }

    /// The replica to hand over to: of those that vote now and in the incoming half of `next`, and
    /// whose nodes live, the one that lacks the least, or else the preferred one.
    fn successor(&self, step: &Step<'_>, next: &Configuration) -> Option<NodeId> {
        let may_lead = |peer: &&Progress| {
            peer.role.is_incoming()
                && next.is_incoming(peer.node)
                && step.support.support_from(peer.node).is_some()
        };
        let suits = |peer: &&Progress| (peer.matched, next.preferred() == Some(peer.node));
        self.peers.iter().filter(may_lead).max_by_key(suits).map(|peer| peer.node)
    }

    /// Appends an entry with the next configuration, which is in force from then on.
    fn propose_configuration(&mut self, step: &mut Step<'_>, next: Configuration) {
        let group = step.replica.config.group;
        let entry = Entry::new(group, next.id(), EntryKind::Configuration, next.encode());
        self.uncommitted_bytes += entry.data.len();
        step.append(smallvec![entry], Some(Arc::new(next)));
        self.count_members(step.replica);
        self.replicate_to_all(step);
    }

    fn next_id(&self, replica: &Replica) -> LogId {
        LogId::new(replica.term, replica.log.last().next())
    }
}
