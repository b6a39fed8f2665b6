//! The replicas of a simulated node, and what its workers know of them.

use super::checks::Checks;
use super::disk_machine::MachineDisk;
use super::machine::Journal;
use super::process::group_place;
use super::reads::{ReadBook, Reader};
use logboat::GroupView;
use logboat::internals::{ChangeRequest, Group, GroupEvent, WakeConditions, decode_change_request};
use logboat_raft::{
    Configuration, Epoch, Fortification, GroupId, Index, LogId, NodeId, Payload, Raft, RoleKind,
    Status, Support, Term, WriteSeq,
};
use std::sync::Arc;

/// A replica, and what its worker knows of it.
pub(super) struct ReplicaCell {
    pub(super) group: Group,
    pub(super) id: GroupId,
    /// The worker that runs it.
    pub(super) worker: usize,
    pub(super) inbox: Vec<GroupEvent>,
    pub(super) woken: bool,
    pub(super) durable: WriteSeq,
    pub(super) wake_conditions: WakeConditions,
    pub(super) view: Arc<GroupView>,
    pub(super) journal: Journal,
    /// Where its state machine keeps the state, if that does so itself.
    pub(super) own_disk: MachineDisk,
    pub(super) reads: ReadBook,
    /// The configuration that something has gone wrong with, if any.
    pub(super) troubled: Option<LogId>,
    /// The replica has stopped for good, though its node lives.
    pub(super) failed: bool,
}

impl ReplicaCell {
    /// The node that should lead the group.
    pub(super) fn preferred(&self) -> Option<NodeId> {
        self.group.members().preferred()
    }

    /// Why the replica has stopped.
    pub(super) fn failure(&self) -> Option<&str> {
        self.view.failure()
    }

    /// The term in which the replica leads.
    pub(super) fn leads_in(&self) -> Option<Term> {
        let raft = self.group.raft();
        (raft.role() == RoleKind::Leader).then(|| raft.term())
    }

    /// After the replica ran, which led before by the configuration and in the term `led`: checks
    /// what was read.
    pub(super) fn check_reads(
        &mut self,
        node: NodeId,
        (before, led): (Arc<Configuration>, Option<Term>),
        support: &Support,
        checks: &Checks,
    ) {
        let leads = led.filter(|_| self.leads_in() == led);
        let served = std::mem::take(&mut self.journal.lock().answered);
        let configurations = [before, Arc::clone(self.group.raft().configuration())];
        let group = group_place(self.id);
        let reader = Reader { node, group, leads, configurations, support };
        self.reads.ran(&reader, &served, checks);
    }
}

/// What a message of an earlier term leaves as it is.
#[derive(Debug, PartialEq)]
pub(super) struct Standing {
    role: RoleKind,
    term: Term,
    fortified: Option<Fortification>,
    last: LogId,
    /// What a leader counts of each peer.
    counts: Vec<(Index, Option<Epoch>)>,
}

impl Standing {
    pub(super) fn of(raft: &Raft) -> Self {
        let Status { role, term, fortified, last, peers, .. } = raft.status();
        let counts = peers.iter().map(|peer| (peer.matched, peer.fortified)).collect();
        Self { role, term, fortified, last, counts }
    }
}

/// The entry of the members that an event wants to change, and no others.
pub(super) fn based_on(event: &GroupEvent) -> Option<LogId> {
    let GroupEvent::Change(request) = event else { return None };
    match decode_change_request(request.body())? {
        ChangeRequest::Make { from, .. } => from,
        ChangeRequest::CheckLearner(_) => None,
    }
}

/// Whether an event is a message of a term before `term`, which means nothing any more. What ends
/// bonds or the replica still does.
pub(super) fn is_late(event: &GroupEvent, term: Term) -> bool {
    let GroupEvent::Message { message, .. } = event else {
        return false;
    };
    let ends_bonds = matches!(
        message.payload,
        Payload::PreVote { .. }
            | Payload::Vote { .. }
            | Payload::Resign { .. }
            | Payload::Gone { .. }
    );
    message.term < term && !ends_bonds
}
