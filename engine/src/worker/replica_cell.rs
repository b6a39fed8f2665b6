//! The cell of a replica: the replica, its mailbox, and what its worker knows about it.

use crate::background::guard::contain;
use crate::replica::call::EndedCall;
use crate::replica::event::GroupEvent;
use crate::replica::group::Group;
use crate::replica::run_context::RunContext;
use crate::state_machine::ApplyOn;
use crate::worker::event_pool::EventList;
use logboat_raft::{NodeId, WriteSeq};

/// A replica with what its worker keeps of it.
pub(crate) struct ReplicaCell {
    pub(super) group: Box<Group>,
    /// The newest of its writes that is durable.
    pub(super) durable: WriteSeq,
    /// Whether it waits for its writes to be durable, as of its last run.
    pub(super) awaits_durability: bool,
    /// Whether it waits for a moment, as of its last run.
    pub(super) awaits_deadline: bool,
    pub(super) inbox: EventList,
    /// Whether it is in the queue of those that run next.
    pub(super) woken: bool,
    /// Where its state machine is called.
    pub(super) apply_on: ApplyOn,
    /// The node that should lead the group, if it is another than this one, and this one does.
    pub(super) preferred: Option<NodeId>,
}

impl ReplicaCell {
    pub(crate) fn new(group: Group, apply_on: ApplyOn) -> Self {
        Self {
            group: Box::new(group),
            durable: WriteSeq::default(),
            awaits_durability: false,
            awaits_deadline: false,
            inbox: EventList::default(),
            woken: false,
            apply_on,
            preferred: None,
        }
    }

    /// Whether the replica waits for a moment.
    pub(crate) const fn awaits_deadline(&self) -> bool {
        self.awaits_deadline
    }

    /// Whether a replica of the group is on `node`.
    pub(crate) fn is_on(&self, node: NodeId) -> bool {
        self.group.members().member(node).is_some()
    }

    /// The node that should lead the group, if it is another than this one.
    pub(super) fn should_lead_on(&self, own: NodeId) -> Option<NodeId> {
        self.group.members().preferred().filter(|preferred| *preferred != own)
    }

    /// Runs the replica. A panic ends it, and the other replicas go on.
    pub(super) fn run(
        &mut self,
        run: &mut RunContext<'_>,
        events: impl Iterator<Item = GroupEvent>,
    ) {
        let mut events = events;
        let durable = self.durable;
        if let Err(panic) = contain(|| self.group.take_in(run, durable, &mut events)) {
            self.group.fail(run, &format!("it panicked: {panic}"));
            // Requests that the replica has not taken in are refused, since it has failed.
            if contain(|| self.group.take_in(run, durable, events)).is_err() {
                tracing::error!("a replica that failed panicked again");
            }
        }
    }

    /// Tells the replica what came of a call of its state machine.
    pub(super) fn end_call(&mut self, run: &mut RunContext<'_>, ended: EndedCall) {
        if let Err(panic) = contain(|| self.group.end_call(run, ended)) {
            self.group.fail(run, &format!("it panicked: {panic}"));
        }
    }
}
